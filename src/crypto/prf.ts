// The pseudorandom function of token bodies: HMAC-SHA-256 (RFC 2104, FIPS 180-4), cut to 16 bytes, of
// thousands of short messages at once. This file packs messages into the memory of lanes.ts, which hashes.
import { assert } from '../assert.ts'
import { chunkBytes, chunkMessages, lanes, maxLength } from './prf-lanes.ts'

const bodyBytes = 16

/** FIPS 180-4, 5.3.3: the first 32 bits of the fractional parts of the square roots of the first 8 primes. */
const initialState = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
]

/** Gaps up to this many bytes between messages are copied too, rather than begin another copy. */
const gap = 64

/**
 * Keyed state: the inner and outer SHA-256 midstates of one HMAC key. Holds no module state; thousands may
 * exist at once.
 */
export class Prf {
  /** 8 words of the inner hash, 8 of the outer, each after its block of the key. */
  readonly #midstates: Uint32Array

  /** The key is 32 bytes. */
  constructor(key: Uint8Array) {
    assert(key.length === 32, 'prf: the key is not 32 bytes')
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength)
    const { block, state, active } = lanes
    for (let i = 0; i < 16; i++) {
      const word = i < 8 ? view.getUint32(4 * i) : 0
      block[4 * i] = word ^ 0x36363636
      block[4 * i + 1] = word ^ 0x5c5c5c5c
    }
    for (let i = 0; i < 32; i++) state[i] = initialState[i >> 2]
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
    assert(count <= Math.min(offset.length, length.length), 'prf: more messages than offsets or lengths')
    assert(outStart + bodyBytes * count <= out.length, 'prf: no room for the bodies')
    lanes.midstates.set(this.#midstates)
    for (let done = 0; done < count; ) {
      const packed = pack(data, offset, length, done, count)
      lanes.hash(4 * sort(packed))
      copy(lanes.bodies, 0, bodyBytes * packed, out, outStart + bodyBytes * done)
      done += packed
    }
  }
}

/** Puts messages from number `first` on into the kernel's memory, as many as fit. Gives how many. */
function pack(
  data: Uint8Array,
  offset: Uint32Array,
  length: Uint32Array,
  first: number,
  count: number,
): number {
  const limit = Math.min(count - first, chunkMessages)
  // Neighbours are copied together, as one run: data[start .. end), which goes to `target` in lanes.bytes.
  let start = 0
  let end = 0
  let target = 0
  let packed = 0
  for (; packed < limit; packed++) {
    const size = length[first + packed]
    const from = 8 * offset[first + packed]
    const to = from + size
    assert(size <= maxLength && to <= data.length, 'prf: a message is too long or outside of its data')
    if (from < start || from > end + gap) {
      copy(data, start, end, lanes.bytes, target)
      target += end - start
      start = end = from
    }
    const longer = Math.max(end, to)
    if (target + longer - start > chunkBytes) break
    end = longer
    lanes.position[packed] = target + from - start
    lanes.length[packed] = size
  }
  copy(data, start, end, lanes.bytes, target)
  return packed
}

const blocksOf = (length: number): number => (length + 8 + 64) >>> 6
/** How many messages have so many blocks, then where in `order` the next goes. Zeros between calls. */
const tally = new Uint32Array(blocksOf(maxLength) + 1)

/**
 * Orders the packed messages by their blocks, most first, so that the four of a group end together (it is a
 * counting sort), and fills up the last group. Gives the number of entries.
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
  // Idle lanes hash what the entry after the last one happens to hold: it too has a place for its body.
  order.fill(packed, packed, packed + 3)
  return (packed + 3) & ~3
}

/** A short copy is quicker by bytes than by a call. */
function copy(from: Uint8Array, start: number, end: number, to: Uint8Array, target: number): void {
  if (end - start > 64) to.set(from.subarray(start, end), target)
  else for (let i = start; i < end; i++) to[target++] = from[i]
}
