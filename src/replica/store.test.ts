// Both stores pass the contract. Beside that: damage of the file, kill -9 and a full disk, which only the
// LMDB store meets.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { open } from 'lmdb'
import { OperatorError } from '../errors.ts'
import { isStrayRejection } from '../ledger/lmdb-transaction.ts'
import { DamagedReplica } from '../state/stored.ts'
import { LmdbStore } from './lmdb-store.ts'
import { MemoryStore } from './memory-store.ts'
import { WriteFailed } from './store.ts'
import {
  batchOf,
  entryOf,
  failedWrite,
  fullBatch,
  pagesOf,
  readStore,
  storeContract,
} from './store-contract.ts'

/** Arguments of this file as a program. */
const FULL_DISK = 'full-disk'
const KILLED = 'killed'

function withDirectory<T>(run: (path: string) => Promise<T>): Promise<T> {
  const path = mkdtempSync(join(tmpdir(), 'coffer-store-'))
  return run(path).finally(() => rmSync(path, { recursive: true }))
}

/** Batch number `cursor`, from 1 on: a page, twenty records, and numbers that say which batches are there. */
function numbered(cursor: number): ReturnType<typeof batchOf> {
  const first = (cursor - 1) * 20
  const records = Array.from({ length: 20 }, (_, i) => ({
    number: first + i,
    entry: entryOf(`version/o/a@${first + i}`, cursor, 3000),
  }))
  const change = {
    pages: pagesOf(0, cursor - 1, 3, cursor),
    records,
    owners: [{ owner: 'o', bytes: cursor }],
  }
  return batchOf(cursor, change, { pages: cursor, records: first + 20 })
}

/** Writes batches for ever, in a process of its own, that is killed. */
async function writeForEver(path: string): Promise<void> {
  const store = new LmdbStore(path)
  for (let cursor = (store.meta()?.cursor ?? 0) + 1; ; cursor++) {
    await store.write(numbered(cursor))
    if (cursor % 5 === 0) process.stdout.write('.')
  }
}

async function lmdbKills(): Promise<void> {
  await withDirectory(async (path) => {
    let last = 0
    for (let round = 0; round < 5; round++) {
      const child = spawn(process.execPath, [import.meta.filename, KILLED, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 30)) // the moment is what is random
      child.kill('SIGKILL')
      await once(child, 'exit')
      const store = new LmdbStore(path)
      const found = store.meta()?.cursor ?? 0
      assert.ok(found > last)
      assert.equal([...store.records()].length, found * 20)
      assert.equal([...store.pages(0, 100_000)].length, found)
      assert.equal([...store.owners()][0].bytes, found)
      store.verify()
      await store.close()
      last = found
    }
  })
}

type Raw = {
  get(db: string, key: string | number): Buffer
  put(db: string, key: string | number, value: Buffer): Promise<void>
  close(): Promise<void>
}

/** The file without its codec. */
function rawFile(path: string): Raw {
  const env = open({ path, encoding: 'binary', maxDbs: 8 })
  const numbered = ['pages', 'records', 'tables']
  const names = [...numbered, 'entries', 'ranges', 'owners', 'meta']
  const dbs = new Map(
    names.map((name) => {
      const keys = numbered.includes(name) ? ({ keyEncoding: 'uint32' } as const) : {}
      return [name, env.openDB<Buffer, string | number>({ name, encoding: 'binary', ...keys })]
    }),
  )
  return {
    get: (db, key) => Buffer.from(dbs.get(db)?.get(key) ?? assert.fail(`${db} has ${key}`)),
    put: async (db, key, value) => {
      await dbs.get(db)?.put(key, value)
    },
    close: () => env.close(),
  }
}

const PLACES: readonly (readonly [string, string | number, string | number])[] = [
  ['pages', 0, 1],
  ['records', 0, 1],
  ['tables', 0, 1],
  ['entries', 'epoch/o', 'genesis'],
  ['ranges', `${'ab'.repeat(16)}/0`, `${'ab'.repeat(16)}/3`],
  ['owners', 'o', 'p.q'],
]

/** Whether a store of the directory reads everything, in the ways in which a start reads. */
async function readsWhole(path: string): Promise<boolean> {
  const store = new LmdbStore(path)
  try {
    readStore(store)
    for (const { number } of store.records()) store.record(number)
    store.verify()
    return true
  } catch (error) {
    assert.ok(error instanceof DamagedReplica, String(error))
    return false
  } finally {
    await store.close()
  }
}

async function lmdbDamage(): Promise<void> {
  for (const [db, key, other] of [...PLACES, ['meta', 'meta', 'meta'] as const]) {
    for (const kind of ['flip', 'cut', 'longer', 'moved', 'swapped'] as const) {
      if (db === 'meta' && (kind === 'moved' || kind === 'swapped')) continue
      await withDirectory(async (path) => {
        const store = new LmdbStore(path)
        await store.write(fullBatch(5))
        await store.close()
        assert.ok(await readsWhole(path))
        const raw = rawFile(path)
        const [bytes, others] = [raw.get(db, key), raw.get(db, other)]
        if (kind === 'flip') bytes[bytes.length >> 1] ^= 16
        const damaged = { flip: bytes, cut: bytes.subarray(1), longer: Buffer.concat([bytes, Buffer.of(0)]) }
        if (kind === 'moved' || kind === 'swapped') await raw.put(db, other, bytes)
        else await raw.put(db, key, damaged[kind])
        if (kind === 'swapped') await raw.put(db, key, others)
        await raw.close()
        assert.equal(await readsWhole(path), false, `${db} ${kind}`)
      })
    }
  }
}

