// The store of a replica in LMDB: pages, records (versions of secrets, receipts), other entries, tables,
// ranges of segments, bytes of owners, and meta with the cursor, written in the same transaction as the data
// of its revision. Pages and records are numbered in order of arrival: adding at the end costs a fraction of
// inserting in between. Every record has a checksum over key and value. The file is disposable.
import { crc32 } from 'node:zlib'
import { type Database, open, type RootDatabase } from 'lmdb'
import { withReserve } from '../descriptors.ts'
import { FatalError } from '../errors.ts'
import { checkRoomToOpen, hasRoom, type Transaction } from '../ledger/lmdb-room.ts'
import { Transactions } from '../ledger/lmdb-transaction.ts'
import { pageIsWhole, pageTable } from '../state/page.ts'
import type { SegmentRange } from '../state/segment-ranges.ts'
import {
  type Batch,
  DamagedReplica,
  type Meta,
  type OwnerBytes,
  type StoredEntry,
  type StoredTable,
} from '../state/stored.ts'
import { nextTurn } from '../waiting.ts'
import { CheckpointDirectory } from './checkpoint-directory.ts'
import { type Store, WriteFailed } from './store.ts'

/** Pages whose table is looked at in a turn of the event loop, when a table is dropped. */
const PAGES_A_TURN = 10_000
const RECORD_HEAD = 14
/** A leaf of the pages' tree names at least so many pages. */
const PAGES_A_LEAF = 100

export class LmdbStore implements Store {
  readonly checkpoints: CheckpointDirectory
  readonly #path: string
  readonly #env: RootDatabase
  readonly #transactions: Transactions
  readonly #pages: Database<Buffer, number>
  readonly #entries: Database<Buffer, string>
  readonly #records: Database<Buffer, number>
  readonly #tables: Database<Buffer, number>
  readonly #ranges: Database<Buffer, string>
  readonly #owners: Database<Buffer, string>
  readonly #meta: Database<Buffer, string>
  /** The number of the next record; undefined before the first write. */
  #nextRecord: number | undefined

  /** Throws DamagedReplica where a file that is opened for reading only lacks a database. */
  constructor(path: string, readOnly = false) {
    this.#path = path
    this.checkpoints = new CheckpointDirectory(path)
    checkRoomToOpen(path)
    this.#env = withReserve(() => open({ path, encoding: 'binary', maxDbs: 8, noSubdir: false, readOnly }))
    const env = this.#env
    this.#transactions = new Transactions(env, path)
    const numbered = { keyEncoding: 'uint32' } as const
    this.#pages = database(env, 'pages', numbered)
    this.#entries = database(env, 'entries')
    this.#records = database(env, 'records', numbered)
    this.#tables = database(env, 'tables', numbered)
    this.#ranges = database(env, 'ranges')
    this.#owners = database(env, 'owners')
    this.#meta = database(env, 'meta')
  }

  meta(): Meta | undefined {
    const record = this.#meta.get('meta')
    if (!record) return undefined
    return JSON.parse(unseal('meta', record).toString('utf8')) // the checksum proves the form
  }

