// The token table of an owner and epoch: page and slot of each token body, in memory. Open addressing over
// typed arrays, 24 bytes a slot. The trade is Bitcask's: look-ups without I/O, for memory.
//
// Token bodies are pseudo-random and serve as their own hash: the top bits of the first word choose the part,
// the second word the slot in the part. A part grows from 64 slots to PART_SLOTS, then splits in two by the
// next bit: growth never touches more than a single part, and ten thousand small owners cost little.
import { assert } from '../assert.ts'
import type { Inserted } from '../state/digest.ts'

export const SLOT_WORDS = 6 // four words of body, page, slot in the page + 1 (0: empty)
const FIRST_SLOTS = 64
export const PART_SLOTS = 4096
/** Tables with more mappings are larger than the cache of a core. */
const WARM_COUNT = 16_000
/** So few that their slots are still in the cache when the last of them is looked up. */
export const WARM_BODIES = 256
/** A part is full at 13/16: beyond it, probing gets long. */
const full = (slots: number): number => (slots * 13) >>> 4

export class Part {
  readonly words: Uint32Array
  readonly mask: number
  /** Number of top bits of the first word shared by all bodies of the part. */
  readonly depth: number
  used = 0

  constructor(slots: number, depth: number, words = new Uint32Array(slots * SLOT_WORDS)) {
    this.words = words
    this.mask = slots - 1
    this.depth = depth
  }

  /**
   * Drops the mappings at or after page `limit` and counts the others. Returns the count, and the sums of the
   * words of the bodies.
   */
  settle(limit: number): Inserted {
    const { words } = this
    // Variables, not an array: a start settles tens of millions of slots.
    let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0]
    let late = false
    this.used = 0
    for (let s = 0; s < words.length; s += SLOT_WORDS) {
      if (words[s + 5] === 0) continue
      if (words[s + 4] >= limit) {
        late = true
        continue
      }
      this.used++
      sum0 += words[s]
      sum1 += words[s + 1]
      sum2 += words[s + 2]
      sum3 += words[s + 3]
    }
    if (late) this.#dropLate(limit)
    assert(this.used <= full(this.mask + 1), 'a part has room for its probes to end')
    return { count: this.used, sum: Float64Array.of(sum0, sum1, sum2, sum3) }
  }

  /** Probes run over the slots of dropped mappings, so the other mappings are put anew. */
  #dropLate(limit: number): void {
    const before = Uint32Array.from(this.words)
    this.words.fill(0)
    this.used = 0
    for (let s = 0; s < before.length; s += SLOT_WORDS) {
      if (before[s + 5] !== 0 && before[s + 4] < limit) put(this, before, s, before[s + 4], before[s + 5] - 1)
    }
  }
}

/**
 * Page and slot of the mapping found last, valid until the next call of `find`. A module variable, since an
 * object for every token would be garbage on the hottest path.
 */
export const lastFound = { page: 0, slot: 0 }

export class TokenTable {
  count = 0
  /** Indexed by the top `#depth` bits of a body's first word. */
  #directory: Part[] = [new Part(FIRST_SLOTS, 0)]
  #depth = 0

  /** Looks up the body at `words[at]` to `words[at + 3]`. Sets `lastFound` where the body is found. */
  find(words: Uint32Array, at: number): boolean {
    const w0 = words[at]
    const w1 = words[at + 1]
    const part = this.#directory[this.#depth === 0 ? 0 : w0 >>> (32 - this.#depth)]
    const { words: slots, mask } = part
    for (let i = w1 & mask; ; i = (i + 1) & mask) {
      const s = i * SLOT_WORDS
      const slot = slots[s + 5]
      if (slot === 0) return false
      if (
        slots[s + 1] === w1 &&
        slots[s] === w0 &&
        slots[s + 2] === words[at + 2] &&
        slots[s + 3] === words[at + 3]
      ) {
        lastFound.page = slots[s + 4]
        lastFound.slot = slot - 1
        return true
      }
    }
  }

  /**
   * Touches the slots where the next `WARM_BODIES` bodies will be looked up, from index `from` on. The reads
   * here do not wait for each other; the reads of `find` do, since its branches depend on the values read.
   * Small tables are in the cache anyway.
   */
  warm(words: Uint32Array, from: number): number {
    let touched = 0
    if (this.count < WARM_COUNT) return touched
    const shift = 32 - this.#depth
    const end = Math.min(words.length, (from + WARM_BODIES) * 4)
    for (let i = from * 4; i < end; i += 4) {
      const part = this.#directory[words[i] >>> shift]
      touched |= part.words[(words[i + 1] & part.mask) * SLOT_WORDS]
    }
    return touched
  }

