// The state of the ledger at a revision, equal on all nodes. Pure and deterministic: a function of the set of
// live entries, not of the order in which entries were applied.
import { createHash, hash as hashOnce } from 'node:crypto'
import { assert, unreachable } from '../assert.ts'
import { wrappedBy } from '../crypto/keyring.ts'
import {
  type ActiveEpoch,
  decodeEntry,
  type Entry,
  type Genesis,
  LEDGER_FORMAT,
  type NodeEntry,
  type WrappedEpochKey,
} from './entries.ts'
import { parseKey } from './ledger-keys.ts'
import type { Segment } from './segment.ts'
import type { SecretVersion } from './version.ts'
import { CorruptEntry } from './writer.ts'

/** Words of 32 bits in a sum of hashes. */
const WORDS = 8
const NOTHING = new Uint8Array(0)

/** A key of a revision with the bytes put there; null where the key was removed. */
type Put = { readonly key: string; readonly value: Uint8Array | null }

/** A decoded put. */
export type Decoded = {
  readonly key: string
  readonly entry: Entry
  readonly value: Uint8Array
  /** The revision of the put. */
  readonly revision: number
}

export type OwnerState = {
  /** The active epoch; 0 until the first epoch is open. */
  active: number
  /** Revision of `epoch/<owner>`, the guard of new mappings. */
  revision: number
  readonly keys: Map<number, WrappedEpochKey>
  /** Revisions of the wrapped keys, the guards of rewrapping. */
  readonly keyRevisions: Map<number, number>
  /** Versions of each secret: version v at index v - 1. */
  readonly secrets: Map<string, VersionState[]>
  /** The latest `valid_from` of all secrets of the owner, milliseconds since 1970; 0 without secrets. */
  latest: number
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
}

/**
 * Decodes the puts of a revision, without foreign keys. Throws CorruptEntry, also for a genesis of a later
 * format: entries after the genesis may have another meaning.
 */
export function decodePuts(
  revision: number,
  puts: readonly Put[],
): { decoded: Decoded[]; removed: string[]; foreign: number } {
  const decoded: Decoded[] = []
  const removed: string[] = []
  let foreign = 0
  for (const { key, value } of puts) {
    if (value !== null) {
      const entry = decodeEntry(key, value)
      if (entry?.kind === 'genesis' && entry.format > LEDGER_FORMAT)
        throw new CorruptEntry(`the ledger has format ${entry.format}, this version knows ${LEDGER_FORMAT}`)
      if (entry === undefined) foreign++
      else decoded.push({ key, entry, value, revision })
      continue
    }
    const name = parseKey(key)
    if (name === undefined) foreign++
    else if (name.kind === 'receipt') removed.push(key)
    else throw new CorruptEntry(`the entry ${key} was removed, and entries of its kind never are`)
  }
  return { decoded, removed, foreign }
}

export class State {
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
  readonly #nodeRevisions = new Map<string, number>()
  /** Sum modulo 2^256 of the hashes of all accounted entries, the least word first. */
  readonly #sum = new Uint32Array(WORDS)
  /** Number of data keys of secrets by the root key that wraps the data keys. */
  readonly dataKeys = new Map<string, number>()

  owner(owner: string): OwnerState {
    let state = this.owners.get(owner)
    if (!state) {
      state = {
        active: 0,
        revision: 0,
        keys: new Map(),
        keyRevisions: new Map(),
        secrets: new Map(),
        latest: 0,
      }
      this.owners.set(owner, state)
    }
    return state
  }

