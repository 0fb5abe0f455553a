// The machine: what revisions do to a replica. A pure step from a state and revisions to a batch for the
// store and effects in memory; the state itself changes only when the effects are applied, after the batch
// was written. So a failed write leaves nothing behind, and the next step may be computed again.
//
// A step lays out pages and numbers for every mapping. Whether a mapping is a duplicate is decided by the
// token table, when the effect `insert` is applied: the only fact that a step does not know.
import { assert } from '../assert.ts'
import type { Effect } from './effects.ts'
import { encodePages } from './page.ts'
import type { Decoded, RemovedReceipt } from './puts.ts'
import { type Receipt, receiptBytes } from './receipt.ts'
import { receiptId } from './receipt-index.ts'
import type { Segment } from './segment.ts'
import { type Ahead, aheadAfter, counted, isAhead, rangeOf, type SegmentRange } from './segment-ranges.ts'
import { entryBytes, type State, tableName } from './state.ts'
import type { Batch, Meta, StoredEntry, StoredTable } from './stored.ts'
import { type Witnesses, witnessesAfter } from './witness.ts'

/** Page numbers are stored as u32. */
const LAST_PAGE = 0xffff_ffff

/** A receipt by the part of its hash that the index has. */
type ReceiptPlace = { readonly owner: string; readonly id: string }

/**
 * The entries of a revision, or of a snapshot at a revision. The parts of a snapshot leave the cursor where
 * the cursor is, until the last part, which is `whole`. All receipts of a snapshot are in its parts: receipts
 * that are not are gone, and may be named before in `gone`.
 */
export type DecodedRevision = {
  readonly revision: number
  readonly decoded: readonly Decoded[]
  readonly removed: readonly RemovedReceipt[]
  readonly snapshot?: 'part' | 'whole'
  readonly gone?: readonly ReceiptPlace[]
}

type Followed = {
  /** Identity of the followed ledger. */
  readonly ledger: string
  /** A checkpoint that is durable now: the new value of `Meta.checkpoint`. */
  readonly checkpoint?: string | undefined
}

/** Revisions in order, dense. */
type StepInput = Followed & { readonly revisions: readonly DecodedRevision[] }

type Step = { readonly batch: Batch; readonly effects: readonly Effect[] }

/** Throws AssertionError where the revisions are not dense. */
export function step(state: State, { revisions, ...followed }: StepInput): Step {
  const open = new OpenStep(state)
  for (const revision of revisions) open.add(revision)
  return open.end(followed)
}

/**
 * A step under way: the batch and the effects so far, and the numbers that follow from these. Revisions may
 * be added in several turns of the event loop; the state must not change meanwhile.
 */
export class OpenStep {
  readonly #state: State
  readonly #before: Meta
  readonly #effects: Effect[] = []
  readonly #pages: Batch['pages'][number][] = []
  readonly #entries = new Map<string, StoredEntry>()
  readonly #records: Batch['records'][number][] = []
  readonly #tables = new Map<string, StoredTable>()
  readonly #dropped = new Set<number>()
  readonly #ranges = new Map<string, SegmentRange>()
  readonly #bytes = new Map<string, number>()
  /** Numbers and bytes of records put in the step, by key. */
  readonly #own = new Map<string, { readonly number: number; readonly bytes: number }>()
  /** Numbers of records removed in the step. */
  readonly #gone = new Set<number>()
  #cursor: number
  #nextPage: number
  #nextRecord: number
  #stored: Meta['stored']
  #partial: number
  #ahead: readonly Ahead[]
  #witnesses: Witnesses

  constructor(state: State) {
    const { meta } = state
    this.#state = state
    this.#before = meta
    this.#cursor = meta.cursor
    this.#nextPage = meta.pages
    this.#nextRecord = meta.records
    this.#stored = meta.stored
    this.#partial = meta.partial
    this.#ahead = meta.ahead
    this.#witnesses = meta.witnesses
  }

