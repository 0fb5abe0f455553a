// The embedded driver: one LMDB file, a single writer. `log` has every revision with its puts (so a segment
// is written once), `keys` the latest revision of every key. Waiting commits are judged and written together,
// one transaction at a time: a failed transaction then takes only its own commits along, and leaves no gap.
//
// overlappingSync is off: with overlappingSync lmdb shows a write before the write is durable. Without, a
// transaction is flushed first, at the same throughput for batches (measured): a visible revision is durable.
import { type Database, open, type RootDatabase } from 'lmdb'
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import { FatalError } from '../errors.ts'
import { nextTurn } from '../waiting.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  commitBytes,
  type Found,
  type Health,
  type KeyRange,
  type Ledger,
  LedgerUnavailable,
  type Revision,
  type RevisionPut,
  type Snapshot,
  type SnapshotEntry,
} from './ledger.ts'
import {
  DamagedLedger,
  decodeLatest,
  decodeRecord,
  encodeFormat,
  encodeLatest,
  encodeRecord,
  FORMAT_AT,
  isOwnFormat,
  type Latest,
  otherFormat,
  putIn,
  type Stored,
} from './lmdb-records.ts'
import { checkRoomToOpen, DiskRoom, type Transaction } from './lmdb-room.ts'
import { Transactions } from './lmdb-transaction.ts'
import { PendingCommit } from './pending-commit.ts'

/** Bytes of commits in one transaction. */
const BATCH_BYTES = 8 * 1024 * 1024
/** The newest revisions stay in memory: a follower at the head reads nothing back from the file. */
const RECENT_BYTES = 16 * 1024 * 1024
const READERS_MS = 60_000
/** Entries of a snapshot in a read transaction, and bytes of values in a turn of the event loop. */
const SNAPSHOT_PAGE = 1000
const TURN_BYTES = 1024 * 1024
const READ_ONLY = 'the ledger was opened for reading only'

/** The puts of a transaction that is being put together, by key. */
type Overlay = Map<string, Latest & RevisionPut>

type LmdbOptions = { readonly readOnly?: boolean; readonly room?: Pick<DiskRoom, 'check'> }

const NOTHING: Transaction = { puts: 0, bytes: 0 }

export class LmdbLedger implements Ledger {
  readonly full = false
  readonly right = true
  readonly #room: Pick<DiskRoom, 'check'>
  readonly #readOnly: boolean
  readonly #env: RootDatabase
  readonly #transactions: Transactions
  readonly #log: Database<Uint8Array, number>
  readonly #keys: Database<Uint8Array, string>
  #head: number
  readonly #waiting: PendingCommit[] = []
  #writing: Promise<void> | undefined
  readonly #recent: Revision[] = []
  #recentBytes = 0
  /** When to check for dead readers again, by `performance.now()`. */
  #readersAt = 0
  #wake = Promise.withResolvers<void>()
  #closed = false