  /**
   * Applies a decoded entry; mappings of segments go to the token tables. `record`: number of a version's
   * record in the store.
   */
  apply(revision: number, key: string, entry: Exclude<Entry, Segment>, record = 0): void {
    switch (entry.kind) {
      case 'genesis':
        if (revision <= this.genesisRevision) return
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
        if (revision <= (this.#nodeRevisions.get(entry.node) ?? 0)) return
        this.nodes.set(entry.node, entry)
        this.#nodeRevisions.set(entry.node, revision)
        return
      case 'epoch':
        this.#applyEpoch(revision, key, entry)
        return
      case 'key': {
        const owner = this.owner(entry.owner)
        if (revision <= (owner.keyRevisions.get(entry.epoch) ?? 0)) return
        const before = owner.keys.get(entry.epoch)
        owner.keys.set(entry.epoch, entry)
        owner.keyRevisions.set(entry.epoch, revision)
        this.wrappedChanges++
        if (before) this.#account(key, openedAt(before), -1)
        this.#account(key, openedAt(entry))
        return
      }
      case 'version':
        this.#applyVersion(revision, key, entry, record)
        return
      case 'receipt':
        return // read from the store when needed
      default:
        unreachable(entry)
    }
  }

  #applyEpoch(revision: number, key: string, entry: ActiveEpoch): void {
    const owner = this.owner(entry.owner)
    if (revision <= owner.revision) return // out of order: the newer entry counts
    assert(entry.active >= owner.active, 'the active epoch is never lower than before')
    if (owner.revision > 0) this.#account(key, `active ${owner.active}`, -1)
    this.#account(key, `active ${entry.active}`)
    owner.active = entry.active
    owner.revision = revision
  }

  #applyVersion(revision: number, key: string, entry: SecretVersion, record: number): void {
    const owner = this.owner(entry.owner)
    const versions = owner.secrets.get(entry.name) ?? []
    const before = versions[entry.version - 1]
    if (before && revision <= before.revision) return
    const { validFrom } = entry
    const rootKey = wrappedBy(entry.wrapped)
    versions[entry.version - 1] = { validFrom, revision, rootKey, record }
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
    this.#account(key, accountedText(entry), 1, entry.sealed)
  }

  /** Revision of a node's entry; 0 without an entry. */
  nodeRevision(node: string): number {
    return this.#nodeRevisions.get(node) ?? 0
  }

  /**
   * Adds the content of a key to the sum, or subtracts the content. Genesis, boots, nodes, wrapped bytes and
   * receipts are left out, since a restore or a rewrap changes these. `text` is ASCII.
   */
  #account(key: string, text: string, sign: 1 | -1 = 1, rest: Uint8Array = NOTHING): void {
    const head = `${key}\0${text}`
    const content = Buffer.allocUnsafe(head.length + rest.length)
    content.write(head, 'latin1')
    content.set(rest, head.length)
    addWide(this.#sum, hashOnce('sha256', content, 'buffer'), sign)
  }

  /**
   * A single SHA-256 over all parts, in hex: the sums themselves would show an owner the tokens of another
   * owner. `mappings` are per owner and epoch, in any order: count, and sum of token bodies modulo 2^128.
   */
  digest(mappings: Iterable<MappingSum>): string {
    const hash = createHash('sha256')
    hash.update('coffer/1/digest\0')
    hash.update(Buffer.from(this.#sum.buffer))
    const parts = [...mappings].filter((part) => part.count > 0)
    parts.sort((a, b) => (a.owner < b.owner ? -1 : a.owner > b.owner ? 1 : a.epoch - b.epoch))
    for (const part of parts) hash.update(`${part.owner}\0${part.epoch}\0${part.count}\0${part.sum}\0`)
    return hash.digest('hex')
  }
}

export type MappingSum = {
  readonly owner: string
  readonly epoch: number
  readonly count: number
  /** Hex. */
  readonly sum: string
}

function accountedText({ validFrom, keyId, requestId }: SecretVersion): string {
  return `${validFrom} ${keyId} ${requestId}\0`
}

function openedAt({ openedAt: at }: WrappedEpochKey): string {
  return `opened_at ${at}`
}

/** Adds or subtracts `part`: WORDS words of 32 bits, little-endian. */
function addWide(sum: Uint32Array, part: Buffer, sign: 1 | -1): void {
  let carry = sign === 1 ? 0 : 1
  for (let i = 0; i < WORDS; i++) {
    const word = part.readUInt32LE(4 * i)
    const total = sum[i] + (sign === 1 ? word : ~word >>> 0) + carry
    sum[i] = total
    carry = total > 0xffff_ffff ? 1 : 0
  }
}
