// The live entries of a ledger as rows without values, in the order of revisions.
import type { Ledger, SnapshotEntry } from '../../ledger/ledger.ts'
import { decodeEntry, type Entry } from '../../state/entries.ts'
import { snapshotRanges } from '../../state/ledger-keys.ts'
import { CorruptEntry, decodeWriter } from '../../state/writer.ts'

/** Rows in memory; the ledger is read once for each so many rows. */
const PAGE_ROWS = 100_000

/** What is shown of an entry. Absent members do not apply to the kind. */
export type EntryRow = {
  readonly revision: number
  /** A kind of entry, `foreign` (a key of another program) or `damaged`. */
  readonly kind: Entry['kind'] | 'foreign' | 'damaged'
  readonly owner?: string
  /** Of a secret, a node or a ledger; the key of a foreign or damaged entry. */
  readonly name?: string
  readonly version?: number
  readonly epoch?: number
  /** Mappings in a segment. */
  readonly mappings?: number
  /** Node that wrote the entry; absent where the ledger does not tell. */
  readonly node?: string
  /** Length of the entry's value. */
  readonly bytes: number
}

type RowOptions = {
  readonly ledger: Ledger
  /** The first revision to show. */
  readonly since: number
  readonly owner: string | undefined
  /** For tests. */
  readonly pageRows?: number
}

type Keyed = { readonly row: EntryRow; readonly key: string; readonly boot: string | undefined }

/**
 * Pages of rows, ascending by revision, then key. Entries of later revisions than the first look at the
 * ledger are left out. Throws LedgerUnavailable, OtherFormat; Compacted where reading takes very long.
 */
export async function* rowPages(options: RowOptions): AsyncGenerator<EntryRow[]> {
  const { pageRows = PAGE_ROWS } = options
  let last: Keyed | undefined
  let until = Number.POSITIVE_INFINITY
  for (;;) {
    const { revision, entries } = await options.ledger.snapshot(snapshotRanges([]))
    until = Math.min(until, revision)
    const nodes = new Map<string, string>()
    let page: Keyed[] = []
    let whole = true
    for await (const entry of entries) {
      const keyed = keyedRow(entry, nodes)
      const { row } = keyed
      if (row.revision < options.since || row.revision > until || (last && compare(keyed, last) <= 0))
        continue
      if (options.owner !== undefined && row.owner !== options.owner) continue
      page.push(keyed)
      if (page.length < 2 * pageRows) continue
      page = page.sort(compare).slice(0, pageRows)
      whole = false
    }
    page.sort(compare)
    whole &&= page.length <= pageRows
    page = page.slice(0, pageRows)
    // The boots come before the other entries of a snapshot, but for the genesis.
    yield page.map(({ row, boot }) => withNode(row, boot === undefined ? undefined : nodes.get(boot)))
    if (whole) return
    last = page.at(-1)
  }
}

function compare(a: Keyed, b: Keyed): number {
  return a.row.revision - b.row.revision || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)
}

function withNode(row: EntryRow, node: string | undefined): EntryRow {
  return node === undefined ? row : { ...row, node }
}

/** `nodes`: gets the node of every boot. */
function keyedRow({ key, value, revision }: SnapshotEntry, nodes: Map<string, string>): Keyed {
  const bytes = value.length
  try {
    const entry = decodeEntry(key, value)
    if (entry === undefined)
      return { key, boot: undefined, row: { revision, kind: 'foreign', name: key, bytes } }
    if (entry.kind === 'boot') nodes.set(entry.boot, entry.node)
    const { boot } = decodeWriter(value)
    return { key, boot, row: { revision, kind: entry.kind, ...shownOf(entry), bytes } }
  } catch (error) {
    if (!(error instanceof CorruptEntry)) throw error
    return { key, boot: undefined, row: { revision, kind: 'damaged', name: key, bytes } }
  }
}

/** Nothing that is sealed, wrapped or hashed. */
function shownOf(entry: Entry): Partial<EntryRow> {
  switch (entry.kind) {
    case 'genesis':
      return { name: entry.identity }
    case 'boot':
    case 'node':
      return { name: entry.node }
    case 'epoch':
      return { owner: entry.owner, epoch: entry.active }
    case 'key':
    case 'tombstone':
      return { owner: entry.owner, epoch: entry.epoch }
    case 'version':
      return { owner: entry.owner, name: entry.name, version: entry.version }
    case 'receipt':
      return { owner: entry.owner }
    case 'segment':
      return { owner: entry.owner, epoch: entry.epoch, mappings: entry.count }
  }
}
