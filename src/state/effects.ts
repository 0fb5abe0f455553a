// The effects of a step: changes in memory, applied in order once the batch of the step can be read.
import type { Inserted } from './digest.ts'
import type { Decoded } from './puts.ts'
import type { Segment } from './segment.ts'
import type { SegmentRange } from './segment-ranges.ts'
import type { Meta, StoredTable } from './stored.ts'

/** The token tables, as far as a step reaches. */
export type TokenTables = {
  add(id: number, owner: string, epoch: number): void
  /** Insert-once: returns the mappings that were new. `bodies`: 16 bytes for each of `count` mappings. */
  insert(id: number, bodies: Uint8Array, count: number, firstPage: number): Inserted
  drop(id: number): void
}

/** A change in memory that a step asks for; applied in order. */
export type Effect =
  | { readonly kind: 'table'; readonly table: StoredTable }
  /** Mappings of a segment, in pages from `page` on. */
  | { readonly kind: 'insert'; readonly table: number; readonly page: number; readonly segment: Segment }
  /** `record`: number of a version's record. */
  | { readonly kind: 'entry'; readonly put: Decoded; readonly record: number }
  /** Without a record the receipt is gone. */
  | { readonly kind: 'receipt'; readonly owner: string; readonly id: string; readonly record?: number }
  /** The snapshot at the revision has brought the record of a receipt. */
  | { readonly kind: 'seen'; readonly revision: number; readonly record: number }
  | { readonly kind: 'range'; readonly range: SegmentRange }
  | { readonly kind: 'bytes'; readonly owner: string; readonly bytes: number }
  /** All effects of a revision stand before. */
  | { readonly kind: 'applied'; readonly revision: number }
  /** The last effect of a step. */
  | { readonly kind: 'meta'; readonly meta: Meta }
