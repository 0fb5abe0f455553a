// The durable fold of the ledger: revisions in; pages, entries and the cursor in LMDB in one transaction; then, when
// they can be read, the token tables and the state. Duplicates are decided there. And the checkpoint of the tables.
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import { type Clock, randomHex } from '../clock.ts'
import type { Known, Reader } from '../ledger/ledger.ts'
import { decodeEntry, type Entry, LEDGER_FORMAT } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { Segment } from '../state/segment.ts'
import { type Decoded, State } from '../state/state.ts'
import type { SecretVersion } from '../state/version.ts'
import { CorruptEntry } from '../state/writer.ts'
import { nextTurn } from '../waiting.ts'
import { readCheckpoint, removeOtherCheckpoints, writeCheckpoint } from './checkpoint.ts'
import { bodiesAt, encodePages, PAGE_MAPPINGS, pageIsWhole, pageTable } from './page.ts'
import { ReceiptIndex, Records } from './records.ts'
import { SegmentCounts } from './segment-counts.ts'
import {
  type Batch,
  DamagedReplica,
  type Meta,
  REPLICA_FORMAT,
  type ReplicaStore,
  type StoredEntry,
  type StoredTable,
} from './store.ts'
import { Tables } from './tables.ts'

/** New mappings since the last checkpoint that make a new one worth its writing. */
const CHECKPOINT_MAPPINGS = 1_000_000
/** Pages read in one turn of the event loop, and in one read transaction. */
const PAGES_A_TURN = 10_000

/**
 * What leads to one revision; all of it is applied in one transaction. In a snapshot `revision` stays the cursor's until
 * all is there: then the last step has `whole`.
 */
export type Step = {
  readonly revision: number
  readonly decoded: readonly Decoded[]
  /** Keys of entries that are no longer there. */
  readonly removed: readonly string[]
  readonly bytes: number
  readonly whole?: boolean
}

export class Applier {
  readonly state = new State()
  readonly tables = new Tables()
  /** The record of every receipt. */
  readonly receipts = new ReceiptIndex()
  /** The last revision whose effects can be read here. */
  applied: number
  /** Since the start: segments applied, and mappings in them that were there already. */
  segments = 0
  ignoredDuplicates = 0
  readonly #path: string
  readonly #store: ReplicaStore
  readonly #clock: Clock
  #meta: Meta
  #segmentCounts = new SegmentCounts()
  #sinceCheckpoint = 0
  #checkpointing: Promise<void> | undefined

  /** Throws DamagedReplica where the file has another format. */
  constructor(path: string, store: ReplicaStore, clock: Clock) {
    const meta = store.meta() ?? {
      format: REPLICA_FORMAT,
      ledger: '',
      cursor: 0,
      pages: 0,
      records: 0,
      witness: '',
      checkpoint: '',
    }
    if (meta.format !== REPLICA_FORMAT) throw new DamagedReplica('the replica has another format')
    this.#path = path
    this.#store = store
    this.#clock = clock
    this.#meta = meta
    this.applied = meta.cursor
  }

  /** Identity of the ledger that is followed; undefined where none has been seen yet. */
  get identity(): string | undefined {
    return this.#meta.ledger || undefined
  }

  /** What is here of each boot's segments, for a snapshot that leaves it out. */
  known(): Known[] {
    return this.#segmentCounts.known()
  }