  async write(batch: Batch): Promise<void> {
    const gone = await this.#pagesOf(batch.tables.filter(({ dropped }) => dropped))
    const transaction = this.#transactionOf(batch, gone.length)
    if (!hasRoom(this.#path, transaction)) throw new WriteFailed('the disk is full')
    try {
      await this.#transactions.commit(() => this.#put(batch, gone))
    } catch (error) {
      if (error instanceof FatalError) throw error
      if (hasRoom(this.#path, transaction)) throw this.#transactions.fail(error)
      throw new WriteFailed(error instanceof Error ? error.message : String(error))
    }
    this.#nextRecord = batch.meta.records
  }

  /** Begins the writes of the batch, without the pages of `gone`. */
  #put(batch: Batch, gone: readonly number[]): readonly Promise<boolean>[] {
    const puts: Promise<boolean>[] = gone.map((number) => this.#pages.remove(number))
    for (const { number, page } of batch.pages) puts.push(this.#pages.put(number, page))
    for (const { key, revision, value } of batch.entries) {
      const bytes = Buffer.alloc(8 + value.length)
      bytes.writeDoubleBE(revision)
      bytes.set(value, 8)
      puts.push(this.#entries.put(key, seal(key, bytes)))
    }
    for (const { number, entry } of batch.records)
      puts.push(entry ? this.#records.put(number, encodeRecord(number, entry)) : this.#records.remove(number))
    for (const { id, owner, epoch, dropped } of batch.tables) {
      const text = `${owner}@${epoch}${dropped ? ' dropped' : ''}`
      puts.push(this.#tables.put(id, seal(String(id), Buffer.from(text))))
    }
    for (const { boot, range, last, count } of batch.ranges) {
      const key = `${boot}/${range}`
      puts.push(this.#ranges.put(key, seal(key, Buffer.from(`${last} ${count}`))))
    }
    for (const { owner, bytes } of batch.owners)
      puts.push(this.#owners.put(owner, seal(owner, Buffer.from(String(bytes)))))
    puts.push(this.#meta.put('meta', seal('meta', Buffer.from(JSON.stringify(batch.meta)))))
    // lmdb returns a single promise for all writes of a turn: a wait for each of thousands of copies costs
    // time.
    return [...new Set(puts)]
  }

  /** What the batch changes beside its end: `gone` pages, older records, and all that is not numbered. */
  #transactionOf(batch: Batch, gone: number): Transaction {
    const { pages, entries, records, tables, ranges, owners, meta } = batch
    const nextRecord = (this.#nextRecord ??= this.meta()?.records ?? 0)
    let bytes = 0
    let puts = entries.length + tables.length + ranges.length + owners.length + 1
    puts += Math.min(gone, Math.ceil(meta.pages / PAGES_A_LEAF))
    for (const { page } of pages) bytes += RECORD_HEAD + page.length
    for (const { key, value } of entries) bytes += RECORD_HEAD + key.length + value.length
    for (const { number, entry } of records) {
      bytes += RECORD_HEAD + (entry ? entry.key.length + entry.value.length : 0)
      if (number < nextRecord) puts++
    }
    return { bytes, puts }
  }

  /** Numbers of the stored pages of tables: pages do not say where others of their table are. */
  async #pagesOf(tables: readonly StoredTable[]): Promise<number[]> {
    if (tables.length === 0) return []
    const ids = new Set(tables.map(({ id }) => id))
    const found: number[] = []
    for (let from = 0, end = this.meta()?.pages ?? 0; from < end; from += PAGES_A_TURN) {
      for (const { number, page } of this.pages(from, from + PAGES_A_TURN))
        if (ids.has(pageTable(page))) found.push(number)
      await nextTurn()
    }
    return found
  }

  async flushed(): Promise<void> {
    await this.#transactions.flushed()
  }

  page(number: number): Buffer | undefined {
    return this.#pages.getBinaryFast(number)
  }

  *pages(from: number, to: number): Iterable<{ number: number; page: Buffer }> {
    for (const { key, value } of this.#pages.getRange({ start: from, end: to, snapshot: false })) {
      yield { number: key, page: value }
    }
  }

  *entries(): Iterable<StoredEntry> {
    for (const { key, value } of named(this.#entries)) {
      const bytes = unseal(key, value)
      yield { key, revision: bytes.readDoubleBE(), value: Uint8Array.from(bytes.subarray(8)) }
    }
  }

  *records(): Iterable<StoredEntry & { readonly number: number }> {
    for (const { key, value } of this.#records.getRange({ snapshot: false }))
      yield { number: key, ...decodeRecord(key, value) }
  }

  record(number: number): StoredEntry | undefined {
    const record = this.#records.get(number)
    return record && decodeRecord(number, record)
  }

  *tables(): Iterable<StoredTable> {
    for (const { key, value } of this.#tables.getRange({ snapshot: false })) {
      const [name, mark] = unseal(String(key), value).toString('utf8').split(' ')
      const at = name.lastIndexOf('@')
      const dropped = mark !== undefined
      yield { id: key, owner: name.slice(0, at), epoch: Number(name.slice(at + 1)), dropped }
    }
  }

  *ranges(): Iterable<SegmentRange> {
    for (const { key, value } of named(this.#ranges)) {
      const [boot, range] = key.split('/')
      const [last, count] = unseal(key, value).toString('latin1').split(' ')
      yield { boot, range: Number(range), last: Number(last), count: Number(count) }
    }
  }

  *owners(): Iterable<OwnerBytes> {
    for (const { key, value } of named(this.#owners))
      yield { owner: key, bytes: Number(unseal(key, value).toString('latin1')) }
  }

  /**
   * Reads all records and compares their checksums. Throws DamagedReplica; damage may also kill the process
   * in LMDB.
   */
  verify(): { pages: number; entries: number } {
    const meta = this.meta()
    const dropped = [...this.tables()].some((table) => table.dropped)
    let pages = 0
    let next = 0
    for (const { number, page } of this.pages(0, 0xffff_ffff)) {
      if (!pageIsWhole(page, page.length, number)) throw new DamagedReplica(`page ${number} is damaged`)
      if (number !== next && !dropped) throw new DamagedReplica(`page ${next} is missing`)
      next = number + 1
      pages++
    }
    const last = meta?.pages ?? 0
    if (dropped ? next > last : next !== last)
      throw new DamagedReplica('pages at the end are missing, or not in meta')
    let entries = 0
    for (const list of [this.entries(), this.records(), this.tables(), this.ranges(), this.owners()])
      for (const _ of list) entries++
    return { pages, entries }
  }

  async close(): Promise<void> {
    await this.#transactions.close()
  }
}

/** lmdb returns undefined for a database that is absent, where the file is opened for reading only. */
function database<K extends number | string>(
  env: RootDatabase,
  name: string,
  options: { readonly keyEncoding?: 'uint32' } = {},
): Database<Buffer, K> {
  const found: Database<Buffer, K> | undefined = env.openDB({ name, encoding: 'binary', ...options })
  if (found === undefined) throw new DamagedReplica(`the database ${name} is missing`)
  return found
}

/** All records. Throws DamagedReplica: the first byte of a key says what the key is, and may be damaged. */
function* named(database: Database<Buffer, string>): Iterable<{ key: string; value: Buffer }> {
  for (const { key, value } of database.getRange({ snapshot: false })) {
    if (typeof key !== 'string') throw new DamagedReplica('a key is not a text')
    yield { key, value }
  }
}

function seal(key: string, value: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(4 + value.length)
  bytes.set(value, 4)
  bytes.writeUInt32BE(crc32(value, crc32(key)), 0)
  return bytes
}

/** checksum u32 · revision f64 · length of the key u16 · key · value */
function encodeRecord(number: number, { key, revision, value }: StoredEntry): Buffer {
  const record = Buffer.allocUnsafe(RECORD_HEAD + key.length + value.length)
  record.writeDoubleBE(revision, 4)
  record.writeUInt16BE(key.length, 12)
  record.write(key, RECORD_HEAD, 'latin1')
  record.set(value, RECORD_HEAD + key.length)
  record.writeUInt32BE(crc32(record.subarray(4), number), 0)
  return record
}

function decodeRecord(number: number, record: Buffer): StoredEntry {
  if (record.length < RECORD_HEAD || record.readUInt32BE(0) !== crc32(record.subarray(4), number))
    throw new DamagedReplica(`record ${number} does not match its checksum`)
  const end = RECORD_HEAD + record.readUInt16BE(12)
  const key = record.toString('latin1', RECORD_HEAD, end)
  return { key, revision: record.readDoubleBE(4), value: Uint8Array.from(record.subarray(end)) }
}

function unseal(key: string, record: Buffer): Buffer {
  const value = record.subarray(4)
  if (record.length < 4 || record.readUInt32BE(0) !== crc32(value, crc32(key))) {
    throw new DamagedReplica(`the record ${key} does not match its checksum`)
  }
  return value
}
