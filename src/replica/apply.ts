// Applies revisions of the ledger. Pages, entries and the cursor are written to LMDB in a single transaction;
// when the transaction can be read, the token tables and the state follow. The tables decide whether a
// mapping is a duplicate.
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import type { Known, Reader } from '../ledger/ledger.ts'
import { decodeEntry, type Entry } from '../state/entries.ts'
import type { Segment } from '../state/segment.ts'
import { type Decoded, State } from '../state/state.ts'
import type { SecretVersion } from '../state/version.ts'
import { nextTurn } from '../waiting.ts'
import { Checkpointer } from './checkpoint.ts'
import { bodiesAt, encodePages, PAGE_MAPPINGS, pageIsWhole, pageTable } from './page.ts'
import { ledgerMismatch, readGenesis, witnessOf } from './recognition.ts'
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

/** Pages read in a turn of the event loop, and in a read transaction. */
const PAGES_A_TURN = 10_000
/** Page numbers are stored as u32. */
const LAST_PAGE = 0xffff_ffff

const EMPTY: Meta = {
  format: REPLICA_FORMAT,
  ledger: '',
  cursor: 0,
  pages: 0,
  records: 0,
  witness: '',
  checkpoint: '',
}

/**
 * The effects of a revision, applied in a single transaction. The parts of a snapshot keep the cursor's
 * revision until the last part, which has the snapshot's revision and `whole`.
 */
export type DecodedRevision = {
  readonly revision: number
  readonly decoded: readonly Decoded[]
  /** Keys of receipts that were removed. */
  readonly removed: readonly string[]
  readonly bytes: number
  readonly whole?: boolean
}

/** A batch for the store, and its effects in memory. */
type Prepared = {
  readonly batch: Batch
  /** The first page of each segment, the record of each version and receipt. */
  readonly numbers: ReadonlyMap<Entry, number>
  readonly segmentCounts: SegmentCounts
}

export class Applier {
  readonly state = new State()
  readonly tables = new Tables()
  /** The record number of every receipt. */
  readonly receipts = new ReceiptIndex()
  readonly checkpointer: Checkpointer
  /** The last revision whose effects can be read here. */
  applied: number
  /** Since the start: segments applied, and their mappings that were known already. */
  segments = 0
  ignoredDuplicates = 0
  readonly #store: ReplicaStore
  #meta: Meta
  #segmentCounts = new SegmentCounts()