  /** Reads what is stored. Throws DamagedReplica where a record does not match its checksum. */
  async load(): Promise<void> {
    for (const { id, owner, epoch } of this.#store.tables()) this.tables.add(id, owner, epoch)
    this.#segmentCounts = new SegmentCounts(this.#store.segmentCounts())
    for (const { key, revision, value } of this.#store.entries()) {
      const entry = decodeEntry(key, value)
      assert(entry && entry.kind !== 'segment', 'segments are stored as pages')
      this.state.apply(revision, key, entry)
    }
    for (const { number, key, revision, value } of this.#store.records()) {
      const entry = decodeEntry(key, value)
      assert(entry?.kind === 'version' || entry?.kind === 'receipt', 'others are stored by their keys')
      if (entry.kind === 'receipt') this.receipts.set(key, number)
      else this.state.apply(revision, key, entry, number)
    }
    await this.#loadPages(await this.#loadCheckpoint())
  }

  /** Returns the first page that the checkpoint does not cover. */
  async #loadCheckpoint(): Promise<number> {
    const [name, covered] = this.#meta.checkpoint.split(' ')
    const tables = name ? await readCheckpoint(this.#path, name, Number(covered)) : undefined
    await removeOtherCheckpoints(this.#path, tables ? name : '')
    if (!tables) {
      if (name) await this.#writeMeta({ checkpoint: '' })
      return 0
    }
    for (const [id, tokens] of tables) {
      const table = this.tables.byId(id)
      if (table) this.tables.add(id, table.owner, table.epoch, tokens)
    }
    return Number(covered)
  }

  async #loadPages(from: number): Promise<void> {
    const bodies = new Uint32Array(PAGE_MAPPINGS * 4)
    const bodyBytes = Buffer.from(bodies.buffer)
    let expected = from
    while (expected < this.#meta.pages) {
      const stop = Math.min(expected + PAGES_A_TURN, this.#meta.pages)
      for (const { number, page } of this.#store.pages(expected, stop)) {
        if (number !== expected || !pageIsWhole(page, page.length, number)) break
        const table = this.tables.byId(pageTable(page))
        if (!table) throw new DamagedReplica(`page ${number} belongs to no table`)
        const count = page[8]
        page.copy(bodyBytes, 0, bodiesAt(count), bodiesAt(count) + 16 * count)
        this.tables.insertPage(table, bodies, count, number)
        expected++
      }
      if (expected < stop) throw new DamagedReplica(`page ${expected} is damaged or missing`)
      await nextTurn()
    }
    this.#sinceCheckpoint = (this.#meta.pages - from) * PAGE_MAPPINGS
  }

  /**
   * Applies the steps in one transaction. `report` hears of every entry when it can be read. Throws WriteFailed, with
   * nothing applied.
   */
  async apply(steps: readonly Step[], report: (put: Decoded) => void): Promise<void> {
    const { batch, numbers, segmentCounts } = this.#prepare(steps)
    await this.#store.write(batch)
    this.#meta = batch.meta
    this.#segmentCounts = segmentCounts
    for (const table of batch.tables) this.tables.add(table.id, table.owner, table.epoch)
    for (const { revision, decoded, removed } of steps) {
      for (const key of removed) this.receipts.delete(key)
      for (const put of decoded) {
        const { entry, key } = put
        const number = numbers.get(entry)
        if (entry.kind === 'segment') {
          if (number !== undefined) this.#insert(entry, number)
        } else if (entry.kind === 'receipt') {
          assert(number !== undefined, 'a receipt is a record')
          this.receipts.set(key, number)
        } else this.state.apply(put.revision, key, entry, number)
        report(put)
      }
      this.applied = revision
    }
  }

  /** `numbers`: the first page of a segment, the record of a version or a receipt. */
  #prepare(steps: readonly Step[]): {
    batch: Batch
    numbers: Map<Entry, number>
    segmentCounts: SegmentCounts
  } {
    const pages: { number: number; page: Buffer }[] = []
    const entries: StoredEntry[] = []
    const records = new Records(this.#meta.records, (key, entry) => this.#recordOf(key, entry))
    const tables = new Map<string, StoredTable>()
    const numbers = new Map<Entry, number>()
    const segmentCounts = this.#segmentCounts.copy()
    let next = this.#meta.pages
    for (const { decoded, removed, revision: cursor, whole } of steps) {
      for (const key of removed) records.remove(key)
      const ahead = cursor === this.applied && !whole
      for (const { key, entry, value, revision } of decoded) {
        if (entry.kind === 'version' || entry.kind === 'receipt') {
          numbers.set(entry, records.put({ key, revision, value }, entry))
          continue
        }
        if (entry.kind !== 'segment') {
          entries.push({ key, revision, value })
          continue
        }
        if (!segmentCounts.add(entry, ahead)) continue // a snapshot that broke off has brought it already
        const { owner, epoch } = entry
        const name = `${owner}@${epoch}`
        let table: StoredTable | undefined = this.tables.get(owner, epoch) ?? tables.get(name)
        if (!table) {
          table = { id: this.tables.nextId + tables.size, owner, epoch }
          tables.set(name, table)
        }
        numbers.set(entry, next)
        for (const page of encodePages(entry, table.id, next)) pages.push({ number: next++, page })
      }
      if (whole) segmentCounts.catchUp()
    }
    const cursor = steps[steps.length - 1].revision
    const meta = {
      ...this.#meta,
      cursor,
      pages: next,
      records: records.next,
      witness: witnessOf(steps) ?? this.#meta.witness,
    }
    const batch = {
      pages,
      entries,
      records: records.list,
      tables: [...tables.values()],
      segmentCounts: segmentCounts.changed(),
      meta,
    }
    return { batch, numbers, segmentCounts }
  }

  /**
   * Why this is not the ledger that was followed, undefined where it is: it has the same identity, its head is not
   * before the cursor, and the last immutable entry applied is there with the same revision and bytes. A replica that
   * has followed none yet follows this one from now on. Throws CorruptEntry, LedgerUnavailable.
   */
  async ledgerMismatch(ledger: Reader): Promise<string | undefined> {
    const meta = this.#meta
    const found = await ledger.read(ledgerKey.genesis)
    const genesis = found.value ? decodeEntry(ledgerKey.genesis, found.value) : undefined
    if (genesis?.kind !== 'genesis') return 'the ledger is empty'
    if (genesis.format > LEDGER_FORMAT)
      throw new CorruptEntry(`the ledger has format ${genesis.format}, this version knows ${LEDGER_FORMAT}`)
    if (meta.ledger === '') this.#meta = { ...this.#meta, ledger: genesis.identity }
    else if (genesis.identity !== meta.ledger)
      return `the ledger is ${genesis.identity}, and the replica follows ${meta.ledger}`
    const head = await ledger.head()
    if (head < meta.cursor)
      return `the ledger ends at revision ${head}, and revision ${meta.cursor} has been applied here`
    return this.#missingWitness(ledger, meta.witness)
  }

  async #missingWitness(ledger: Reader, witness: string): Promise<string | undefined> {
    if (witness === '') return undefined
    const [key, revision, checksum] = witness.split(' ')
    const { value, revision: at } = await ledger.read(key)
    if (value !== null && at === Number(revision) && crc32(value) === Number(checksum)) return undefined
    return `the ledger does not hold ${key} as it was applied here at revision ${revision}`
  }

  #insert(segment: Segment, firstPage: number): void {
    const fresh = this.tables.insertSegment(segment, firstPage)
    this.segments++
    this.ignoredDuplicates += segment.count - fresh
    this.#sinceCheckpoint += fresh
  }

