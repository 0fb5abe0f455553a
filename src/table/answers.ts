// Values and their answers: each value is asked for once while its answer is remembered, in requests of
// bounded size, at most three on their way.
import { assert } from '../assert.ts'
import { OperatorError } from '../errors.ts'
import { DistinctCount } from './distinct.ts'
import { type Format, faultOf, type Piece } from './piece.ts'
import { type Operation, type Scalar, TOKEN, type Vault } from './vault.ts'

const VALUES_A_REQUEST = 20_000
/** Of UTF-8, roughly; smaller limits of the node halve the request. */
const BYTES_A_REQUEST = 4 * 1024 * 1024
const REQUESTS_AT_ONCE = 3
/** Answers in each of two generations, and the characters of their values and texts. */
const REMEMBERED = 100_000
const REMEMBERED_CHARACTERS = 8 * 1024 * 1024

const TOO_LARGE: ReadonlySet<unknown> = new Set(['answer-too-large', 'too-large', 'too-many-values'])

type Answer =
  | { kind: 'waiting' }
  /** The texts to write: without quotes around the place, and between the quotes of the file. */
  | { kind: 'replaced'; bare: string; bareBytes: number; quoted: string; quotedBytes: number }
  | { kind: 'not-found' }
  /** Not in the form of a token. */
  | { kind: 'no-token' }

/** An answer with its state: the places of equal values share the entry. */
export type Entry = { answer: Answer }

const WAITING: Answer = { kind: 'waiting' }
const NOT_FOUND: Answer = { kind: 'not-found' }
const NO_TOKEN: Entry = { answer: { kind: 'no-token' } }

type Batch = {
  readonly values: Exclude<Scalar, null>[]
  readonly entries: Entry[]
  readonly pieces: Piece[]
  readonly places: number[]
  bytes: number
}

type AnswersOptions = {
  readonly vault: Vault
  readonly operation: Operation
  readonly format: Format
  readonly allowTokens: boolean
  readonly mixedEpochs: boolean
}

export class Answers {
  readonly #options: AnswersOptions
  readonly #distinct = new DistinctCount()
  readonly #epochs = new Set<number>()
  #young = new Map<Scalar, Entry>()
  #old = new Map<Scalar, Entry>()
  #characters = 0
  #open = newBatch()
  readonly #full: Batch[] = []
  readonly #underWay = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined

  constructor(options: AnswersOptions) {
    this.#options = options
  }

  get distinct(): number {
    return this.#distinct.count
  }

