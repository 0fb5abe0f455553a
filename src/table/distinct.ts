// Counts different values in bounded memory: exactly up to a million, then from a sample of their hashes,
// with an error of some tenths of a percent.
import { Bytes } from './bytes.ts'
import { Hash } from './dictionary.ts'
import type { Scalar } from './vault.ts'

const SLOTS = 2 ** 21
const SAMPLE = 2 ** 20
const LOG = 2 ** 12
const FIRST_SLOTS = 2 ** 12
/** Few moves: each value is moved by every growth. */
const GROWTH = 8

export class DistinctCount {
  /** Open addressing; two halves of a hash a slot, 0 and 0: empty. */
  #slots = new Uint32Array(FIRST_SLOTS * 2)
  #size = 0
  readonly #hash = new Hash()
  /** Hashes with as many zero bits at the end are in the sample. */
  #zeroBits = 0

  /** Hashes that are not counted yet. Many at once cost less: memory is read for several at a time. */
  readonly #log = new Uint32Array(LOG * 2)
  #logged = 0
  #warmed = 0

  get count(): number {
    this.#countLogged()
    return this.#size * 2 ** this.#zeroBits
  }

  /** The halves of the hash of a value. */
  add({ high, low }: { readonly high: number; readonly low: number }): void {
    this.#log[this.#logged] = high
    this.#log[this.#logged + 1] = low || 1
    this.#logged += 2
    if (this.#logged === this.#log.length) this.#countLogged()
  }

  /** A value, of which no hash is known. */
  addValue(value: Exclude<Scalar, null>): void {
    const bytes = new Bytes(Buffer.from(typeof value === 'string' ? value : `\0${value}`))
    this.#hash.set(bytes, 0, bytes.bytes.length)
    this.add(this.#hash)
  }

  #countLogged(): void {
    // Reads first, which do not wait for one another.
    const mask = this.#slots.length - 2
    for (let i = 0; i < this.#logged; i += 2)
      this.#warmed |= this.#slots[slotOf(this.#log[i], this.#log[i + 1]) & mask]
    for (let i = 0; i < this.#logged; i += 2) this.#insert(this.#log[i], this.#log[i + 1])
    this.#logged = 0
  }

  #insert(high: number, low: number): void {
    if ((high & ((1 << this.#zeroBits) - 1)) !== 0) return
    const slots = this.#slots
    const mask = slots.length - 2
    let slot = slotOf(high, low) & mask
    while (slots[slot + 1] !== 0) {
      if (slots[slot + 1] === low && slots[slot] === high) return
      slot = (slot + 2) & mask
    }
    slots[slot] = high
    slots[slot + 1] = low
    if (++this.#size > SAMPLE) {
      this.#zeroBits++
      this.#rebuild(SLOTS)
    } else if (this.#size * 4 > slots.length) this.#rebuild(Math.min(SLOTS, (slots.length / 2) * GROWTH))
  }

  /** Makes as many slots anew. */
  #rebuild(count: number): void {
    const slots = this.#slots
    this.#slots = new Uint32Array(count * 2)
    this.#size = 0
    for (let i = 0; i < slots.length; i += 2) if (slots[i + 1] !== 0) this.#insert(slots[i], slots[i + 1])
  }
}

function slotOf(high: number, low: number): number {
  return (low ^ Math.imul(high, 0x9e3779b1)) << 1
}
