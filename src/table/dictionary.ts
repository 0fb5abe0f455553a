// Values and their answers as bytes: a hash table and growing arrays, without an object per value.
import { assert } from '../assert.ts'
import { ByteList, type Bytes, copyBytes, isEqual } from './bytes.ts'

const FIRST_VALUES = 2 ** 9
/** Of a token; values are mostly shorter. */
const SHORT_BYTES = 40
const QUOTE = 0x22

/**
 * The state of an answer. `noToken`: the value is not in the form of a token, and is not asked for. `same`:
 * the answer is the value.
 */
export const STATE = { waiting: 0, replaced: 1, notFound: 2, noToken: 3, same: 4 } as const
type State = (typeof STATE)[keyof typeof STATE]

// What is known of a value, side by side: memory is read once.
const FIELDS = 4
/** The end of the value's bytes; the bytes begin at the end of the value before. */
const VALUE_END = 0
const ANSWER_START = 1
const ANSWER_END = 2
/** A State, and `NEEDS_QUOTES`. */
const FLAGS = 3
const NEEDS_QUOTES = 8

/** The hash of bytes, 64 bits in two halves: two seeds and two factors. */
export class Hash {
  high = 0
  low = 0

  set({ bytes, view }: Bytes, start: number, end: number): void {
    const last = end - 4
    let high = 0x1747b28c ^ Math.imul(end - start, 0x9e3779b1)
    let low = 0x3c6ef372 ^ Math.imul(end - start, 0x27d4eb2f)
    for (let i = start; i < last; i += 4) {
      const word = view.getInt32(i, true)
      high = Math.imul(high ^ word, 0xcc9e2d51)
      high ^= high >>> 15
      low = Math.imul(low ^ word, 0x85ebca6b)
      low ^= low >>> 13
    }
    // The last word overlaps the word before.
    let word = 0
    if (last >= start) word = view.getInt32(last, true)
    else for (let i = start; i < end; i++) word = (word << 8) | bytes[i]
    this.high = finished(Math.imul(high ^ word, 0xcc9e2d51))
    this.low = finished(Math.imul(low ^ word, 0x85ebca6b))
  }
}

/** Every bit depends on all bits (MurmurHash3). */
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
  #entries: Uint32Array
  /** Open addressing, two entries a slot: the number of a value, plus one, and its hash; 0 is empty. */
  #slots: Uint32Array
  readonly #values: ByteList
  readonly #answers: ByteList

  /** `values`: has room for so many short ones at once. */
  constructor(limits: Limits, values = FIRST_VALUES) {
    this.#limits = limits
    this.#values = new ByteList(values * SHORT_BYTES)
    this.#answers = new ByteList(values * SHORT_BYTES)
    this.#entries = new Uint32Array(values * FIELDS)
    this.#slots = new Uint32Array(values * 4)
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

  /** Reads what `find` will read, for a hash: reads of many values one after another do not wait. */
  warm(hash: number): number {
    const number = this.#slots[(hash << 1) & (this.#slots.length - 2)]
    return number < 2 ? 0 : this.#values.memory.bytes[this.#entries[(number - 2) * FIELDS + VALUE_END]]
  }

  /** The number of a value, or -1. `hash` is the low half of the hash of the bytes. */
  find(bytes: Bytes, start: number, end: number, hash: number): number {
    const slots = this.#slots
    const mask = slots.length - 2
    for (let slot = (hash << 1) & mask; slots[slot] !== 0; slot = (slot + 2) & mask) {
      const number = slots[slot] - 1
      if (slots[slot + 1] === hash && this.#isEqual(number, bytes, start, end)) return number
    }
    return -1
  }

  /** Adds a value that is not there; its answer is waited for. Returns the value's number. */
  add(bytes: Bytes, start: number, end: number, hash: number): number {
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
   * The answer for a value is the bytes; `needsQuotes`: quotes go around the bytes where there are none.
   * Returns the bytes of the answer.
   */
  replace(number: number, bytes: Bytes, start: number, end: number, needsQuotes: boolean): number {
    return this.#replaced(number, this.#answers.append(bytes, start, end), needsQuotes, end - start)
  }

  /** As `replace`. */
  replaceByText(number: number, text: string, needsQuotes: boolean): number {
    const start = this.#answers.size
    const end = this.#answers.appendText(text)
    return this.#replaced(number, end, needsQuotes, end - start)
  }

  #replaced(number: number, end: number, needsQuotes: boolean, size: number): number {
    const entry = number * FIELDS
    this.#waiting--
    this.#entries[entry + ANSWER_START] = end - size
    this.#entries[entry + ANSWER_END] = end
    this.#entries[entry + FLAGS] = needsQuotes ? STATE.replaced | NEEDS_QUOTES : STATE.replaced
    return size
  }

  /** The value stays. */
  leave(number: number, state: Exclude<State, typeof STATE.waiting | typeof STATE.replaced>): void {
    this.#waiting--
    this.#entries[number * FIELDS + FLAGS] = state
  }

  /** As `warm`, what `copy` will read behind what `stateOf` reads. */
  warmAnswer(number: number): number {
    return this.#answers.memory.bytes[this.#entries[number * FIELDS + ANSWER_START]]
  }

  /** Bytes of an answer, in quotes of the file or outside. */
  sizeOf(number: number, isInQuotes: boolean): number {
    const entry = number * FIELDS
    const size = this.#entries[entry + ANSWER_END] - this.#entries[entry + ANSWER_START]
    return isInQuotes || !this.#needsQuotes(entry) ? size : size + 2
  }

  /** Writes an answer. Returns the end of the bytes written. */
  copy(number: number, isInQuotes: boolean, out: Bytes, at: number): number {
    const entry = number * FIELDS
    const start = this.#entries[entry + ANSWER_START]
    const end = this.#entries[entry + ANSWER_END]
    if (isInQuotes || !this.#needsQuotes(entry)) return copyBytes(this.#answers.memory, start, end, out, at)
    out.bytes[at] = QUOTE
    const last = copyBytes(this.#answers.memory, start, end, out, at + 1)
    out.bytes[last] = QUOTE
    return last + 1
  }

  #needsQuotes(entry: number): boolean {
    return (this.#entries[entry + FLAGS] & NEEDS_QUOTES) !== 0
  }

  #isEqual(number: number, bytes: Bytes, start: number, end: number): boolean {
    const entry = number * FIELDS
    const from = number === 0 ? 0 : this.#entries[entry - FIELDS + VALUE_END]
    const isSame = this.#entries[entry + VALUE_END] - from === end - start
    return isSame && isEqual(bytes, start, end, this.#values.memory, from)
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
