/** The largest number that was known, by instant: of epochs, and of versions of a secret. */
export class Known {
  readonly #instants: number[] = []
  readonly #numbers: number[] = []

  /** At instants that ascend. */
  note(instant: number, number: number): void {
    if (number <= (this.#numbers.at(-1) ?? 0)) return
    this.#instants.push(instant)
    this.#numbers.push(number)
  }

  /** 0 where nothing was known yet. */
  before(instant: number): number {
    let [low, high] = [0, this.#instants.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#instants[middle] < instant) low = middle + 1
      else high = middle
    }
    return this.#numbers[low - 1] ?? 0
  }

  get last(): number {
    return this.#numbers.at(-1) ?? 0
  }
}
