// The duties of every store, as a suite, for a way to open an empty store, and to open the same store again.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { bytesOf, segmentPut } from '../../test/sim/puts.ts'
import { decodeEntry } from '../state/entries.ts'
import { encodePages } from '../state/page.ts'
import { type Batch, EMPTY_META, type Meta, type StoredEntry } from '../state/stored.ts'
import { type Store, WriteFailed } from './store.ts'

export type OpenedStore = {
  readonly store: Store
  /** Closes the store and opens the same files, as the next start would. */
  readonly reopen: () => Promise<Store>
  /** The next write fails, as on a full disk; absent where a test cannot bring that about in its own process. */
  readonly failNext?: () => void
  readonly remove: () => Promise<void>
}

export function batchOf(cursor: number, change: Partial<Batch> = {}, meta: Partial<Meta> = {}): Batch {
  const empty = { pages: [], entries: [], records: [], tables: [], ranges: [], owners: [] }
  return { ...empty, ...change, meta: { ...EMPTY_META, cursor, ...meta } }
}

/** Pages from `first` on, with the mappings of the numbers from `id` to `id + count - 1`. */
export function pagesOf(table: number, first: number, count: number, id = 1): Batch['pages'] {
  const ids = Array.from({ length: count }, (_, i) => id + i)
  const { key, value } = segmentPut({ boot: 'a', n: 0, owner: 'o', epoch: 1, ids })
  const segment = value && decodeEntry(key, value)
  assert.ok(segment?.kind === 'segment')
  return encodePages(segment, table, first).map((page, i) => ({ number: first + i, table, page }))
}

export const entryOf = (key: string, revision: number, length = 20): StoredEntry => ({
  key,
  revision,
  value: new Uint8Array(bytesOf(`${key} ${revision}`, length)),
})

/** All that a store holds, as plain data. */
export function readStore(store: Store): Record<string, unknown> {
  const plain = ({ key, revision, value }: StoredEntry): unknown => [
    key,
    revision,
    Buffer.from(value).toString('hex'),
  ]
  return {
    meta: store.meta(),
    pages: [...store.pages(0, 0xffff_ffff)].map(({ number, page }) => [
      number,
      Buffer.from(page).toString('hex'),
    ]),
    entries: [...store.entries()].map(plain).sort(),
    records: [...store.records()].map((record) => [record.number, plain(record)]),
    tables: [...store.tables()],
    ranges: [...store.ranges()].sort((a, b) =>
      a.boot === b.boot ? a.range - b.range : a.boot < b.boot ? -1 : 1,
    ),
    owners: [...store.owners()].sort((a, b) => (a.owner < b.owner ? -1 : 1)),
  }
}

/** A batch with something of every kind. */
export function fullBatch(cursor: number): Batch {
  const boot = 'ab'.repeat(16)
  return batchOf(
    cursor,
    {
      pages: [...pagesOf(0, 0, 40), ...pagesOf(1, 2, 3, 100)],
      entries: [entryOf('genesis', 1), entryOf('epoch/o', 2)],
      records: [0, 1, 2].map((number) => ({ number, entry: entryOf(`version/o/a@${number}`, 3 + number) })),
      tables: [
        { id: 0, owner: 'o', epoch: 1, dropped: false },
        { id: 1, owner: 'p.q', epoch: 12, dropped: false },
      ],
      ranges: [
        { boot, range: 0, last: 7, count: 8 },
        { boot, range: 3, last: 3072, count: 1 },
      ],
      owners: [
        { owner: 'o', bytes: 1234 },
        { owner: 'p.q', bytes: 8 * 1024 ** 3 },
      ],
    },
    { ledger: 'e'.repeat(32), pages: 3, records: 3, checkpoint: 'name 3' },
  )
}