  add(revision: DecodedRevision): void {
    const { snapshot } = revision
    if (snapshot === undefined)
      assert(revision.revision === this.#cursor + 1, 'revisions are dense: each is the cursor + 1')
    assert(revision.revision >= this.#cursor, 'the cursor never goes back')
    for (const receipt of revision.removed) this.#removeReceipt(receipt)
    for (const { owner, id } of revision.gone ?? []) {
      const number = this.#state.owners.get(owner)?.receipts.get(id)
      if (number !== undefined) this.#dropReceipt(owner, id, number)
    }
    const applied = revision.decoded.filter((put) =>
      this.#put(put, snapshot === undefined ? undefined : revision.revision),
    )
    this.#witnesses = witnessesAfter(this.#witnesses, applied)
    if (snapshot === 'part') this.#noteAhead(revision)
    else this.#advance(revision)
  }

  /** Ends the step: the batch has the meta record that belongs to its data. */
  end({ ledger, checkpoint }: Followed): Step {
    const state = this.#state
    assert(this.#nextPage <= LAST_PAGE, 'a page number has 32 bits')
    assert(state.meta === this.#before, 'the state is as at the beginning of the step')
    assert(state.meta.ledger === '' || state.meta.ledger === ledger, 'a replica follows a single ledger')
    const meta: Meta = {
      ...state.meta,
      ledger,
      checkpoint: checkpoint ?? state.meta.checkpoint,
      cursor: this.#cursor,
      pages: this.#nextPage,
      records: this.#nextRecord,
      stored: this.#stored,
      partial: this.#partial,
      ahead: this.#ahead,
      witnesses: this.#witnesses,
    }
    const owners = [...this.#bytes].map(([owner, bytes]) => ({ owner, bytes }))
    for (const range of this.#ranges.values()) this.#effects.push({ kind: 'range', range })
    this.#effects.push({ kind: 'meta', meta })
    const batch: Batch = {
      pages: this.#pages.filter(({ table }) => !this.#dropped.has(table)),
      entries: [...this.#entries.values()],
      records: this.#records,
      tables: [...this.#tables.values()],
      ranges: [...this.#ranges.values()],
      owners,
      meta,
    }
    // First: bytes on their way are freed as soon as their revision is applied, and must count by then.
    const sums = owners.map((sum) => ({ kind: 'bytes', ...sum }) as const)
    return { batch, effects: [...sums, ...this.#effects] }
  }

  /** The cursor moves to the revision. A whole snapshot takes along the receipts that it has not brought. */
  #advance({ revision, snapshot }: DecodedRevision): void {
    if (snapshot === 'whole') this.#removeUnseen(revision)
    this.#cursor = revision
    if (this.#ahead.length > 0) this.#ahead = this.#ahead.filter((each) => each.revision > revision)
    this.#effects.push({ kind: 'applied', revision })
  }

  #noteAhead({ revision, decoded }: DecodedRevision): void {
    this.#partial = Math.max(this.#partial, revision)
    const last = decoded.findLast(({ entry }) => entry.kind === 'segment')
    if (last) this.#ahead = aheadAfter(this.#ahead, { to: last.key, revision })
  }

  /**
   * Returns false for an entry that is applied already, or is older than the applied entry. `snapshot`: the
   * revision of the snapshot that brings the entry.
   */
  #put(put: Decoded, snapshot: number | undefined): boolean {
    const { entry } = put
    switch (entry.kind) {
      case 'segment':
        return this.#putSegment(put, entry)
      case 'receipt':
        return this.#putReceipt(put, entry, snapshot)
      case 'version':
        return this.#putVersion(put)
      default:
        return this.#putEntry(put)
    }
  }

  #putSegment({ key, revision, value }: Decoded, segment: Segment): boolean {
    if (revision <= this.#state.meta.cursor || isAhead(this.#ahead, key, revision)) return false
    const { boot, n, owner, epoch } = segment
    const name = `${boot}/${rangeOf(n)}`
    const stored = this.#state.ranges.get(boot, rangeOf(n))
    const before = this.#ranges.get(name) ?? stored
    if (before === undefined) this.#count('ranges', 1)
    this.#ranges.set(name, counted(before, segment))
    this.#addBytes(owner, entryBytes(key, value))
    const table = this.#tableOf(owner, epoch)
    if (table.dropped) return true
    this.#effects.push({ kind: 'insert', table: table.id, page: this.#nextPage, segment })
    for (const page of encodePages(segment, table.id, this.#nextPage))
      this.#pages.push({ number: this.#nextPage++, table: table.id, page })
    return true
  }

  /** The table of an owner and epoch, added where there is none. */
  #tableOf(owner: string, epoch: number): StoredTable {
    const name = tableName(owner, epoch)
    const known = this.#tables.get(name) ?? this.#state.tables.get(name)
    if (known) return known
    const table = { id: this.#stored.tables, owner, epoch, dropped: false }
    this.#setTable(table)
    this.#count('tables', 1)
    return table
  }

  #setTable(table: StoredTable): void {
    this.#tables.set(tableName(table.owner, table.epoch), table)
    this.#effects.push({ kind: 'table', table })
  }

  #putReceipt({ key, revision, value }: Decoded, entry: Receipt, snapshot: number | undefined): boolean {
    const id = receiptId(entry.hash)
    const number = this.#receiptRecord(key, entry.owner, id)
    const known = number !== undefined && revision <= this.#state.meta.cursor
    const record = known ? number : this.#putRecord({ key, revision, value }, number)
    if (snapshot !== undefined) this.#effects.push({ kind: 'seen', revision: snapshot, record })
    if (known) return false
    if (number === undefined) this.#addBytes(entry.owner, receiptBytes(entry.owner))
    this.#effects.push({ kind: 'receipt', owner: entry.owner, id, record })
    return true
  }

  #receiptRecord(key: string, owner: string, id: string): number | undefined {
    const number = this.#own.get(key)?.number ?? this.#state.owners.get(owner)?.receipts.get(id)
    return number === undefined || this.#gone.has(number) ? undefined : number
  }

  #removeReceipt({ key, owner, hash }: RemovedReceipt): void {
    const id = receiptId(hash)
    const number = this.#receiptRecord(key, owner, id)
    if (number !== undefined) this.#dropReceipt(owner, id, number)
  }

  #dropReceipt(owner: string, id: string, number: number): void {
    assert(!this.#gone.has(number), 'a record is removed once')
    this.#gone.add(number)
    this.#records.push({ number, entry: undefined })
    this.#count('records', -1)
    this.#addBytes(owner, -receiptBytes(owner))
    this.#effects.push({ kind: 'receipt', owner, id })
  }

  /** Receipts that a snapshot has not brought are gone. */
  #removeUnseen(revision: number): void {
    if (this.#effects.length === 0 && this.#state.hasSeenAll(revision)) return
    const known = new Set(this.#gone)
    for (const { number } of this.#own.values()) known.add(number)
    for (const effect of this.#effects) if (effect.kind === 'seen') known.add(effect.record)
    for (const [owner, { receipts }] of this.#state.owners) {
      for (const [id, number] of receipts.entries())
        if (!this.#state.hasSeen(revision, number) && !known.has(number)) this.#dropReceipt(owner, id, number)
    }
  }

  #putVersion({ key, revision, value, entry, created }: Decoded): boolean {
    assert(entry.kind === 'version', 'a version has a record')
    const known = this.#state.versionOf(entry)
    if (known && revision <= known.revision) return false
    const before = this.#own.get(key) ?? (known && { number: known.record, bytes: known.bytes })
    const record = this.#putRecord({ key, revision, value }, before?.number)
    this.#addBytes(entry.owner, entryBytes(key, value) - (before?.bytes ?? 0))
    this.#effects.push({ kind: 'entry', put: { key, revision, value, entry, created }, record })
    return true
  }

  /** Replaces the record of the number, or adds a record. Returns the number. */
  #putRecord(stored: StoredEntry, before: number | undefined): number {
    const number = before ?? this.#nextRecord++
    assert(number < this.#nextRecord, 'record numbers ascend')
    if (before === undefined) this.#count('records', 1)
    this.#own.set(stored.key, { number, bytes: entryBytes(stored.key, stored.value) })
    this.#records.push({ number, entry: stored })
    return number
  }

  #putEntry(put: Decoded): boolean {
    const { key, revision, value, entry } = put
    assert(entry.kind !== 'segment', 'segments are stored as pages')
    const known = this.#state.revisionOf(entry)
    if (revision <= known) return false
    if (entry.kind === 'key')
      assert(!this.#state.owners.get(entry.owner)?.tombstones.has(entry.epoch), 'nothing follows a tombstone')
    const before = this.#entries.get(key)
    if (known === 0 && !before) this.#count('entries', 1)
    if (entry.kind === 'epoch' || entry.kind === 'key' || entry.kind === 'tombstone') {
      const size = before ? entryBytes(key, before.value) : (this.#state.sizes.get(key) ?? 0)
      this.#addBytes(entry.owner, entryBytes(key, value) - size)
    }
    this.#entries.set(key, { key, revision, value })
    this.#effects.push({ kind: 'entry', put, record: 0 })
    if (entry.kind === 'tombstone') this.#drop(entry.owner, entry.epoch)
    return true
  }

  /** The pages and the table of the epoch go; segments of the epoch that come later get no pages. */
  #drop(owner: string, epoch: number): void {
    const table = this.#tableOf(owner, epoch)
    this.#dropped.add(table.id)
    this.#setTable({ ...table, dropped: true })
  }

  #addBytes(owner: string, change: number): void {
    const known = this.#state.owners.get(owner)
    const before = this.#bytes.get(owner)
    if (!known && before === undefined) this.#count('owners', 1)
    const bytes = (before ?? known?.bytes ?? 0) + change
    assert(bytes >= 0, 'an owner has no fewer than zero bytes')
    this.#bytes.set(owner, bytes)
  }

  #count(kind: keyof Meta['stored'], change: number): void {
    this.#stored = { ...this.#stored, [kind]: this.#stored[kind] + change }
  }
}
