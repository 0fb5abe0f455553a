// A text file through a vault: pieces of whole records are read, the values of their places asked for, and
// the pieces written in order, all other bytes unchanged. Memory is bounded, for files of any size.
import { assert } from '../assert.ts'
import { Answers, NOTHING } from './answers.ts'
import type { Answered } from './batch.ts'
import { Bytes, copyBytes } from './bytes.ts'
import { STATE } from './dictionary.ts'
import type { Format, Piece } from './piece.ts'
import { NUMBERS } from './remembered.ts'
import type { Report } from './report.ts'
import { type Block, Reader, type Source } from './source.ts'
import type { ByteVault, Operation } from './vault.ts'

/** The limit for pieces without answers: their bytes, and the memory of each place. */
const WAITING_BYTES = 40 * 1024 * 1024
const BYTES_A_PLACE = 24
const PART_BYTES = 1024 * 1024
/** A part is valid until so many more are asked for: parts are made while others are written. */
export const PARTS_VALID = 8
/** Bytes of answers in a piece, as far as known before. */
const ANSWERS_A_PIECE = 6 * 1024 * 1024
/** Of `detokenize`, whose values may suddenly be longer than all before. */
const TOKENS_PIECE_BYTES = 256 * 1024
const LEAST_PIECE_BYTES = 16 * 1024
/** A token and a delimiter. */
const FIRST_BYTES_A_PLACE = 39
const QUOTE = 0x22
/** The answers for so many places are touched before they are copied, as in lookups.ts. */
const WARM_PLACES = 64
/** A source that gives nothing for so long pauses: a pipe, whose reader waits for the answers. */
const PAUSE_MS = 100

type SpliceOptions = {
  readonly operation: Operation
  readonly format: Format
  readonly vault: ByteVault
  readonly allowTokens: boolean
  readonly mixedEpochs: boolean
}

/**
 * A piece whose answers may still be on their way. `from`: the bytes written with the answers, and `place`,
 * the places.
 */
type Waiting = {
  readonly piece: Piece
  readonly answered: Answered
  readonly block: Block
  from: number
  place: number
}

export class Splice {
  readonly #format: Format
  readonly #answers: Answers
  readonly #waiting: Waiting[] = []
  #waitingBytes = 0
  readonly #outs: Bytes[] = []
  #partNumber = 0
  #partSize = 0
  /** The size of the rest at which a record is looked for again: else long records cost squares. */
  #needed = 0
  readonly #mostBytes: number
  /** Of the piece before. */
  #bytesAPlace = FIRST_BYTES_A_PLACE
  #warmed = 0
  #rows = 0
  #values = 0
  #replaced = 0
  #notFound = 0
  #unmatched = 0