/** A failed write changes nothing, and the same batch can be written again. */
export async function failedWrite(store: Store, fail: () => void, mend: () => void): Promise<void> {
  await store.write(fullBatch(5))
  const before = readStore(store)
  const next = batchOf(
    6,
    {
      pages: pagesOf(0, 3, 10, 200),
      records: [
        { number: 1, entry: undefined },
        { number: 3, entry: entryOf('version/o/b@1', 6, 60_000) },
      ],
      entries: [entryOf('epoch/o', 6)],
      tables: [{ id: 1, owner: 'p.q', epoch: 12, dropped: true }],
    },
    { pages: 4, records: 4 },
  )
  fail()
  await assert.rejects(store.write(next), WriteFailed)
  assert.deepEqual(readStore(store), before, 'nothing was changed')
  mend()
  await store.write(next)
  assert.deepEqual(
    [...store.records()].map(({ number }) => number),
    [0, 2, 3],
  )
  assert.equal(store.page(2), undefined)
  assert.equal(store.meta()?.cursor, 6)
}

async function* blocks(...parts: readonly string[]): AsyncIterable<Buffer> {
  for (const part of parts) {
    await Promise.resolve()
    if (part === 'fail') throw new Error('the source failed')
    yield Buffer.from(part)
  }
}

async function fileText(store: Store, name: string): Promise<string | undefined> {
  const file = store.checkpoints.read(name)
  if (!file) return undefined
  const parts: Buffer[] = []
  for await (const block of file) parts.push(block)
  return Buffer.concat(parts).toString()
}

export function storeContract(name: string, openEmpty: () => Promise<OpenedStore>): void {
  describe(`${name}: the contract of stores`, () => {
    const removals: (() => Promise<void>)[] = []
    const open = async (): Promise<OpenedStore> => {
      const opened = await openEmpty()
      removals.push(opened.remove)
      return opened
    }
    after(async () => {
      for (const remove of removals) await remove()
    })
    batches(open)
    order(open)
    checkpoints(open)
  })
}

