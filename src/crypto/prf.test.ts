import { deepEqual, equal, throws } from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { AssertionError } from '../assert.ts'
import { Prf } from './prf.ts'

const seed = Number(process.env.COFFER_SEED ?? Math.floor(Math.random() * 2 ** 32))
console.log(`COFFER_SEED=${seed}`)

/** A random source of its own for each test, so that one test alone repeats what it did (mulberry32). */
function source(name: string) {
  let state = [...name].reduce((hash, char) => Math.imul(hash, 31) + char.charCodeAt(0), seed)
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  /** A whole number from 0 to limit - 1. */
  const below = (limit: number) => next() % limit
  return { below, bytes: (length: number) => Uint8Array.from({ length }, () => next()) }
}

type Source = ReturnType<typeof source>
type Batch = { data: Uint8Array; offset: Uint32Array; length: Uint32Array }

/** Messages one after the other, each from a multiple of 8 on, random bytes between them. */
function batchOf(random: Source, lengths: readonly number[]): Batch {
  const offset = new Uint32Array(lengths.length)
  let units = 0
  for (const [i, length] of lengths.entries()) {
    offset[i] = units
    units += Math.ceil(length / 8)
  }
  return { data: random.bytes(8 * units), offset, length: Uint32Array.from(lengths) }
}

/** Takes messages of a batch in another order; some more than once, some never. */
function pick({ data, offset, length }: Batch, picked: readonly number[]): Batch {
  return {
    data,
    offset: Uint32Array.from(picked, (i) => offset[i]),
    length: Uint32Array.from(picked, (i) => length[i]),
  }
}

function bodiesOf(prf: Prf, { data, offset, length }: Batch, count = offset.length): Uint8Array {
  const out = new Uint8Array(16 * count)
  prf.bodies(data, offset, length, count, out)
  return out
}

/** The same bodies by node:crypto, as hexadecimal: a difference then shows its message's number. */
function expected(key: Uint8Array, { data, offset, length }: Batch): string[] {
  return Array.from(offset, (unit, i) => {
    const message = data.subarray(8 * unit, 8 * unit + length[i])
    return createHmac('sha256', key).update(message).digest('hex').slice(0, 32)
  })
}

const hex = (bodies: Uint8Array) =>
  Array.from({ length: bodies.length / 16 }, (_, i) =>
    Buffer.from(bodies.subarray(16 * i, 16 * i + 16)).toString('hex'),
  )
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)

test('a body is the first half of HMAC-SHA-256, for every length from 1 to 300', () => {
  const random = source('lengths')
  const key = random.bytes(32)
  const prf = new Prf(key)
  const batch = batchOf(
    random,
    upTo(300).map((i) => i + 1),
  )
  const want = expected(key, batch)
  deepEqual(hex(bodiesOf(prf, batch)), want, 'in one batch')
  const alone = upTo(300).map((i) => hex(bodiesOf(prf, pick(batch, [i])))[0])
  deepEqual(alone, want, 'one by one')
  const alike = upTo(300).map((i) => hex(bodiesOf(prf, pick(batch, [i, i, i, i, i]))))
  deepEqual(
    alike,
    want.map((body) => Array(5).fill(body)),
    'five of a length',
  )
})

test('lengths around block and size limits, also beside short ones', () => {
  const random = source('limits')
  const key = random.bytes(32)
  const limits = [55, 56, 63, 64, 119, 120, 127, 128, 1000, 32_759, 32_760, 32_767, 32_768, 32_769]
  const batch = batchOf(
    random,
    limits.flatMap((length) => [length, 1, 13]),
  )
  deepEqual(hex(bodiesOf(new Prf(key), batch)), expected(key, batch))
})

test('batches of all sizes, of mixed lengths', () => {
  const random = source('batches')
  for (const count of [0, 1, 2, 3, 4, 5, 7, 8, 100, 4095, 4096, 4097, 9000]) {
    const key = random.bytes(32)
    const lengths = upTo(count).map(() => 1 + random.below(random.below(20) === 0 ? 400 : 50))
    const batch = batchOf(random, lengths)
    deepEqual(hex(bodiesOf(new Prf(key), batch)), expected(key, batch), `${count} messages`)
  }
})

test('more bytes than the memory holds at once', () => {
  const random = source('bytes')
  const key = random.bytes(32)
  const lengths = upTo(120).map((i) => (i % 3 === 0 ? 32_769 - random.below(100) : 1 + random.below(9000)))
  const batch = batchOf(random, lengths)
  deepEqual(hex(bodiesOf(new Prf(key), batch)), expected(key, batch))
})

