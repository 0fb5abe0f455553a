// The state of the ledger at a revision, equal on all nodes: a function of the set of live entries, not of
// the order in which entries were learnt. step.ts decides what a revision does to the state; the effects of a
// step are applied here, once the batch of the step can be read from the store.
import { assert, unreachable } from '../assert.ts'
import { wrappedBy } from '../crypto/keyring.ts'
import { Digest, type Inserted } from './digest.ts'
import type { Effect, TokenTables } from './effects.ts'
import type { ActiveEpoch, Entry, Genesis, NodeEntry, Tombstone, WrappedEpochKey } from './entries.ts'
import type { LedgerKey } from './ledger-keys.ts'
import type { Decoded } from './puts.ts'
import { ReceiptIndex } from './receipt-index.ts'
import type { Segment } from './segment.ts'
import { SegmentRanges } from './segment-ranges.ts'
import { EMPTY_META, type Meta, type StoredTable } from './stored.ts'
import type { SecretVersion } from './version.ts'

export type OwnerState = {
  /** The active epoch; 0 until the first epoch is open. */
  active: number
  /** Revision of `epoch/<owner>`, the guard of new mappings. */
  revision: number
  readonly keys: Map<number, WrappedEpochKey>
  /** Revisions of the wrapped keys and tombstones, the guards of rewrapping. */
  readonly keyRevisions: Map<number, number>
  /** Epochs that never resolve again. */
  readonly tombstones: Map<number, Tombstone>
  /** Versions of each secret: version v at index v - 1. */
  readonly secrets: Map<string, VersionState[]>
  readonly receipts: ReceiptIndex
  /** The latest `valid_from` of all secrets of the owner, milliseconds since 1970; 0 without secrets. */
  latest: number
  /** Bytes of all live entries of the owner. */
  bytes: number
}

/** The part of a version that is kept in memory; the store has the rest. */
export type VersionState = {
  /** Milliseconds since 1970. */
  readonly validFrom: number
  /** Revision of the entry, the guard of rewrapping. */
  readonly revision: number
  /** Id of the root key that wraps the data key. */
  readonly rootKey: string
  /** Number of the record in the store. */
  readonly record: number
  /** Bytes of key and value in the ledger. */
  readonly bytes: number
}

/** At first, and from then on where more were not needed. */
const SEEN_BYTES = 1024

export class State {
  /** As of the last step. */
  meta: Meta = EMPTY_META
  /** The last revision whose effects can be read. */
  applied = 0
  genesis: Genesis | undefined
  /** Revision of the genesis, the guard of rewrapping its key. */
  genesisRevision = 0
  /** Bumped with every wrapped key applied: cache key for counts of wrapped keys. */
  wrappedChanges = 0
  readonly owners = new Map<string, OwnerState>()
  /** Node names by boot. */
  readonly boots = new Map<string, string>()
  /** The last node entry of each node. */
  readonly nodes = new Map<string, NodeEntry>()
  /** Number of data keys of secrets by the root key that wraps the data keys. */
  readonly dataKeys = new Map<string, number>()
  /** Since the start: segments applied, and their mappings that were known already. */
  segments = 0
  ignoredDuplicates = 0
  readonly ranges = new SegmentRanges()
  /** Token tables by `<owner>@<epoch>`. */
  readonly tables = new Map<string, StoredTable>()
  /** Bytes of each `epoch/` and `key/` entry, by key. */
  readonly sizes = new Map<string, number>()
  /** Records of the receipts that the snapshot at the revision has brought, as bits. */
  #seen = { revision: 0, count: 0, bits: new Uint8Array(0) }
  #receipts = 0
  readonly #nodeRevisions = new Map<string, number>()
  /** Numbers of the tables for which a tombstone stands. */
  readonly #dropped = new Set<number>()
  readonly #digest = new Digest()

  owner(owner: string): OwnerState {
    let state = this.owners.get(owner)
    if (!state) {
      state = {
        active: 0,
        revision: 0,
        keys: new Map(),
        keyRevisions: new Map(),
        tombstones: new Map(),
        secrets: new Map(),
        receipts: new ReceiptIndex(),
        latest: 0,
        bytes: 0,
      }
      this.owners.set(owner, state)
    }
    return state
  }

  /** Revision of a node's entry; 0 without an entry. */
  nodeRevision(node: string): number {
    return this.#nodeRevisions.get(node) ?? 0
  }

  versionOf({
    owner,
    name,
    version,
  }: Pick<SecretVersion, 'owner' | 'name' | 'version'>): VersionState | undefined {
    return this.owners.get(owner)?.secrets.get(name)?.[version - 1]
  }

  /** A single SHA-256 over the state, in hex. */
  digest(): string {
    return this.#digest.value()
  }