  /**
   * `readOnly`: for `read`, `head` and `snapshot`, while another process may write. Within one process a file
   * is opened once. Throws OperatorError for a file of another format.
   */
  constructor(path: string, { readOnly = false, room = new DiskRoom(path) }: LmdbOptions = {}) {
    this.#room = room
    this.#readOnly = readOnly
    checkRoomToOpen(path)
    this.#env = open({
      path,
      overlappingSync: false,
      encoding: 'binary',
      maxDbs: 4,
      noSubdir: false,
      readOnly,
    })
    this.#transactions = new Transactions(this.#env, path)
    this.#log = this.#env.openDB({ name: 'log', encoding: 'binary' })
    this.#keys = this.#env.openDB({ name: 'keys', encoding: 'binary' })
    this.#head = this.#lastRevision()
    this.#checkFormat()
  }

  /** A new file gets its format before its first revision. */
  #checkFormat(): void {
    const record = this.#log.get(FORMAT_AT)
    if (record === undefined && this.#head === 0) {
      if (!this.#readOnly) this.#log.putSync(FORMAT_AT, encodeFormat())
      return
    }
    if (isOwnFormat(record)) return
    void this.#env.close()
    throw otherFormat(record)
  }

  /** 0 where there is none: the key of the format. */
  #lastRevision(): number {
    const [last] = this.#log.getKeys({ reverse: true, limit: 1 })
    return last ?? FORMAT_AT
  }

  async commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    this.#checkOpen()
    if (this.#readOnly) throw new LedgerUnavailable('closed', READ_ONLY)
    const pending = new PendingCommit(commit, deadline, (each) => this.#leave(each))
    this.#waiting.push(pending)
    this.#writing ??= this.#write()
    return pending.outcome
  }

  #leave(pending: PendingCommit): void {
    const at = this.#waiting.indexOf(pending)
    if (at >= 0) this.#waiting.splice(at, 1)
  }

  async #write(): Promise<void> {
    await Promise.resolve() // commits of the same turn join the batch
    while (this.#waiting.length > 0) {
      let batch = this.#takeBatch()
      try {
        await this.#room.check(transactionOf(batch))
        batch = batch.filter((each) => each.depart() > 0)
        await this.#writeBatch(batch)
      } catch (error) {
        const failure = await this.#writeFailure(error)
        for (const each of batch) each.reject(failure)
      }
    }
    this.#writing = undefined
  }

  #takeBatch(): PendingCommit[] {
    let bytes = 0
    let count = 0
    while (count < this.#waiting.length && (count === 0 || bytes < BATCH_BYTES)) {
      bytes += commitBytes(this.#waiting[count].commit)
      count++
    }
    return this.#waiting.splice(0, count)
  }

  /** LMDB reports a full disk as an I/O error. An I/O error with room on the disk ends the node. */
  async #writeFailure(error: unknown): Promise<Error> {
    if (error instanceof LedgerUnavailable || error instanceof FatalError) return error
    try {
      await this.#room.check(NOTHING)
    } catch {
      return new LedgerUnavailable('disk-full', 'the disk is full')
    }
    return this.#transactions.fail(error)
  }

  /**
   * Judges the commits in order, writes the accepted commits in one transaction, then resolves all commits.
   */
  async #writeBatch(batch: readonly PendingCommit[]): Promise<void> {
    const overlay: Overlay = new Map()
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
      const { puts, before } = this.#putsAt(next, commit, overlay)
      if (puts.length === 0) {
        results.push({ ok: true, revision: next - 1 })
        continue
      }
      records.push(encodeRecord({ revision: next, puts, before }))
      for (const put of puts) overlay.set(put.key, { revision: next, ...put })
      revisions.push({ revision: next, puts })
      results.push({ ok: true, revision: next })
      next++
    }
    if (revisions.length > 0) {
      await this.#transactions.commit(() => [
        ...revisions.map(({ revision }, i) => this.#log.put(revision, records[i])),
        ...[...overlay].map(([key, latest]) => this.#keys.put(key, encodeLatest(key, latest))),
      ])
      this.#head = next - 1
      this.#remember(revisions)
    }
    for (const [i, each] of batch.entries()) each.resolve(results[i])
  }

  /** The puts of an accepted commit, without removals of absent keys, and each key's previous revision. */
  #putsAt(revision: number, commit: Commit, overlay: Overlay): Omit<Stored, 'revision'> {
    const puts: RevisionPut[] = []
    const before: number[] = []
    for (const { key, value } of commit.put) {
      const latest = overlay.get(key) ?? this.#latest(key)
      const created = latest?.created ?? 0
      if (value === null && created === 0) continue
      puts.push({ key, value, created: value === null ? 0 : created || revision })
      before.push(latest?.revision ?? 0)
    }
    return { puts, before }
  }

  #remember(revisions: readonly Revision[]): void {
    for (const revision of revisions) {
      const last = this.#recent.at(-1)
      assert(!last || revision.revision === last.revision + 1, 'revisions are dense')
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

  #find(key: string, overlay?: Overlay): Found {
    const fresh = overlay?.get(key)
    const latest = fresh ?? this.#latest(key)
    if (!latest || latest.created === 0) return { key, revision: 0, created: 0, value: null }
    const { value } = fresh ?? putIn(this.#record(latest.revision), key)
    return { key, revision: latest.revision, created: latest.created, value }
  }

  #latest(key: string): Latest | undefined {
    const bytes = this.#keys.get(key)
    return bytes ? decodeLatest(key, bytes) : undefined
  }

  #record(revision: number): Stored {
    const record = this.#read(revision)
    if (!record) throw new DamagedLedger(`revision ${revision} is missing`)
    return record
  }

  #read(revision: number): Stored | undefined {
    const bytes = this.#log.get(revision)
    return bytes ? decodeRecord(revision, bytes) : undefined
  }

  #checkOpen(): void {
    if (this.#closed) throw new LedgerUnavailable('closed', 'the ledger is closed')
  }

  async read(key: string): Promise<Found> {
    if (this.#readOnly) this.#refresh()
    return this.#find(key)
  }

  async head(): Promise<number> {
    if (this.#readOnly) this.#refresh()
    return this.#head
  }

  /** lmdb reads at one instant within a turn of the event loop; another process may have committed since. */
  #refresh(): void {
    this.#env.resetReadTxn()
    this.#head = this.#lastRevision()
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    if (this.#readOnly) throw new LedgerUnavailable('closed', READ_ONLY)
    const wake = (): void => this.#signal()
    signal?.addEventListener('abort', wake)
    try {
      for (let last = after; !(this.#closed || signal?.aborted); ) {
        if (last >= this.#head) await this.#wake.promise
        else {
          const first = this.#recent[0]?.revision ?? Number.POSITIVE_INFINITY
          const revision = last + 1 >= first ? this.#recent[last + 1 - first] : this.#read(last + 1)
          if (!revision) throw new Compacted(`revision ${last + 1} is gone`)
          last = revision.revision
          yield revision
        }
      }
    } finally {
      signal?.removeEventListener('abort', wake)
    }
  }

  async snapshot(ranges: readonly KeyRange[]): Promise<Snapshot> {
    const revision = await this.head()
    return { revision, entries: this.#entriesAt(revision, ranges) }
  }

  async *#entriesAt(at: number, ranges: readonly KeyRange[]): AsyncIterable<SnapshotEntry> {
    for (const range of ranges) yield* this.#rangeAt(at, range)
  }

  /**
   * Pages through the keys, so that no read transaction is long. Later puts are followed back to the revision
   * `at`.
   */
  async *#rangeAt(at: number, { from, to }: KeyRange): AsyncIterable<SnapshotEntry> {
    let after: string | undefined
    let record: Stored | undefined
    // Neighbouring keys often came in one commit: its record is read once.
    const recordOf = (revision: number): Stored => {
      if (record?.revision !== revision) record = this.#record(revision)
      return record
    }
    for (let bytes = 0; ; ) {
      this.#checkOpen()
      const page: { key: string; value: Uint8Array }[] = []
      const start = after === undefined ? { start: from } : { start: after, exclusiveStart: true }
      const range = { ...start, ...(to !== '' && { end: to }), limit: SNAPSHOT_PAGE }
      for (const { key, value } of this.#keys.getRange(range)) {
        page.push({ key, value: Uint8Array.from(value) })
      }
      if (page.length === 0) return
      for (const { key, value } of page) {
        after = key
        this.#checkOpen()
        let { revision } = decodeLatest(key, value)
        while (revision > at) {
          const { puts, before } = recordOf(revision)
          revision = before[puts.findIndex((put) => put.key === key)]
        }
        if (revision === 0) continue
        const { value: live, created } = putIn(recordOf(revision), key)
        if (live === null) continue
        yield { key, value: live, revision, created }
        bytes += live.length
        if (bytes < TURN_BYTES) continue
        bytes = 0
        await nextTurn()
      }
      await nextTurn()
    }
  }

  checkConnections(): void {}

  async health(): Promise<Health> {
    const well = { quorum: true, leader: undefined, members: [], used: 0, occupied: 0 }
    try {
      this.#forgetDeadReaders()
      await this.#room.check(NOTHING)
      return { ...well, problems: [] }
    } catch (error) {
      const problem = error instanceof Error ? error.message : 'the free disk space cannot be read'
      return { ...well, problems: [problem] }
    }
  }

  /** A process killed while reading, as a backup, would keep LMDB from using freed pages again. */
  #forgetDeadReaders(now = performance.now()): void {
    if (now < this.#readersAt) return
    this.#readersAt = now + READERS_MS
    this.#env.readerCheck()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#signal()
    await this.#writing
    await this.#transactions.close()
  }
}

function revisionBytes(revision: Revision): number {
  return revision.puts.reduce((sum, put) => sum + put.key.length + (put.value?.length ?? 0), 64)
}

/** Each put is in the log and, beside its key, in the latest values. */
function transactionOf(batch: readonly PendingCommit[]): Transaction {
  const sum = { puts: 0, bytes: 0 }
  for (const { commit } of batch) {
    sum.puts += commit.put.length
    sum.bytes += 2 * commitBytes(commit)
  }
  return sum
}
