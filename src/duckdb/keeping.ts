// How long answers are kept: two generations of bounded size, and none where hardly a value comes again.

/** Answers in a generation, and the characters of their values and answers. */
export const KEPT = 262_144
export const KEPT_CHARACTERS = 32 * 1024 * 1024
/** Of so many values one has to come again, else the answers are not kept: asking again costs less. */
const USEFUL = 8
/** After so many rows without kept answers the values may be others. */
const FORGETFUL_ROWS = 1_000_000

/** `turn`: the young generation becomes the old one. */
type Decision = 'stay' | 'turn' | 'forget'

export class Keeping {
  readonly #keptMs: number
  #began = performance.now()
  /** Values since the young generation began, and how many of them had come before. */
  #rows = 0
  #hits = 0
  #isUseless = false

  constructor(keptMs: number) {
    this.#keptMs = keptMs
  }

  /** Whether all answers are to be forgotten for their age. Begins anew then. */
  isOver(): boolean {
    const now = performance.now()
    if (now - this.#began < this.#keptMs) return false
    this.#began = now
    this.begin()
    return true
  }

  begin(): void {
    this.#rows = 0
    this.#hits = 0
    this.#isUseless = false
  }

  /** After values: `count` and `characters` are those of the young generation. */
  decide(
    values: { readonly rows: number; readonly hits: number },
    count: number,
    characters: number,
  ): Decision {
    this.#rows += values.rows
    this.#hits += values.hits
    if (this.#isUseless) {
      if (this.#rows >= FORGETFUL_ROWS) this.begin()
      return 'forget'
    }
    if (count < KEPT && characters < KEPT_CHARACTERS) return 'stay'
    const isUseless = this.#hits * USEFUL < this.#rows
    this.begin()
    this.#isUseless = isUseless
    return isUseless ? 'forget' : 'turn'
  }
}
