// Canonical values: the bytes of a value for its token and its seal. A type byte, then UTF-8 (strings) or the
// RFC 8785 form (numbers). Every value has exactly one canonical form; Unicode is not normalised.
//
// The values of a request are packed in an arena, each at a multiple of 8 bytes and padded by 0x80 and zeros
// to the next multiple, so that tokens, seals and segments are made from the arena without a copy per value.
import { assert } from '../assert.ts'

export const TYPE = { string: 1, number: 2, false: 3, true: 4 } as const

export type Scalar = string | number | boolean

/** A value cannot be stored. The message says why, and never holds the value; the caller adds the path. */
export class InvalidValue extends Error {
  override readonly name = 'InvalidValue'
}

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Padded size in units of 8 bytes of a canonical value of `length` bytes: padding adds at least one byte. */
export function units(length: number): number {
  return (length >>> 3) + 1
}

/** A growing list of canonical values in an arena. Offsets are in units of 8 bytes, lengths in bytes. */
export class Values {
  bytes: Uint8Array
  words: Uint32Array
  offset: Uint32Array
  length: Uint32Array
  count = 0
  /** Units of the arena in use. */
  used = 0

  constructor(countHint = 16, bytesHint = 512) {
    const buffer = new ArrayBuffer(Math.max(8, (bytesHint + 7) & ~7))
    this.bytes = new Uint8Array(buffer)
    this.words = new Uint32Array(buffer)
    this.offset = new Uint32Array(Math.max(1, countHint))
    this.length = new Uint32Array(Math.max(1, countHint))
  }

  /** Throws InvalidValue for lone surrogates, and where UTF-8 takes more than `limit` bytes. */
  pushString(text: string, limit: number): void {
    if (!text.isWellFormed()) throw new InvalidValue('the string is not well-formed Unicode')
    const at = this.#reserve(text.length * 3 + 1)
    const { written } = encoder.encodeInto(text, this.bytes.subarray(at + 1))
    if (written > limit) throw tooLong(limit)
    this.#commit(at, TYPE.string, written)
  }

  /**
   * A string as valid UTF-8 without escapes: `source` from `start` to `end`. Throws InvalidValue above
   * `limit` bytes.
   */
  pushUtf8(source: Uint8Array, start: number, end: number, limit: number): void {
    const size = end - start
    if (size > limit) throw tooLong(limit)
    const at = this.#reserve(size + 1)
    const bytes = this.bytes
    if (size <= 48) for (let i = 0, to = at + 1; i < size; i++) bytes[to + i] = source[start + i]
    else bytes.set(source.subarray(start, end), at + 1)
    this.#commit(at, TYPE.string, size)
  }

  /**
   * Throws InvalidValue for numbers that are not finite, and for integers beyond 2^53 - 1, which doubles
   * round.
   */
  pushNumber(number: number): void {
    if (!Number.isFinite(number)) throw new InvalidValue('the number is not finite')
    if (Number.isInteger(number) && !Number.isSafeInteger(number)) {
      throw new InvalidValue('the integer is beyond 2^53 - 1: send it as a string')
    }
    const text = String(number) // the form of ECMAScript is the form of RFC 8785; -0 is written as 0
    const at = this.#reserve(text.length + 1)
    for (let i = 0; i < text.length; i++) this.bytes[at + 1 + i] = text.charCodeAt(i)
    this.#commit(at, TYPE.number, text.length)
  }

  pushBoolean(value: boolean): void {
    this.#commit(this.#reserve(1), value ? TYPE.true : TYPE.false, 0)
  }

  push(value: Scalar, limit: number): void {
    if (typeof value === 'string') this.pushString(value, limit)
    else if (typeof value === 'number') this.pushNumber(value)
    else this.pushBoolean(value)
  }

  /** Adds a padded value of `size` units. Returns the position of the bytes, which the caller writes. */
  pushRoom(size: number): number {
    const at = this.#reserve(size * 8 - 1)
    this.#grow()
    this.offset[this.count] = at >>> 3
    this.length[this.count] = 0
    this.count++
    this.used += size
    return at
  }

  /** Appends another list. Returns the index of the first appended value. */
  append(other: Values): number {
    const first = this.count
    if (first === 0) {
      this.bytes = other.bytes
      this.words = other.words
      this.offset = other.offset
      this.length = other.length
      this.count = other.count
      this.used = other.used
      return 0
    }
    if (other.used === 0) return first
    const at = this.#reserve(other.used * 8 - 1)
    this.bytes.set(other.bytes.subarray(0, other.used * 8), at)
    for (let i = 0; i < other.count; i++) {
      this.#grow()
      this.offset[this.count] = this.used + other.offset[i]
      this.length[this.count] = other.length[i]
      this.count++
    }
    this.used += other.used
    return first
  }

  #reserve(size: number): number {
    const at = this.used * 8
    const need = at + units(size) * 8
    if (need > this.bytes.length) {
      const buffer = new ArrayBuffer((Math.max(need, this.bytes.length * 2) + 7) & ~7)
      const bytes = new Uint8Array(buffer)
      bytes.set(this.bytes.subarray(0, at))
      this.bytes = bytes
      this.words = new Uint32Array(buffer)
    }
    return at
  }

  #grow(): void {
    if (this.count < this.offset.length) return
    const offset = new Uint32Array(this.count * 2)
    const length = new Uint32Array(this.count * 2)
    offset.set(this.offset)
    length.set(this.length)
    this.offset = offset
    this.length = length
  }

  #commit(at: number, type: number, size: number): void {
    this.#grow()
    const length = size + 1
    const end = at + units(length) * 8
    this.bytes[at] = type
    this.bytes[at + length] = 0x80
    for (let i = at + length + 1; i < end; i++) this.bytes[i] = 0
    this.offset[this.count] = at >>> 3
    this.length[this.count] = length
    this.count++
    this.used += units(length)
  }
}

function tooLong(limit: number): InvalidValue {
  return new InvalidValue(`the string takes more than ${limit} bytes of UTF-8`)
}

/**
 * Length in bytes of the padded canonical value at `start`, of `size` units; -1 for a padding or a type that
 * `Values` never writes: a value has exactly one encoding.
 */
export function unpaddedLength(bytes: Uint8Array, start: number, size: number): number {
  let end = start + size * 8 - 1
  const stop = Math.max(start, end - 7)
  while (end > stop && bytes[end] === 0) end--
  if (bytes[end] !== 0x80 || end === start) return -1
  const type = bytes[start]
  return type >= TYPE.string && type <= TYPE.true ? end - start : -1
}

/** The value of a canonical form. */
export function fromCanonical(bytes: Uint8Array, start: number, length: number): Scalar {
  const type = bytes[start]
  if (type === TYPE.string) return decoder.decode(bytes.subarray(start + 1, start + length))
  if (type === TYPE.number) return Number(decoder.decode(bytes.subarray(start + 1, start + length)))
  assert(type === TYPE.false || type === TYPE.true, 'a canonical value has a known type')
  return type === TYPE.true
}
