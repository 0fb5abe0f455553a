// The values of a request to a vault, written as the JSON of the request's body at once, and the places of
// the values.
import { ByteList } from './bytes.ts'
import type { Dictionary } from './dictionary.ts'
import type { Piece } from './piece.ts'
import { VALUES_A_REQUEST } from './requests.ts'

const COMMA = 0x2c

/** The answers for the places of a piece. */
export type Answered = {
  /** By place: the number of the value, plus the index of the dictionary times `NUMBERS`; or `NOTHING`. */
  readonly references: Uint32Array
  readonly dictionaries: Dictionary[]
  /** The number of the last request with answers for the piece. */
  last: number
}

/** The beginning and the end of a body, around the values. */
export type Envelope = { readonly head: string; readonly tail: string }

/** The values of a piece in a request begin at `from`. */
type Part = { readonly piece: Piece; readonly answered: Answered; readonly from: number }

export class Batch {
  readonly #envelope: Envelope
  readonly #starts = new Uint32Array(VALUES_A_REQUEST + 1)
  readonly #places = new Uint32Array(VALUES_A_REQUEST)
  /** The body without its end. A value written behind is in the batch from `add` on. */
  readonly out = new ByteList()
  count = 0
  /** In order. */
  parts: Part[] = []
  /** Bytes of the pieces looked up since the request was opened. */
  span = 0
  /** Batches are numbered in the order of their values. */
  number: number

  constructor(envelope: Envelope, number: number) {
    this.#envelope = envelope
    this.number = number
    this.reset(number)
  }

  /** Without values. */
  reset(number: number): void {
    this.number = number
    this.count = this.span = this.out.size = 0
    this.parts = []
    this.#starts[0] = this.out.appendText(this.#envelope.head)
  }

  /** Bytes of the body. */
  get bytes(): number {
    return this.out.size
  }

  /** The bytes written behind the last value are the value of a place. */
  add(piece: Piece, answered: Answered, place: number): void {
    if (this.parts.at(-1)?.piece !== piece) this.parts.push({ piece, answered, from: this.count })
    this.out.appendByte(COMMA)
    this.#places[this.count++] = place
    this.#starts[this.count] = this.out.size
  }

  placeOf(value: number): number {
    return this.#places[value]
  }

  startOf(value: number): number {
    return this.#starts[value]
  }

  endOf(value: number): number {
    return this.#starts[value + 1] - 1
  }

  /** The body with the values [from, to); with all values, valid until the batch is reset. */
  body(from: number, to: number): Buffer {
    const { head, tail } = this.#envelope
    const start = this.startOf(from)
    const end = this.endOf(to - 1)
    if (from > 0 || to < this.count)
      return Buffer.concat([Buffer.from(head), this.out.slice(start, end), Buffer.from(tail)])
    this.out.size = end
    const size = this.out.appendText(tail)
    return this.out.slice(0, size)
  }
}