  /** Tables that have changed since the last digest. */
  get unsettled(): number {
    return this.#digest.unsettled
  }

  /** Prepares the digest of up to `count` tables that have changed. Returns false where none is left. */
  settleDigest(count: number): boolean {
    return this.#digest.settle(count)
  }

  // ---- effects

  apply(effect: Effect, tables: TokenTables): void {
    switch (effect.kind) {
      case 'table':
        this.applyTable(effect.table, tables)
        return
      case 'insert': {
        const { table, page, segment } = effect
        const fresh = tables.insert(table, segment.bodies, segment.count, page)
        this.segments++
        this.ignoredDuplicates += segment.count - fresh.count
        this.addMappings(table, fresh)
        return
      }
      case 'entry':
        this.applyEntry(effect.put, effect.record)
        return
      case 'receipt': {
        const { receipts } = this.owner(effect.owner)
        const before = receipts.size
        if (effect.record === undefined) this.#forget(receipts, effect.id)
        else receipts.set(effect.id, effect.record)
        this.#receipts += receipts.size - before
        return
      }
      case 'seen':
        this.#see(effect.revision, effect.record)
        return
      case 'range':
        this.ranges.set(effect.range)
        return
      case 'bytes':
        this.owner(effect.owner).bytes = effect.bytes
        return
      case 'applied':
        assert(effect.revision >= this.applied, 'the cursor never goes back')
        this.applied = effect.revision
        return
      case 'meta':
        assert(this.applied === effect.meta.cursor, 'the cursor is stored with the data of its revision')
        this.meta = effect.meta
        return
      default:
        unreachable(effect)
    }
  }

  applyTable(table: StoredTable, tables: TokenTables): void {
    const { id, owner, epoch, dropped } = table
    const name = tableName(owner, epoch)
    if (!this.tables.has(name)) {
      tables.add(id, owner, epoch)
      this.#digest.addTable(id, owner, epoch)
    }
    if (dropped) {
      tables.drop(id)
      this.#digest.dropTable(id)
      this.#dropped.add(id)
    }
    this.tables.set(name, table)
  }

  isDropped(table: number): boolean {
    return this.#dropped.has(table)
  }

  /** Whether pages may be missing: the pages of a dropped table are removed. */
  get hasDropped(): boolean {
    return this.#dropped.size > 0
  }

  addMappings(table: number, inserted: Inserted): void {
    this.#digest.addMappings(table, inserted)
  }

  #see(revision: number, record: number): void {
    if (this.#seen.revision !== revision) {
      const { bits } = this.#seen
      const none = bits.length === SEEN_BYTES ? bits.fill(0) : new Uint8Array(SEEN_BYTES)
      this.#seen = { revision, count: 0, bits: none }
    }
    const byte = record >>> 3
    if (byte >= this.#seen.bits.length) {
      const bits = new Uint8Array(byte * 2)
      bits.set(this.#seen.bits)
      this.#seen.bits = bits
    }
    if (!this.hasSeen(revision, record)) this.#seen.count++
    this.#seen.bits[byte] |= 1 << (record & 7)
  }