  constructor({ format, ...options }: SpliceOptions) {
    this.#format = format
    this.#mostBytes = options.operation === 'detokenize' ? TOKENS_PIECE_BYTES : Number.POSITIVE_INFINITY
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
   * The new content of the file in order; while the source pauses, all there is of it. Parts are valid for a
   * while (PARTS_VALID). Throws OperatorError, UsageError, and errors of the vault.
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
    this.#answers.send()
    for (;;) {
      yield* this.#answered(reader)
      if (this.#waiting.length === 0) break
      await this.#answers.step()
    }
  }

  async *#takeAll(reader: Reader, isLast: boolean): AsyncGenerator<Buffer> {
    for (;;) {
      const piece = this.#take(reader.rest, isLast)
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

  /** Whole records: of long answers fewer, since a piece is written when all of its answers are there. */
  #take(rest: Buffer, isLast: boolean): Piece {
    const { valueBytes } = this.#answers
    const fitting = Math.floor((ANSWERS_A_PIECE * this.#bytesAPlace) / valueBytes)
    let most = Math.max(LEAST_PIECE_BYTES, Math.min(fitting, this.#mostBytes))
    for (; most < rest.length; most *= 2) {
      const piece = this.#format.take(rest.subarray(0, most), false)
      if (piece.taken > 0) return piece
    }
    return this.#format.take(rest, isLast)
  }

  #enqueue(piece: Piece, block: Block): void {
    this.#rows += piece.rows
    this.#unmatched += piece.unmatched
    if (piece.places.count > 0) this.#bytesAPlace = piece.taken / piece.places.count
    this.#waiting.push({ piece, block, answered: this.#answers.of(piece), from: 0, place: 0 })
    this.#waitingBytes += weightOf(piece)
  }

  /** The first pieces, as far as their answers are there. */
  *#answered(reader: Reader): Generator<Buffer> {
    for (;;) {
      const first = this.#waiting[0]
      if (first && this.#answers.isAnswered(first.answered)) {
        this.#waiting.shift()
        this.#waitingBytes -= weightOf(first.piece)
        if (this.#format.delimiter !== undefined) yield this.#extended(first)
        else while (!this.#write(first)) yield this.#part()
        reader.release(first.block)
      } else if (this.#partSize === 0) return
      else yield this.#part() // answers may come meanwhile
    }
  }

  /** The part that is full, or the last one for now. */
  #part(): Buffer {
    const part = Buffer.from(this.#out.bytes.buffer, 0, this.#partSize)
    this.#partSize = 0
    this.#partNumber = (this.#partNumber + 1) % PARTS_VALID
    return part
  }

  get #out(): Bytes {
    this.#outs[this.#partNumber] ??= new Bytes(new Uint8Array(PART_BYTES))
    return this.#outs[this.#partNumber]
  }

  /** Writes a piece with the answers into the part. Returns false where the part is full. */
  #write(waiting: Waiting): boolean {
    const { words, places } = waiting.piece
    const { references, dictionaries } = waiting.answered
    const { start, end } = places
    const plain = words.bytes
    const out = this.#out
    const room = out.bytes.length
    let { place, from } = waiting
    let warm = place
    let to = this.#partSize
    for (; place < references.length; place++) {
      if (place === warm) warm = this.#warm(waiting.answered, place)
      const reference = references[place]
      if (reference === NOTHING) continue
      const dictionary = dictionaries[(reference / NUMBERS) | 0]
      const number = reference % NUMBERS
      const state = dictionary.stateOf(number)
      if (state === STATE.replaced) {
        const at = start[place]
        const isInQuotes = plain[at - 1] === QUOTE
        const size = dictionary.sizeOf(number, isInQuotes)
        if (to + at - from + size > room) {
          if (size <= room || to + at - from > 0) break
          waiting.place = place
          return this.#writeLong(waiting, size)
        }
        to = copyBytes(words, from, at, out, to)
        to = dictionary.copy(number, isInQuotes, out, to)
        from = end[place]
      }
      this.#count(state)
    }
    const unchanged = place < references.length ? start[place] : plain.length
    const last = Math.min(unchanged, from + room - to)
    this.#partSize = copyBytes(words, from, last, out, to)
    waiting.place = place
    waiting.from = last
    return place === references.length && last === plain.length
  }

  /** As `#write`, into an empty part with memory for `size` bytes. */
  #writeLong(waiting: Waiting, size: number): boolean {
    this.#outs[this.#partNumber] = new Bytes(new Uint8Array(size))
    return this.#write(waiting)
  }

  /** Returns the next place whose answer is not touched. */
  #warm({ references, dictionaries }: Answered, from: number): number {
    const to = Math.min(from + WARM_PLACES, references.length)
    for (let place = from; place < to; place++) {
      const reference = references[place]
      if (reference === NOTHING) continue
      this.#warmed |= dictionaries[(reference / NUMBERS) | 0].stateOf(reference % NUMBERS)
    }
    for (let place = from; place < to; place++) {
      const reference = references[place]
      if (reference === NOTHING) continue
      this.#warmed |= dictionaries[(reference / NUMBERS) | 0].warmAnswer(reference % NUMBERS)
    }
    return to
  }

  #count(state: number): void {
    this.#values++
    if (state === STATE.replaced) this.#replaced++
    else if (state === STATE.notFound) this.#notFound++
  }

  /** The bytes of a piece with a new last field in each record: the answer, or nothing. */
  #extended({ piece, answered: { references, dictionaries } }: Waiting): Buffer {
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
      dictionary.copy(number, false, new Bytes(answer), 0)
      parts.push(answer)
    }
    parts.push(bytes.subarray(from))
    return Buffer.concat(parts)
  }
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
