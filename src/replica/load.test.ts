// What a start refuses: a store whose numbers are not those of its records, whatever the number and the record;
// and what a running replica refuses.
// The stores here have right checksums, as an error of ours would leave them; wrong checksums are in
// store.test.ts.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { openApplier } from '../../test/sim/applier.ts'
import { contentOf } from '../../test/sim/content.ts'
import {
  bootPut,
  epochPut,
  genesisPut,
  keyPut,
  nodePut,
  receiptPut,
  receiptRemoval,
  segmentPut,
  type TestPut,
  tombstonePut,
  versionPut,
} from '../../test/sim/puts.ts'
import { Deadline, systemClock } from '../clock.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { decodePuts } from '../state/puts.ts'
import { type Batch, DamagedReplica, type Meta, type StoredCounts } from '../state/stored.ts'
import { until } from '../waiting.ts'
import type { Applier } from './apply.ts'
import { LmdbStore } from './lmdb-store.ts'
import { MemoryStore } from './memory-store.ts'
import { Replica } from './replica.ts'
import type { Store } from './store.ts'

const LEDGER = 'e'.repeat(32)
const version = (name: string, number: number, rootKey = 'rk1'): TestPut =>
  versionPut({
    owner: 'o',
    name,
    version: number,
    validFrom: 1000 + number,
    rootKey,
    text: `${name}${number}`,
  })
const segment = (n: number, owner: string, epoch: number, first: number, count: number): TestPut =>
  segmentPut({ boot: 'a', n, owner, epoch, ids: Array.from({ length: count }, (_, i) => first + i) })

/** Revisions with entries of every kind; receipt r2 leaves a gap in the numbers of records. */
const HISTORY: readonly (readonly TestPut[])[] = [
  [genesisPut(LEDGER, 'rk1'), bootPut('a', 'n1')],
  [nodePut('n1', ['rk1']), epochPut('o', 1), keyPut('o', 1, 'rk1'), epochPut('p', 1), keyPut('p', 1, 'rk1')],
  [version('a', 1), receiptPut('o', 'r1'), receiptPut('o', 'r2'), version('a', 2)],
  [segment(0, 'o', 1, 1, 70), segment(1, 'p', 1, 201, 5)],
  [receiptRemoval('o', 'r2'), version('b', 1), receiptPut('p', 'r3')],
  [segment(1030, 'o', 1, 101, 3), version('a', 1, 'rk2'), receiptPut('p', 'r4')],
]

async function applied(store: Store, history: readonly (readonly TestPut[])[]): Promise<Applier> {
  const applier = await openApplier(store)
  for (const puts of history) {
    const revision = applier.applied + 1
    const created = puts.map((put) => ({ ...put, created: put.value === null ? 0 : revision }))
    await applier.apply([{ revision, ...decodePuts(revision, created) }], LEDGER)
  }
  return applier
}

/** All of a store as a single batch. */
function wholeOf(store: Store): Batch {
  const meta = store.meta()
  assert.ok(meta)
  return {
    pages: [...store.pages(0, 0xffff_ffff)].map(({ number, page }) => ({
      number,
      table: page.readUInt32LE(4),
      page: Buffer.from(page),
    })),
    entries: [...store.entries()],
    records: [...store.records()].map(({ number, ...entry }) => ({ number, entry })),
    tables: [...store.tables()],
    ranges: [...store.ranges()],
    owners: [...store.owners()],
    meta,
  }
}

type Change = (whole: Batch) => Batch
type List = Exclude<keyof Batch, 'meta'>

const meta =
  (change: (meta: Meta) => Partial<Meta>): Change =>
  (whole) => ({ ...whole, meta: { ...whole.meta, ...change(whole.meta) } })
const stored = (kind: keyof StoredCounts, by: number): Change =>
  meta((before) => ({ stored: { ...before.stored, [kind]: before.stored[kind] + by } }))
const without =
  (list: List, index: number): Change =>
  (whole) => ({ ...whole, [list]: whole[list].toSpliced(index, 1) })
/** The item replaced by a changed copy; `added`: kept beside the copy. */
function changed<L extends List>(
  list: L,
  index: number,
  change: (item: Batch[L][number]) => Batch[L][number],
  added = false,
): Change {
  return (whole) => {
    const item = whole[list][index]
    const items = added ? whole[list] : whole[list].toSpliced(index, 1)
    return { ...whole, [list]: [...items, change(item)] }
  }
}
const both =
  (...changes: Change[]): Change =>
  (whole) =>
    changes.reduce((before, change) => change(before), whole)

