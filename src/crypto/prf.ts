// The pseudorandom function of token bodies: HMAC-SHA-256 (RFC 2104, FIPS 180-4), cut to 16 bytes, of
// thousands of short messages at once. This file packs messages into the memory of the kernel, prf-lanes.ts.
// The kernel takes 0.2 µs a message, createHmac 2.5 to 12 µs.
import { createHmac } from 'node:crypto'
import { assert } from '../assert.ts'
import { CHUNK_BYTES, CHUNK_MESSAGES, lanes, MAX_LENGTH } from './prf-lanes.ts'
import { BODY_BYTES } from './token.ts'

/** FIPS 180-4, 5.3.3: the first 32 bits of the fractional parts of the square roots of the first 8 primes. */
const INITIAL_STATE = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
]

/** Gaps between messages up to this size are copied with the messages: another copy would cost more. */
const MAX_GAP_BYTES = 64

/** The inner and outer SHA-256 midstates of one HMAC key: 64 bytes, so that thousands of keys can stay. */
export class Prf {
  /** 8 words of the inner hash, then 8 of the outer, each after the block with the key. */
  readonly #midstates: Uint32Array

  /** The key is 32 bytes. */
  constructor(key: Uint8Array) {
    assert(key.length === 32, 'the key of a pseudorandom function has 32 bytes')
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength)
    const { block, state, active } = lanes
    for (let i = 0; i < 16; i++) {
      const word = i < 8 ? view.getUint32(4 * i) : 0
      block[4 * i] = word ^ 0x36363636
      block[4 * i + 1] = word ^ 0x5c5c5c5c
    }
    for (let i = 0; i < 32; i++) state[i] = INITIAL_STATE[i >> 2]
    active.fill(0xffffffff)
    lanes.compress()
    this.#midstates = Uint32Array.from({ length: 16 }, (_, i) => state[4 * (i % 8) + (i >> 3)])
  }

  /**
   * Writes the first 16 bytes of HMAC-SHA-256(key, message i) to out[outStart + 16*i ...], i in 0..count-1.
   * Message i is data[8*offset[i] .. 8*offset[i] + length[i]): offsets are in units of 8 bytes, lengths in
   * bytes, at most 32 KiB + 1. Messages are in any order and may repeat; `out` must not overlap `data`.
   */
  bodies(
    data: Uint8Array,
    offset: Uint32Array,
    length: Uint32Array,
    count: number,
    out: Uint8Array,
    outStart = 0,
  ): void {
    assert(count <= Math.min(offset.length, length.length), 'every message has an offset and a length')
    assert(outStart + BODY_BYTES * count <= out.length, 'there is room for all bodies')
    lanes.midstates.set(this.#midstates)
    for (let done = 0; done < count; ) {
      const packed = pack(data, offset, length, done, count)
      lanes.hash(4 * sort(packed))
      copy(lanes.bodies, 0, BODY_BYTES * packed, out, outStart + BODY_BYTES * done)
      done += packed
    }
  }
}

/** Packs messages from number `first` on into the kernel's memory, as many as fit. Returns how many. */
function pack(
  data: Uint8Array,
  offset: Uint32Array,
  length: Uint32Array,
  first: number,
  count: number,
): number {
  const limit = Math.min(count - first, CHUNK_MESSAGES)
  // Neighbours are copied together, as one run: data[start .. end), copied to `target` in lanes.bytes.
  let start = 0
  let end = 0
  let target = 0
  let packed = 0
  for (; packed < limit; packed++) {
    const size = length[first + packed]
    const from = 8 * offset[first + packed]
    const to = from + size
    assert(
      size <= MAX_LENGTH && to <= data.length,
      'a message is inside of its data, and not longer than 32 KiB + 1',
    )
    if (from < start || from > end + MAX_GAP_BYTES) {
      copy(data, start, end, lanes.bytes, target)
      target += end - start
      start = end = from
    }
    const longer = Math.max(end, to)
    if (target + longer - start > CHUNK_BYTES) break
    end = longer
    lanes.position[packed] = target + from - start
    lanes.length[packed] = size
  }
  copy(data, start, end, lanes.bytes, target)
  return packed
}

const blocksOf = (length: number): number => (length + 8 + 64) >>> 6
/** By number of blocks: the count of messages, then the next index in `order`. All zeros between calls. */
const tally = new Uint32Array(blocksOf(MAX_LENGTH) + 1)

/**
 * Orders the packed messages by number of blocks, largest first, so that the four of a group end together
 * (a counting sort), and fills up the last group. Returns the number of entries.
 */
function sort(packed: number): number {
  const { order, length } = lanes
  let most = 0
  for (let i = 0; i < packed; i++) {
    const blocks = blocksOf(length[i])
    tally[blocks]++
    most = Math.max(most, blocks)
  }
  let before = 0
  for (let blocks = most; blocks > 0; blocks--) {
    const here = tally[blocks]
    tally[blocks] = before
    before += here
  }
  for (let i = 0; i < packed; i++) order[tally[blocksOf(length[i])]++] = i
  tally.fill(0, 0, most + 1)
  // Idle lanes hash the entry after the last message, whatever its bytes: the tables have room for its body.
  order.fill(packed, packed, packed + 3)
  return (packed + 3) & ~3
}

/** Copies short runs byte by byte: a call costs more. */
function copy(from: Uint8Array, start: number, end: number, to: Uint8Array, target: number): void {
  if (end - start > 64) to.set(from.subarray(start, end), target)
  else for (let i = start; i < end; i++) to[target++] = from[i]
}

/**
 * Compares the kernel with node:crypto once, when the module is loaded: a broken kernel must not make tokens.
 * The lengths end before, at and after the bounds of SHA-256's padding, in all lanes of a group.
 */
function checkKernel(): void {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i)
  const length = Uint32Array.of(1, 13, 55, 56, 63, 64, 119, 120, 300)
  const offset = new Uint32Array(length.length)
  const data = Uint8Array.from({ length: 304 }, (_, i) => 7 * i)
  const bodies = new Uint8Array(BODY_BYTES * length.length)
  new Prf(key).bodies(data, offset, length, length.length, bodies)
  for (const [i, size] of length.entries()) {
    const hmac = createHmac('sha256', key).update(data.subarray(0, size)).digest()
    const body = bodies.subarray(BODY_BYTES * i, BODY_BYTES * (i + 1))
    assert(hmac.subarray(0, BODY_BYTES).equals(body), 'the kernel computes HMAC-SHA-256')
  }
}

checkKernel()
