// Tokens and their answers as bytes: a hash table over typed arrays, without a string or an object per token.
import { assert } from '../assert.ts'

/** A token has at most 47 bytes; the rest is zeros, and no token has zeros. */
export const KEY_BYTES = 48
const KEY_WORDS = KEY_BYTES / 4
const FIRST_TOKENS = 2_048
const LITTLE_BYTES = 1024 * 1024

/** Of an answer: not there yet; not found. */
const WAITING = -2
const NONE = -1

export class TokenCache {
  #count = 0
  /** `KEY_WORDS` by token. */
  #keys = new Uint32Array(FIRST_TOKENS * KEY_WORDS)
  /** By token: where the answer begins, and its bytes, or WAITING or NONE. */
  #starts = new Uint32Array(FIRST_TOKENS)
  #lengths = new Int32Array(FIRST_TOKENS)
  /** Open addressing: the number of a token, plus one; 0: empty. */
  #slots = new Int32Array(FIRST_TOKENS * 2)
  #answers = new Uint8Array(FIRST_TOKENS * 16)
  #used = 0

  get count(): number {
    return this.#count
  }

  /** Of tokens and answers. */
  get bytes(): number {
    return this.#count * KEY_BYTES + this.#used
  }

  /** The number of a token; -1: not there. */
  find(key: Uint32Array): number {
    const slots = this.#slots
    const mask = slots.length - 1
    for (let slot = hashOf(key) & mask; slots[slot] !== 0; slot = (slot + 1) & mask)
      if (this.#isKey(slots[slot] - 1, key)) return slots[slot] - 1
    return -1
  }

  /** Adds a token that is not there; its answer is waited for. Returns the number of the token. */
  add(key: Uint32Array): number {
    if (this.#count === this.#lengths.length) this.#grow()
    const number = this.#count++
    for (let i = 0; i < KEY_WORDS; i++) this.#keys[number * KEY_WORDS + i] = key[i]
    this.#lengths[number] = WAITING
    insert(this.#slots, number, hashOf(key))
    return number
  }

  /** The bytes of an answer; -1: there is none. */
  lengthOf(number: number): number {
    const length = this.#lengths[number]
    assert(length !== WAITING, 'a token has its answer before the answer is used')
    return length
  }

  /** Copies an answer. */
  copy(number: number, to: Uint8Array, at: number): void {
    const from = this.#starts[number]
    const length = this.#lengths[number]
    if (length > 64) to.set(this.#answers.subarray(from, from + length), at)
    else for (let i = 0; i < length; i++) to[at + i] = this.#answers[from + i]
  }

  /** The answer is the bytes from `start` to `end` (exclusive). */
  answer(number: number, bytes: Uint8Array, start: number, end: number): void {
    const length = end - start
    this.#makeRoom(length)
    const at = this.#used
    if (length > 64) this.#answers.set(bytes.subarray(start, end), at)
    else for (let i = 0; i < length; i++) this.#answers[at + i] = bytes[start + i]
    this.#starts[number] = at
    this.#lengths[number] = length
    this.#used += length
  }

  /** There is no answer. */
  leave(number: number): void {
    this.#lengths[number] = NONE
  }

  /** Adds a token with its answer from another cache. Returns its number here. */
  take(other: TokenCache, number: number, key: Uint32Array): number {
    const own = this.add(key)
    const length = other.lengthOf(number)
    if (length < 0) this.leave(own)
    else this.answer(own, other.#answers, other.#starts[number], other.#starts[number] + length)
    return own
  }

  /** A cache without tokens: the same where little is forgotten, so that its memory serves again. */
  emptied(): TokenCache {
    if (this.#lengths.length > FIRST_TOKENS || this.#answers.length > LITTLE_BYTES) return new TokenCache()
    this.#slots.fill(0)
    this.#count = 0
    this.#used = 0
    return this
  }

  #isKey(number: number, key: Uint32Array): boolean {
    const keys = this.#keys
    const from = number * KEY_WORDS
    for (let i = 0; i < KEY_WORDS; i++) if (keys[from + i] !== key[i]) return false
    return true
  }

  #grow(): void {
    const size = this.#lengths.length * 2
    const [keys, starts, lengths] = [this.#keys, this.#starts, this.#lengths]
    this.#keys = new Uint32Array(size * KEY_WORDS)
    this.#starts = new Uint32Array(size)
    this.#lengths = new Int32Array(size)
    this.#slots = new Int32Array(size * 2)
    this.#keys.set(keys)
    this.#starts.set(starts)
    this.#lengths.set(lengths)
    for (let i = 0; i < this.#count; i++)
      insert(this.#slots, i, hashOf(keys.subarray(i * KEY_WORDS, (i + 1) * KEY_WORDS)))
  }

  #makeRoom(length: number): void {
    const need = this.#used + length
    if (need <= this.#answers.length) return
    const answers = this.#answers
    this.#answers = new Uint8Array(Math.max(need, answers.length * 2))
    this.#answers.set(answers)
  }
}

function insert(slots: Int32Array, number: number, hash: number): void {
  const mask = slots.length - 1
  let slot = hash & mask
  while (slots[slot] !== 0) slot = (slot + 1) & mask
  slots[slot] = number + 1
}

/** Every word counts: texts in the form of a token may differ in few characters. */
function hashOf(key: Uint32Array): number {
  let hash = 0
  for (let i = 0; i < KEY_WORDS; i++) {
    hash = Math.imul(hash ^ key[i], 0x85ebca6b)
    hash ^= hash >>> 13
  }
  hash = Math.imul(hash, 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
