// Where a replica keeps its records: LMDB (lmdb-store.ts), or memory for tests (memory-store.ts).
// store-contract.ts is the suite that both pass.
import { assert } from '../assert.ts'
import { OperatorError } from '../errors.ts'
import type { SegmentRange } from '../state/segment-ranges.ts'
import type { Batch, Meta, OwnerBytes, StoredEntry, StoredTable } from '../state/stored.ts'

/** A transaction was not written, because the disk is full. Nothing was changed, and a retry may help. */
export class WriteFailed extends OperatorError {
  override readonly name = 'WriteFailed'
}

/** Reads throw DamagedReplica where a record does not match its checksum. */
export type Store = {
  /** Undefined before the first batch. */
  meta(): Meta | undefined
  /**
   * Writes a batch in a single transaction. Resolves when the batch can be read. Throws WriteFailed,
   * FatalError.
   */
  write(batch: Batch): Promise<void>
  /** Resolves when all written batches are durable. */
  flushed(): Promise<void>
  /** A page, valid until the next read. `length` is the page's; the buffer itself may be longer. */
  page(number: number): Buffer | undefined
  /** Pages `from` to `to` (exclusive) in order. */
  pages(from: number, to: number): Iterable<{ readonly number: number; readonly page: Buffer }>
  entries(): Iterable<StoredEntry>
  /** In the order of their numbers. */
  records(): Iterable<StoredEntry & { readonly number: number }>
  /** A record as of the last written transaction. */
  record(number: number): StoredEntry | undefined
  /** In the order of their ids. */
  tables(): Iterable<StoredTable>
  ranges(): Iterable<SegmentRange>
  owners(): Iterable<OwnerBytes>
  readonly checkpoints: CheckpointFiles
  close(): Promise<void>
}

/** The files of checkpoints, each under its name. */
export type CheckpointFiles = {
  /** Whether a file of so many bytes fits beside all others, with room left for the store to go on. */
  hasRoom(bytes: number): Promise<boolean>
  /** Writes a file whole; resolves when the file is durable under its name. */
  write(name: string, blocks: AsyncIterable<Buffer>): Promise<void>
  /** The bytes in order, each block valid until the next; undefined where there is no such file. */
  read(name: string): AsyncIterable<Buffer> | undefined
  /** Removes every file but the named file, unfinished files included. */
  removeOthers(name: string): Promise<void>
}

/** What every batch of a step keeps; checked before anything of the batch is written. */
export function checkBatch({ pages, records, tables, ranges, owners, meta }: Batch, before: Meta): void {
  assert(meta.cursor >= before.cursor, 'the stored cursor never goes back')
  assert(meta.ledger !== '' && (before.ledger || meta.ledger) === meta.ledger, 'a store has a single ledger')
  assert(meta.pages >= before.pages, 'page numbers ascend')
  assert(meta.records >= before.records, 'record numbers ascend')
  let last = before.pages - 1
  for (const { number } of pages) {
    assert(number > last, 'pages are added in order, after the stored pages')
    last = number
  }
  assert(last < meta.pages, 'meta counts every page of its batch')
  for (const { number } of records) assert(number < meta.records, 'meta counts every record of its batch')
  for (const { id } of tables) assert(id < meta.stored.tables, 'meta counts every table of its batch')
  for (const { last, count } of ranges) assert(count > 0 && count <= last + 1, 'a range counts its numbers')
  for (const { bytes } of owners) assert(bytes >= 0, 'an owner has no fewer than zero bytes')
  for (const count of Object.values(meta.stored)) assert(count >= 0, 'no fewer than zero records are stored')
}
