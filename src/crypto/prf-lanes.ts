// The kernel of prf.ts: HMAC-SHA-256 of many messages, four at a time. Each 32-bit lane of a WebAssembly
// vector works on its own message, so the rounds are the rounds of FIPS 180-4 with vectors for words. The
// module is assembled and compiled when this file loads. Calls are synchronous, so one memory serves all
// keys.
import {
  type Code,
  call,
  Frame,
  i8x16,
  i32,
  i32x4,
  instantiate,
  type Local,
  loop,
  PAGE_BYTES,
  v128,
} from './prf-wasm.ts'

/** The longest message, in bytes. */
export const MAX_LENGTH = 32 * 1024 + 1
/** A chunk is the part of a batch that the memory holds at once: messages, and their bytes. */
export const CHUNK_MESSAGES = 4096
export const CHUNK_BYTES = 256 * 1024

/** FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
const ROUND_CONSTANTS = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
  0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
  0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
  0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
  0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
  0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
  0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
  0xc67178f2,
]

/** Addresses in the memory. The tables have room to fill up the last group of four. */
const ENTRIES = CHUNK_MESSAGES + 4
const ADDRESS = {
  constants: 0, // 64 words
  midstates: 256, // 8 words of the inner hash, 8 of the outer
  state: 320, // 8 vectors: lane l of vector i is word i of the hash in lane l
  block: 448, // 16 vectors: lane l of vector i is word i of the block to compress in lane l
  active: 704, // 1 vector: all ones in the lanes whose state the block changes
  order: 720, // u32 each: the message of a lane, in groups of four
  position: 720 + 4 * ENTRIES, // u32 each: the start of a message, counted from `bytes`
  length: 720 + 8 * ENTRIES, // u32 each
  bodies: 720 + 12 * ENTRIES, // 16 bytes each
  bytes: 720 + 28 * ENTRIES,
}
/**
 * A lane reads past its message until the longest message of the group ends: hence room for one more message.
 */
const MEMORY_BYTES = ADDRESS.bytes + CHUNK_BYTES + MAX_LENGTH + 128

const ZERO = i32.of(0)
const splat = (value: number): Code => i32x4.splat(i32.of(value))
const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index))

/** Element i of an array of vectors at a fixed address. */
const element = (base: number, i: number): Local => ({
  get: v128.load(ZERO, base + 16 * i),
  set: (value) => v128.store(ZERO, base + 16 * i, value),
})
const state = times(8, (i) => element(ADDRESS.state, i))
const block = times(16, (i) => element(ADDRESS.block, i))
const active = element(ADDRESS.active, 0)

const xor3 = (a: Code, b: Code, c: Code): Code => v128.xor(v128.xor(a, b), c)
const rotate = (x: Code, bits: number): Code => v128.or(i32x4.shr(x, bits), i32x4.shl(x, 32 - bits))
const bigSigma = (x: Code, i: number, j: number, k: number): Code =>
  xor3(rotate(x, i), rotate(x, j), rotate(x, k))
const smallSigma = (x: Code, i: number, j: number, k: number): Code =>
  xor3(rotate(x, i), rotate(x, j), i32x4.shr(x, k))

/** FIPS 180-4, 6.2.2: `block` into `state`. Unrolled, so that the schedule is in locals: memory is slower. */
function compress(frame: Frame): Code {
  const words = block.map(() => frame.v128())
  let work = state.map(() => frame.v128())
  const code = [
    ...words.map((word, i) => word.set(block[i].get)),
    ...work.map((word, i) => word.set(state[i].get)),
  ]
  for (let round = 0; round < 64; round++) {
    const [a, b, c, d, e, f, g, h] = work
    const word = words[round % 16]
    if (round >= 16) {
      const [w1, w9, w14] = [1, 9, 14].map((ahead) => words[(round + ahead) % 16].get)
      const older = i32x4.add(word.get, smallSigma(w1, 7, 18, 3))
      code.push(word.set(i32x4.add(i32x4.add(older, w9), smallSigma(w14, 17, 19, 10))))
    }
    const input = i32x4.add(word.get, v128.load32Splat(ZERO, ADDRESS.constants + 4 * round))
    const choice = v128.select(f.get, g.get, e.get)
    const majority = v128.select(c.get, b.get, v128.xor(a.get, b.get))
    code.push(
      h.set(i32x4.add(i32x4.add(i32x4.add(h.get, input), choice), bigSigma(e.get, 6, 11, 25))),
      d.set(i32x4.add(d.get, h.get)),
      h.set(i32x4.add(i32x4.add(h.get, majority), bigSigma(a.get, 2, 13, 22))),
    )
    work = [h, a, b, c, d, e, f, g]
  }
  code.push(...work.map((word, i) => state[i].set(i32x4.add(state[i].get, v128.and(word.get, active.get)))))
  return code.flat()
}

