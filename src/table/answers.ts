// Values and their answers: each value is asked for once while its answer is remembered, in requests of
// bounded size, at most three on their way.
import { assert } from '../assert.ts'
import { OperatorError } from '../errors.ts'
import { VaultAnswer } from './answer.ts'
import { type Answered, Batch, type Envelope } from './batch.ts'
import { isEqual } from './bytes.ts'
import { type Dictionary, STATE } from './dictionary.ts'
import { DistinctCount } from './distinct.ts'
import { Lookups } from './lookups.ts'
import { type Format, faultOf, needsQuotes, type Piece } from './piece.ts'
import { NUMBERS, type Remembered, rememberedOf } from './remembered.ts'
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
import { type ByteVault, epochOfQuoted, epochOfToken, type Operation } from './vault.ts'

/** Of pieces that wait for the answers: with few values in many bytes, smaller requests go out meanwhile. */
const SPAN_A_REQUEST = 6 * 1024 * 1024

/** The value is null, and stays. */
export const NOTHING = 0xffffffff

type AnswersOptions = {
  readonly vault: ByteVault
  readonly operation: Operation
  readonly format: Format
  readonly allowTokens: boolean
  readonly mixedEpochs: boolean
}

export class Answers {
  readonly #options: AnswersOptions
  readonly #distinct = new DistinctCount()
  readonly #epochs = new Set<number>()
  readonly #lookups: Lookups
  readonly #size: RequestSize
  /** By column. */
  readonly #remembered: readonly Remembered[]
  #open: Batch
  readonly #full: Batch[] = []
  /** Answered, for values to come. */
  readonly #free: Batch[] = []
  /** The numbers of answered requests; of all requests up to `#answered` there are the answers. */
  readonly #done = new Set<number>()
  #answered = 0
  readonly #underWay = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined

