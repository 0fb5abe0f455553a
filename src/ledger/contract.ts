// The duties of every driver, as one suite, for a way to open an empty ledger, and to open the same ledger
// again.

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { after, describe, test } from 'node:test'
import { Deadline, systemClock } from '../clock.ts'
import { CheckedLedger } from './checked.ts'
import {
  COMMIT_BYTES,
  type Commit,
  type KeyRange,
  type Known,
  type Ledger,
  LedgerUnavailable,
  type Revision,
} from './ledger.ts'

export type Opened = {
  readonly ledger: Ledger
  /** Opens the same ledger again, as another process would; absent where a driver keeps nothing. */
  readonly reopen?: () => Promise<Ledger>
  /** From now on commits wait to be sent. Returns the end of that. */
  readonly hold: () => Promise<() => Promise<void>>
  readonly remove: () => Promise<void>
}

const bytes = (text: string): Uint8Array => Buffer.from(text, 'utf8')
const put = (key: string, value: string | null, revision?: number): Commit => ({
  if: revision === undefined ? [] : [{ key, revision }],
  put: [{ key, value: value === null ? null : bytes(value) }],
})

async function take(ledger: Ledger, after: number, count: number): Promise<Revision[]> {
  const seen: Revision[] = []
  const stop = new AbortController()
  for await (const revision of ledger.follow(after, stop.signal)) {
    seen.push(revision)
    if (seen.length === count) break
  }
  stop.abort()
  return seen
}

/** The range of all keys. */
const ALL: KeyRange = { from: '', to: '', largest: COMMIT_BYTES }

/** Every live entry: its value, its revision, the revision at which its key was created. */
async function live(
  ledger: Ledger,
): Promise<{ revision: number; entries: Record<string, [string, number, number]> }> {
  const { revision, entries } = await ledger.snapshot([ALL])
  const found: Record<string, [string, number, number]> = {}
  for await (const { key, value, revision: at, created } of entries)
    found[key] = [Buffer.from(value).toString('utf8'), at, created]
  return { revision, entries: found }
}

async function keysOf(ledger: Ledger, ranges: readonly KeyRange[]): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of (await ledger.snapshot(ranges)).entries) keys.push(key)
  return keys
}

export function ledgerContract(name: string, openEmpty: () => Promise<Opened>): void {
  describe(`${name}: the ledger's contract`, () => {
    const removals: (() => Promise<void>)[] = []
    const open = async (): Promise<Opened & { ledger: Ledger }> => {
      const opened = await openEmpty()
      const ledger = new CheckedLedger(opened.ledger)
      removals.push(async () => {
        await ledger.close()
        await opened.remove()
      })
      return { ...opened, ledger }
    }
    after(async () => {
      for (const remove of removals) await remove()
    })
    guards(open)
    following(open)
    snapshots(open)
    lasting(open)
    deadlines(open)
  })
}

