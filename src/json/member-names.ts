// Whether a member name stands twice in an object, without a set for each object. Names are kept by depth:
// objects at the same depth follow one another, so each name need only remember the last object with the
// name.
import { randomFillSync } from 'node:crypto'
import { unescapeTo } from './escapes.ts'

/** The start and the factor of the hash. The factor is odd. */
export type Seed = { readonly start: number; readonly factor: number }

const SLOTS_AT_FIRST = 1024
const SLOTS_KEPT = 4096
const DECODED_AT_FIRST = 1024
const DECODED_KEPT = 65_536
/** At a load of at most 1/2, two million random names need more probes in 1 of 10^15 bodies. */
const PROBES_MAX = 256
/** New seeds do not help against names that collide under every seed (none are known). */
const RESEEDS_MAX = 4
const DECODED = 0x80

const NOTHING = new Uint8Array(0)

function randomSeed(): Seed {
  const [start, factor] = randomFillSync(new Int32Array(2))
  return { start, factor: factor | 1 }
}

/** The names of a body. For each body: `begin`, `seen` for every name, `end`. */
export class MemberNames {
  /** The last name given to `seen`, decoded: `bytes` from `from` up to `to`. */
  bytes: Uint8Array = NOTHING
  from = 0
  to = 0

  #body: Uint8Array = NOTHING
  #decoded = new Uint8Array(DECODED_AT_FIRST) // the names with escapes, decoded
  #decodedEnd = 0
  #count = 0
  // 0 for a free slot, else entry + 1 in the bits of the mask, and the bits of the hash above: most other
  // names are told apart without a look at the other arrays, which are much colder.
  #slots = new Int32Array(SLOTS_AT_FIRST)
  #hashes = new Int32Array(SLOTS_AT_FIRST / 2)
  #froms = new Uint32Array(SLOTS_AT_FIRST / 2)
  #lengths = new Uint32Array(SLOTS_AT_FIRST / 2)
  #serials = new Uint32Array(SLOTS_AT_FIRST / 2)
  #depths = new Uint8Array(SLOTS_AT_FIRST / 2) // the depth, with DECODED for a name with escapes
  readonly #newSeed: () => Seed
  #seed: Seed
  #reseeds = 0

  /** The seed is random, so that nobody can prepare names that collide. Tests give bad seeds. */
  constructor(newSeed: () => Seed = randomSeed) {
    this.#newSeed = newSeed
    this.#seed = newSeed()
  }

  begin(body: Uint8Array): void {
    this.#body = body
    this.#reseeds = 0
  }