/** Two shuffles of a and b: the first picks the bytes `low`, the second the bytes `low + 8`. */
function interleave(to: readonly Local[], a: Local, b: Local, low: readonly number[]): Code[] {
  const high = low.map((byte) => byte + 8)
  return [low, high].map((bytes, i) => to[i].set(i8x16.shuffle(a.get, b.get, bytes)))
}

/** Turns 16 bytes of each of four lanes into vectors of their four big-endian words, or back. */
function transpose(rows: readonly Local[], spare: readonly Local[]): Code[] {
  const swapped = times(16, (i) => i ^ 3)
  const words = times(16, (i) => (i & 3) | ((i & 4) << 2) | ((i & 8) >> 1))
  const halves = times(16, (i) => (i & 7) | ((i & 8) << 1))
  return [
    ...rows.map((row) => row.set(i8x16.shuffle(row.get, row.get, swapped))),
    ...interleave(spare.slice(0, 2), rows[0], rows[1], words),
    ...interleave(spare.slice(2, 4), rows[2], rows[3], words),
    ...interleave(rows.slice(0, 2), spare[0], spare[2], halves),
    ...interleave(rows.slice(2, 4), spare[1], spare[3], halves),
  ]
}

/** The index of `compress` among the procedures of `assemble`. */
const COMPRESS_INDEX = 0

const startFrom = (midstate: number): Code[] =>
  state.map((word, i) => word.set(v128.load32Splat(ZERO, midstate + 4 * i)))

/** The locals of a group of four. Each lane's message is `length` bytes, `total` with the padding. */
type Group = Readonly<Record<'position' | 'length' | 'total' | 'done', Local>> & {
  readonly rows: readonly Local[]
  readonly spare: readonly Local[]
}

/** Compresses each message's 64 bytes from `done` on, with the padding of FIPS 180-4, 5.1.1. */
function absorb(frame: Frame, group: Group): Code {
  const { position, length, total, done, rows, spare } = group
  const left = frame.v128()
  const fill = frame.v128()
  const quarter = (k: number): Code[] => {
    const places = v128.of(...times(16, (i) => 16 * k + i))
    return [
      ...rows.flatMap((row, lane) => [
        fill.set(i8x16.splat(i32x4.extract(left.get, lane))),
        row.set(v128.load(i32.add(i32x4.extract(position.get, lane), done.get), ADDRESS.bytes + 16 * k)),
        row.set(v128.and(row.get, i8x16.lessThan(places, fill.get))),
        row.set(v128.or(row.get, v128.and(i8x16.equal(places, fill.get), v128.of(0x80)))),
      ]),
      ...transpose(rows, spare),
      ...rows.map((row, i) => block[4 * k + i].set(row.get)),
    ]
  }
  // The inner hash began with the 64 bytes of the key. Word 14 stays 0: a message has less than 2^32 bits.
  const bits = i32x4.shl(i32x4.add(length.get, splat(64)), 3)
  const isLast = i32x4.equal(total.get, i32x4.splat(i32.add(done.get, i32.of(64))))
  return [
    // Clamped to a signed byte, for the comparison with places: 64 is after the block, -1 before the block.
    left.set(i32x4.subtract(length.get, i32x4.splat(done.get))),
    left.set(i32x4.max(i32x4.min(left.get, splat(64)), splat(-1))),
    ...times(4, quarter).flat(),
    block[15].set(v128.or(block[15].get, v128.and(bits, isLast))),
    active.set(i32x4.greaterThan(total.get, i32x4.splat(done.get))),
    call(COMPRESS_INDEX),
    done.set(i32.add(done.get, i32.of(64))),
  ].flat()
}

