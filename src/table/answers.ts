// Values and their answers: each value is asked for once while its answer is remembered, in requests of
// bounded size, at most three on their way.
import { assert } from '../assert.ts'
import { OperatorError } from '../errors.ts'
import { type Dictionary, Hash, STATE } from './dictionary.ts'
import { DistinctCount } from './distinct.ts'
import { type Format, faultOf, type Piece } from './piece.ts'
import { type Remembered, rememberedOf } from './remembered.ts'
import {
  BYTES_A_REQUEST,
  inParts,
  isTooLarge,
  REQUESTS_AT_ONCE,
  REQUESTS_WAITING,
  RequestSize,
  TOKENS_A_REQUEST,
  VALUES_A_REQUEST,
} from './requests.ts'
import { type Operation, type Scalar, TOKEN, type Vault } from './vault.ts'

/** Of pieces that wait for the answers: with few values in many bytes, smaller requests go out meanwhile. */
const SPAN_A_REQUEST = 6 * 1024 * 1024

/** Where the answers for the places of a piece are. */
export type Answered = {
  /** By place: the number of the value, plus the index of the dictionary times `NUMBERS`; or `NOTHING`. */
  readonly references: Uint32Array
  readonly dictionaries: readonly Dictionary[]
}

export const NUMBERS = 2 ** 18
/** The value is null, and stays. */
export const NOTHING = 0xffffffff

