// The answers that are remembered for columns: two dictionaries, of which the old one goes when the young one
// is full. Columns with values that seldom come again get small dictionaries, which cost less.
import { Dictionary, type Limits } from './dictionary.ts'

/** A reference: a value's number, plus the dictionary's index times so many, the most values of all. */
export const NUMBERS = 2 ** 18
/** In the young dictionaries of all columns together. */
const VALUES = NUMBERS
const BYTES = 12 * 1024 * 1024
/** More columns share dictionaries. */
const SHARES = 8
const FEW_VALUES = 2 ** 13
/** Fewer hits than this part of the values added: the values seldom come again. */
const FEW_HITS = 1 / 8

export class Remembered {
  readonly #many: Limits
  readonly #few: Limits
  young: Dictionary
  old: Dictionary
  #hits = 0
  /** The indices of the two dictionaries among the dictionaries of the present piece. */
  youngAt = 0
  oldAt = 0

  constructor(limits: Limits) {
    this.#many = limits
    this.#few = { bytes: limits.bytes / 4, values: Math.min(limits.values, FEW_VALUES) }
    this.young = new Dictionary(limits)
    this.old = new Dictionary(limits)
  }

  /** A piece begins: its references are to the dictionaries in the list. */
  begin(dictionaries: Dictionary[]): void {
    this.oldAt = dictionaries.push(this.old) - 1
    this.youngAt = dictionaries.push(this.young) - 1
  }

  hit(): void {
    this.#hits++
  }

  /** Forgets the old dictionary where the young one is full, with answers of `answerBytes` on their way. */
  makeRoom(dictionaries: Dictionary[], answerBytes: number): void {
    if (!this.young.isFull(answerBytes)) return
    const isUseful = this.#hits >= this.young.count * FEW_HITS
    this.#hits = 0
    this.old = this.young
    this.oldAt = this.youngAt
    this.young = isUseful ? new Dictionary(this.#many) : new Dictionary(this.#few, this.#few.values)
    this.youngAt = dictionaries.push(this.young) - 1
  }
}

/** By column. */
export function rememberedOf(columns: number): readonly Remembered[] {
  const count = Math.min(columns, SHARES)
  const limits = { values: Math.floor(VALUES / count), bytes: Math.floor(BYTES / count) }
  const shares = Array.from({ length: count }, () => new Remembered(limits))
  return Array.from({ length: columns }, (_, column) => shares[column % count])
}
