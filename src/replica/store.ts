// The replica's LMDB file: pages, records (versions of secrets, receipts), other entries, the numbers of
// tables, and the cursor, written in the same transaction as the data of its revision. Pages and records are
// numbered in order of arrival: adding at the end costs a fraction of inserting in between. Every record has
// a checksum over key and value. The file is disposable.
import { crc32 } from 'node:zlib'
import { type Database, open, type RootDatabase } from 'lmdb'
import { assert } from '../assert.ts'
import { FatalError, OperatorError } from '../errors.ts'
import { committed } from '../ledger/lmdb-transaction.ts'
import { pageIsWhole } from './page.ts'

/** A record does not match its checksum: the replica must be rebuilt. */
export class DamagedReplica extends FatalError {
  override readonly name = 'DamagedReplica'
}

/**
 * A transaction was not written, most often because the disk is full. Nothing was changed, and a retry may
 * help.
 */
export class WriteFailed extends OperatorError {
  override readonly name = 'WriteFailed'
}

export type Meta = {
  /** Format of the file. */
  readonly format: number
  /** Identity of the followed ledger; '' before the first contact. */
  readonly ledger: string
  /** The last applied revision: all revisions before are applied, too. */
  readonly cursor: number
  /** Numbers of the next page and the next record. */
  readonly pages: number
  readonly records: number
  /** The last segment or boot applied: key, revision and CRC-32, separated by spaces; '' for none. */
  readonly witness: string
  /**
   * Name of the checkpoint that belongs to the file's history, space, number of pages covered; '' for none.
   */
  readonly checkpoint: string
}

const RECORD_HEAD = 14

export const REPLICA_FORMAT = 3

export type StoredEntry = { readonly key: string; readonly revision: number; readonly value: Uint8Array }
/** The number of segments of a boot up to the cursor, and the number in the key of the last segment. */
export type SegmentCount = { readonly boot: string; readonly last: number; readonly count: number }
export type StoredTable = { readonly id: number; readonly owner: string; readonly epoch: number }

/** The writes of a transaction. */
export type Batch = {
  readonly pages: readonly { readonly number: number; readonly page: Buffer }[]
  readonly entries: readonly StoredEntry[]
  /** In order. Without an entry the record is removed. */
  readonly records: readonly { readonly number: number; readonly entry: StoredEntry | undefined }[]
  readonly tables: readonly StoredTable[]
  readonly segmentCounts: readonly SegmentCount[]
  readonly meta: Meta
}

export class ReplicaStore {
  readonly #env: RootDatabase
  readonly #pages: Database<Buffer, number>
  readonly #entries: Database<Buffer, string>
  readonly #records: Database<Buffer, number>
  readonly #tables: Database<Buffer, number>
  readonly #segmentCounts: Database<Buffer, string>
  readonly #meta: Database<Buffer, string>

  constructor(path: string, readOnly = false) {
    this.#env = open({ path, encoding: 'binary', maxDbs: 8, noSubdir: false, readOnly })
    this.#pages = this.#env.openDB({ name: 'pages', encoding: 'binary', keyEncoding: 'uint32' })
    this.#entries = this.#env.openDB({ name: 'entries', encoding: 'binary' })
    this.#records = this.#env.openDB({ name: 'records', encoding: 'binary', keyEncoding: 'uint32' })
    this.#tables = this.#env.openDB({ name: 'tables', encoding: 'binary', keyEncoding: 'uint32' })
    this.#segmentCounts = this.#env.openDB({ name: 'tails', encoding: 'binary' })
    this.#meta = this.#env.openDB({ name: 'meta', encoding: 'binary' })
  }

  meta(): Meta | undefined {
    const record = this.#meta.get('meta')
    if (!record) return undefined
    return JSON.parse(unseal('meta', record).toString('utf8')) // the checksum proves the form
  }