/** The outer hash (RFC 2104, 2) of the inner hash in `state`, into `state`. */
const finish = (): Code =>
  [
    ...state.map((word, i) => block[i].set(word.get)),
    block[8].set(splat(0x80000000)),
    ...block.slice(9, 15).map((word) => word.set(splat(0))),
    block[15].set(splat(8 * (64 + 32))),
    active.set(splat(-1)),
    ...startFrom(ADDRESS.midstates + 32),
    call(COMPRESS_INDEX),
  ].flat()

/** The bodies of all messages in `order`; the parameter is the size of `order` in bytes. */
function hash(frame: Frame): Code {
  const start = frame.i32()
  const longest = frame.i32()
  const done = frame.i32()
  const [position, length, total] = times(3, () => frame.v128())
  const [rows, spare] = times(2, () => times(4, () => frame.v128()))
  const message = (lane: number): Code => i32.load(start.get, ADDRESS.order + 4 * lane)
  const gather = (table: number): Code =>
    rows.reduce(
      (vector, _, lane) => i32x4.replace(vector, lane, i32.load(i32.shl(message(lane), i32.of(2)), table)),
      splat(0),
    )
  const group = [
    position.set(gather(ADDRESS.position)),
    length.set(gather(ADDRESS.length)),
    // Whole blocks, with room for a byte 0x80 and 8 bytes of length.
    total.set(i32x4.shl(i32x4.shr(i32x4.add(length.get, splat(8 + 64)), 6), 6)),
    longest.set(i32x4.extract(total.get, 0)),
    ...startFrom(ADDRESS.midstates),
    done.set(ZERO),
    loop(absorb(frame, { position, length, total, done, rows, spare }), i32.lessThan(done.get, longest.get)),
    finish(),
    ...rows.map((row, i) => row.set(state[i].get)),
    ...transpose(rows, spare),
    ...rows.map((row, lane) => v128.store(i32.shl(message(lane), i32.of(4)), ADDRESS.bodies, row.get)),
    start.set(i32.add(start.get, i32.of(16))),
  ].flat()
  return loop(group, i32.lessThan(start.get, frame.params[0].get))
}

type Kernel = {
  readonly memory: { readonly buffer: ArrayBuffer }
  compress(): void
  hash(orderBytes: number): void
}

function assemble(): Kernel {
  const [compressFrame, hashFrame] = [new Frame(0), new Frame(1)]
  const procedures = [
    { name: 'compress', frame: compressFrame, body: compress(compressFrame) },
    { name: 'hash', frame: hashFrame, body: hash(hashFrame) },
  ]
  // The cast is right by construction: the two procedures above, with no parameter and with one.
  return instantiate(Math.ceil(MEMORY_BYTES / PAGE_BYTES), procedures) as Kernel
}

const { memory, compress: compressBlock, hash: hashOrder } = assemble()
const words = (address: number, length: number): Uint32Array =>
  new Uint32Array(memory.buffer, address, length)
words(ADDRESS.constants, 64).set(ROUND_CONSTANTS)

/** The parts of the memory by their addresses, and the two procedures. */
export const lanes = {
  midstates: words(ADDRESS.midstates, 16),
  state: words(ADDRESS.state, 4 * 8),
  block: words(ADDRESS.block, 4 * 16),
  active: words(ADDRESS.active, 4),
  order: words(ADDRESS.order, ENTRIES),
  position: words(ADDRESS.position, ENTRIES),
  length: words(ADDRESS.length, ENTRIES),
  bodies: new Uint8Array(memory.buffer, ADDRESS.bodies, 16 * ENTRIES),
  bytes: new Uint8Array(memory.buffer, ADDRESS.bytes, CHUNK_BYTES),
  compress: compressBlock,
  hash: hashOrder,
}
