// The embedded driver: one LMDB file, one writer. `log` has every revision with its puts (so a segment is written
// once), `keys` the latest revision of every key. Commits that wait are judged and written together, one
// transaction at a time: a failed transaction then takes nothing with it but its own commits, and leaves no gap.
//
// overlappingSync is off: with it lmdb shows a write before it is durable. Without it a transaction is flushed
// before it becomes visible, at the same throughput for batches (measured), and a revision exists once it is seen.
import { statfs } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { type Database, open, type RootDatabase } from 'lmdb'
import { assert } from '../assert.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  commitBytes,
  type Found,
  type Ledger,
  type LedgerPut,
  LedgerUnavailable,
  type Revision,
  type SnapshotEntry,
} from './ledger.ts'
import { settled } from './settled.ts'

/** Bytes of commits that go into one transaction. */
const BATCH_BYTES = 8 * 1024 * 1024
/** The newest revisions stay in memory, so that a follower at the head does not read them back. */
const RECENT_BYTES = 16 * 1024 * 1024
/** Room that is left for the replica and the event log: below it new commits are refused as `disk-full`. */
const RESERVE_BYTES = 32 * 1024 * 1024
/** How long a look at the free room holds while there is plenty. */
const ROOM_MS = 500
const SNAPSHOT_PAGE = 1000

type Waiting = {
  readonly commit: Commit
  readonly resolve: (result: CommitResult) => void
  readonly reject: (error: Error) => void
}

/** A key's latest put: `removed` where that put was null. */
type Latest = { readonly revision: number; readonly removed: boolean }

/** A record does not match its checksum, or the file is not ours. */
export class DamagedLedger extends Error {
  override readonly name = 'DamagedLedger'
}

export class LmdbLedger implements Ledger {
  readonly kind = 'embedded'
  readonly #path: string
  readonly #env: RootDatabase
  readonly #log: Database<Uint8Array, number>
  readonly #keys: Database<Uint8Array, string>
  #head: number
  #waiting: Waiting[] = []
  #writing: Promise<void> | undefined
  #recent: Revision[] = []
  #recentBytes = 0
  /** Until when there is room, by `performance.now()`. */
  #roomUntil = 0
  #wake = Promise.withResolvers<void>()
  #closed = false

  constructor(path: string) {
    this.#path = path
    this.#env = open({ path, overlappingSync: false, encoding: 'binary', maxDbs: 4, noSubdir: false })
    this.#log = this.#env.openDB({ name: 'log', encoding: 'binary' })
    this.#keys = this.#env.openDB({ name: 'keys', encoding: 'binary' })
    const [last] = this.#log.getKeys({ reverse: true, limit: 1 })
    this.#head = last ?? 0
  }