  /** Of all receipts. Throws DamagedReplica. */
  receiptKeys(): string[] {
    return [...this.receipts.numbers()].flatMap((number) => this.#store.record(number)?.key ?? [])
  }

  #recordOf(key: string, entry?: SecretVersion): number | undefined {
    if (!entry) return this.receipts.get(key)
    return this.state.owners.get(entry.owner)?.secrets.get(entry.name)?.[entry.version - 1]?.record
  }

  /** Begins a checkpoint in the background when enough is new; one at a time. */
  checkpointIfDue(failed: (error: Error) => void): void {
    const due = Math.max(CHECKPOINT_MAPPINGS, this.tables.mappings * 0.25)
    if (this.#sinceCheckpoint < due || this.#checkpointing !== undefined) return
    this.#checkpointing = this.checkpoint()
      .catch(failed)
      .finally(() => {
        this.#checkpointing = undefined
      })
  }

  /** Writes a checkpoint, where anything is new since the last one. */
  async checkpoint(): Promise<void> {
    if (this.#sinceCheckpoint === 0) return
    this.#sinceCheckpoint = 0
    const covered = this.#meta.pages
    await this.#store.flushed()
    const name = randomHex(this.#clock, 8)
    await writeCheckpoint(
      this.#path,
      name,
      this.tables.all().map(({ id, tokens }) => ({ id, table: tokens })),
    )
    await this.#writeMeta({ checkpoint: `${name} ${covered}` })
    await removeOtherCheckpoints(this.#path, name)
  }

  async #writeMeta(change: Partial<Meta>): Promise<void> {
    this.#meta = { ...this.#meta, ...change }
    await this.#store.writeMeta(this.#meta)
  }

  /** Nothing may be applied any more: writes a last checkpoint, and closes the file. */
  async close(failed: (error: Error) => void): Promise<void> {
    await this.#checkpointing
    await this.checkpoint().catch(failed)
    await this.#store.close()
  }
}

/** Key, revision and checksum of the last entry of the steps that is never put again. */
function witnessOf(steps: readonly Step[]): string | undefined {
  for (let i = steps.length - 1; i >= 0; i--) {
    const put = steps[i].decoded.findLast(({ entry }) => entry.kind === 'segment' || entry.kind === 'boot')
    if (put) return `${put.key} ${put.revision} ${crc32(put.value)}`
  }
  return undefined
}
