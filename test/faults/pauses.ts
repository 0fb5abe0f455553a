// Pauses of this process: commands that are waited for stop its event loop, and an answer that has come is seen
// late.

const TICK_MS = 20

export class Pauses {
  #last = performance.now()
  #ms = 0

  constructor() {
    setInterval(() => this.#look(), TICK_MS).unref()
  }

  /** Milliseconds of all pauses so far. */
  get ms(): number {
    this.#look()
    return this.#ms
  }

  #look(): void {
    const now = performance.now()
    this.#ms += Math.max(0, now - this.#last - 2 * TICK_MS)
    this.#last = now
  }
}
