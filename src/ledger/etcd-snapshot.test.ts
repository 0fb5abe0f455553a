// Pages of a snapshot against a store that answers, counts and refuses as etcd does.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seeded } from '../../test/sim/seed.ts'
import { FatalError } from '../errors.ts'
import { EtcdError, type RangeResponse } from './etcd-client.ts'
import { type AskRange, entriesAt } from './etcd-snapshot.ts'
import type { KeyRange, Known } from './ledger.ts'

const HEADER = { cluster_id: '1', member_id: '1', revision: '10', raft_term: '1' }
const MESSAGE_BYTES = 64 * 1024 * 1024

/** Without a limit: `count_only`. */
type AskedRange = {
  readonly key: Buffer
  readonly range_end: Buffer
  readonly limit?: number
  readonly revision: string
}

/** Every key has as many bytes as `bytesOf` says. */
class Store {
  calls = 0
  /** Keys that etcd would have visited. */
  counted = 0
  largestPage = 0
  readonly #keys: readonly string[]
  readonly #bytesOf: (key: string) => number

  constructor(keys: Iterable<string>, bytesOf: (key: string) => number = () => 100) {
    this.#keys = [...new Set(keys)].sort()
    this.#bytesOf = bytesOf
  }

  readonly ask: AskRange = async (query) => {
    const { key, range_end, limit = 0, revision } = query as AskedRange
    assert.equal(revision, '10')
    this.calls++
    const first = this.#find(key.toString('latin1'))
    const end = range_end.toString('latin1')
    const all = (end === '\0' ? this.#keys.length : this.#find(end)) - first
    this.counted += all
    const taken = this.#keys.slice(first, first + Math.min(all, limit))
    const bytes = taken.reduce((sum, each) => sum + this.#bytesOf(each), 0)
    if (bytes > MESSAGE_BYTES)
      throw new EtcdError(`Received message larger than max (${bytes} vs ${MESSAGE_BYTES})`, 'unknown')
    this.largestPage = Math.max(this.largestPage, bytes)
    const kvs = taken.map((each) => ({
      key: Buffer.from(each, 'latin1'),
      value: Buffer.from(each),
      create_revision: '2',
      mod_revision: '3',
    }))
    return { header: HEADER, kvs, more: kvs.length < all, count: String(all) } satisfies RangeResponse
  }

  /** The place of the first key from `key` on. */
  #find(key: string): number {
    let [low, high] = [0, this.#keys.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#keys[middle] < key) low = middle + 1
      else high = middle
    }
    return low
  }

  get keys(): readonly string[] {
    return this.#keys
  }
}

async function keysFrom(store: Store, ...ranges: readonly KeyRange[]): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of entriesAt(9, ranges, store.ask)) keys.push(key)
  return keys
}

const SEGMENTS: KeyRange = { from: 'seg/', to: 'seg0', largest: 128 * 1024 }
const A_PAGE = 128
const segment = (boot: string, n: number): string => `seg/${boot}/${String(n).padStart(10, '0')}`
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1)

const boots = (hex: (digits: number) => string, count: number, segments: readonly number[]): string[] =>
  upTo(count).flatMap(() => {
    const boot = hex(32)
    return segments.map((n) => segment(boot, n))
  })
const SHAPES: Readonly<Record<string, (hex: (digits: number) => string) => string[]>> = {
  'one boot': (hex) => boots(hex, 1, upTo(100_000)),
  'one boot with gaps': (hex) =>
    boots(
      hex,
      1,
      upTo(20_000).map((n) => n + 5000 * Math.floor(n / 70)),
    ),
  'many small boots': (hex) => boots(hex, 10_000, upTo(3)),
  'many boots of some pages': (hex) => boots(hex, 100, upTo(1000)),
  'two large boots': (hex) => boots(hex, 2, upTo(50_000)),
  'keys of any bytes': (hex) =>
    upTo(30_000).map(() => `seg/${Buffer.from(hex(8), 'hex').toString('latin1')}`),
  'few keys': (hex) => boots(hex, 3, [1]),
  'no key': () => [],
}
for (const [shape, keysOf] of Object.entries(SHAPES)) {
  test(`each key is read once, and costs no more than a few visits: ${shape}`, async (t) => {
    const random = seeded()
    t.diagnostic(`COFFER_SEED=${random.seed}`)
    const hex = (digits: number): string =>
      Array.from({ length: digits }, () => random.below(16).toString(16)).join('')
    const store = new Store(['a', 'seg', 'seg0', ...keysOf(hex), 'z'])
    const keys = await keysFrom(store, SEGMENTS)
    assert.deepEqual(keys, store.keys.slice(2, -2))
    const { calls, counted } = store
    assert.ok(calls <= 10 + 2.5 * Math.ceil(keys.length / A_PAGE), `${calls} calls for ${keys.length} keys`)
    assert.ok(counted <= 12 * keys.length, `${counted} visits for ${keys.length} keys`)
  })
}

