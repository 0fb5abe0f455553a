// A text file through a vault: pieces of whole records are read, the values of their places asked for, and
// the pieces written in order, all other bytes unchanged. Memory is bounded, for files of any size.
import { assert } from '../assert.ts'
import { type Answered, Answers, NOTHING, NUMBERS } from './answers.ts'
import { copyBytes, STATE } from './dictionary.ts'
import type { Format, Piece } from './piece.ts'
import type { Report } from './report.ts'
import { type Block, Reader, type Source } from './source.ts'
import type { Operation, Vault } from './vault.ts'

/** The limit for pieces without answers: their bytes, and the memory of each place. */
const WAITING_BYTES = 48 * 1024 * 1024
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
type Waiting = Answered & { readonly piece: Piece; readonly block: Block; known: number }

export class Splice {
  readonly #format: Format
  readonly #answers: Answers
  readonly #waiting: Waiting[] = []
  #waitingBytes = 0
  #outs: readonly [Buffer, Buffer] = [Buffer.alloc(0), Buffer.alloc(0)]
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
   * The new content of the file in order; while the source pauses, all there is of it. Each part is valid
   * until the part after the next is asked for. Throws OperatorError, UsageError, and errors of the vault.
   */
  async *run(source: Source): AsyncGenerator<Buffer> {
    const reader = new Reader(source)
    try {
      for (;;) {
        const reading = reader.read()
        if (await isLate(reading)) {
          yield* this.#takeAll(reader, false)
          yield* this.#takeAnswers(reader)
        }
        if (!(await reading)) break
        if (reader.rest.length >= this.#needed) yield* this.#takeAll(reader, false)
      }
      yield* this.#takeAll(reader, true)
      this.#format.end()
      yield* this.#takeAnswers(reader)
      assert(this.#waiting.length === 0, 'every piece has its answers')
    } finally {
      await this.#answers.settled()
    }
  }

  async *#takeAnswers(reader: Reader): AsyncGenerator<Buffer> {
    await this.#answers.flush()
    yield* this.#answered(reader)
  }

  async *#takeAll(reader: Reader, isLast: boolean): AsyncGenerator<Buffer> {
    for (;;) {
      const piece = this.#format.take(reader.rest, isLast)
      if (piece.taken === 0) break
      this.#enqueue(piece, reader.take(piece.taken))
      await this.#answers.next()
      yield* this.#answered(reader)
      while (this.#waitingBytes > WAITING_BYTES) {
        await this.#answers.step()
        yield* this.#answered(reader)
      }
    }
    const left = reader.rest.length
    assert(!isLast || left === 0, 'the last call takes all bytes')
    this.#needed = left * 2
  }

  #enqueue(piece: Piece, block: Block): void {
    this.#rows += piece.rows
    this.#unmatched += piece.unmatched
    this.#waiting.push({ piece, block, ...this.#answers.of(piece), known: 0 })
    this.#waitingBytes += weightOf(piece)
  }

  /** The first pieces, as far as their answers are there. */
  *#answered(reader: Reader): Generator<Buffer> {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const { piece, references } = first
      while (first.known < references.length && isAnswered(first, first.known)) first.known++
      if (first.known < references.length) return
      this.#waiting.shift()
      this.#waitingBytes -= weightOf(piece)
      const bytes = this.#format.delimiter === undefined ? this.#spliced(first) : this.#extended(first)
      reader.release(first.block)
      yield bytes
    }
  }

  /** The bytes of a piece with the answers in their places. */
  #spliced(waiting: Waiting): Buffer {
    const { piece, references, dictionaries } = waiting
    const { bytes, places } = piece
    const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    const out = this.#outOf(bytes.length + this.#growthOf(waiting, plain))
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

  /** Memory of the part before the last. */
  #outOf(size: number): Buffer {
    const [next, last] = this.#outs
    const usable = next.length < size ? Buffer.allocUnsafeSlow(Math.ceil(size * 1.25)) : next
    this.#outs = [last, usable]
    return usable.subarray(0, size)
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
    const ends = places.recordEnd ?? new Uint32Array(0)
    assert(ends.length === references.length, 'each record has one place')
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
