// Budgets of API keys: values that each key has detokenized in the UTC day, counted in memory on this node.
import type { Clock } from '../clock.ts'
import { Problem } from '../errors.ts'
import type { Identity } from './auth.ts'

const DAY_MS = 24 * 60 * 60 * 1000

type Spent = { values: number; refused: boolean }

export class Budgets {
  readonly #clock: Pick<Clock, 'now'>
  #day = Number.NaN
  #spent = new Map<string, Spent>()

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  /**
   * Counts values that a key is about to get. Throws Problem `budget-exceeded`, and counts nothing, where the
   * values would be more than the key may get in the day; `first` is called for the first refusal of the day.
   */
  spend({ owner, keyId, resolve_per_day: most }: Identity, values: number, first: () => void): void {
    if (most === undefined || values === 0) return
    const day = Math.floor(this.#clock.now() / DAY_MS)
    if (day !== this.#day) {
      this.#day = day
      this.#spent = new Map()
    }
    const key = `${owner}/${keyId}`
    const spent = this.#spent.get(key) ?? { values: 0, refused: false }
    this.#spent.set(key, spent)
    if (spent.values + values <= most) {
      spent.values += values
      return
    }
    if (!spent.refused) first()
    spent.refused = true
    const detail = `the API key may detokenize ${most} values a day on this node: ask for fewer, or tomorrow`
    throw new Problem('budget-exceeded', detail, { resolve_per_day: most })
  }
}
