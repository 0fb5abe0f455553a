// Whether a member name stands twice in one object, without a set for each object. Names are kept per depth:
// objects at one depth follow one another, so a name need only remember the last object that it was seen in.

import { randomFillSync } from 'node:crypto'

/** What the hash starts from and multiplies by. The factor is odd. */
export type Seed = { readonly start: number; readonly factor: number }

const SLOTS_AT_FIRST = 1024
const SLOTS_KEPT = 4096
const SIDE_AT_FIRST = 1024
const SIDE_KEPT = 65_536
// At a load of at most 1/2, two million names of chance need more than 256 probes once in 10^15 bodies.
const PROBES_MAX = 256
// Against names that collide under every seed (none are known) new seeds do not help.
const RESEEDS_MAX = 4
const IN_SIDE = 0x80

const BACKSLASH = 0x5c
const LOWER_U = 0x75
const NOTHING = new Uint8Array(0)

/** The value of a hexadecimal digit by its byte, -1 for all other bytes. */
export const HEX = new Int8Array(256).fill(-1)
for (const [value, digit] of [...'0123456789abcdef'].entries()) {
  HEX[digit.charCodeAt(0)] = value
  HEX[digit.toUpperCase().charCodeAt(0)] = value
}

/** The byte that a one-letter escape stands for, by its letter, 0 where there is no such escape. */
export const SHORT = new Uint8Array(256)
for (const [index, letter] of [...'"\\/bfnrt'].entries()) {
  SHORT[letter.charCodeAt(0)] = '"\\/\b\f\n\r\t'.charCodeAt(index)
}

function randomSeed(): Seed {
  const [start, factor] = randomFillSync(new Int32Array(2))
  return { start, factor: factor | 1 }
}

/** The names of one body at a time. For a new body: `begin`, `seen` for each name, `end`. */
export class Names {
  /** The last name that `seen` was asked about, unescaped: `bytes` from `from` up to `to`. */
  bytes: Uint8Array = NOTHING
  from = 0
  to = 0

  private body: Uint8Array = NOTHING
  private side = new Uint8Array(SIDE_AT_FIRST) // the names that had escapes, unescaped
  private sideEnd = 0
  private count = 0
  // 0 for a free slot, else entry + 1 in the bits of the mask, and above them those of the hash: names that
  // are not the one looked for are mostly told apart without a look at the other, much colder arrays.
  private slots = new Int32Array(SLOTS_AT_FIRST)
  private hashes = new Int32Array(SLOTS_AT_FIRST / 2)
  private froms = new Uint32Array(SLOTS_AT_FIRST / 2)
  private lengths = new Uint32Array(SLOTS_AT_FIRST / 2)
  private serials = new Uint32Array(SLOTS_AT_FIRST / 2)
  private places = new Uint8Array(SLOTS_AT_FIRST / 2) // the depth, and IN_SIDE if the name is there
  private readonly newSeed: () => Seed
  private seed: Seed
  private reseeds = 0

  /** The seed is random, so that nobody can prepare names that collide. Tests give bad ones. */
  constructor(newSeed: () => Seed = randomSeed) {
    this.newSeed = newSeed
    this.seed = newSeed()
  }

  begin(body: Uint8Array): void {
    this.body = body
    this.reseeds = 0
  }

  /** Forgets the body and its names, and the memory that a large body needed. */
  end(): void {
    this.body = this.bytes = NOTHING
    this.from = this.to = this.sideEnd = 0
    if (this.side.length > SIDE_KEPT) this.side = new Uint8Array(SIDE_AT_FIRST)
    if (this.slots.length > SLOTS_KEPT) {
      this.count = 0
      this.resize(SLOTS_AT_FIRST)
    } else if (this.count > 0) {
      this.slots.fill(0)
      this.count = 0
    }
  }

  /**
   * Whether the object `serial` (unique in the body) at `depth` (1 to 127) had this name before; now it has.
   * The name is the body's bytes from `from` up to `to`, without the quotes; `escaped` if it has escapes.
   */
  seen(depth: number, serial: number, from: number, to: number, escaped: boolean): boolean {
    if (escaped) this.unescape(from, to)
    else {
      this.bytes = this.body
      this.from = from
      this.to = to
    }
    const hash = this.hash(this.bytes, this.from, this.to, depth)
    const { slots } = this
    const mask = slots.length - 1
    let slot = hash & mask
    for (let probes = 1; slots[slot] !== 0; probes++) {
      const entry = (slots[slot] & mask) - 1
      if (((slots[slot] ^ hash) & ~mask) === 0 && this.hashes[entry] === hash && this.isEntry(entry, depth)) {
        if (this.serials[entry] === serial) return true
        this.serials[entry] = serial
        return false
      }
      if (probes === PROBES_MAX && this.reseeds < RESEEDS_MAX) {
        this.reseed()
        return this.seen(depth, serial, from, to, escaped)
      }
      slot = (slot + 1) & mask
    }
    const entry = this.add(depth, serial, hash)
    slots[slot] = (hash & ~mask) | (entry + 1)
    // The load stays at most 1/2, and an entry + 1 below the mask.
    if (this.count * 2 >= slots.length) this.resize(slots.length * 4)
    return false
  }