  /** Forgets the body and its names, and frees the memory of a large body. */
  end(): void {
    this.#body = this.bytes = NOTHING
    this.from = this.to = this.#decodedEnd = 0
    if (this.#decoded.length > DECODED_KEPT) this.#decoded = new Uint8Array(DECODED_AT_FIRST)
    if (this.#slots.length > SLOTS_KEPT) {
      this.#count = 0
      this.#resize(SLOTS_AT_FIRST)
    } else if (this.#count > 0) {
      this.#slots.fill(0)
      this.#count = 0
    }
  }

  /**
   * Whether the object `serial` (unique in the body) at `depth` (1 to 127) had the name before. Adds the
   * name. The name is the body's bytes from `from` up to `to`, without the quotes; `escaped`: there are
   * escapes.
   */
  seen(depth: number, serial: number, from: number, to: number, escaped: boolean): boolean {
    if (escaped) this.#decode(from, to)
    else {
      this.bytes = this.#body
      this.from = from
      this.to = to
    }
    const hash = this.#hash(this.bytes, this.from, this.to, depth)
    const slots = this.#slots
    const mask = slots.length - 1
    let slot = hash & mask
    for (let probes = 1; slots[slot] !== 0; probes++) {
      const entry = (slots[slot] & mask) - 1
      if (
        ((slots[slot] ^ hash) & ~mask) === 0 &&
        this.#hashes[entry] === hash &&
        this.#isEntry(entry, depth)
      ) {
        if (this.#serials[entry] === serial) return true
        this.#serials[entry] = serial
        return false
      }
      if (probes === PROBES_MAX && this.#reseeds < RESEEDS_MAX) {
        this.#reseed()
        return this.seen(depth, serial, from, to, escaped)
      }
      slot = (slot + 1) & mask
    }
    const entry = this.#add(depth, serial, hash)
    slots[slot] = (hash & ~mask) | (entry + 1)
    // The load stays at most 1/2, and an entry + 1 below the mask.
    if (this.#count * 2 >= slots.length) this.#resize(slots.length * 4)
    return false
  }

  #add(depth: number, serial: number, hash: number): number {
    const entry = this.#count++
    const isDecoded = this.bytes === this.#decoded
    this.#hashes[entry] = hash
    this.#froms[entry] = this.from
    this.#lengths[entry] = this.to - this.from
    this.#serials[entry] = serial
    this.#depths[entry] = isDecoded ? depth | DECODED : depth
    if (isDecoded) this.#decodedEnd = this.to
    return entry
  }

  #isEntry(entry: number, depth: number): boolean {
    const flagged = this.#depths[entry]
    if ((flagged & ~DECODED) !== depth || this.#lengths[entry] !== this.to - this.from) return false
    const { bytes, to } = this
    const others = (flagged & DECODED) === 0 ? this.#body : this.#decoded
    for (let i = this.from, j = this.#froms[entry]; i < to; i++, j++) {
      if (bytes[i] !== others[j]) return false
    }
    return true
  }

  /** The shifts carry the high bits down: without shifts, known strings collide under every factor. */
  #hash(bytes: Uint8Array, from: number, to: number, depth: number): number {
    const { start, factor } = this.#seed
    let hash = Math.imul(start ^ depth, factor)
    hash ^= hash >>> 15
    for (let i = from; i < to; i++) {
      hash = Math.imul(hash ^ bytes[i], factor)
      hash ^= hash >>> 15
    }
    return hash
  }

  #reseed(): void {
    this.#reseeds++
    this.#seed = this.#newSeed()
    for (let entry = 0; entry < this.#count; entry++) {
      const flagged = this.#depths[entry]
      const from = this.#froms[entry]
      const bytes = (flagged & DECODED) === 0 ? this.#body : this.#decoded
      this.#hashes[entry] = this.#hash(bytes, from, from + this.#lengths[entry], flagged & ~DECODED)
    }
    this.#slots.fill(0)
    this.#fillSlots()
  }

  #resize(slots: number): void {
    this.#slots = new Int32Array(slots)
    this.#hashes = resized(this.#hashes, new Int32Array(slots / 2), this.#count)
    this.#froms = resized(this.#froms, new Uint32Array(slots / 2), this.#count)
    this.#lengths = resized(this.#lengths, new Uint32Array(slots / 2), this.#count)
    this.#serials = resized(this.#serials, new Uint32Array(slots / 2), this.#count)
    this.#depths = resized(this.#depths, new Uint8Array(slots / 2), this.#count)
    this.#fillSlots()
  }

  #fillSlots(): void {
    const slots = this.#slots
    const hashes = this.#hashes
    const count = this.#count
    const mask = slots.length - 1
    for (let entry = 0; entry < count; entry++) {
      let slot = hashes[entry] & mask
      while (slots[slot] !== 0) slot = (slot + 1) & mask
      slots[slot] = (hashes[entry] & ~mask) | (entry + 1)
    }
  }

  /** Writes the name behind the other decoded names; only `#add` makes the name stay. */
  #decode(from: number, to: number): void {
    const needed = this.#decodedEnd + to - from // an escape is never shorter than its bytes
    if (needed > this.#decoded.length) {
      const larger = new Uint8Array(Math.max(needed, this.#decoded.length * 2))
      this.#decoded = resized(this.#decoded, larger, this.#decodedEnd)
    }
    this.bytes = this.#decoded
    this.from = this.#decodedEnd
    this.to = unescapeTo(this.#body, from, to, this.#decoded, this.#decodedEnd)
  }
}

function resized<T extends Uint8Array | Int32Array | Uint32Array>(from: T, to: T, count: number): T {
  to.set(from.subarray(0, count))
  return to
}
