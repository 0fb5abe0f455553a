// The keys of an epoch of an owner: token bodies, checks, sealing and opening.
//
// Sealing is SIV (Rogaway and Shrimpton 2006; RFC 5297 with HMAC-SHA-256 as its PRF): the token body is the
// synthetic IV. Opening decrypts and computes the body again; an equal body means an authentic value. A value
// cannot be moved to another token, owner or epoch. docs/format.md has the argument and the vectors.
import { type Cipheriv, createCipheriv, hkdfSync } from 'node:crypto'
import { assert } from '../assert.ts'
import { unpaddedLength, type Values } from './canonical.ts'
import { Prf } from './prf.ts'
import { BODY_BYTES, CHECK_BYTES } from './token.ts'

export const ROOT_BYTES = 32

/** HKDF-SHA-256 from an epoch's root key. `info` is `coffer/1/<purpose>`, NUL, owner, NUL, epoch. */
export function deriveKey(root: Uint8Array, purpose: string, owner: string, epoch: number): Uint8Array {
  const info = Buffer.from(`coffer/1/${purpose}\0${owner}\0${epoch}`, 'utf8')
  return new Uint8Array(hkdfSync('sha256', root, new Uint8Array(0), info, 32))
}

/** AES-256 over independent blocks of 16 bytes: a whole request in a single call. */
function blockCipher(key: Uint8Array): Cipheriv {
  const cipher = createCipheriv('aes-256-ecb', key, null)
  cipher.setAutoPadding(false) // so update() returns every whole block, and the object serves all calls
  return cipher
}

/** The counter blocks of the keystream (CTR): for every value body, body + 1, … up to its size. */
function counterBlocks(bodies: Uint8Array, sizes: Uint32Array, count: number): Uint8Array {
  let blocks = 0
  for (let i = 0; i < count; i++) blocks += (sizes[i] + 1) >>> 1
  const out = new Uint8Array(blocks * 16)
  let at = 0
  for (let i = 0; i < count; i++) {
    const n = (sizes[i] + 1) >>> 1
    for (let j = 0; j < 16; j++) out[at + j] = bodies[i * 16 + j]
    at += 16
    for (let block = 1; block < n; block++, at += 16) {
      let carry = 1
      for (let j = 15; j >= 0; j--) {
        const sum = out[at - 16 + j] + carry
        out[at + j] = sum
        carry = sum >>> 8
      }
    }
  }
  return out
}

export class EpochKey {
  readonly owner: string
  readonly epoch: number
  readonly #prf: Prf
  readonly #check: Cipheriv
  readonly #seal: Cipheriv

  constructor(owner: string, epoch: number, root: Uint8Array) {
    assert(root.length === ROOT_BYTES, 'an epoch root key has 32 bytes')
    this.owner = owner
    this.epoch = epoch
    this.#prf = new Prf(deriveKey(root, 'token', owner, epoch))
    this.#check = blockCipher(deriveKey(root, 'check', owner, epoch))
    this.#seal = blockCipher(deriveKey(root, 'seal', owner, epoch))
  }

  /** Token bodies of all values: 16 bytes each. */
  bodies(values: Values): Uint8Array {
    const out = new Uint8Array(values.count * BODY_BYTES)
    this.#prf.bodies(values.bytes, values.offset, values.length, values.count, out)
    return out
  }

  /** Token bodies of the values `from` to `to` (exclusive), at 16 * index in `out`. */
  bodiesOf(values: Values, from: number, to: number, out: Uint8Array): void {
    const offset = values.offset.subarray(from, to)
    const length = values.length.subarray(from, to)
    this.#prf.bodies(values.bytes, offset, length, to - from, out, from * BODY_BYTES)
  }

  /** Checks of `count` bodies: block i of the result begins with the 4 bytes of check i (stride 16). */
  checkBlocks(bodies: Uint8Array, count: number): Uint8Array {
    if (count === 0) return new Uint8Array(0)
    return this.#check.update(bodies.subarray(0, count * BODY_BYTES))
  }