  constructor(options: AnswersOptions) {
    this.#options = options
    const { operation } = options
    this.#size = new RequestSize(operation, operation === 'detokenize' ? TOKENS_A_REQUEST : VALUES_A_REQUEST)
    this.#remembered = rememberedOf(options.format.columns.length)
    this.#lookups = new Lookups(options.format, this.#remembered)
    this.#open = new Batch(envelopeOf(options), 1)
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
    const { count, column } = piece.places
    const lookups = this.#lookups
    const answered: Answered = { references: new Uint32Array(count), dictionaries: [], last: 0 }
    for (const remembered of new Set(this.#remembered)) remembered.begin(answered.dictionaries)
    lookups.begin()
    for (let place = 0; place < count; place++) {
      if (!lookups.seek(piece, place)) answered.references[place] = NOTHING
      else {
        const remembered = this.#remembered[column[place]]
        const known = lookups.find(remembered)
        answered.references[place] = known >= 0 ? known : this.#added(remembered, piece, answered, place)
      }
    }
    const { number, span } = this.#open
    const isOpen = this.#open.count > 0
    answered.last = isOpen ? number : number - 1
    this.#open.span = span + piece.bytes.length
    if (isOpen && this.#open.span >= SPAN_A_REQUEST) this.#close()
    return answered
  }

  /** Whether all answers for a piece are there, and for all pieces before. */
  isAnswered({ last }: Answered): boolean {
    return last <= this.#answered
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
    if (this.#open.count > 0) this.#close()
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

  /** Adds the value sought, and asks the vault. Returns the reference. */
  #added(remembered: Remembered, piece: Piece, answered: Answered, place: number): number {
    const { format, operation } = this.#options
    const { source, start, end, hash, isPlain } = this.#lookups
    this.#distinct.add(hash)
    remembered.makeRoom(answered.dictionaries, this.#size.expectedBytes)
    const number = remembered.young.add(source, start, end, hash.low)
    // Before the value is written: no fault of a value matters where no token stands.
    if (operation === 'tokenize' || this.#isToken(source.bytes, start, end)) {
      const batch = this.#open
      if (isPlain) format.writeValue(piece, place, batch.out)
      else batch.out.append(source, start, end)
      batch.add(piece, answered, place)
      if (batch.count >= this.#size.values || batch.bytes >= BYTES_A_REQUEST) this.#close()
    } else remembered.young.leave(number, STATE.noToken)
    return remembered.youngAt * NUMBERS + number
  }

  #isToken(bytes: Uint8Array, start: number, end: number): boolean {
    const { withQuotes } = this.#options.format
    return (withQuotes ? epochOfQuoted(bytes, start, end) : epochOfToken(bytes, start, end)) > 0
  }

  #close(): void {
    const { number } = this.#open
    this.#full.push(this.#open)
    this.#open = this.#free.pop() ?? new Batch(envelopeOf(this.#options), 0)
    this.#open.reset(number + 1)
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
    let isRefused = false
    const ask = async (from: number, to: number): Promise<void> => {
      try {
        await this.#call(batch, from, to)
      } catch (error) {
        isRefused = true
        const isCut = isTooLarge(error) && to - from > 1
        throw isCut ? error : this.#located(error, batch, from)
      }
    }
    await inParts(ask, 0, batch.count, this.#size)
    this.#done.add(batch.number)
    while (this.#done.delete(this.#answered + 1)) this.#answered++
    // A body refused early may still be on the way.
    if (!isRefused) this.#free.push(batch)
  }

  /** Asks for the values [from, to) of a request. */
  async #call(batch: Batch, from: number, to: number): Promise<void> {
    const { vault, operation } = this.#options
    const answer = new VaultAnswer(await vault.post(`/${operation}`, batch.body(from, to)), operation)
    checkCount(answer.count, to - from)
    if (operation === 'tokenize') this.#seen(answer.epoch)
    const found = this.#take(batch, from, answer)
    if (operation === 'retokenize' && found > 0) this.#seen(answer.epoch)
  }

  /** Takes the answers for the values from `first` on. Returns how many there are. */
  #take(batch: Batch, first: number, answer: VaultAnswer): number {
    const { operation, format } = this.#options
    const end = first + answer.count
    const isOld = operation === 'detokenize'
    // A new field has new content also where the token is the old one.
    const canStay = operation === 'retokenize' && format.delimiter === undefined
    let bytes = 0
    let found = 0
    let last = 0
    for (const [k, { answered, from }] of batch.parts.entries()) {
      const { references, dictionaries } = answered
      const to = Math.min(batch.parts[k + 1]?.from ?? end, end)
      for (let i = Math.max(from, first); i < to; i++) {
        const reference = references[batch.placeOf(i)]
        const dictionary = dictionaries[Math.floor(reference / NUMBERS)]
        if (answer.isNull(i - first)) {
          dictionary.leave(reference % NUMBERS, STATE.notFound)
          continue
        }
        found++
        if (canStay && isSame(batch, i, answer, i - first)) {
          dictionary.leave(reference % NUMBERS, STATE.same)
          bytes += batch.endOf(i) - batch.startOf(i)
          continue
        }
        bytes += this.#replace(dictionary, reference % NUMBERS, answer, i - first)
        if (!isOld) continue
        const epoch = epochOfQuoted(batch.out.memory.bytes, batch.startOf(i), batch.endOf(i))
        if (epoch !== last) this.#epochs.add(epoch)
        last = epoch
      }
    }
    this.#size.seen(answer.count, bytes)
    return found
  }

  /** Returns the bytes of the answer. */
  #replace(dictionary: Dictionary, number: number, answer: VaultAnswer, i: number): number {
    const { format } = this.#options
    if (!answer.isPlain(i)) {
      const text = format.textOf(answer.valueOf(i))
      const bytes = Buffer.from(text)
      return dictionary.replaceByText(number, text, needsQuotes(format, bytes, 0, bytes.length))
    }
    const start = answer.startOf(i)
    const end = answer.endOf(i)
    if (format.withQuotes) return dictionary.replace(number, answer.bytes, start, end, false)
    const isQuoted = needsQuotes(format, answer.bytes.bytes, start + 1, end - 1)
    return dictionary.replace(number, answer.bytes, start + 1, end - 1, isQuoted)
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
    if (!problem || at === undefined || at >= batch.count) return error
    const isToken = problem.slug === 'already-a-token'
    const hint = isToken
      ? 'name only columns without tokens, or tokenize tokens, too, with --allow-tokens'
      : 'correct the value and run the command again'
    const message = isToken ? 'the value is a token already' : `${problem.message}`
    const piece = batch.parts.findLast(({ from }) => from <= at)?.piece
    assert(piece, 'every value has a piece')
    return faultOf(piece, batch.placeOf(at), this.#options.format, { message, hint })
  }
}

/** Whether an answer is the value of a batch, as bytes. */
function isSame(batch: Batch, value: number, answer: VaultAnswer, i: number): boolean {
  const start = batch.startOf(value)
  const end = batch.endOf(value)
  const isAsLong = answer.endOf(i) - answer.startOf(i) === end - start
  return isAsLong && isEqual(batch.out.memory, start, end, answer.bytes, answer.startOf(i))
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

function checkCount(answers: number, values: number): void {
  if (answers !== values)
    throw new OperatorError(`the vault answered ${answers} of ${values} values`, {
      hint: 'run the command again; if the error stays, compare the versions with `coffer status`',
    })
}

function envelopeOf({ operation, allowTokens }: AnswersOptions): Envelope {
  if (operation !== 'tokenize') return { head: '{"tokens":[', tail: ']}' }
  return { head: '{"values":[', tail: allowTokens ? '],"allow_tokens":true}' : ']}' }
}
