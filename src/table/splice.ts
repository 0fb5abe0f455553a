// A text file through a vault: pieces of whole records are read, the values of their places asked for, and
// the pieces written in order, all other bytes unchanged. Memory is bounded, for files of any size.
import { assert } from '../assert.ts'
import { type Answered, Answers, NOTHING, NUMBERS } from './answers.ts'
import { copyBytes, STATE } from './dictionary.ts'
import type { Format, Piece } from './piece.ts'
import type { Report } from './report.ts'
import type { Operation, Vault } from './vault.ts'

/** The limit for pieces without answers: their bytes, and the memory of each place. */
const WAITING_BYTES = 24 * 1024 * 1024
const BYTES_A_PLACE = 24
const QUOTE = 0x22
/** A source that gives nothing for so long pauses: a pipe, whose reader waits for the answers. */
const PAUSE_MS = 100

type SpliceOptions = {
  readonly operation: Operation
  readonly format: Format
  readonly vault: Vault
  readonly allowTokens: boolean
  readonly mixedEpochs: boolean
}

/** A piece whose answers may still be on their way: `known` places have answers. */
type Waiting = Answered & { readonly piece: Piece; known: number }

export class Splice {
  readonly #format: Format
  readonly #answers: Answers
  readonly #waiting: Waiting[] = []
  #waitingBytes = 0
  #rest: Buffer = Buffer.alloc(0)
  /** The size of the rest at which a record is looked for again: else long records cost squares. */
  #needed = 0
  #rows = 0
  #values = 0
  #replaced = 0
  #notFound = 0
  #unmatched = 0

  constructor({ format, ...options }: SpliceOptions) {
    this.#format = format
    this.#answers = new Answers({ ...options, format })
  }

  get report(): Report {
    return {
      rows: this.#rows,
      values: this.#values,
      distinct: this.#answers.distinct,
      replaced: this.#replaced,
      notFound: this.#notFound,
      unmatched: this.#unmatched,
      epochs: this.#answers.epochs,
    }
  }

  /**
   * The new content of the file in order; while the source pauses, all there is of it. Throws OperatorError,
   * UsageError, and errors of the vault; then the caller closes the source.
   */
  async *run(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
    try {
      const chunks = source[Symbol.asyncIterator]()
      for (;;) {
        const next = chunks.next()
        if (await isLate(next)) {
          yield* this.#takeAll(false)
          yield* this.#takeAnswers()
        }
        const { value: chunk, done } = await next
        if (done) break
        this.#rest = this.#rest.length === 0 ? asBuffer(chunk) : Buffer.concat([this.#rest, chunk])
        if (this.#rest.length >= this.#needed) yield* this.#takeAll(false)
      }
      yield* this.#takeAll(true)
      this.#format.end()
      yield* this.#takeAnswers()
      assert(this.#waiting.length === 0, 'every piece has its answers')
    } finally {
      await this.#answers.settled()
    }
  }

  async *#takeAnswers(): AsyncGenerator<Buffer> {
    await this.#answers.flush()
    yield* this.#answered()
  }

  async *#takeAll(isLast: boolean): AsyncGenerator<Buffer> {
    for (;;) {
      const piece = this.#format.take(this.#rest, isLast)
      if (piece.taken === 0) break
      this.#rest = this.#rest.subarray(piece.taken)
      this.#enqueue(piece)
      await this.#answers.next()
      yield* this.#answered()
      while (this.#waitingBytes > WAITING_BYTES) {
        await this.#answers.step()
        yield* this.#answered()
      }
    }
    assert(!isLast || this.#rest.length === 0, 'the last call takes all bytes')
    this.#needed = this.#rest.length * 2
  }

  #enqueue(piece: Piece): void {
    this.#rows += piece.rows
    this.#unmatched += piece.unmatched
    this.#waiting.push({ piece, ...this.#answers.of(piece), known: 0 })
    this.#waitingBytes += weightOf(piece)
  }