  /** valid[i] = 1 where the check of body i is right. Compares in constant time. */
  verifyChecks(bodies: Uint8Array, checks: Uint8Array, count: number, valid: Uint8Array): void {
    const blocks = this.checkBlocks(bodies, count)
    for (let i = 0; i < count; i++) {
      let difference = 0
      for (let j = 0; j < CHECK_BYTES; j++) difference |= blocks[i * 16 + j] ^ checks[i * CHECK_BYTES + j]
      valid[i] = ((difference - 1) >>> 31) & 1
    }
  }

  /** XOR with the keystream, in place: value i is `sizes[i]` units at unit `offset[i]` of `words`. */
  #xor(words: Uint32Array, offset: Uint32Array, sizes: Uint32Array, bodies: Uint8Array, count: number): void {
    const stream = this.#seal.update(counterBlocks(bodies, sizes, count))
    const key =
      stream.byteOffset % 4 === 0
        ? new Uint32Array(stream.buffer, stream.byteOffset, stream.length >>> 2)
        : new Uint32Array(new Uint8Array(stream).buffer)
    let from = 0
    for (let i = 0; i < count; i++) {
      const size = sizes[i] * 2
      const at = offset[i] * 2
      for (let j = 0; j < size; j++) words[at + j] ^= key[from + j]
      from += ((sizes[i] + 1) >>> 1) * 4
    }
  }

  /**
   * Seals the values of the chosen indices: padded canonical forms XOR the keystream that starts at the body.
   * The sealed values are concatenated, with sizes in units of 8 bytes and bodies in arrays beside.
   */
  seal(values: Values, bodies: Uint8Array, chosen: Uint32Array): Sealed {
    const count = chosen.length
    const sizes = new Uint32Array(count)
    const offset = new Uint32Array(count)
    const own = new Uint8Array(count * BODY_BYTES)
    let total = 0
    for (let i = 0; i < count; i++) {
      const from = chosen[i]
      offset[i] = total
      sizes[i] = (values.length[from] >>> 3) + 1
      total += sizes[i]
      for (let j = 0; j < 16; j++) own[i * 16 + j] = bodies[from * 16 + j]
    }
    const words = new Uint32Array(total * 2)
    for (let i = 0; i < count; i++) {
      const source = values.offset[chosen[i]] * 2
      for (let j = 0, to = offset[i] * 2; j < sizes[i] * 2; j++) words[to + j] = values.words[source + j]
    }
    if (count > 0) this.#xor(words, offset, sizes, own, count)
    return { count, bodies: own, sizes, offset, bytes: new Uint8Array(words.buffer) }
  }

  /**
   * Opens sealed values in place: `values` has sealed values (offset, and size in units) before, canonical
   * forms with their lengths after. Returns the number of authentic values; the others get length 0.
   */
  open(values: Values, sizes: Uint32Array, bodies: Uint8Array): number {
    const count = values.count
    if (count === 0) return 0
    this.#xor(values.words, values.offset, sizes, bodies, count)
    let wellFormed = true
    for (let i = 0; i < count; i++) {
      const length = unpaddedLength(values.bytes, values.offset[i] * 8, sizes[i])
      if (length < 0) wellFormed = false
      values.length[i] = length < 0 ? 1 : length
    }
    const again = this.bodies(values)
    let good = 0
    for (let i = 0; i < count; i++) {
      let difference = 0
      for (let j = 0; j < 16; j++) difference |= again[i * 16 + j] ^ bodies[i * 16 + j]
      const bad =
        difference !== 0 || (!wellFormed && unpaddedLength(values.bytes, values.offset[i] * 8, sizes[i]) < 0)
      if (bad) values.length[i] = 0
      else good++
    }
    return good
  }
}

/** New mappings, sealed: bodies 16 bytes each, sizes and offsets in units of 8 bytes into `bytes`. */
type Sealed = {
  readonly count: number
  readonly bodies: Uint8Array
  readonly sizes: Uint32Array
  readonly offset: Uint32Array
  readonly bytes: Uint8Array
}
