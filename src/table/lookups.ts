// Looks up the values of a piece in the dictionaries of the columns. First all hashes are computed, then the
// memory of the look-ups is touched: independent reads, of which the processor does several at a time.
import { ByteList, type Bytes } from './bytes.ts'
import { Hash } from './dictionary.ts'
import type { Format, Piece } from './piece.ts'
import { NUMBERS, type Remembered } from './remembered.ts'

const FIRST_PLACES = 4096
/** The form of a value that is null. */
const NULL = 0xffffffff

export class Lookups {
  readonly #format: Format
  /** By column. */
  readonly #remembered: readonly Remembered[]
  /** Forms of the values whose places are not plain, one after another. */
  readonly #forms = new ByteList()
  // By place: the end of the form among the forms, 0 where the place is plain; and the halves of the hash.
  #formEnd = new Uint32Array(FIRST_PLACES)
  #high = new Uint32Array(FIRST_PLACES)
  #low = new Uint32Array(FIRST_PLACES)
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

  /** Throws OperatorError for a place whose value no vault takes. */
  begin(piece: Piece): void {
    const { count, column } = piece.places
    this.#formStart = this.#forms.size = 0
    if (count > this.#high.length) {
      this.#formEnd = new Uint32Array(count * 2)
      this.#high = new Uint32Array(count * 2)
      this.#low = new Uint32Array(count * 2)
    }
    for (let place = 0; place < count; place++) this.#prepare(piece, place)
    for (let place = 0; place < count; place++) {
      const { young, old } = this.#remembered[column[place]]
      this.#warmed |= young.warm(this.#low[place]) | old.warm(this.#low[place])
    }
  }

  #prepare(piece: Piece, place: number): void {
    const { hash } = this
    const { start, end } = piece.places
    if (this.#format.isPlain(piece, place)) {
      this.#formEnd[place] = 0
      hash.set(piece.words, start[place], end[place])
    } else {
      const forms = this.#forms
      const from = forms.size
      const isNull = !this.#format.writeForm(piece, place, forms)
      this.#formEnd[place] = isNull ? NULL : forms.size
      hash.set(forms.memory, from, forms.size)
    }
    this.#high[place] = hash.high
    this.#low[place] = hash.low
  }

  /** Seeks the value at a place; places ascend. Returns false for null. */
  seek(piece: Piece, place: number): boolean {
    const formEnd = this.#formEnd[place]
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
    this.hash.high = this.#high[place]
    this.hash.low = this.#low[place]
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