  /** Insert-once: returns false and changes nothing for a known body. */
  insert(words: Uint32Array, at: number, page: number, slot: number): boolean {
    const w0 = words[at]
    let index = this.#depth === 0 ? 0 : w0 >>> (32 - this.#depth)
    let part = this.#directory[index]
    if (part.used >= full(part.mask + 1)) {
      this.#makeRoom(part, w0)
      index = this.#depth === 0 ? 0 : w0 >>> (32 - this.#depth)
      part = this.#directory[index]
    }
    if (!put(part, words, at, page, slot)) return false
    this.count++
    return true
  }

  #makeRoom(part: Part, w0: number): void {
    const slots = part.mask + 1
    if (slots < PART_SLOTS) {
      const larger = new Part(slots * 2, part.depth)
      moveInto(part, () => larger)
      this.#replace(part, w0, larger, larger)
      return
    }
    assert(part.depth < 24, 'bodies are spread evenly')
    if (part.depth === this.#depth) {
      this.#directory = this.#directory.flatMap((each) => [each, each])
      this.#depth++
    }
    const low = new Part(PART_SLOTS, part.depth + 1)
    const high = new Part(PART_SLOTS, part.depth + 1)
    const bit = 31 - part.depth
    moveInto(part, (first) => (((first >>> bit) & 1) === 0 ? low : high))
    this.#replace(part, w0, low, high)
  }

  /** Replaces `part` by `low` and `high` in the run of the directory that shares the top bits of `part`. */
  #replace(part: Part, w0: number, low: Part, high: Part): void {
    const span = 1 << (this.#depth - part.depth)
    const first = part.depth === 0 ? 0 : (w0 >>> (32 - part.depth)) * span
    for (let i = 0; i < span; i++) this.#directory[first + i] = i < span / 2 ? low : high
    if (span === 1) this.#directory[first] = low
  }

  get slots(): number {
    return this.parts().reduce((sum, { mask }) => sum + mask + 1, 0)
  }

  /** Without mappings. The memory stays, for as many mappings as before: growth costs more than inserts. */
  clear(): void {
    for (const part of this.parts()) {
      part.words.fill(0)
      part.used = 0
    }
    this.count = 0
  }

  /** All parts in order of their bits, for the checkpoint. */
  parts(): Part[] {
    return this.#directory.filter((part, i) => i === 0 || part !== this.#directory[i - 1])
  }

  /** A table of settled parts in the order of `parts()`. */
  static fromParts(parts: readonly Part[]): TokenTable {
    const table = new TokenTable()
    table.#depth = parts.reduce((depth, part) => Math.max(depth, part.depth), 0)
    table.#directory = parts.flatMap((part) => new Array<Part>(1 << (table.#depth - part.depth)).fill(part))
    assert(table.#directory.length === 1 << table.#depth, 'the parts cover all bodies once')
    for (const part of parts) table.count += part.used
    return table
  }
}

function put(part: Part, words: Uint32Array, at: number, page: number, slot: number): boolean {
  const { words: slots, mask } = part
  const w0 = words[at]
  const w1 = words[at + 1]
  const w2 = words[at + 2]
  const w3 = words[at + 3]
  for (let i = w1 & mask; ; i = (i + 1) & mask) {
    const s = i * SLOT_WORDS
    if (slots[s + 5] === 0) {
      slots[s] = w0
      slots[s + 1] = w1
      slots[s + 2] = w2
      slots[s + 3] = w3
      slots[s + 4] = page
      slots[s + 5] = slot + 1
      part.used++
      return true
    }
    if (slots[s] === w0 && slots[s + 1] === w1 && slots[s + 2] === w2 && slots[s + 3] === w3) return false
  }
}

function moveInto(part: Part, target: (w0: number) => Part): void {
  const { words } = part
  for (let s = 0; s < words.length; s += SLOT_WORDS) {
    if (words[s + 5] !== 0) put(target(words[s]), words, s, words[s + 4], words[s + 5] - 1)
  }
}