async function lmdbFullDisk(t: { skip(reason: string): void }): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'coffer-full-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', root])
  try {
    if (mounted.status !== 0) return t.skip('no right to mount a file system')
    const child = spawnSync(process.execPath, [import.meta.filename, FULL_DISK, root], { encoding: 'utf8' })
    assert.equal(child.status, 0, child.stderr)
    // A failed write can end the process in LMDB: LMDB must not meet a full disk.
    assert.doesNotMatch(child.stderr, /Write error/)
  } finally {
    spawnSync('umount', ['-l', root])
    rmSync(root, { recursive: true, force: true })
  }
}

const isWithoutRoom = (error: unknown): boolean =>
  error instanceof OperatorError && error.message.startsWith('there is no room for new files in ')

/** To remove a third of all records writes every leaf of their tree anew, and needs little for the records themselves. */
async function olderRecords(root: string, filler: string): Promise<void> {
  rmSync(filler)
  const path = join(root, 'other')
  const store = new LmdbStore(path)
  const numbers = Array.from({ length: 2000 }, (_, number) => number)
  const records = numbers.map((number) => ({ number, entry: entryOf(`version/o/a@${number}`, 5, 1000) }))
  await store.write(batchOf(5, { records }, { records: numbers.length }))
  const { bavail, bsize } = statfsSync(root)
  writeFileSync(filler, Buffer.alloc(bavail * bsize - 1.2 * 1024 * 1024))
  const gone = numbers.filter((number) => number % 3 === 0).map((number) => ({ number, entry: undefined }))
  await assert.rejects(store.write(batchOf(6, { records: gone }, { records: numbers.length })), WriteFailed)
  await store.close()
  rmSync(path, { recursive: true })
  rmSync(filler)
  writeFileSync(filler, Buffer.alloc(statfsSync(root).bavail * bsize))
}

/** In a process of its own: lmdb leaves rejections behind that the runner of tests would report. */
async function onFullDisk(root: string): Promise<void> {
  process.on('unhandledRejection', (reason) => {
    if (!isStrayRejection(reason)) throw reason
  })
  const store = new LmdbStore(root)
  const filler = join(root, 'filler')
  const { bsize } = statfsSync(root)
  const fill = (): void => {
    const { bavail } = statfsSync(root)
    writeFileSync(filler, Buffer.alloc(bavail * bsize))
  }
  await failedWrite(store, fill, () => rmSync(filler))
  const names = readdirSync(root)
  fill()
  const block = Buffer.alloc(bsize)
  const blocks = async function* (): AsyncIterable<Buffer> {
    yield block
  }
  await assert.rejects(store.checkpoints.write('a', blocks()), /ENOSPC/)
  assert.deepEqual(readdirSync(root), [...names, 'filler'].sort(), 'a failed checkpoint leaves no file')
  await store.close()
  await olderRecords(root, filler)
  await new LmdbStore(root).close()
  rmSync(join(root, 'lock.mdb'))
  assert.throws(() => new LmdbStore(root), isWithoutRoom)
  assert.throws(() => new LmdbStore(join(root, 'new')), isWithoutRoom)
  assert.deepEqual(readdirSync(root), ['data.mdb', 'filler'])
}

if (process.argv[2] === FULL_DISK) await onFullDisk(process.argv[3])
else if (process.argv[2] === KILLED) await writeForEver(process.argv[3])
else {
  storeContract('memory', async () => {
    const store = new MemoryStore()
    return {
      store,
      reopen: async () => store.afterKill(),
      failNext: () => {
        store.failures = 1
      },
      remove: async () => undefined,
    }
  })
  storeContract('lmdb', async () => {
    const path = mkdtempSync(join(tmpdir(), 'coffer-store-'))
    let store = new LmdbStore(path)
    return {
      store,
      reopen: async () => {
        await store.close()
        return (store = new LmdbStore(path))
      },
      remove: async () => {
        await store.close()
        rmSync(path, { recursive: true })
      },
    }
  })
  test('lmdb: kill -9 at any moment leaves whole batches only', lmdbKills)
  test('lmdb: a record that was changed, cut or moved to another key is damage', lmdbDamage)
  test('lmdb: a full disk fails a write whole', lmdbFullDisk)
  test('memory: what is written after a kill is not in the store that the kill leaves', async () => {
    const store = new MemoryStore()
    await store.write(fullBatch(5))
    const before = readStore(store)
    void store.write(batchOf(6, { records: [{ number: 0, entry: undefined }] }))
    const left = store.afterKill()
    void store.write(batchOf(7))
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual(readStore(left), before)
    assert.deepEqual(readStore(store), before)
  })
}