function guards(open: () => Promise<Opened>): void {
  test('an empty ledger has revision 0; each commit is the next revision', async () => {
    const { ledger } = await open()
    assert.equal(await ledger.head(), 0)
    assert.deepEqual(await ledger.commit(put('a', '1'), Deadline.never), { ok: true, revision: 1 })
    assert.deepEqual(await ledger.commit(put('b', '2'), Deadline.never), { ok: true, revision: 2 })
    assert.equal(await ledger.head(), 2)
  })

  test('a guard of revision 0 means absent, and a refusal returns the keys as found', async () => {
    const { ledger } = await open()
    assert.equal((await ledger.commit(put('a', 'first', 0), Deadline.never)).ok, true)
    const refused = await ledger.commit(put('a', 'second', 0), Deadline.never)
    assert.ok(!refused.ok)
    assert.equal(refused.found[0].revision, 1)
    assert.equal(Buffer.from(refused.found[0].value ?? []).toString(), 'first')
    assert.equal(await ledger.head(), 1)
  })

  test('a guard holds against the last put of its key, also through a removal', async () => {
    const { ledger } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    assert.equal((await ledger.commit(put('a', '2', 1), Deadline.never)).ok, true)
    assert.equal((await ledger.commit(put('a', '3', 1), Deadline.never)).ok, false)
    assert.equal((await ledger.commit(put('a', null, 2), Deadline.never)).ok, true)
    assert.equal((await ledger.commit(put('a', '4', 2), Deadline.never)).ok, false)
    assert.deepEqual(await ledger.commit(put('a', '5', 0), Deadline.never), { ok: true, revision: 4 })
  })

  test('all guards hold or nothing is put', async () => {
    const { ledger } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    const commit: Commit = {
      if: [
        { key: 'a', revision: 1 },
        { key: 'b', revision: 7 },
      ],
      put: [
        { key: 'a', value: bytes('x') },
        { key: 'b', value: bytes('y') },
      ],
    }
    const refused = await ledger.commit(commit, Deadline.never)
    assert.ok(!refused.ok)
    assert.deepEqual(
      refused.found.map((each) => [each.key, each.revision]),
      [
        ['a', 1],
        ['b', 0],
      ],
    )
    assert.deepEqual((await live(ledger)).entries, { a: ['1', 1, 1] })
  })

  test('of concurrent commits under one guard exactly one is accepted', async () => {
    const { ledger } = await open()
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) => ledger.commit(put('a', String(i), 0), Deadline.never)),
    )
    assert.equal(results.filter((result) => result.ok).length, 1)
    for (const result of results) if (!result.ok) assert.equal(result.found[0].revision, 1)
  })

  test('a commit beyond the limit is refused before anything is sent', async () => {
    const { ledger } = await open()
    await assert.rejects(
      ledger.commit({ if: [], put: [{ key: 'a', value: new Uint8Array(COMMIT_BYTES) }] }, Deadline.never),
    )
    assert.equal(await ledger.head(), 0)
    const most: Commit = { if: [], put: [{ key: 'a', value: new Uint8Array(COMMIT_BYTES - 64) }] }
    assert.equal((await ledger.commit(most, Deadline.never)).ok, true)
  })

  test('a key can be read as it is now', async () => {
    const { ledger } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    await ledger.commit(put('a', '2'), Deadline.never)
    const { revision, created, value } = await ledger.read('a')
    assert.deepEqual([revision, created, Buffer.from(value ?? []).toString()], [2, 1, '2'])
    assert.deepEqual(await ledger.read('b'), { key: 'b', revision: 0, created: 0, value: null })
    await ledger.commit(put('a', null), Deadline.never)
    assert.deepEqual(await ledger.read('a'), { key: 'a', revision: 0, created: 0, value: null })
  })

  test('a key keeps the revision that created it, until it is removed and put again', async () => {
    const { ledger } = await open()
    for (const value of ['1', '2', null, '4', '5']) await ledger.commit(put('a', value), Deadline.never)
    const refused = await ledger.commit(put('a', 'x', 1), Deadline.never)
    assert.ok(!refused.ok)
    const { revision, created } = refused.found[0]
    assert.deepEqual([revision, created], [5, 4])
    assert.deepEqual((await live(ledger)).entries, { a: ['5', 5, 4] })
    const followed = await take(ledger, 0, 5)
    assert.deepEqual(
      followed.map(({ puts }) => puts[0].created),
      [1, 1, 0, 4, 4],
    )
  })

  test('removing an absent key changes nothing', async () => {
    const { ledger } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    assert.deepEqual(await ledger.commit(put('b', null), Deadline.never), { ok: true, revision: 1 })
    assert.equal(await ledger.head(), 1)
  })
}