function batches(open: () => Promise<OpenedStore>): void {
  test('an empty store has nothing, no meta either', async () => {
    const { store } = await open()
    const lists = { pages: [], entries: [], records: [], tables: [], ranges: [], owners: [] }
    assert.deepEqual(readStore(store), { meta: undefined, ...lists })
    assert.equal(store.page(0), undefined)
    assert.equal(store.record(0), undefined)
    await store.flushed()
  })

  test('what was written is read, by the next start as well', async () => {
    const { store, reopen } = await open()
    const batch = fullBatch(5)
    await store.write(batch)
    const read = readStore(store)
    assert.deepEqual(read.meta, batch.meta)
    assert.deepEqual(read.tables, batch.tables)
    assert.deepEqual(read.ranges, batch.ranges)
    assert.deepEqual(read.owners, batch.owners)
    for (const { number, page } of batch.pages)
      assert.ok(store.page(number)?.subarray(0, page.length).equals(page))
    for (const { number, entry } of batch.records) assert.deepEqual(store.record(number), entry)
    assert.deepEqual([...store.entries()].map(({ key }) => key).sort(), ['epoch/o', 'genesis'])
    assert.deepEqual(readStore(await reopen()), read)
  })

  test('a later batch replaces what has the same key or number, and nothing else', async () => {
    const { store, reopen } = await open()
    await store.write(fullBatch(5))
    const boot = 'ab'.repeat(16)
    const change = {
      entries: [entryOf('epoch/o', 6)],
      records: [{ number: 1, entry: entryOf('version/o/a@1', 6, 70_000) }],
      ranges: [{ boot, range: 0, last: 9, count: 9 }],
      owners: [{ owner: 'o', bytes: 0 }],
    }
    const before = readStore(store)
    await store.write(batchOf(6, change, { pages: 3, records: 3 }))
    assert.deepEqual(store.record(1), change.records[0].entry)
    const read = readStore(store)
    assert.deepEqual([read.pages, read.tables], [before.pages, before.tables])
    assert.deepEqual([...store.entries()].map(({ revision }) => revision).sort(), [1, 6])
    assert.deepEqual([...store.owners()].map(({ bytes }) => bytes).sort(), [0, 8 * 1024 ** 3])
    assert.deepEqual(
      [...store.ranges()].map(({ count }) => count),
      [9, 1],
    )
    assert.equal(store.meta()?.checkpoint, '', 'meta is replaced whole')
    assert.deepEqual(readStore(await reopen()), read)
  })

  test('a record is removed; a record that is put and removed in a batch is not there', async () => {
    const { store, reopen } = await open()
    await store.write(fullBatch(5))
    const records = [
      { number: 1, entry: undefined },
      { number: 3, entry: entryOf('receipt/o/3', 6) },
      { number: 3, entry: undefined },
      { number: 4, entry: entryOf('receipt/o/3', 6) },
      { number: 9, entry: undefined },
    ]
    await store.write(batchOf(6, { records }))
    const check = (opened: Store): void => {
      assert.deepEqual(
        [...opened.records()].map(({ number }) => number),
        [0, 2, 4],
      )
      for (const number of [1, 3, 5, 9]) assert.equal(opened.record(number), undefined)
    }
    check(store)
    check(await reopen())
  })

  test('the pages of a dropped table are removed, whenever they were written, and no others', async () => {
    const { store, reopen } = await open()
    const tables = [0, 1].map((id) => ({ id, owner: 'o', epoch: id + 1, dropped: false }))
    await store.write(
      batchOf(1, { tables, pages: [...pagesOf(0, 0, 70), ...pagesOf(1, 3, 40, 100)] }, { pages: 5 }),
    )
    await store.write(batchOf(2, { pages: pagesOf(0, 5, 3, 200) }, { pages: 6 }))
    const dropped = [{ ...tables[0], dropped: true }]
    await store.write(batchOf(3, { tables: dropped, pages: pagesOf(1, 6, 3, 300) }, { pages: 7 }))
    const check = (opened: Store): void => {
      assert.deepEqual(
        [...opened.pages(0, 100)].map(({ number }) => number),
        [3, 4, 6],
      )
      assert.equal(opened.page(0), undefined)
      assert.deepEqual([...opened.tables()], [dropped[0], tables[1]])
    }
    check(store)
    check(await reopen())
  })

  test('a batch is seen whole or not at all, while it is being written', async () => {
    const { store } = await open()
    for (let cursor = 1; cursor <= 20; cursor++) {
      const records = [{ number: cursor, entry: entryOf(`version/o/a@${cursor}`, cursor) }]
      let written = false
      const writing = store
        .write(batchOf(cursor, { records, pages: pagesOf(0, cursor, 2) }))
        .then(() => (written = true))
      while (!written) {
        const [meta, record, page] = [store.meta()?.cursor ?? 0, store.record(cursor), store.page(cursor)]
        // Reads of a turn may be of different transactions: what is read first is the older.
        if (meta === cursor) assert.ok(record && page, 'meta comes with its data')
        await new Promise((resolve) => setImmediate(resolve))
      }
      await writing
      assert.ok(store.meta()?.cursor === cursor && store.record(cursor) && store.page(cursor))
    }
  })

  test('a failed write changes nothing', async (t) => {
    const { store, failNext } = await open()
    if (!failNext) return t.skip('needs a process of its own')
    await failedWrite(store, failNext, () => undefined)
  })
}

