// A text file through a vault: pieces of whole records are read, the values of their places asked for, and
// the pieces written in order, all other bytes unchanged. Memory is bounded, for files of any size.
import { assert } from '../assert.ts'
import { Answers, type Entry } from './answers.ts'
import type { Format, Piece } from './piece.ts'
import type { Report } from './report.ts'
import type { Operation, Scalar, Vault } from './vault.ts'

/** The limit for pieces without answers: their bytes, and the memory of each place. */
const WAITING_BYTES = 24 * 1024 * 1024
const BYTES_A_PLACE = 24
const QUOTE = 0x22
/** Shorter spans are copied by a loop: a call costs more. */
const SHORT_COPY = 24

type SpliceOptions = {
  readonly operation: Operation
  readonly format: Format
  readonly vault: Vault
  readonly allowTokens: boolean
  readonly mixedEpochs: boolean
}

/** A piece whose answers may still be on their way; null: the place stays. */
type Waiting = { readonly piece: Piece; readonly entries: readonly (Entry | null)[]; answered: number }

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

  /** The new content of the file in order. Throws OperatorError, UsageError, and errors of the vault. */
  async *run(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of source) {
        this.#rest = this.#rest.length === 0 ? asBuffer(chunk) : Buffer.concat([this.#rest, chunk])
        if (this.#rest.length >= this.#needed) yield* this.#takeAll(false)
      }
      yield* this.#takeAll(true)
      this.#format.end()
      await this.#answers.flush()
      yield* this.#answered()
      assert(this.#waiting.length === 0, 'every piece has its answers')
    } finally {
      await this.#answers.settled()
    }
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
    const { count } = piece.places
    const entries = new Array<Entry | null>(count)
    for (let i = 0; i < count; i++) {
      const value: Scalar = this.#format.valueAt(piece, i)
      entries[i] = value === null ? null : this.#answers.entryOf(value, piece, i)
    }
    this.#rows += piece.rows
    this.#unmatched += piece.unmatched
    this.#waiting.push({ piece, entries, answered: 0 })
    this.#waitingBytes += weightOf(piece)
  }

  /** The first pieces, as far as their answers are there. */
  *#answered(): Generator<Buffer> {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const { entries } = first
      while (first.answered < entries.length && entries[first.answered]?.answer.kind !== 'waiting')
        first.answered++
      if (first.answered < entries.length) return
      this.#waiting.shift()
      this.#waitingBytes -= weightOf(first.piece)
      this.#count(entries)
      yield spliced(first.piece, entries, this.#format)
    }
  }

  #count(entries: readonly (Entry | null)[]): void {
    for (const entry of entries) {
      if (entry === null) continue
      this.#values++
      if (entry.answer.kind === 'replaced') this.#replaced++
      else if (entry.answer.kind === 'not-found') this.#notFound++
    }
  }
}

function weightOf({ bytes, places }: Piece): number {
  return bytes.length + places.count * BYTES_A_PLACE
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** The bytes of a piece with the answers in their places. */
function spliced(piece: Piece, entries: readonly (Entry | null)[], { delimiter }: Format): Buffer {
  const { bytes, places } = piece
  if (places.count === 0) return bytes
  if (delimiter !== undefined) return withNewField(piece, entries, delimiter)
  const out = Buffer.allocUnsafe(sizeOf(piece, entries))
  let from = 0
  let to = 0
  for (let i = 0; i < entries.length; i++) {
    const answer = entries[i]?.answer
    if (answer?.kind !== 'replaced') continue
    const start = places.start[i]
    to = copy(bytes, { from, end: start }, out, to)
    if (bytes[start - 1] === QUOTE) to = write(out, to, answer.quoted, answer.quotedBytes)
    else to = write(out, to, answer.bare, answer.bareBytes)
    from = places.end[i]
  }
  to = copy(bytes, { from, end: bytes.length }, out, to)
  assert(to === out.length, 'a piece has the computed size')
  return out
}

function sizeOf({ bytes, places }: Piece, entries: readonly (Entry | null)[]): number {
  let size = bytes.length
  for (let i = 0; i < entries.length; i++) {
    const answer = entries[i]?.answer
    if (answer?.kind !== 'replaced') continue
    const start = places.start[i]
    size += (bytes[start - 1] === QUOTE ? answer.quotedBytes : answer.bareBytes) - (places.end[i] - start)
  }
  return size
}

function withNewField(piece: Piece, entries: readonly (Entry | null)[], delimiter: string): Buffer {
  const { bytes, places } = piece
  const ends = places.recordEnd
  assert(ends?.length === entries.length, 'each record has one place')
  const parts: Buffer[] = []
  let from = 0
  for (const [i, entry] of entries.entries()) {
    parts.push(bytes.subarray(from, ends[i]))
    const answer = entry?.answer
    parts.push(Buffer.from(answer?.kind === 'replaced' ? delimiter + answer.bare : delimiter))
    from = ends[i]
  }
  parts.push(bytes.subarray(from))
  return Buffer.concat(parts)
}

type Span = { readonly from: number; readonly end: number }

function copy(bytes: Buffer, { from, end }: Span, out: Buffer, to: number): number {
  if (end - from > SHORT_COPY) return to + bytes.copy(out, to, from, end)
  for (let i = from; i < end; i++) out[to + i - from] = bytes[i]
  return to + end - from
}

function write(out: Buffer, to: number, text: string, bytes: number): number {
  return to + out.write(text, to, bytes === text.length ? 'latin1' : 'utf8')
}
