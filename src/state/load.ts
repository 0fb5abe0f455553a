// The state of a store: the records of the store, one after the other, and the check that the numbers in meta
// are those of the records.
import { assert } from '../assert.ts'
import type { TokenTables } from './effects.ts'
import { decodeEntry, type Entry } from './entries.ts'
import { receiptId } from './receipt-index.ts'
import { isPossible, type SegmentRange } from './segment-ranges.ts'
import { State, tableName } from './state.ts'
import {
  DamagedReplica,
  type Meta,
  type OwnerBytes,
  REPLICA_FORMAT,
  type StoredCounts,
  type StoredEntry,
  type StoredTable,
} from './stored.ts'
import type { SecretVersion } from './version.ts'
import { CorruptEntry } from './writer.ts'

/** Everything but the pages, which belong to the token tables. */
export class Loader {
  readonly state = new State()
  readonly #tables: TokenTables
  /** Versions read, and versions up to the latest of each secret: equal where no version is missing. */
  readonly #versions = { read: 0, wanted: 0 }
  readonly #counts = { entries: 0, records: 0, tables: 0, ranges: 0, owners: 0 }

  /** Throws DamagedReplica for another format. */
  constructor(meta: Meta, tables: TokenTables) {
    if (meta.format !== REPLICA_FORMAT)
      throw new DamagedReplica(`the replica has format ${meta.format}, this version has ${REPLICA_FORMAT}`)
    this.state.meta = meta
    this.state.applied = meta.cursor
    this.#tables = tables
  }

  /** In order of their numbers. */
  table(table: StoredTable): void {
    const { id, owner, epoch } = table
    if (id !== this.#counts.tables++) throw new DamagedReplica(`table ${id} is out of order`)
    if (this.state.tables.has(tableName(owner, epoch))) throw new DamagedReplica(`table ${id} is there twice`)
    this.state.applyTable(table, this.#tables)
  }

  range(range: SegmentRange): void {
    this.#counts.ranges++
    if (!isPossible(range)) throw new DamagedReplica('a range of segments has wrong numbers')
    this.state.ranges.set(range)
  }

  owner({ owner, bytes }: OwnerBytes): void {
    this.#counts.owners++
    this.state.owner(owner).bytes = bytes
  }

  entry(stored: StoredEntry): void {
    this.#counts.entries++
    const entry = this.#decode(stored)
    if (!entry || entry.kind === 'segment' || entry.kind === 'version' || entry.kind === 'receipt')
      throw new DamagedReplica(`${stored.key} is stored in the wrong place`)
    this.state.applyEntry({ ...stored, entry, created: 0 }, 0)
  }

  record(number: number, stored: StoredEntry): void {
    this.#counts.records++
    if (number >= this.state.meta.records) throw new DamagedReplica(`record ${number} is not in meta`)
    const entry = this.#decode(stored)
    if (entry?.kind === 'receipt') {
      const { receipts } = this.state.owner(entry.owner)
      const id = receiptId(entry.hash)
      if (receipts.get(id) !== undefined) throw new DamagedReplica(`two records hold ${stored.key}`)
      this.state.apply({ kind: 'receipt', owner: entry.owner, id, record: number }, this.#tables)
    } else if (entry?.kind === 'version') {
      if (this.state.versionOf(entry)) throw new DamagedReplica(`two records hold ${stored.key}`)
      const before = this.#latest(entry)
      this.state.applyEntry({ ...stored, entry, created: 0 }, number)
      this.#versions.read++
      this.#versions.wanted += this.#latest(entry) - before
    } else throw new DamagedReplica(`${stored.key} is stored in the wrong place`)
  }

  #latest({ owner, name }: SecretVersion): number {
    return this.state.owners.get(owner)?.secrets.get(name)?.length ?? 0
  }

  /** Only parts of a snapshot are stored with revisions after the cursor. */
  #checkRevision({ key, revision }: Pick<StoredEntry, 'key' | 'revision'>): void {
    const { cursor, partial } = this.state.meta
    if (revision > Math.max(cursor, partial))
      throw new DamagedReplica(`${key} is stored, and its revision is not applied`)
  }

  #decode(stored: StoredEntry): Entry | undefined {
    this.#checkRevision(stored)
    const { key, value } = stored
    try {
      return decodeEntry(key, value)
    } catch (error) {
      if (error instanceof CorruptEntry) throw new DamagedReplica(error.message)
      throw error
    }
  }

  /** The state, once everything was read. Throws DamagedReplica where numbers do not match. */
  end(): State {
    const { stored, witnesses } = this.state.meta
    for (const witness of Object.values(witnesses)) this.#checkRevision(witness)
    for (const kind of Object.keys(this.#counts) as (keyof StoredCounts)[]) {
      const [wanted, found] = [stored[kind], this.#counts[kind]]
      if (wanted !== found) throw new DamagedReplica(`the replica has ${found} ${kind} instead of ${wanted}`)
    }
    const { read, wanted: versions } = this.#versions
    if (read !== versions) throw new DamagedReplica('a version of a secret is missing')
    if (this.state.owners.size !== stored.owners) throw new DamagedReplica('an owner has no stored bytes')
    assert(this.state.applied === this.state.meta.cursor, 'a loaded state is as of the cursor')
    return this.state
  }
}
