// Batches for the store of a replica, of the parts that a test names.
import type { Batch } from '../src/state/stored.ts'

export function batchOf(parts: Pick<Batch, 'meta'> & Partial<Batch>): Batch {
  return { pages: [], entries: [], records: [], tables: [], ranges: [], owners: [], ...parts }
}