  /** A receipt that is gone counts as brought no more. */
  #forget(receipts: ReceiptIndex, id: string): void {
    const record = receipts.get(id)
    receipts.delete(id)
    if (record === undefined || !this.hasSeen(this.#seen.revision, record)) return
    this.#seen.count--
    this.#seen.bits[record >>> 3] &= ~(1 << (record & 7))
  }

  /** Whether the snapshot at the revision has brought all receipts. */
  hasSeenAll(revision: number): boolean {
    const seen = this.#seen.revision === revision ? this.#seen.count : 0
    return seen === this.#receipts
  }

  /** Receipts that the snapshot at the revision has not brought. Receipts may be removed meanwhile. */
  *unseenReceipts(revision: number): Iterable<{ readonly owner: string; readonly id: string } | undefined> {
    for (const [owner, { receipts }] of this.owners) {
      for (const [id, number] of receipts.entries())
        yield this.hasSeen(revision, number) ? undefined : { owner, id }
    }
  }

  /** Whether the snapshot at the revision has brought the record. */
  hasSeen(revision: number, record: number): boolean {
    if (this.#seen.revision !== revision) return false
    return ((this.#seen.bits[record >>> 3] ?? 0) & (1 << (record & 7))) !== 0
  }

  /** Applies an entry that is no segment and no receipt. */
  applyEntry({ revision, key, entry, value }: Decoded, record: number): void {
    switch (entry.kind) {
      case 'genesis':
        assert((this.genesis ?? entry).identity === entry.identity, 'the identity of a ledger never changes')
        this.genesis = entry
        this.genesisRevision = revision
        this.wrappedChanges++
        return
      case 'boot':
        assert((this.boots.get(entry.boot) ?? entry.node) === entry.node, 'a boot belongs to a single node')
        this.boots.set(entry.boot, entry.node)
        return
      case 'node':
        this.nodes.set(entry.node, entry)
        this.#nodeRevisions.set(entry.node, revision)
        return
      case 'epoch':
        this.sizes.set(key, entryBytes(key, value))
        this.#applyEpoch(revision, key, entry)
        return
      case 'key':
      case 'tombstone':
        this.sizes.set(key, entryBytes(key, value))
        this.#applyKey(revision, key, entry)
        return
      case 'version':
        this.#applyVersion(revision, key, entry, { record, bytes: entryBytes(key, value) })
        return
      case 'segment':
      case 'receipt':
        assert(false, 'segments and receipts have effects of their own')
        return
      default:
        unreachable(entry)
    }
  }

  #applyEpoch(revision: number, key: string, entry: ActiveEpoch): void {
    const owner = this.owner(entry.owner)
    assert(entry.active >= owner.active, 'the active epoch is never lower than before')
    if (owner.revision > 0) this.#digest.account(key, `active ${owner.active}`, -1)
    this.#digest.account(key, `active ${entry.active}`)
    owner.active = entry.active
    owner.revision = revision
  }

  #applyKey(revision: number, key: string, entry: WrappedEpochKey | Tombstone): void {
    const owner = this.owner(entry.owner)
    const before = owner.tombstones.get(entry.epoch) ?? owner.keys.get(entry.epoch)
    assert(before?.kind !== 'tombstone', 'nothing follows a tombstone')
    if (before) this.#digest.account(key, keyText(before), -1)
    this.#digest.account(key, keyText(entry))
    owner.keyRevisions.set(entry.epoch, revision)
    this.wrappedChanges++
    if (entry.kind === 'key') {
      owner.keys.set(entry.epoch, entry)
      return
    }
    owner.keys.delete(entry.epoch)
    owner.tombstones.set(entry.epoch, entry)
  }

  #applyVersion(
    revision: number,
    key: string,
    entry: SecretVersion,
    { record, bytes }: Pick<VersionState, 'record' | 'bytes'>,
  ): void {
    const owner = this.owner(entry.owner)
    const versions = owner.secrets.get(entry.name) ?? []
    const before = versions[entry.version - 1]
    const { validFrom } = entry
    const rootKey = wrappedBy(entry.wrapped)
    versions[entry.version - 1] = { validFrom, revision, rootKey, record, bytes }
    this.dataKeys.set(rootKey, (this.dataKeys.get(rootKey) ?? 0) + 1)
    if (before) {
      assert(validFrom === before.validFrom, 'rewrapping changes only the wrapped key of a version')
      const left = (this.dataKeys.get(before.rootKey) ?? 0) - 1
      assert(left >= 0, 'every data key is counted under the root key that wraps it')
      this.dataKeys.set(before.rootKey, left)
      return
    }
    if (!owner.secrets.has(entry.name)) owner.secrets.set(entry.name, versions)
    owner.latest = Math.max(owner.latest, validFrom)
    this.#digest.account(key, versionText(entry), 1, entry.sealed)
  }

  /** The revision of the entry under a key, as applied; 0 where there is none, and for receipts. */
  revisionOf(entry: Exclude<Entry, Segment> | Exclude<LedgerKey, { kind: 'segment' }>): number {
    switch (entry.kind) {
      case 'genesis':
        return this.genesisRevision
      case 'boot':
        return this.boots.has(entry.boot) ? Number.POSITIVE_INFINITY : 0
      case 'node':
        return this.nodeRevision(entry.node)
      case 'epoch':
        return this.owners.get(entry.owner)?.revision ?? 0
      case 'key':
      case 'tombstone':
        return this.owners.get(entry.owner)?.keyRevisions.get(entry.epoch) ?? 0
      case 'version':
        return this.versionOf(entry)?.revision ?? 0
      case 'receipt':
        return 0
      default:
        return unreachable(entry)
    }
  }
}

export function tableName(owner: string, epoch: number): string {
  return `${owner}@${epoch}`
}

/** Bytes of an entry, as an owner's quota counts them. */
export function entryBytes(key: string, value: Uint8Array): number {
  return key.length + value.length
}

function versionText({ validFrom, keyId, requestId }: SecretVersion): string {
  return `${validFrom} ${keyId} ${requestId}\0`
}

function keyText({ kind, openedAt }: WrappedEpochKey | Tombstone): string {
  return kind === 'key' ? `opened_at ${openedAt}` : `tombstone, opened_at ${openedAt}`
}