function following(open: () => Promise<Opened>): void {
  test('follow yields every revision after the cursor, in order, gapless, and waits for more', async () => {
    const { ledger } = await open()
    for (let i = 1; i <= 20; i++) await ledger.commit(put(`k${i % 3}`, String(i)), Deadline.never)
    const later = take(ledger, 17, 5)
    await ledger.commit(
      {
        if: [],
        put: [
          { key: 'x', value: bytes('1') },
          { key: 'k0', value: null },
        ],
      },
      Deadline.never,
    )
    await ledger.commit(put('y', '2'), Deadline.never)
    const seen = await later
    assert.deepEqual(
      seen.map((each) => each.revision),
      [18, 19, 20, 21, 22],
    )
    assert.deepEqual(seen[3].puts.map((each) => each.key).sort(), ['k0', 'x'])
    assert.equal(seen[3].puts.find((each) => each.key === 'k0')?.value, null)
    const all = await take(ledger, 0, 22)
    assert.deepEqual(
      all.map((each) => each.revision),
      Array.from({ length: 22 }, (_, i) => i + 1),
    )
    assert.equal(Buffer.from(all[4].puts[0].value ?? []).toString(), '5')
  })

  test('a follower ends when its signal aborts, and when the ledger closes', async () => {
    const { ledger } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    const stop = new AbortController()
    const aborted = (async () => {
      for await (const _ of ledger.follow(1, stop.signal)) assert.fail('nothing comes')
    })()
    const closed = (async () => {
      for await (const _ of ledger.follow(1)) assert.fail('nothing comes')
    })()
    stop.abort()
    await aborted
    await ledger.close()
    await closed
    await assert.rejects(ledger.head(), LedgerUnavailable)
  })

  test('a stream that has ended leaves no listener at its signal', async () => {
    const { ledger } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    const { signal } = new AbortController()
    for await (const _ of ledger.follow(0, signal)) break
    assert.deepEqual(getEventListeners(signal, 'abort'), [])
  })

  test('neighbouring keys do not meet: a, a/1 and a/0000000001 stand apart', async () => {
    const { ledger } = await open()
    const keys = ['secret/o/a', 'secret/o/a/1', 'secret/o/a/0000000001', 'version/o/a@0000000001']
    for (const key of keys) assert.equal((await ledger.commit(put(key, key, 0), Deadline.never)).ok, true)
    const { entries } = await live(ledger)
    assert.deepEqual(Object.keys(entries).sort(), [...keys].sort())
    for (const key of keys) assert.equal(entries[key][0], key)
  })
}