const KINDS = ['entries', 'records', 'tables', 'ranges', 'owners'] as const

const DAMAGES: readonly (readonly [string, Change])[] = [
  ['format above', meta(({ format }) => ({ format: format + 1 }))],
  ['format below', meta(({ format }) => ({ format: format - 1 }))],
  ['cursor below', meta(({ cursor }) => ({ cursor: cursor - 1 }))],
  ['cursor 0', meta(() => ({ cursor: 0 }))],
  ['pages above', meta(({ pages }) => ({ pages: pages + 1 }))],
  ['pages below', meta(({ pages }) => ({ pages: pages - 1 }))],
  ['pages 0', meta(() => ({ pages: 0 }))],
  ['records below', meta(({ records }) => ({ records: records - 1 }))],
  ['records 0', meta(() => ({ records: 0 }))],
  ...KINDS.flatMap((kind) => [
    [`stored.${kind} above`, stored(kind, 1)] as const,
    [`stored.${kind} below`, stored(kind, -1)] as const,
  ]),
  ...[0, 1, 2, 3, 4].flatMap((i) => [
    [`page ${i} removed`, without('pages', i)] as const,
    [`entry ${i} removed`, without('entries', i)] as const,
    [`record ${i} removed`, without('records', i)] as const,
  ]),
  ...[0, 1].flatMap((i) => [
    [`table ${i} removed`, without('tables', i)] as const,
    [`range ${i} removed`, without('ranges', i)] as const,
    [`owner ${i} removed`, without('owners', i)] as const,
  ]),
  ['a version before another is gone, and counted so', both(without('records', 0), stored('records', -1))],
  ['a version doubled', changed('records', 0, (record) => ({ ...record, number: 2 }), true)],
  [
    'a version doubled and counted',
    both(
      changed('records', 0, (record) => ({ ...record, number: 2 }), true),
      stored('records', 1),
    ),
  ],
  [
    'a receipt doubled and counted',
    both(
      changed('records', 1, (record) => ({ ...record, number: 2 }), true),
      stored('records', 1),
    ),
  ],
  [
    'a record under a number that is not given yet',
    changed('records', 0, (record) => ({ ...record, number: 99 })),
  ],
  [
    'a record in place of another record',
    both(
      without('records', 1),
      changed('records', 0, (record) => ({ ...record, number: 1 }), true),
    ),
  ],
  [
    'an entry among the records',
    (whole) => ({ ...whole, records: [...whole.records.slice(1), { number: 0, entry: whole.entries[0] }] }),
  ],
  [
    'a record among the entries',
    (whole) => ({
      ...whole,
      entries: [...whole.entries.slice(1), whole.records[0].entry ?? whole.entries[0]],
    }),
  ],
  ['a foreign key', changed('entries', 0, (entry) => ({ ...entry, key: 'foreign' }))],
  ['an entry of an owner without bytes', changed('entries', 1, (entry) => ({ ...entry, key: 'epoch/q' }))],
  [
    'an entry that does not decode',
    changed('entries', 0, (entry) => ({ ...entry, value: entry.value.slice(1) })),
  ],
  [
    'a record that does not decode',
    changed('records', 0, ({ number, entry }) => ({
      number,
      entry: entry && { ...entry, value: entry.value.slice(0, 30) },
    })),
  ],
  ['an entry of a revision after the cursor', changed('entries', 0, (entry) => ({ ...entry, revision: 99 }))],
  ['a hole in the tables', changed('tables', 1, (table) => ({ ...table, id: 2 }))],
  [
    'a table doubled',
    both(
      changed('tables', 0, (table) => ({ ...table, id: 2 }), true),
      stored('tables', 1),
    ),
  ],
  ['a table dropped that has pages', changed('tables', 1, (table) => ({ ...table, dropped: true }))],
  ['a range with more segments than numbers', changed('ranges', 0, (range) => ({ ...range, count: 999 }))],
  ['a range without a segment', changed('ranges', 0, (range) => ({ ...range, count: 0 }))],
  ['a range of another number', changed('ranges', 0, (range) => ({ ...range, range: 7 }))],
  ['a page after the last', changed('pages', 0, (page) => ({ ...page, number: 99 }), true)],
  ['a page under the number of another page', changed('pages', 0, (page) => ({ ...page, number: 1 }), true)],
  [
    'a page that was changed',
    changed('pages', 0, ({ number, table, page }) => ({
      number,
      table,
      page: Buffer.from(page.map((byte, i) => (i === 30 ? byte ^ 1 : byte))),
    })),
  ],
]

