// Looks up the values of a piece in the dictionaries of the columns, some at a time: first all hashes are
// computed, then the memory of the look-ups is touched: independent reads, of which the processor does
// several at a time, and few enough to stay in its caches.
import { ByteList, type Bytes } from './bytes.ts'
import { Hash } from './dictionary.ts'
import type { Format, Piece } from './piece.ts'
import { NUMBERS, type Remembered } from './remembered.ts'

const AT_ONCE = 64
/** The form of a value that is null. */
const NULL = 0xffffffff

export class Lookups {
  readonly #format: Format
  /** By column. */
  readonly #remembered: readonly Remembered[]
  /** The next place that is not prepared. */
  #prepared = 0
  /** Forms of the values prepared whose places are not plain, one after another. */
  readonly #forms = new ByteList()
  // Of the places prepared: the end of the form among the forms, 0 where the place is plain; the halves of
  // the hash.
  readonly #formEnd = new Uint32Array(AT_ONCE)
  readonly #high = new Uint32Array(AT_ONCE)
  readonly #low = new Uint32Array(AT_ONCE)
  #formStart = 0
  #warmed = 0

  /** The form of the value sought, and its hash. */
  source: Bytes
  start = 0
  end = 0
  readonly hash = new Hash()

  constructor(format: Format, remembered: readonly Remembered[]) {
    this.#format = format
    this.#remembered = remembered
    this.source = this.#forms.memory
  }

  begin(): void {
    this.#prepared = 0
  }

  #prepare(piece: Piece, from: number): void {
    const { count, column } = piece.places
    const to = Math.min(from + AT_ONCE, count)
    this.#formStart = this.#forms.size = 0
    for (let place = from; place < to; place++) this.#hash(piece, place, place % AT_ONCE)
    for (let place = from; place < to; place++) {
      const { young, old } = this.#remembered[column[place]]
      const low = this.#low[place % AT_ONCE]
      this.#warmed |= young.warm(low) | old.warm(low)
    }
    this.#prepared = to
  }

  #hash(piece: Piece, place: number, at: number): void {
    const { hash } = this
    const { start, end } = piece.places
    if (this.#format.isPlain(piece, place)) {
      this.#formEnd[at] = 0
      hash.set(piece.words, start[place], end[place])
    } else {
      const forms = this.#forms
      const from = forms.size
      const isNull = !this.#format.writeForm(piece, place, forms)
      this.#formEnd[at] = isNull ? NULL : forms.size
      hash.set(forms.memory, from, forms.size)
    }
    this.#high[at] = hash.high
    this.#low[at] = hash.low
  }

  /**
   * Seeks the value at a place; all places of a piece are sought in order. Returns false for null. Throws
   * OperatorError for a place whose value no vault takes.
   */
  seek(piece: Piece, place: number): boolean {
    if (place === this.#prepared) this.#prepare(piece, place)
    const at = place % AT_ONCE
    const formEnd = this.#formEnd[at]
    if (formEnd === NULL) return false
    if (formEnd === 0) {
      this.source = piece.words
      this.start = piece.places.start[place]
      this.end = piece.places.end[place]
    } else {
      this.source = this.#forms.memory
      this.start = this.#formStart
      this.end = this.#formStart = formEnd
    }
    this.hash.high = this.#high[at]
    this.hash.low = this.#low[at]
    return true
  }

  /** Whether the value sought is written in the file in its form. */
  get isPlain(): boolean {
    return this.source !== this.#forms.memory
  }

  /** The reference of the value sought; -1: not known. */
  find(remembered: Remembered): number {
    const { source, start, end, hash } = this
    const young = remembered.young.find(source, start, end, hash.low)
    if (young >= 0) {
      remembered.hit()
      return remembered.youngAt * NUMBERS + young
    }
    const old = remembered.old.find(source, start, end, hash.low)
    if (old < 0) return -1
    remembered.hit()
    return remembered.oldAt * NUMBERS + old
  }
}