  /** Throws DamagedReplica where the file has another format. */
  constructor(path: string, store: ReplicaStore, clock: Clock) {
    const meta = store.meta() ?? EMPTY
    if (meta.format !== REPLICA_FORMAT) throw new DamagedReplica('the replica has another format')
    this.#store = store
    this.#meta = meta
    this.applied = meta.cursor
    this.checkpointer = new Checkpointer(path, clock, {
      tables: this.tables,
      pages: () => this.#meta.pages,
      flushed: () => store.flushed(),
      record: async (checkpoint) => {
        this.#meta = { ...this.#meta, checkpoint }
        await store.writeMeta(this.#meta)
      },
    })
  }

  /** Identity of the followed ledger; undefined before the first contact. */
  get identity(): string | undefined {
    return this.#meta.ledger || undefined
  }

  /** The applied segments of each boot, which a snapshot may leave out. */
  known(): Known[] {
    return this.#segmentCounts.known()
  }

  /** Reads the file into memory. Throws DamagedReplica where a record does not match its checksum. */
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
      assert(entry?.kind === 'version' || entry?.kind === 'receipt', 'records are versions or receipts')
      if (entry.kind === 'receipt') this.receipts.set(key, number)
      else this.state.apply(revision, key, entry, number)
    }
    await this.#loadPages(await this.checkpointer.load(this.#meta.checkpoint))
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
    this.checkpointer.added((this.#meta.pages - from) * PAGE_MAPPINGS)
  }

  /**
   * Applies the revisions in a single transaction. `report` is called with every entry when the entry can be
   * read. Throws WriteFailed, with nothing applied.
   */
  async apply(revisions: readonly DecodedRevision[], report: (put: Decoded) => void): Promise<void> {
    const { batch, numbers, segmentCounts } = this.#prepare(revisions)
    await this.#store.write(batch)
    this.#meta = batch.meta
    this.#segmentCounts = segmentCounts
    for (const table of batch.tables) this.tables.add(table.id, table.owner, table.epoch)
    for (const { revision, decoded, removed } of revisions) {
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
    assert(this.applied === batch.meta.cursor, 'the cursor is stored with the data of its revision')
  }

  #prepare(revisions: readonly DecodedRevision[]): Prepared {
    const pages: { number: number; page: Buffer }[] = []
    const entries: StoredEntry[] = []
    const records = new Records(this.#meta.records, (key, entry) => this.#recordOf(key, entry))
    const tables = new Map<string, StoredTable>()
    const numbers = new Map<Entry, number>()
    const segmentCounts = this.#segmentCounts.copy()
    let nextPage = this.#meta.pages
    let cursor = this.applied
    for (const { decoded, removed, revision, whole } of revisions) {
      const ahead = revision === this.applied && !whole
      assert(ahead || whole || revision === cursor + 1, 'revisions are dense: each is the cursor + 1')
      assert(revision >= cursor, 'the cursor never goes back')
      cursor = revision
      for (const key of removed) records.remove(key)
      for (const { key, entry, value, revision } of decoded) {
        if (entry.kind === 'version' || entry.kind === 'receipt') {
          numbers.set(entry, records.put({ key, revision, value }, entry))
        } else if (entry.kind !== 'segment') {
          entries.push({ key, revision, value })
        } else if (segmentCounts.add(entry, ahead)) {
          const table = this.#tableOf(entry, tables)
          numbers.set(entry, nextPage)
          for (const page of encodePages(entry, table.id, nextPage)) pages.push({ number: nextPage++, page })
        } // else an unfinished snapshot has brought the segment already
      }
      if (whole) segmentCounts.catchUp()
    }
    assert(nextPage <= LAST_PAGE, 'a page number has 32 bits')
    const witness = witnessOf(revisions) ?? this.#meta.witness
    const meta = { ...this.#meta, cursor, pages: nextPage, records: records.next, witness }
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

  /** The table of a segment: known, or among `added`, or added there. */
  #tableOf({ owner, epoch }: Segment, added: Map<string, StoredTable>): StoredTable {
    const name = `${owner}@${epoch}`
    const known = this.tables.get(owner, epoch) ?? added.get(name)
    if (known) return known
    const table = { id: this.tables.nextId + added.size, owner, epoch }
    added.set(name, table)
    return table
  }

  #insert(segment: Segment, firstPage: number): void {
    const fresh = this.tables.insertSegment(segment, firstPage)
    this.segments++
    this.ignoredDuplicates += segment.count - fresh
    this.checkpointer.added(fresh)
  }

  /** Keys of all receipts. Throws DamagedReplica. */
  receiptKeys(): string[] {
    return [...this.receipts.numbers()].flatMap((number) => this.#store.record(number)?.key ?? [])
  }

  #recordOf(key: string, entry?: SecretVersion): number | undefined {
    if (!entry) return this.receipts.get(key)
    return this.state.owners.get(entry.owner)?.secrets.get(entry.name)?.[entry.version - 1]?.record
  }

  /**
   * Why the ledger is not the followed ledger; undefined where it is. A replica that has followed no ledger
   * yet follows this ledger from now on. Throws CorruptEntry, LedgerUnavailable.
   */
  async ledgerMismatch(ledger: Reader): Promise<string | undefined> {
    const genesis = await readGenesis(ledger)
    if (!genesis) return 'the ledger is empty'
    if (this.#meta.ledger === '') this.#meta = { ...this.#meta, ledger: genesis.identity }
    return ledgerMismatch(ledger, genesis, this.#meta)
  }

  /** Writes a last checkpoint and closes the file: nothing may be applied any more. */
  async close(failed: (error: Error) => void): Promise<void> {
    await this.checkpointer.close(failed)
    await this.#store.close()
  }
}
