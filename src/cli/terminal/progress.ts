// How far a long command is: one line on stderr that is written over, on a terminal only.

const EVERY_MS = 100

export class Progress {
  readonly #text: (count: number) => string
  #shown = false
  #next = 0

  constructor(text: (count: number) => string) {
    this.#text = text
  }

  /** Can be called as often as one likes. */
  show(count: number): void {
    if (!process.stderr.isTTY || performance.now() < this.#next) return
    this.#next = performance.now() + EVERY_MS
    process.stderr.write(`\r\x1b[K${this.#text(count)}`)
    this.#shown = true
  }

  /** Before anything else is written. */
  clear(): void {
    if (this.#shown) process.stderr.write('\r\x1b[K')
    this.#shown = false
  }
}