  /** Ascending. */
  get epochs(): readonly number[] {
    return [...this.#epochs].sort((a, b) => a - b)
  }

  /** The entry of the value at a place. The answer comes with `next` and `flush`. */
  entryOf(value: Exclude<Scalar, null>, piece: Piece, place: number): Entry {
    const known = this.#young.get(value)
    if (known !== undefined) return known
    const old = this.#old.get(value)
    if (old === undefined) this.#distinct.add(value)
    const isToken = this.#options.operation === 'tokenize' || (typeof value === 'string' && TOKEN.test(value))
    if (!isToken) return NO_TOKEN
    const entry = old ?? this.#ask(value, piece, place)
    this.#remember(value, entry)
    return entry
  }

  /** Sends the full requests; waits while too many are on their way. Throws the first error. */
  async next(): Promise<void> {
    while (this.#full.length > 0) {
      if (this.#underWay.size < REQUESTS_AT_ONCE) this.#start(this.#full.shift())
      else await Promise.race(this.#underWay)
      this.#check()
    }
  }

  /** Sends all, and waits for the answers to all. Throws the first error. */
  async flush(): Promise<void> {
    if (this.#open.values.length > 0) this.#close()
    await this.next()
    await this.settled()
    this.#check()
  }

  /** Waits for one answer; sends a partly filled request where no other is under way. */
  async step(): Promise<void> {
    if (this.#underWay.size === 0 && this.#open.values.length > 0) {
      this.#close()
      await this.next()
    }
    await Promise.race(this.#underWay)
    this.#check()
  }

  /** Waits for the end of the requests under way. Throws nothing. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay)
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error
  }

  #ask(value: Exclude<Scalar, null>, piece: Piece, place: number): Entry {
    const entry: Entry = { answer: WAITING }
    const batch = this.#open
    batch.values.push(value)
    batch.entries.push(entry)
    batch.pieces.push(piece)
    batch.places.push(place)
    batch.bytes += piece.places.end[place] - piece.places.start[place] + 4
    if (batch.values.length === VALUES_A_REQUEST || batch.bytes >= BYTES_A_REQUEST) this.#close()
    return entry
  }

  #close(): void {
    this.#full.push(this.#open)
    this.#open = newBatch()
  }

  #remember(value: Exclude<Scalar, null>, entry: Entry): void {
    this.#young.set(value, entry)
    this.#characters += typeof value === 'string' ? value.length : 1
    if (this.#young.size < REMEMBERED && this.#characters < REMEMBERED_CHARACTERS) return
    this.#old = this.#young
    this.#young = new Map()
    this.#characters = 0
  }

  #start(batch: Batch | undefined): void {
    assert(batch, 'a full request is there')
    const sent: Promise<void> = this.#send(batch)
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => this.#underWay.delete(sent))
    this.#underWay.add(sent)
  }

  async #send(batch: Batch): Promise<void> {
    try {
      await this.#call(batch)
    } catch (error) {
      if (!TOO_LARGE.has(problemOf(error)?.slug) || batch.values.length === 1)
        throw this.#located(error, batch)
      const half = Math.ceil(batch.values.length / 2)
      await this.#send(part(batch, 0, half))
      await this.#send(part(batch, half, batch.values.length))
    }
  }

  async #call({ values, entries }: Batch): Promise<void> {
    const { vault, operation, allowTokens } = this.#options
    if (operation === 'tokenize') {
      const { epoch, tokens } = await vault.tokenize(values, { allowTokens })
      checkCount(tokens, values)
      this.#seen(epoch)
      for (const [i, entry] of entries.entries()) entry.answer = this.#answer(tokens[i])
      return
    }
    const tokens = values.map(String)
    if (operation === 'retokenize') {
      const answer = await vault.retokenize(tokens)
      checkCount(answer.tokens, values)
      if (answer.notFound.length < tokens.length) this.#seen(answer.epoch)
      for (const [i, entry] of entries.entries()) entry.answer = this.#answer(answer.tokens[i])
      return
    }
    const answer = await vault.detokenize(tokens)
    checkCount(answer.values, values)
    for (const [i, entry] of entries.entries()) {
      entry.answer = this.#answer(answer.values[i])
      if (answer.values[i] !== null) this.#epochs.add(Number(tokens[i].split('_')[1]))
    }
  }

  #answer(value: Scalar): Answer {
    if (value === null) return NOT_FOUND
    const { format } = this.#options
    const bare = format.bare(value)
    const quoted = format.quoted(value)
    const bareBytes = Buffer.byteLength(bare)
    const quotedBytes = quoted === bare ? bareBytes : Buffer.byteLength(quoted)
    return { kind: 'replaced', bare, bareBytes, quoted, quotedBytes }
  }

  #seen(epoch: number): void {
    this.#epochs.add(epoch)
    if (this.#epochs.size > 1 && !this.#options.mixedEpochs)
      throw new OperatorError(
        `the epoch was rotated meanwhile: the file would have tokens of epochs ${this.epochs.join(' and ')}`,
        { hint: 'run it again, or accept both epochs with --mixed-epochs' },
      )
  }

  /** The error with line and column, where the vault refuses a single value. */
  #located(error: unknown, batch: Batch): unknown {
    const problem = problemOf(error)
    if (problem?.slug === 'forbidden' && typeof problem.needs === 'string')
      return forbidden(error, problem.needs)
    const index = /^(?:values|tokens)\[(\d+)\]$/.exec(problem?.path ?? '')?.[1]
    const only = TOO_LARGE.has(problem?.slug) ? 0 : undefined
    const at = index === undefined ? only : Number(index)
    if (!problem || at === undefined || at >= batch.values.length) return error
    const isToken = problem.slug === 'already-a-token'
    const hint = isToken
      ? 'name only columns without tokens, or tokenize tokens, too, with --allow-tokens'
      : 'correct the value and run the command again'
    const message = isToken ? 'the value is a token already' : `${problem.message}`
    return faultOf(batch.pieces[at], batch.places[at], this.#options.format, { message, hint })
  }
}

type RefusedCall = { slug: string; message: string; path?: string; needs?: unknown }

/** The members of a problem of the vault (RFC 9457), as the client of the API throws a problem. */
function problemOf(error: unknown): RefusedCall | undefined {
  if (!(error instanceof Error) || !('slug' in error) || typeof error.slug !== 'string') return undefined
  const members: unknown = 'members' in error ? error.members : undefined
  const known = typeof members === 'object' && members !== null ? members : {}
  const path = 'path' in known && typeof known.path === 'string' ? { path: known.path } : {}
  return {
    slug: error.slug,
    message: error.message,
    ...path,
    ...('needs' in known ? { needs: known.needs } : {}),
  }
}

function forbidden(cause: unknown, right: string): OperatorError {
  return new OperatorError(`the API key lacks the right \`${right}\``, {
    cause,
    hint: 'use an API key with the right',
  })
}

function checkCount(answers: readonly unknown[], values: readonly unknown[]): void {
  if (answers.length !== values.length)
    throw new OperatorError(`the vault answered ${answers.length} of ${values.length} values`, {
      hint: 'run the command again; if the error stays, compare the versions with `coffer status`',
    })
}

function newBatch(): Batch {
  return { values: [], entries: [], pieces: [], places: [], bytes: 0 }
}

function part({ values, entries, pieces, places }: Batch, from: number, to: number): Batch {
  return {
    values: values.slice(from, to),
    entries: entries.slice(from, to),
    pieces: pieces.slice(from, to),
    places: places.slice(from, to),
    bytes: 0,
  }
}
