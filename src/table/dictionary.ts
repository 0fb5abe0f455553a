// Values and their answers as bytes: a hash table and growing arrays, without an object per value.
import { assert } from '../assert.ts'

const FIRST_VALUES = 2 ** 9
const FIRST_BYTES = 4 * 1024
/** Shorter bytes are copied by a loop: a call costs more. */
const SHORT = 48
const QUOTE = 0x22

/** The state of an answer. `noToken`: the value is not in the form of a token, and is not asked for. */
export const STATE = { waiting: 0, replaced: 1, notFound: 2, noToken: 3 } as const
type State = (typeof STATE)[keyof typeof STATE]

// What is known of a value, side by side: memory is read once.
const FIELDS = 4
/** The end of the value's bytes; the bytes begin at the end of the value before. */
const VALUE_END = 0
const ANSWER_START = 1
const ANSWER_END = 2
/** A State, and `NEEDS_QUOTES`. */
const FLAGS = 3
const NEEDS_QUOTES = 4

/** The hash of bytes, 64 bits in two halves: words are mixed as in MurmurHash3, with two seeds. */
export class Hash {
  high = 0
  low = 0

  set(bytes: Uint8Array, start: number, end: number): void {
    let high = 0x1747b28c
    let low = 0x3c6ef372
    let i = start
    for (; i + 4 <= end; i += 4) {
      const word = bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24)
      high = mixed(high, Math.imul(word, 0xcc9e2d51))
      low = mixed(low, Math.imul(word, 0x85ebca6b))
    }
    for (; i < end; i++) {
      high = mixed(high, Math.imul(bytes[i], 0xcc9e2d51))
      low = mixed(low, Math.imul(bytes[i], 0x85ebca6b))
    }
    this.high = finished(high ^ (end - start))
    this.low = finished(low ^ (end - start))
  }
}

function mixed(hash: number, word: number): number {
  const h = hash ^ Math.imul((word << 15) | (word >>> 17), 0x1b873593)
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0
}

function finished(hash: number): number {
  const h = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  const g = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (g ^ (g >>> 16)) >>> 0
}

/** When a dictionary is full: `bytes` of its values, or of its answers, are not exceeded by much. */
export type Limits = { readonly values: number; readonly bytes: number }

export class Dictionary {
  readonly #limits: Limits
  #count = 0
  #waiting = 0
  /** `FIELDS` by value. */
  #entries = new Uint32Array(FIRST_VALUES * FIELDS)
  /** Open addressing, two entries a slot: the number of a value, plus one, and its hash; 0 is empty. */
  #slots = new Uint32Array(FIRST_VALUES * 4)
  readonly #values = new ByteList()
  readonly #answers = new ByteList()

  constructor(limits: Limits) {
    this.#limits = limits
  }

  get count(): number {
    return this.#count
  }

  /** `answerBytes`: expected of each answer that is waited for. */
  isFull(answerBytes: number): boolean {
    const { values, bytes } = this.#limits
    const answers = this.#answers.size + this.#waiting * answerBytes
    return this.#count >= values || this.#values.size >= bytes || answers >= bytes
  }