/** The values of a request, and the places that they come from. */
type Batch = {
  readonly values: Exclude<Scalar, null>[]
  /** By value: its first place in its piece. */
  readonly places: number[]
  /** The pieces in order; the values of a piece begin at `from`. */
  readonly parts: { readonly piece: Piece; readonly answered: Answered; readonly from: number }[]
  bytes: number
  /** Bytes of the pieces looked up since the request was opened. */
  span: number
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
  readonly #hash = new Hash()
  readonly #size: RequestSize
  /** By column. */
  readonly #remembered: readonly Remembered[]
  #open = newBatch()
  readonly #full: Batch[] = []
  readonly #underWay = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined

  constructor(options: AnswersOptions) {
    this.#options = options
    const { operation } = options
    this.#size = new RequestSize(operation, operation === 'detokenize' ? TOKENS_A_REQUEST : VALUES_A_REQUEST)
    this.#remembered = rememberedOf(options.format.columns.length)
  }

  get distinct(): number {
    return this.#distinct.count
  }

  /** Of an answer to a value, as far as seen. */
  get valueBytes(): number {
    return this.#size.valueBytes
  }

  /** Ascending. */
  get epochs(): readonly number[] {
    return [...this.#epochs].sort((a, b) => a - b)
  }

  /** Looks the values of a piece up. The answers come with `next` and `flush`. Throws OperatorError. */
  of(piece: Piece): Answered {
    const { format } = this.#options
    const { count, start, end } = piece.places
    const bytes = new Uint8Array(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.length)
    const dictionaries: Dictionary[] = []
    const answered = { references: new Uint32Array(count), dictionaries }
    for (const remembered of new Set(this.#remembered)) remembered.begin(dictionaries)
    const at: At = { piece, answered, dictionaries, place: 0 }
    for (; at.place < count; at.place++) {
      const { place } = at
      if (format.isPlain(piece, place)) {
        answered.references[place] = this.#referenceOf(bytes, start[place], end[place], at)
        continue
      }
      const value = format.valueAt(piece, place)
      const form = value === null ? undefined : format.formOf(value)
      answered.references[place] = form ? this.#referenceOf(form, 0, form.length, at) : NOTHING
    }
    this.#open.span += piece.bytes.length
    if (this.#open.span >= SPAN_A_REQUEST && this.#open.values.length > 0) this.#close()
    return answered
  }

  /** Waits while too many full requests wait. Throws the first error. */
  async next(): Promise<void> {
    this.#check()
    while (this.#full.length > REQUESTS_WAITING) {
      await Promise.race(this.#underWay)
      this.#check()
    }
  }

  /** Sends all. */
  send(): void {
    if (this.#open.values.length > 0) this.#close()
  }

  /** Waits for one answer; sends a partly filled request where no other is under way. */
  async step(): Promise<void> {
    this.#check()
    if (this.#underWay.size === 0) this.send()
    assert(this.#underWay.size > 0, 'a piece that waits has an answer on its way')
    await Promise.race(this.#underWay)
    this.#check()
  }

  /** Waits for the end of all requests; after an error, of those under way. Throws nothing. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay)
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error
  }

  #referenceOf(bytes: Uint8Array, start: number, end: number, at: At): number {
    const hash = this.#hash
    hash.set(bytes, start, end)
    const remembered = this.#remembered[at.piece.places.column[at.place]]
    const young = remembered.young.find(bytes, start, end, hash.low)
    if (young >= 0) {
      remembered.hit()
      return remembered.youngAt * NUMBERS + young
    }
    const old = remembered.old.find(bytes, start, end, hash.low)
    if (old >= 0) {
      remembered.hit()
      return remembered.oldAt * NUMBERS + old
    }
    this.#distinct.add(hash)
    const value = this.#options.format.valueAt(at.piece, at.place)
    assert(value !== null, 'a plain place has a value')
    remembered.makeRoom(at.dictionaries, this.#size.expectedBytes)
    const number = remembered.young.add(bytes, start, end, hash.low)
    const isAsked = this.#options.operation === 'tokenize' || (typeof value === 'string' && TOKEN.test(value))
    if (isAsked) this.#ask(value, at)
    else remembered.young.leave(number, STATE.noToken)
    return remembered.youngAt * NUMBERS + number
  }

  #ask(value: Exclude<Scalar, null>, { piece, answered, place }: At): void {
    const batch = this.#open
    if (batch.parts.at(-1)?.piece !== piece) batch.parts.push({ piece, answered, from: batch.values.length })
    batch.values.push(value)
    batch.places.push(place)
    batch.bytes += piece.places.end[place] - piece.places.start[place] + 4
    if (batch.values.length >= this.#size.values || batch.bytes >= BYTES_A_REQUEST) this.#close()
  }

  #close(): void {
    this.#full.push(this.#open)
    this.#open = newBatch()
    this.#start()
  }

  /** Sends a full request where few are on their way; the next one at the end of each. */
  #start(): void {
    if (this.#underWay.size >= REQUESTS_AT_ONCE || this.#failure) return
    const batch = this.#full.shift()
    if (!batch) return
    const sent: Promise<void> = this.#send(batch)
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => {
        this.#underWay.delete(sent)
        this.#start()
      })
    this.#underWay.add(sent)
  }

  async #send(batch: Batch): Promise<void> {
    const ask = async (from: number, to: number): Promise<void> => {
      try {
        await this.#call(batch, from, to)
      } catch (error) {
        const isCut = isTooLarge(error) && to - from > 1
        throw isCut ? error : this.#located(error, batch, from)
      }
    }
    await inParts(ask, 0, batch.values.length, this.#size)
  }

  /** Asks for the values [from, to) of a request. */
  async #call(batch: Batch, from: number, to: number): Promise<void> {
    const { vault, operation, allowTokens } = this.#options
    const isWhole = from === 0 && to === batch.values.length
    const values = isWhole ? batch.values : batch.values.slice(from, to)
    if (operation === 'tokenize') {
      const { epoch, tokens } = await vault.tokenize(values, { allowTokens })
      checkCount(tokens, values)
      this.#seen(epoch)
      this.#take(batch, from, tokens)
      return
    }
    const tokens = values.map(String)
    if (operation === 'retokenize') {
      const answer = await vault.retokenize(tokens)
      checkCount(answer.tokens, values)
      if (answer.notFound.length < tokens.length) this.#seen(answer.epoch)
      this.#take(batch, from, answer.tokens)
      return
    }
    const answer = await vault.detokenize(tokens)
    checkCount(answer.values, values)
    this.#take(batch, from, answer.values)
    for (let i = 0; i < tokens.length; i++)
      if (answer.values[i] !== null) this.#epochs.add(Number(tokens[i].split('_', 2)[1]))
  }

  /** The answers for the values from `first` on. */
  #take({ places, parts }: Batch, first: number, answers: readonly Scalar[]): void {
    const { format } = this.#options
    const end = first + answers.length
    let bytes = 0
    for (const [k, { answered, from }] of parts.entries()) {
      const { references, dictionaries } = answered
      const to = Math.min(parts[k + 1]?.from ?? end, end)
      for (let i = Math.max(from, first); i < to; i++) {
        const reference = references[places[i]]
        const dictionary = dictionaries[Math.floor(reference / NUMBERS)]
        const value = answers[i - first]
        if (value === null) dictionary.leave(reference % NUMBERS, STATE.notFound)
        else {
          const text = format.textOf(value)
          bytes += dictionary.replace(reference % NUMBERS, text, format.needsQuotes(text))
        }
      }
    }
    this.#size.seen(answers.length, bytes)
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
  #located(error: unknown, batch: Batch, first: number): unknown {
    const problem = problemOf(error)
    if (problem?.slug === 'forbidden' && typeof problem.needs === 'string')
      return forbidden(error, problem.needs)
    const index = /^(?:values|tokens)\[(\d+)\]$/.exec(problem?.path ?? '')?.[1]
    const only = isTooLarge(error) ? first : undefined
    const at = index === undefined ? only : first + Number(index)
    if (!problem || at === undefined || at >= batch.values.length) return error
    const isToken = problem.slug === 'already-a-token'
    const hint = isToken
      ? 'name only columns without tokens, or tokenize tokens, too, with --allow-tokens'
      : 'correct the value and run the command again'
    const message = isToken ? 'the value is a token already' : `${problem.message}`
    const piece = batch.parts.findLast(({ from }) => from <= at)?.piece
    assert(piece, 'every value has a piece')
    return faultOf(piece, batch.places[at], this.#options.format, { message, hint })
  }
}

/** A place, and the answers of its piece. */
type At = {
  readonly piece: Piece
  readonly answered: Answered
  readonly dictionaries: Dictionary[]
  place: number
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
  return { values: [], places: [], parts: [], bytes: 0, span: 0 }
}