test('messages in any order, repeated, far apart and with gaps', () => {
  const random = source('order')
  const key = random.bytes(32)
  const prf = new Prf(key)
  for (const limit of [20, 200, 33_000]) {
    const lengths = upTo(300).map(() => 1 + Math.min(random.below(limit), 32_768))
    const batch = batchOf(random, lengths)
    const shuffled = pick(
      batch,
      upTo(700).map(() => random.below(300)),
    )
    deepEqual(hex(bodiesOf(prf, shuffled)), expected(key, shuffled), `shuffled, up to ${limit} bytes`)
    const backwards = pick(batch, upTo(300).reverse())
    deepEqual(hex(bodiesOf(prf, backwards)), expected(key, backwards), `backwards, up to ${limit} bytes`)
    const gaps = pick(
      batch,
      upTo(300).filter(() => random.below(3) === 0),
    )
    deepEqual(hex(bodiesOf(prf, gaps)), expected(key, gaps), `with gaps, up to ${limit} bytes`)
  }
})

test('messages that overlap', () => {
  const random = source('overlap')
  const key = random.bytes(32)
  const data = random.bytes(4096)
  const offset = Uint32Array.from({ length: 500 }, () => random.below(256))
  const length = Uint32Array.from({ length: 500 }, () => 1 + random.below(2048))
  const batch = { data, offset, length }
  deepEqual(hex(bodiesOf(new Prf(key), batch)), expected(key, batch))
})

test('data and key may be views at odd addresses', () => {
  const random = source('views')
  const key = random.bytes(35).subarray(3)
  const batch = batchOf(random, [13, 64, 5, 99, 200])
  const odd = new Uint8Array(batch.data.length + 1)
  odd.set(batch.data, 1)
  deepEqual(hex(bodiesOf(new Prf(key), { ...batch, data: odd.subarray(1) })), expected(key, batch))
})

test('bytes after a message do not matter', () => {
  const random = source('padding')
  const prf = new Prf(random.bytes(32))
  const batch = batchOf(random, Array(64).fill(57))
  const other = { ...batch, data: batch.data.map((byte, i) => (i % 64 === 57 ? byte ^ 0xff : byte)) }
  deepEqual(bodiesOf(prf, other), bodiesOf(prf, batch))
})

test('keys do not mix, whichever was used or made last', () => {
  const random = source('keys')
  const keys = upTo(20).map(() => random.bytes(32))
  const prfs = keys.map((key) => new Prf(key))
  const batch = batchOf(random, [1, 20, 300, 13, 13])
  const want = keys.map((key) => expected(key, batch))
  for (let turn = 0; turn < 100; turn++) {
    const i = random.below(keys.length)
    if (turn % 10 === 0) new Prf(random.bytes(32))
    deepEqual(hex(bodiesOf(prfs[i], batch)), want[i])
  }
})

test('only the bodies of the first `count` messages are written, from outStart on', () => {
  const random = source('out')
  const key = random.bytes(32)
  const batch = batchOf(random, [13, 40, 100, 7, 7, 7])
  for (const [count, outStart] of [
    [0, 0],
    [1, 5],
    [5, 33],
    [6, 64],
  ]) {
    const out = new Uint8Array(outStart + 16 * count + 40).fill(0xa5)
    new Prf(key).bodies(batch.data, batch.offset, batch.length, count, out, outStart)
    deepEqual(hex(out.slice(outStart, outStart + 16 * count)), expected(key, batch).slice(0, count))
    out.fill(0xa5, outStart, outStart + 16 * count)
    equal(
      out.every((byte) => byte === 0xa5),
      true,
      'the rest is as it was',
    )
  }
})

test('asserts its arguments, and works on after it threw', () => {
  const random = source('asserts')
  throws(() => new Prf(new Uint8Array(31)), AssertionError)
  throws(() => new Prf(new Uint8Array(33)), AssertionError)
  const key = random.bytes(32)
  const prf = new Prf(key)
  const batch = batchOf(random, [13, 40, 100])
  const { data, offset } = batch
  throws(() => bodiesOf(prf, batch, 4), AssertionError, 'more than there are')
  throws(() => bodiesOf(prf, { ...batch, data: data.subarray(0, 100) }), AssertionError, 'outside of data')
  throws(() => bodiesOf(prf, batchOf(random, [13, 32_770])), AssertionError, 'too long')
  throws(() => prf.bodies(data, offset, batch.length, 3, new Uint8Array(47)), AssertionError, 'no room')
  throws(() => prf.bodies(data, offset, batch.length, 3, new Uint8Array(48), 1), AssertionError, 'no room')
  deepEqual(hex(bodiesOf(prf, batch)), expected(key, batch))
})