  private add(depth: number, serial: number, hash: number): number {
    const entry = this.count++
    const inSide = this.bytes === this.side
    this.hashes[entry] = hash
    this.froms[entry] = this.from
    this.lengths[entry] = this.to - this.from
    this.serials[entry] = serial
    this.places[entry] = inSide ? depth | IN_SIDE : depth
    if (inSide) this.sideEnd = this.to
    return entry
  }

  private isEntry(entry: number, depth: number): boolean {
    const place = this.places[entry]
    if ((place & ~IN_SIDE) !== depth || this.lengths[entry] !== this.to - this.from) return false
    const { bytes, to } = this
    const others = (place & IN_SIDE) === 0 ? this.body : this.side
    for (let i = this.from, j = this.froms[entry]; i < to; i++, j++) {
      if (bytes[i] !== others[j]) return false
    }
    return true
  }

  // The shift carries the high bits back down. Without it, strings are known that collide under every factor.
  private hash(bytes: Uint8Array, from: number, to: number, depth: number): number {
    const { start, factor } = this.seed
    let hash = Math.imul(start ^ depth, factor)
    hash ^= hash >>> 15
    for (let i = from; i < to; i++) {
      hash = Math.imul(hash ^ bytes[i], factor)
      hash ^= hash >>> 15
    }
    return hash
  }

  private reseed(): void {
    this.reseeds++
    this.seed = this.newSeed()
    for (let entry = 0; entry < this.count; entry++) {
      const place = this.places[entry]
      const from = this.froms[entry]
      const bytes = (place & IN_SIDE) === 0 ? this.body : this.side
      this.hashes[entry] = this.hash(bytes, from, from + this.lengths[entry], place & ~IN_SIDE)
    }
    this.slots.fill(0)
    this.fillSlots()
  }

  private resize(slots: number): void {
    this.slots = new Int32Array(slots)
    this.hashes = resized(this.hashes, new Int32Array(slots / 2), this.count)
    this.froms = resized(this.froms, new Uint32Array(slots / 2), this.count)
    this.lengths = resized(this.lengths, new Uint32Array(slots / 2), this.count)
    this.serials = resized(this.serials, new Uint32Array(slots / 2), this.count)
    this.places = resized(this.places, new Uint8Array(slots / 2), this.count)
    this.fillSlots()
  }

  private fillSlots(): void {
    const { slots, hashes, count } = this
    const mask = slots.length - 1
    for (let entry = 0; entry < count; entry++) {
      let slot = hashes[entry] & mask
      while (slots[slot] !== 0) slot = (slot + 1) & mask
      slots[slot] = (hashes[entry] & ~mask) | (entry + 1)
    }
  }

  // Leaves the name behind the side's end, where only `add` makes it stay.
  private unescape(from: number, to: number): void {
    const needed = this.sideEnd + to - from // an escape is never shorter than what it stands for
    if (needed > this.side.length) {
      const side = new Uint8Array(Math.max(needed, this.side.length * 2))
      this.side = resized(this.side, side, this.sideEnd)
    }
    this.bytes = this.side
    this.from = this.sideEnd
    this.to = unescapeTo(this.body, from, to, this.side, this.sideEnd)
  }
}

/**
 * Writes the content of a valid JSON string (`raw` from `from` up to `to`) into `out` at `at`, and returns
 * the end of it. The form is WTF-8: UTF-8 in which lone surrogates have three bytes too and stay different.
 */
export function unescapeTo(raw: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  let end = at
  for (let i = from; i < to; ) {
    if (raw[i] !== BACKSLASH) {
      out[end++] = raw[i++]
    } else if (raw[i + 1] !== LOWER_U) {
      out[end++] = SHORT[raw[i + 1]]
      i += 2
    } else {
      let code = fourHex(raw, i + 2)
      i += 6
      if (code >= 0xd800 && code < 0xdc00 && i + 6 <= to && raw[i] === BACKSLASH && raw[i + 1] === LOWER_U) {
        const low = fourHex(raw, i + 2)
        if (low >= 0xdc00 && low < 0xe000) {
          code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
          i += 6
        }
      }
      end = putCode(out, end, code)
    }
  }
  return end
}

function fourHex(raw: Uint8Array, at: number): number {
  return (HEX[raw[at]] << 12) | (HEX[raw[at + 1]] << 8) | (HEX[raw[at + 2]] << 4) | HEX[raw[at + 3]]
}

function putCode(out: Uint8Array, at: number, code: number): number {
  let end = at
  if (code < 0x80) out[end++] = code
  else {
    if (code < 0x800) out[end++] = 0xc0 | (code >> 6)
    else {
      if (code < 0x10000) out[end++] = 0xe0 | (code >> 12)
      else {
        out[end++] = 0xf0 | (code >> 18)
        out[end++] = 0x80 | ((code >> 12) & 0x3f)
      }
      out[end++] = 0x80 | ((code >> 6) & 0x3f)
    }
    out[end++] = 0x80 | (code & 0x3f)
  }
  return end
}

function resized<T extends Uint8Array | Int32Array | Uint32Array>(from: T, to: T, count: number): T {
  to.set(from.subarray(0, count))
  return to
}
