// Counts different values in bounded memory: exactly up to a million, then from a sample of their hashes,
// with an error of some tenths of a percent.
import type { Scalar } from './vault.ts'

const SLOTS = 2 ** 21
const SAMPLE = 2 ** 20
const FIRST_SLOTS = 2 ** 12

export class DistinctCount {
  /** Open addressing; two halves of a hash a slot, 0 and 0: empty. */
  #high = new Uint32Array(FIRST_SLOTS)
  #low = new Uint32Array(FIRST_SLOTS)
  #size = 0
  /** Hashes with as many zero bits at the end are in the sample. */
  #zeroBits = 0

  get count(): number {
    return this.#size * 2 ** this.#zeroBits
  }

  add(value: Exclude<Scalar, null>): void {
    const text = typeof value === 'string' ? value : `\0${value}`
    let high = 0xdeadbeef
    let low = 0x41c6ce57
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      high = Math.imul(high ^ code, 2654435761)
      low = Math.imul(low ^ code, 1597334677)
    }
    high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909)
    low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909)
    this.#insert(high >>> 0, low >>> 0 || 1)
  }

  #insert(high: number, low: number): void {
    if ((high & (2 ** this.#zeroBits - 1)) !== 0) return
    const mask = this.#low.length - 1
    let slot = (low ^ Math.imul(high, 0x9e3779b1)) & mask
    while (this.#low[slot] !== 0) {
      if (this.#low[slot] === low && this.#high[slot] === high) return
      slot = (slot + 1) & mask
    }
    this.#high[slot] = high
    this.#low[slot] = low
    if (++this.#size > SAMPLE) {
      this.#zeroBits++
      this.#rebuild(SLOTS)
    } else if (this.#size * 2 > this.#low.length) this.#rebuild(this.#low.length * 2)
  }

  #rebuild(slots: number): void {
    const high = this.#high
    const low = this.#low
    this.#high = new Uint32Array(slots)
    this.#low = new Uint32Array(slots)
    this.#size = 0
    for (let i = 0; i < low.length; i++) if (low[i] !== 0) this.#insert(high[i], low[i])
  }
}