  /** The number of a value, or -1. `hash` is the low half of the hash of the bytes. */
  find(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const slots = this.#slots
    const mask = slots.length - 2
    for (let slot = (hash << 1) & mask; slots[slot] !== 0; slot = (slot + 2) & mask) {
      const number = slots[slot] - 1
      if (slots[slot + 1] === hash && this.#isEqual(number, bytes, start, end)) return number
    }
    return -1
  }

  /** Adds a value that is not there; its answer is waited for. Returns the value's number. */
  add(bytes: Uint8Array, start: number, end: number, hash: number): number {
    assert(this.#count < this.#limits.values, 'a full dictionary is replaced')
    if (this.#count * FIELDS === this.#entries.length) this.#grow()
    const number = this.#count++
    this.#waiting++
    this.#entries[number * FIELDS + VALUE_END] = this.#values.append(bytes, start, end)
    insert(this.#slots, number + 1, hash)
    return number
  }

  stateOf(number: number): State {
    return (this.#entries[number * FIELDS + FLAGS] & ~NEEDS_QUOTES) as State
  }

  /**
   * The answer for a value is the text; `needsQuotes`: quotes go around the text where there are none.
   * Returns the bytes of the answer.
   */
  replace(number: number, text: string, needsQuotes: boolean): number {
    const entry = number * FIELDS
    const start = this.#answers.size
    const end = this.#answers.appendText(text)
    this.#waiting--
    this.#entries[entry + ANSWER_START] = start
    this.#entries[entry + ANSWER_END] = end
    this.#entries[entry + FLAGS] = needsQuotes ? STATE.replaced | NEEDS_QUOTES : STATE.replaced
    return end - start
  }

  /** There is no answer for a value. */
  leave(number: number, state: typeof STATE.notFound | typeof STATE.noToken): void {
    this.#waiting--
    this.#entries[number * FIELDS + FLAGS] = state
  }

  /** Bytes of an answer, in quotes of the file or outside. */
  sizeOf(number: number, isInQuotes: boolean): number {
    const entry = number * FIELDS
    const size = this.#entries[entry + ANSWER_END] - this.#entries[entry + ANSWER_START]
    return isInQuotes || !this.#needsQuotes(entry) ? size : size + 2
  }

  /** Writes an answer. Returns the end of the bytes written. */
  copy(number: number, isInQuotes: boolean, out: Uint8Array, at: number): number {
    const entry = number * FIELDS
    const start = this.#entries[entry + ANSWER_START]
    const end = this.#entries[entry + ANSWER_END]
    const { bytes } = this.#answers
    if (isInQuotes || !this.#needsQuotes(entry)) return copyBytes(bytes, start, end, out, at)
    out[at] = QUOTE
    const last = copyBytes(bytes, start, end, out, at + 1)
    out[last] = QUOTE
    return last + 1
  }

  #needsQuotes(entry: number): boolean {
    return (this.#entries[entry + FLAGS] & NEEDS_QUOTES) !== 0
  }

  #isEqual(number: number, bytes: Uint8Array, start: number, end: number): boolean {
    const entry = number * FIELDS
    const from = number === 0 ? 0 : this.#entries[entry - FIELDS + VALUE_END]
    const size = this.#entries[entry + VALUE_END] - from
    if (size !== end - start) return false
    const known = this.#values.bytes
    for (let i = 0; i < size; i++) if (known[from + i] !== bytes[start + i]) return false
    return true
  }

  #grow(): void {
    const entries = this.#entries
    this.#entries = new Uint32Array(entries.length * 2)
    this.#entries.set(entries)
    const slots = this.#slots
    this.#slots = new Uint32Array(slots.length * 2)
    for (let slot = 0; slot < slots.length; slot += 2)
      if (slots[slot] !== 0) insert(this.#slots, slots[slot], slots[slot + 1])
  }
}

function insert(slots: Uint32Array, entry: number, hash: number): void {
  const mask = slots.length - 2
  let slot = (hash << 1) & mask
  while (slots[slot] !== 0) slot = (slot + 2) & mask
  slots[slot] = entry
  slots[slot + 1] = hash
}

/** Bytes one after another, in an array that doubles. */
class ByteList {
  /** A plain Uint8Array: every access to the bytes of a Buffer is slower. */
  bytes = new Uint8Array(FIRST_BYTES)
  size = 0
  #buffer = Buffer.from(this.bytes.buffer)

  /** Returns the new size. */
  append(bytes: Uint8Array, start: number, end: number): number {
    this.#reserve(end - start)
    this.size = copyBytes(bytes, start, end, this.bytes, this.size)
    return this.size
  }

  /** UTF-8. Returns the new size. */
  appendText(text: string): number {
    this.#reserve(text.length * 3)
    this.size += this.#buffer.write(text, this.size)
    return this.size
  }

  #reserve(more: number): void {
    if (this.size + more <= this.bytes.length) return
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.size + more))
    grown.set(this.bytes.subarray(0, this.size))
    this.bytes = grown
    this.#buffer = Buffer.from(grown.buffer)
  }
}

/** Copies bytes to `at`. Returns the end of the copy. */
export function copyBytes(
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
  at: number,
): number {
  const to = at - start
  if (end - start > SHORT) out.set(bytes.subarray(start, end), at)
  else for (let i = start; i < end; i++) out[to + i] = bytes[i]
  return to + end
}