  /** Writes a batch in a single transaction. Resolves when the batch can be read. Throws WriteFailed. */
  async write(batch: Batch): Promise<void> {
    const puts: Promise<boolean>[] = []
    for (const [i, { number, page }] of batch.pages.entries()) {
      assert(number === batch.pages[0].number + i, 'pages are numbered without gaps')
      puts.push(this.#pages.put(number, page))
    }
    for (const { key, revision, value } of batch.entries) {
      const bytes = Buffer.alloc(8 + value.length)
      bytes.writeDoubleBE(revision)
      bytes.set(value, 8)
      puts.push(this.#entries.put(key, seal(key, bytes)))
    }
    for (const { number, entry } of batch.records)
      puts.push(entry ? this.#records.put(number, encodeRecord(number, entry)) : this.#records.remove(number))
    for (const { id, owner, epoch } of batch.tables) {
      puts.push(this.#tables.put(id, seal(String(id), Buffer.from(`${owner}@${epoch}`))))
    }
    for (const { boot, last, count } of batch.segmentCounts)
      puts.push(this.#segmentCounts.put(boot, seal(boot, Buffer.from(`${last} ${count}`))))
    puts.push(this.#meta.put('meta', seal('meta', Buffer.from(JSON.stringify(batch.meta)))))
    // lmdb returns a single promise for all writes of a turn: a wait for each of thousands of copies costs
    // time.
    try {
      await committed([...new Set(puts)])
    } catch (error) {
      throw new WriteFailed(error instanceof Error ? error.message : String(error))
    }
  }

  async writeMeta(meta: Meta): Promise<void> {
    await this.write({ pages: [], entries: [], records: [], tables: [], segmentCounts: [], meta })
  }

  /** Resolves when all written batches are durable. */
  async flushed(): Promise<void> {
    await this.#env.flushed
  }

  /** The bytes of a page, valid until the next read. `length` is the page's; the buffer itself is longer. */
  page(number: number): Buffer | undefined {
    return this.#pages.getBinaryFast(number)
  }

  /** Pages `from` to `to` (exclusive) in order. */
  *pages(from: number, to: number): Iterable<{ number: number; page: Buffer }> {
    for (const { key, value } of this.#pages.getRange({ start: from, end: to, snapshot: false })) {
      yield { number: key, page: value }
    }
  }

  *entries(): Iterable<StoredEntry> {
    for (const { key, value } of this.#entries.getRange({ snapshot: false })) {
      const bytes = unseal(key, value)
      yield { key, revision: bytes.readDoubleBE(), value: Uint8Array.from(bytes.subarray(8)) }
    }
  }

  /** In the order of their numbers. */
  *records(): Iterable<StoredEntry & { readonly number: number }> {
    for (const { key, value } of this.#records.getRange({ snapshot: false }))
      yield { number: key, ...decodeRecord(key, value) }
  }

  /** A record as of the last written transaction. Throws DamagedReplica. */
  record(number: number): StoredEntry | undefined {
    const record = this.#records.get(number)
    return record && decodeRecord(number, record)
  }

  *tables(): Iterable<StoredTable> {
    for (const { key, value } of this.#tables.getRange({ snapshot: false })) {
      const text = unseal(String(key), value).toString('utf8')
      const at = text.lastIndexOf('@')
      yield { id: key, owner: text.slice(0, at), epoch: Number(text.slice(at + 1)) }
    }
  }

  *segmentCounts(): Iterable<SegmentCount> {
    for (const { key, value } of this.#segmentCounts.getRange({ snapshot: false })) {
      const [last, count] = unseal(key, value).toString('latin1').split(' ')
      yield { boot: key, last: Number(last), count: Number(count) }
    }
  }

  /**
   * Reads all records and compares their checksums. Throws DamagedReplica; damage may also kill the process
   * in LMDB.
   */
  verify(): { pages: number; entries: number } {
    const meta = this.meta()
    let pages = 0
    for (const { number, page } of this.pages(0, 0xffff_ffff)) {
      if (!pageIsWhole(page, page.length, number)) throw new DamagedReplica(`page ${number} is damaged`)
      if (number !== pages) throw new DamagedReplica(`page ${pages} is missing`)
      pages++
    }
    if (pages !== (meta?.pages ?? 0)) throw new DamagedReplica('pages are missing at the end')
    let entries = 0
    for (const _ of this.entries()) entries++
    for (const _ of this.records()) entries++
    for (const _ of this.tables()) entries++
    for (const _ of this.segmentCounts()) entries++
    return { pages, entries }
  }

  async close(): Promise<void> {
    await this.#env.close()
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