const STORES: Readonly<Record<string, (path: string) => Store>> = {
  memory: () => new MemoryStore(),
  lmdb: (path) => new LmdbStore(path),
}

async function withStore(open: (path: string) => Store, run: (store: Store) => Promise<void>): Promise<void> {
  const path = mkdtempSync(join(tmpdir(), 'coffer-load-'))
  const store = open(path)
  try {
    await run(store)
  } finally {
    await store.close()
    rmSync(path, { recursive: true })
  }
}

/** A store of the same kind with the records of a whole. */
function opens(open: (path: string) => Store, whole: Batch): Promise<unknown> {
  let content: unknown
  return withStore(open, async (store) => {
    await store.write(whole)
    const { state, tables } = await openApplier(store)
    content = contentOf(state, tables, { places: true })
  }).then(() => content)
}

for (const [kind, open] of Object.entries(STORES)) {
  test(`${kind}: a start refuses numbers that do not match what is stored`, async () => {
    await withStore(open, async (store) => {
      const { state, tables } = await applied(store, HISTORY)
      const whole = wholeOf(store)
      assert.deepEqual(
        await opens(open, whole),
        contentOf(state, tables, { places: true }),
        'unchanged: as it was',
      )
      for (const [name, change] of DAMAGES) {
        await assert.rejects(opens(open, change(whole)), DamagedReplica, name)
      }
    })
  })

  test(`${kind}: with the pages of a dropped table gone, a start refuses what else is missing`, async () => {
    await withStore(open, async (store) => {
      await applied(store, [...HISTORY, [tombstonePut('p', 1)], [segment(7, 'p', 1, 301, 2)]])
      const whole = wholeOf(store)
      await opens(open, whole)
      for (const [name, change] of DAMAGES) {
        if (/^pages above|^page \d+ removed|^a table dropped/.test(name)) continue // pages may be missing
        await assert.rejects(opens(open, change(whole)), DamagedReplica, name)
      }
    })
  })
}

async function openReplica(store: Store, ledger = new MemoryLedger()): Promise<Replica> {
  const quiet = (): void => undefined
  const events = { lost: quiet, recovered: quiet, caughtUp: quiet, epoch: quiet, applied: quiet }
  const fatal = (error: Error): never => assert.fail(error)
  return Replica.open({ store, ledger, boot: '0'.repeat(32), clock: systemClock, events, fatal })
}

test('a record that holds another key than the key asked for is damage, and so is a missing record', async () => {
  const store = new MemoryStore()
  await applied(store, HISTORY)
  const receipt = receiptPut('o', 'r1').key
  const shift = { by: 0 }
  const shifted = new Proxy(store, {
    get(target, name) {
      if (name === 'record') return (number: number) => target.record(number + shift.by)
      const member: unknown = Reflect.get(target, name, target)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
  const replica = await openReplica(shifted)
  assert.equal(replica.version('o', 'a', 1)?.key, version('a', 1).key)
  assert.equal(replica.receipt(receipt)?.key, receipt)
  assert.equal(replica.version('o', 'a', 3), undefined)
  for (const by of [1, 3, 100]) {
    shift.by = by
    assert.throws(() => replica.version('o', 'a', 1), DamagedReplica)
    assert.throws(() => replica.receipt(receipt), DamagedReplica)
  }
  shift.by = 0
  await replica.close()
})

test('a receipt that the step under way has removed is absent, before its effects as well', async () => {
  const store = new MemoryStore()
  const ledger = new MemoryLedger()
  const [genesis, receipt] = [genesisPut(LEDGER, 'rk1'), receiptPut('o', 'r1')]
  await ledger.commit({ if: [], put: [genesis, receipt] }, Deadline.never)
  const replica = await openReplica(store, ledger)
  replica.follow()
  await replica.barrier(soon())
  assert.ok(replica.receipt(receipt.key))
  const written = Promise.withResolvers<void>()
  let pauses = 0
  store.pause = async () => {
    if (++pauses === 2) await written.promise // the batch can be read, and its promise waits
  }
  await ledger.commit({ if: [], put: [receiptRemoval('o', 'r1')] }, Deadline.never)
  const caughtUp = replica.barrier(soon())
  assert.ok(await until(() => pauses === 2, { every: 1, within: 5000 }))
  assert.equal(store.record(0), undefined)
  assert.equal(replica.receipt(receipt.key), undefined)
  written.resolve()
  await caughtUp
  assert.equal(replica.receipt(receipt.key), undefined)
  await replica.close()
})
