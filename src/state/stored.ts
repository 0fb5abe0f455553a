// What a replica's store holds, and the writes of a transaction. Only step.ts makes batches, and the meta
// record is a part of every batch: so the numbers in meta always belong to the data beside them.
import { FatalError } from '../errors.ts'
import type { Ahead, SegmentRange } from './segment-ranges.ts'
import type { Witnesses } from './witness.ts'

export const REPLICA_FORMAT = 4

/** A record of the store is damaged or contradicts another record: the replica must be rebuilt. */
export class DamagedReplica extends FatalError {
  override readonly name = 'DamagedReplica'
}

/** How many records of each kind the store holds: compared with the records at every load. */
export type StoredCounts = {
  readonly entries: number
  readonly records: number
  readonly tables: number
  readonly ranges: number
  readonly owners: number
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
  readonly stored: StoredCounts
  /**
   * The revision of the last snapshot of which parts were applied: until the cursor is there, entries after
   * the cursor are applied.
   */
  readonly partial: number
  /** The segments among these. */
  readonly ahead: readonly Ahead[]
  readonly witnesses: Witnesses
  /**
   * Name of the checkpoint that belongs to the file's history, space, number of pages covered; '' for none.
   */
  readonly checkpoint: string
}

export const EMPTY_META: Meta = {
  format: REPLICA_FORMAT,
  ledger: '',
  cursor: 0,
  pages: 0,
  records: 0,
  stored: { entries: 0, records: 0, tables: 0, ranges: 0, owners: 0 },
  partial: 0,
  ahead: [],
  witnesses: {},
  checkpoint: '',
}

export type StoredEntry = { readonly key: string; readonly revision: number; readonly value: Uint8Array }
/** `dropped`: a tombstone stands for the epoch, and the table has no pages. */
export type StoredTable = {
  readonly id: number
  readonly owner: string
  readonly epoch: number
  readonly dropped: boolean
}
/** Bytes of all live entries of an owner: keys and values as in the ledger. */
export type OwnerBytes = { readonly owner: string; readonly bytes: number }

/** The writes of a transaction. */
export type Batch = {
  /** In order of their numbers. Without gaps, but for pages of a table dropped in the same batch. */
  readonly pages: readonly { readonly number: number; readonly table: number; readonly page: Buffer }[]
  readonly entries: readonly StoredEntry[]
  /** In order. Without an entry the record is removed. */
  readonly records: readonly { readonly number: number; readonly entry: StoredEntry | undefined }[]
  /** New tables; dropped tables, whose pages are removed. */
  readonly tables: readonly StoredTable[]
  readonly ranges: readonly SegmentRange[]
  readonly owners: readonly OwnerBytes[]
  readonly meta: Meta
}