  commit(commit: Commit): Promise<CommitResult> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new LedgerUnavailable('closed', 'the ledger is closed')
      this.#waiting.push({ commit, resolve, reject })
      this.#writing ??= this.#write()
    })
  }

  async #write(): Promise<void> {
    await Promise.resolve() // commits of the same turn join
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch()
      try {
        await this.#checkRoom()
        await this.#writeBatch(batch)
      } catch (error) {
        const failure = await this.#judge(error)
        for (const each of batch) each.reject(failure)
      }
    }
    this.#writing = undefined
  }

  #takeBatch(): Waiting[] {
    let bytes = 0
    let count = 0
    while (count < this.#waiting.length && (count === 0 || bytes < BATCH_BYTES)) {
      bytes += commitBytes(this.#waiting[count].commit)
      count++
    }
    return this.#waiting.splice(0, count)
  }

  /** Throws LedgerUnavailable `disk-full` below the reserve. Asking costs a trip to another thread: not every time. */
  async #checkRoom(now = performance.now()): Promise<void> {
    if (now < this.#roomUntil) return
    const disk = await statfs(this.#path)
    const free = disk.bavail * disk.bsize
    const reserve = Math.min(RESERVE_BYTES, disk.blocks * disk.bsize * 0.05)
    if (free < reserve) throw new LedgerUnavailable('disk-full', 'the disk is full')
    this.#roomUntil = free > 16 * RESERVE_BYTES ? now + ROOM_MS : 0
  }

  /** LMDB tells a full disk as an I/O error. With room on the disk it is one, and then nobody may go on. */
  async #judge(error: unknown): Promise<Error> {
    if (error instanceof LedgerUnavailable || error instanceof DamagedLedger) return error
    this.#roomUntil = 0
    try {
      await this.#checkRoom()
    } catch {
      return new LedgerUnavailable('disk-full', 'the disk is full')
    }
    return new DamagedLedger('the ledger could not be written', { cause: error })
  }

  /** Judges the commits in order, writes the accepted ones in one transaction, then answers all of them. */
  async #writeBatch(batch: readonly Waiting[]): Promise<void> {
    const overlay = new Map<string, Latest & { readonly value: Uint8Array | null }>()
    const results: CommitResult[] = []
    const revisions: Revision[] = []
    const records: Uint8Array[] = []
    let next = this.#head + 1
    for (const { commit } of batch) {
      const found = commit.if.map((guard): Found => this.#find(guard.key, overlay))
      if (found.some((each, i) => each.revision !== commit.if[i].revision)) {
        results.push({ ok: false, revision: next - 1, found })
        continue
      }
      const puts = commit.put.filter((put) => put.value !== null || this.#find(put.key, overlay).revision > 0)
      if (puts.length === 0) {
        results.push({ ok: true, revision: next - 1 })
        continue
      }
      const before = puts.map((put) => overlay.get(put.key)?.revision ?? this.#latest(put.key)?.revision ?? 0)
      records.push(encodeRecord(next, puts, before))
      for (const { key, value } of puts) overlay.set(key, { revision: next, removed: value === null, value })
      revisions.push({ revision: next, puts })
      results.push({ ok: true, revision: next })
      next++
    }
    if (revisions.length > 0) {
      await settled([
        ...revisions.map(({ revision }, i) => this.#log.put(revision, records[i])),
        ...[...overlay].map(([key, latest]) => this.#keys.put(key, encodeLatest(key, latest))),
      ])
      this.#head = next - 1
      this.#remember(revisions)
    }
    for (const [i, each] of batch.entries()) each.resolve(results[i])
  }

  #remember(revisions: readonly Revision[]): void {
    for (const revision of revisions) {
      this.#recent.push(revision)
      this.#recentBytes += revisionBytes(revision)
    }
    let drop = 0
    while (this.#recentBytes > RECENT_BYTES) this.#recentBytes -= revisionBytes(this.#recent[drop++])
    if (drop > 0) this.#recent.splice(0, drop)
    this.#signal()
  }

  #signal(): void {
    this.#wake.resolve()
    this.#wake = Promise.withResolvers<void>()
  }

  #find(key: string, overlay: ReadonlyMap<string, Latest & { readonly value: Uint8Array | null }>): Found {
    const fresh = overlay.get(key)
    if (fresh) return { key, revision: fresh.removed ? 0 : fresh.revision, value: fresh.value }
    const latest = this.#latest(key)
    if (!latest || latest.removed) return { key, revision: 0, value: null }
    const value = this.#valueAt(key, latest.revision)
    return { key, revision: latest.revision, value }
  }

  #latest(key: string): Latest | undefined {
    const bytes = this.#keys.get(key)
    return bytes ? decodeLatest(key, bytes) : undefined
  }

  #valueAt(key: string, revision: number): Uint8Array | null {
    const put = this.#read(revision)?.puts.find((each) => each.key === key)
    if (!put) throw new DamagedLedger(`revision ${revision} does not hold ${key}`)
    return put.value
  }

  #read(revision: number): Record_ | undefined {
    const bytes = this.#log.get(revision)
    return bytes ? decodeRecord(revision, bytes) : undefined
  }

  async read(key: string): Promise<Found> {
    return this.#find(key, new Map())
  }

  async head(): Promise<number> {
    return this.#head
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    signal?.addEventListener('abort', () => this.#signal(), { once: true })
    let last = after
    for (;;) {
      if (this.#closed || signal?.aborted) return
      if (last >= this.#head) {
        await this.#wake.promise
        continue
      }
      const first = this.#recent[0]?.revision ?? Number.POSITIVE_INFINITY
      const revision = last + 1 >= first ? this.#recent[last + 1 - first] : this.#read(last + 1)
      if (!revision) throw new Compacted(`revision ${last + 1} is gone`)
      last = revision.revision
      yield revision
    }
  }

  async snapshot(): Promise<{ revision: number; entries: AsyncIterable<SnapshotEntry> }> {
    const revision = this.#head
    return { revision, entries: this.#entriesAt(revision) }
  }

  /** Pages through the keys, so that no read transaction is long; what changed meanwhile is followed back. */
  async *#entriesAt(at: number): AsyncIterable<SnapshotEntry> {
    let after: string | undefined
    for (;;) {
      const page: { key: string; value: Uint8Array }[] = []
      const range = after === undefined ? {} : { start: after, exclusiveStart: true }
      for (const { key, value } of this.#keys.getRange({ ...range, limit: SNAPSHOT_PAGE })) {
        page.push({ key, value: Uint8Array.from(value) })
      }
      if (page.length === 0) return
      for (const { key, value } of page) {
        after = key
        let revision = decodeLatest(key, value).revision
        while (revision > at) {
          const record = this.#read(revision)
          assert(record, 'a revision of a key is in the log')
          revision = record.before[record.puts.findIndex((put) => put.key === key)]
        }
        if (revision === 0) continue
        const live = this.#valueAt(key, revision)
        if (live !== null) yield { key, value: live, revision }
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async problems(): Promise<readonly string[]> {
    try {
      await this.#checkRoom()
      return []
    } catch (error) {
      return [error instanceof Error ? error.message : 'the disk cannot be asked']
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#signal()
    await this.#writing
    await this.#env.close()
  }
}

/** Reads a ledger through: every record against its checksum. Throws DamagedLedger, or dies in LMDB. */
export function verifyLedger(path: string): number {
  const env = open({ path, encoding: 'binary', maxDbs: 4, readOnly: true })
  const log: Database<Uint8Array, number> = env.openDB({ name: 'log', encoding: 'binary' })
  const keys: Database<Uint8Array, string> = env.openDB({ name: 'keys', encoding: 'binary' })
  let last = 0
  for (const { key, value } of log.getRange({ snapshot: false })) {
    decodeRecord(key, value)
    if (last !== 0 && key !== last + 1) throw new DamagedLedger(`revision ${last + 1} is missing`)
    last = key
  }
  for (const { key, value } of keys.getRange({ snapshot: false })) {
    if (decodeLatest(key, value).revision > last) throw new DamagedLedger(`${key} is newer than the log`)
  }
  return last
}

function revisionBytes(revision: Revision): number {
  return revision.puts.reduce((sum, put) => sum + put.key.length + (put.value?.length ?? 0), 64)
}

/** A revision as stored: `before` is each key's revision before this put, 0 where there was none. */
type Record_ = Revision & { readonly before: readonly number[] }

// Record: crc32 u32 · puts u16 · for each: key length u16, revision before f64, value length u32 (2^32 - 1: removed),
// key, value. The checksum covers the revision number and all that follows it.
const REMOVED = 0xffff_ffff

function encodeRecord(revision: number, puts: readonly LedgerPut[], before: readonly number[]): Uint8Array {
  const size = puts.reduce((sum, put) => sum + 14 + put.key.length + (put.value?.length ?? 0), 6)
  const bytes = Buffer.allocUnsafe(size)
  bytes.writeUInt16BE(puts.length, 4)
  let at = 6
  for (const [i, { key, value }] of puts.entries()) {
    bytes.writeUInt16BE(key.length, at)
    bytes.writeDoubleBE(before[i], at + 2)
    bytes.writeUInt32BE(value === null ? REMOVED : value.length, at + 10)
    bytes.write(key, at + 14, 'latin1')
    at += 14 + key.length
    if (value === null) continue
    bytes.set(value, at)
    at += value.length
  }
  bytes.writeUInt32BE(crc32(bytes.subarray(4), crc32(String(revision))), 0)
  return bytes
}

function decodeRecord(revision: number, source: Uint8Array): Record_ {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length)
  if (bytes.length < 6 || bytes.readUInt32BE(0) !== crc32(bytes.subarray(4), crc32(String(revision)))) {
    throw new DamagedLedger(`revision ${revision} does not match its checksum`)
  }
  const puts: LedgerPut[] = []
  const before: number[] = []
  let at = 6
  for (let i = bytes.readUInt16BE(4); i > 0; i--) {
    const keyLength = bytes.readUInt16BE(at)
    before.push(bytes.readDoubleBE(at + 2))
    const length = bytes.readUInt32BE(at + 10)
    const key = bytes.toString('latin1', at + 14, at + 14 + keyLength)
    at += 14 + keyLength
    puts.push({ key, value: length === REMOVED ? null : bytes.subarray(at, at + length) })
    if (length !== REMOVED) at += length
  }
  return { revision, puts, before }
}

function encodeLatest(key: string, latest: Latest): Uint8Array {
  const bytes = Buffer.allocUnsafe(13)
  bytes.writeDoubleBE(latest.revision, 4)
  bytes[12] = latest.removed ? 1 : 0
  bytes.writeUInt32BE(crc32(bytes.subarray(4), crc32(key)), 0)
  return bytes
}

function decodeLatest(key: string, source: Uint8Array): Latest {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length)
  if (bytes.length !== 13 || bytes.readUInt32BE(0) !== crc32(bytes.subarray(4), crc32(key))) {
    throw new DamagedLedger(`the key ${key} does not match its checksum`)
  }
  return { revision: bytes.readDoubleBE(4), removed: bytes[12] === 1 }
}