test('small entries, then large entries: no page is above the bound', async () => {
  const bytesOf = (key: string): number => (key < 'seg/5' ? 100 : SEGMENTS.largest)
  const store = new Store(
    upTo(3000).map((n) => `seg/${n}`),
    bytesOf,
  )
  assert.deepEqual(await keysFrom(store, SEGMENTS), store.keys)
  assert.ok(store.largestPage <= 16 * 1024 * 1024, `${store.largestPage} bytes`)
})

test('entries above the largest of their range: pages that are refused are halved, then grow again', async () => {
  const large = (key: string): boolean => key.startsWith('x')
  const bytesOf = (key: string): number => (large(key) ? 1024 * 1024 : 100)
  const names = [...upTo(9000).map((n) => `a${n}`), ...upTo(200).map((n) => `x${n}`)]
  const store = new Store([...names, ...upTo(50_000).map((n) => `y${n}`)], bytesOf)
  assert.deepEqual(await keysFrom(store, { from: '', to: '', largest: 100 }), store.keys)
  assert.ok(store.calls < 120, `${store.calls} calls`)
})

test('an entry that no message holds ends the reading: nothing is tried again', async () => {
  const store = new Store(['a', 'b', 'c'], (key) => (key === 'b' ? 2 * MESSAGE_BYTES : 1))
  await assert.rejects(keysFrom(store, { from: '', to: '', largest: 100 }), FatalError)
  assert.ok(store.calls < 20, `${store.calls} calls`)
})

test('a page is asked for while the page before is used, and no sooner', async () => {
  const store = new Store(upTo(1000).map((n) => segment('b', n)))
  let seen = 0
  for await (const _ of entriesAt(9, [SEGMENTS], store.ask)) {
    assert.ok(store.calls <= Math.floor(seen++ / A_PAGE) + 2, `${store.calls} calls after ${seen} entries`)
  }
  assert.equal(seen, 1000)
})

/** Parts of up to 1,024 numbers. */
function partsOf(boot: string, segments: number): Known[] {
  return upTo(Math.ceil(segments / 1024)).map((i) => {
    const to = Math.min(segments, i * 1024)
    return { from: segment(boot, (i - 1) * 1024 + 1), to: segment(boot, to), count: to - (i - 1) * 1024 }
  })
}

test('known parts are compared many at once, over boots too, and left out where the counts are equal', async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const boots = upTo(2000).map(() => Array.from({ length: 32 }, () => random.below(16).toString(16)).join(''))
  const sizes = boots.map((_, i) =>
    i === 0 ? 200_000 : i < 10 ? 1 + random.below(5000) : 1 + random.below(9),
  )
  const all = boots.flatMap((boot, i) => upTo(sizes[i]).map((n) => segment(boot, n)))
  const known = boots.flatMap((boot, i) => partsOf(boot, sizes[i])).sort((a, b) => (a.from < b.from ? -1 : 1))
  const store = new Store(all)
  assert.deepEqual(await keysFrom(store, { ...SEGMENTS, known }), [])
  assert.ok(store.calls < 30, `${store.calls} calls`)
  assert.ok(store.counted <= all.length)
  // Segments that are not known, at the end of boots, in a hole, and in boots never heard of.
  const late = [boots[0], boots[5], boots[7], ...boots.slice(100, 110)].map((boot) => segment(boot, 999_999))
  late.push(segment('7'.repeat(32), 1), segment('a'.repeat(32), 5), segment(boots[0], 0))
  const later = new Store([...all, ...late])
  const found = new Set(await keysFrom(later, { ...SEGMENTS, known }))
  assert.deepEqual([...found], [...found].sort())
  for (const key of late) assert.ok(found.has(key), key)
  assert.ok(found.size < late.length * 200, `${found.size} entries`)
  assert.ok(later.calls < 400, `${later.calls} calls`)
  // One that is missing in the middle of a part: the part is read.
  const part = known.find(({ count }) => count === 1024) ?? assert.fail('a large boot has full parts')
  const fewer = { ...part, count: 1023 }
  const read = await keysFrom(store, {
    ...SEGMENTS,
    known: known.map((each) => (each === part ? fewer : each)),
  })
  assert.deepEqual(read, all.filter((key) => key >= part.from && key <= part.to).sort())
})