function snapshots(open: () => Promise<Opened>): void {
  test('a snapshot has every live key once, at one revision, though writing goes on', async () => {
    const { ledger } = await open()
    for (let i = 0; i < 300; i++)
      await ledger.commit(put(`k${String(i).padStart(3, '0')}`, 'old'), Deadline.never)
    await ledger.commit(put('k000', null), Deadline.never)
    const { revision, entries } = await ledger.snapshot([ALL])
    const seen = new Map<string, string>()
    for await (const entry of entries) {
      if (seen.size === 0) {
        await ledger.commit(put('k200', 'new'), Deadline.never)
        await ledger.commit(put('k201', null), Deadline.never)
        await ledger.commit(put('zzz', 'new'), Deadline.never)
      }
      seen.set(entry.key, Buffer.from(entry.value).toString())
    }
    assert.equal(revision, 301)
    assert.equal(seen.size, 299)
    assert.ok(!seen.has('k000') && !seen.has('zzz'))
    assert.equal(seen.get('k200'), 'old')
    assert.equal(seen.get('k201'), 'old')
  })

  test('a snapshot goes range after range in the order given, in ascending order of keys', async () => {
    const { ledger } = await open()
    for (const key of ['b/2', 'a/1', 'c', 'a/3', 'b/1', 'a/2', 'b0', 'b'])
      await ledger.commit(put(key, key), Deadline.never)
    const range = (from: string, to: string): KeyRange => ({ from, to, largest: 1024 })
    assert.deepEqual(await keysOf(ledger, [ALL]), ['a/1', 'a/2', 'a/3', 'b', 'b/1', 'b/2', 'b0', 'c'])
    const ranges = [range('b/', 'b0'), range('', 'a/3'), range('b0', ''), range('b', 'b/')]
    assert.deepEqual(await keysOf(ledger, ranges), ['b/1', 'b/2', 'a/1', 'a/2', 'b0', 'c', 'b'])
    assert.deepEqual(await keysOf(ledger, [range('x', ''), range('a/4', 'b')]), [])
    assert.deepEqual(await keysOf(ledger, []), [])
  })

  test('a snapshot leaves out known parts only, and only where the count is the same', async () => {
    const { ledger } = await open()
    for (const key of ['a', 's/1', 's/2', 's/4', 't/1', 'z'])
      await ledger.commit(put(key, key), Deadline.never)
    const keys = (...known: Known[]): Promise<string[]> => keysOf(ledger, [{ ...ALL, known }])
    const t = { from: 't/1', to: 't/1', count: 1 }
    const some = await keys({ from: 's/1', to: 's/4', count: 3 }, t)
    for (const key of ['a', 'z']) assert.ok(some.includes(key))
    assert.ok((await keys({ from: 's/1', to: 's/2', count: 2 })).includes('s/4'))
    await ledger.commit(put('s/3', 'late'), Deadline.never)
    const all = await keys({ from: 's/1', to: 's/4', count: 3 }, t)
    for (const key of ['a', 's/1', 's/2', 's/3', 's/4', 'z']) assert.ok(all.includes(key), key)
  })

  test('known parts with gaps: all that is not known comes, and the rest where its count differs', async () => {
    const { ledger } = await open()
    const key = (n: number): string => `s/${String(n).padStart(10, '0')}`
    const all = Array.from({ length: 500 }, (_, i) => key(i + 1)).filter((_, i) => i % 50 !== 17)
    await putAll(ledger, ['a', ...all, 's0', 'z'], 10)
    const part = (from: number, to: number): Known => {
      const count = all.filter((each) => each >= key(from) && each <= key(to)).length
      return { from: key(from), to: key(to), count }
    }
    const parts = [part(1, 100), part(101, 150), part(160, 300), part(302, 302), part(400, 500)]
    const range = { from: 's/', to: 's0', largest: 1024 }
    const asked = async (known: readonly Known[]): Promise<string[]> => {
      const keys = await keysOf(ledger, [{ ...range, known }])
      const unknown = all.filter((each) => !known.some(({ from, to }) => each >= from && each <= to))
      for (const each of unknown) assert.ok(keys.includes(each), each)
      for (const each of keys) assert.ok(all.includes(each), each)
      return keys
    }
    await asked(parts)
    await asked(parts.slice(1, 3))
    const [first, ...others] = parts
    const keys = await asked([{ ...first, count: first.count - 1 }, ...others])
    for (const each of all.slice(0, first.count)) assert.ok(keys.includes(each), each)
  })

  test('entries of all sizes, beyond what one message holds, also above the largest that was told', async () => {
    const { ledger } = await open()
    const sizes: Record<string, [count: number, bytes: number]> = {
      a: [3000, 100],
      'b-small': [200, 60],
      'c-segments': [320, 128 * 1024],
      'd-large': [20, COMMIT_BYTES - 64],
      // Others than Coffer have put these.
      'e-few': [300, 10],
      'f-foreign': [70, COMMIT_BYTES - 64],
      'g-many': [3000, 10],
    }
    const keys: string[] = []
    for (const [name, [count, bytes]] of Object.entries(sizes)) {
      const group = Array.from({ length: count }, (_, i) => `${name}/${String(i).padStart(5, '0')}`)
      await putAll(ledger, group, bytes)
      keys.push(...group)
    }
    const ranges = [
      { from: 'b', to: 'e', largest: COMMIT_BYTES },
      { from: '', to: 'b', largest: 200 },
      { from: 'e', to: '', largest: 200 },
    ]
    const found: string[] = []
    for await (const { key, value, revision, created } of (await ledger.snapshot(ranges)).entries) {
      assert.equal(value.length, sizes[key.slice(0, -6)][1], key)
      assert.equal(created, revision)
      found.push(key)
    }
    const inRange = ({ from, to }: KeyRange): string[] =>
      keys.filter((key) => key >= from && (to === '' || key < to))
    assert.deepEqual(found, ranges.flatMap(inRange))
  })

  test('a ledger that closes while a snapshot is read: the rest comes whole, or LedgerUnavailable', async () => {
    const { ledger } = await open()
    const keys = Array.from({ length: 2500 }, (_, i) => `k${i}`)
    await putAll(ledger, keys, 10)
    let seen = 0
    const error = await (async () => {
      for await (const _ of (await ledger.snapshot([ALL])).entries) if (seen++ === 0) await ledger.close()
    })().catch((failed: unknown) => failed)
    assert.ok(error === undefined ? seen === keys.length : error instanceof LedgerUnavailable, String(error))
  })
}