  /** The first pieces, as far as their answers are there. */
  *#answered(): Generator<Buffer> {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const { piece, references } = first
      while (first.known < references.length && isAnswered(first, first.known)) first.known++
      if (first.known < references.length) return
      this.#waiting.shift()
      this.#waitingBytes -= weightOf(piece)
      if (references.length === 0) yield piece.bytes
      else yield this.#format.delimiter === undefined ? this.#spliced(first) : this.#extended(first)
    }
  }

  /** The bytes of a piece with the answers in their places. */
  #spliced(waiting: Waiting): Buffer {
    const { piece, references, dictionaries } = waiting
    const { bytes, places } = piece
    const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    const out = Buffer.allocUnsafe(bytes.length + this.#growthOf(waiting, plain))
    const plainOut = new Uint8Array(out.buffer, out.byteOffset, out.length)
    let from = 0
    let to = 0
    for (let i = 0; i < references.length; i++) {
      const reference = references[i]
      if (reference === NOTHING) continue
      const dictionary = dictionaries[(reference / NUMBERS) | 0]
      const number = reference % NUMBERS
      if (dictionary.stateOf(number) !== STATE.replaced) continue
      const start = places.start[i]
      to = copyBytes(plain, from, start, plainOut, to)
      to = dictionary.copy(number, plain[start - 1] === QUOTE, plainOut, to)
      from = places.end[i]
    }
    to = copyBytes(plain, from, plain.length, plainOut, to)
    assert(to === out.length, 'a piece has the computed size')
    return out
  }

  /** Counts the places of a piece. Returns the bytes that the answers have more than the values. */
  #growthOf({ piece, references, dictionaries }: Waiting, plain: Uint8Array): number {
    const { start, end } = piece.places
    let growth = 0
    for (let i = 0; i < references.length; i++) {
      const reference = references[i]
      if (reference === NOTHING) continue
      const dictionary = dictionaries[(reference / NUMBERS) | 0]
      const number = reference % NUMBERS
      this.#count(dictionary.stateOf(number))
      if (dictionary.stateOf(number) === STATE.replaced)
        growth += dictionary.sizeOf(number, plain[start[i] - 1] === QUOTE) - (end[i] - start[i])
    }
    return growth
  }

  #count(state: number): void {
    this.#values++
    if (state === STATE.replaced) this.#replaced++
    else if (state === STATE.notFound) this.#notFound++
  }

  /** The bytes of a piece with a new last field in each record: the answer, or nothing. */
  #extended({ piece, references, dictionaries }: Waiting): Buffer {
    const { bytes, places } = piece
    const ends = places.recordEnd
    assert(ends?.length === references.length, 'each record has one place')
    const delimiter = Buffer.from(this.#format.delimiter ?? '')
    const parts: Buffer[] = []
    let from = 0
    for (const [i, reference] of references.entries()) {
      parts.push(bytes.subarray(from, ends[i]), delimiter)
      from = ends[i]
      if (reference === NOTHING) continue
      const dictionary = dictionaries[(reference / NUMBERS) | 0]
      const number = reference % NUMBERS
      this.#count(dictionary.stateOf(number))
      if (dictionary.stateOf(number) !== STATE.replaced) continue
      const answer = Buffer.alloc(dictionary.sizeOf(number, false))
      dictionary.copy(number, false, answer, 0)
      parts.push(answer)
    }
    parts.push(bytes.subarray(from))
    return Buffer.concat(parts)
  }
}

function isAnswered({ references, dictionaries }: Waiting, place: number): boolean {
  const reference = references[place]
  if (reference === NOTHING) return true
  return dictionaries[(reference / NUMBERS) | 0].stateOf(reference % NUMBERS) !== STATE.waiting
}

/** Whether nothing comes for a while. Errors are those of whoever awaits `next`. */
function isLate(next: Promise<unknown>): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, PAUSE_MS, true)
    const settle = (): void => {
      clearTimeout(timer)
      resolve(false)
    }
    next.then(settle, settle)
  })
}

function weightOf({ bytes, places }: Piece): number {
  return bytes.length + places.count * BYTES_A_PLACE
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