function order(open: () => Promise<OpenedStore>): void {
  test('pages, records and tables come in the order of their numbers', async () => {
    const { store } = await open()
    const numbers = [0, 1, 2, 255, 256, 65_535, 65_536, 16_777_216, 0xffff_fffe]
    for (const number of numbers.toReversed()) {
      const records = [{ number, entry: entryOf(`version/o/a@${number}`, 1) }]
      const tables = [{ id: number, owner: 'o', epoch: number + 1, dropped: false }]
      await store.write(batchOf(1, { records, tables, pages: pagesOf(0, number, 1) }))
    }
    assert.deepEqual(
      [...store.pages(0, 0xffff_ffff)].map(({ number }) => number),
      numbers,
    )
    assert.deepEqual(
      [...store.pages(1, 256)].map(({ number }) => number),
      [1, 2, 255],
      'the end is not included',
    )
    assert.deepEqual([...store.pages(3, 255)], [])
    assert.deepEqual(
      [...store.records()].map(({ number }) => number),
      numbers,
    )
    assert.deepEqual(
      [...store.tables()].map(({ id }) => id),
      numbers,
    )
  })

  test('keys, values and numbers of every size are kept', async () => {
    const { store, reopen } = await open()
    const entries = [
      entryOf(`node/${'n'.repeat(507)}`, 1, 0),
      entryOf('genesis', Number.MAX_SAFE_INTEGER, 1),
      entryOf('epoch/o', 2 ** 32 + 1, 128 * 1024),
    ]
    const records = entries.map((entry, number) => ({ number, entry }))
    const ahead = [{ to: 'seg/a/1', revision: 7 }]
    await store.write(batchOf(Number.MAX_SAFE_INTEGER, { entries, records }, { ahead }))
    const check = (opened: Store): void => {
      const found = new Map([...opened.entries()].map((entry) => [entry.key, entry]))
      for (const [number, entry] of entries.entries()) {
        assert.deepEqual(found.get(entry.key), entry)
        assert.deepEqual(opened.record(number), entry)
      }
      assert.deepEqual(opened.meta()?.ahead, ahead)
      assert.equal(opened.meta()?.cursor, Number.MAX_SAFE_INTEGER)
    }
    check(store)
    check(await reopen())
  })
}

function checkpoints(open: () => Promise<OpenedStore>): void {
  test('a checkpoint is there whole under its name, and removed when another is named', async () => {
    const { store, reopen } = await open()
    const { checkpoints } = store
    assert.equal(await fileText(store, 'a'), undefined)
    await checkpoints.write('a', blocks('one', '', ' two'))
    await checkpoints.write('b', blocks())
    assert.equal(await fileText(store, 'a'), 'one two')
    assert.equal(await fileText(store, 'b'), '')
    await checkpoints.write('c', blocks('three'))
    await checkpoints.removeOthers('c')
    const again = await reopen()
    assert.deepEqual([await fileText(again, 'a'), await fileText(again, 'b')], [undefined, undefined])
    assert.equal(await fileText(again, 'c'), 'three')
    await again.checkpoints.removeOthers('')
    assert.equal(await fileText(again, 'c'), undefined)
  })

  test('a small checkpoint has room', async () => {
    const { store } = await open()
    assert.equal(await store.checkpoints.hasRoom(4096), true)
  })

  test('a checkpoint that fails is not there', async () => {
    const { store, reopen } = await open()
    await store.checkpoints.write('a', blocks('one'))
    await assert.rejects(store.checkpoints.write('b', blocks('half', 'fail')), /the source failed/)
    assert.equal(await fileText(store, 'b'), undefined)
    const again = await reopen()
    assert.equal(await fileText(again, 'b'), undefined)
    await again.checkpoints.write('b', blocks('whole'))
    assert.deepEqual([await fileText(again, 'a'), await fileText(again, 'b')], ['one', 'whole'])
  })

  test('a checkpoint that is being written is not there yet', async () => {
    const { store } = await open()
    const [begun, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const slow = async function* (): AsyncIterable<Buffer> {
      yield Buffer.from('half')
      begun.resolve()
      await go.promise
      yield Buffer.from(' whole')
    }
    const writing = store.checkpoints.write('a', slow())
    await begun.promise
    assert.equal(await fileText(store, 'a'), undefined)
    go.resolve()
    await writing
    assert.equal(await fileText(store, 'a'), 'half whole')
  })
}