/** Puts the keys with values of so many bytes, in commits as large as they may be. */
async function putAll(ledger: Ledger, keys: readonly string[], bytes: number): Promise<void> {
  const value = new Uint8Array(bytes)
  const each = Math.max(1, Math.min(500, Math.floor(COMMIT_BYTES / (bytes + 64))))
  for (let i = 0; i < keys.length; i += each)
    await ledger.commit(
      { if: [], put: keys.slice(i, i + each).map((key) => ({ key, value })) },
      Deadline.never,
    )
}

function lasting(open: () => Promise<Opened>): void {
  test('acknowledged commits are there after a restart, with their revisions', async (t) => {
    const { ledger, reopen } = await open()
    if (!reopen) return t.skip('this driver keeps nothing')
    for (let i = 1; i <= 50; i++) await ledger.commit(put(`k${i}`, String(i)), Deadline.never)
    await ledger.commit(put('k7', 'again', 7), Deadline.never)
    await ledger.commit(put('k8', null), Deadline.never)
    const before = await live(ledger)
    await ledger.close()
    const again = new CheckedLedger(await reopen())
    assert.deepEqual(await live(again), before)
    assert.equal((await take(again, 40, 12)).length, 12)
    assert.equal((await again.commit(put('k7', 'x', 7), Deadline.never)).ok, false)
    assert.deepEqual(await again.commit(put('k8', 'y', 0), Deadline.never), { ok: true, revision: 53 })
    await again.close()
  })
}

const notSent = (error: unknown): boolean =>
  error instanceof LedgerUnavailable && error.reason === 'no-quorum'

function deadlines(open: () => Promise<Opened>): void {
  test('a commit after its deadline is refused at once, and never happens', async () => {
    const { ledger } = await open()
    const deadline = new Deadline(systemClock, 0)
    const first = ledger.commit(put('late', '1'), deadline).catch((error: unknown) => error)
    const turn = new Promise((resolve) => setImmediate(resolve))
    assert.ok(notSent(await Promise.race([first, turn])), 'refused before the next turn of the event loop')
    assert.deepEqual(await ledger.commit(put('a', '2'), Deadline.never), { ok: true, revision: 1 })
    assert.deepEqual((await live(ledger)).entries, { a: ['2', 1, 1] })
  })

  test('a process that stood still sends nothing that is overdue, though no timer has run', async () => {
    const { ledger } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    let now = 0
    const late = new Deadline({ monotonic: () => now }, 60_000)
    const overdue = ['b', 'c'].map((key) => ledger.commit(put(key, key), late))
    const other = ledger.commit(put('d', '2'), Deadline.never)
    now = 60_000
    await Promise.all(overdue.map((each) => assert.rejects(each, notSent)))
    assert.deepEqual(await other, { ok: true, revision: 2 })
    assert.deepEqual(Object.keys((await live(ledger)).entries), ['a', 'd'])
  })

  test('a commit that waits leaves at its deadline, and never happens', async () => {
    const { ledger, hold } = await open()
    await ledger.commit(put('a', '1'), Deadline.never)
    const end = await hold()
    const kept = ledger.commit(put('kept', '2'), Deadline.never)
    const left = Array.from({ length: 20 }, (_, i) =>
      ledger.commit(put(`left/${i}`, 'x'), new Deadline(systemClock, 20 + (i % 5) * 10)),
    )
    await Promise.all(left.map((each) => assert.rejects(each, notSent)))
    await end()
    assert.ok((await kept).ok)
    await ledger.commit(put('z', '3'), Deadline.never)
    const keys = Object.keys((await live(ledger)).entries)
    assert.deepEqual(
      keys.filter((key) => key.startsWith('left')),
      [],
    )
    for (const key of ['a', 'kept', 'z']) assert.ok(keys.includes(key), key)
  })
}
