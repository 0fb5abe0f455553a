// The fold of the ledger: what all nodes agree on at a revision. Pure and deterministic; it is a function of the
// set of live entries, not of the order in which they were learnt.
import { createHash, hash as hashOnce } from 'node:crypto'
import { unreachable } from '../assert.ts'
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

/** One key of a revision with the bytes put under it; null where it was removed. */
export type Put = { readonly key: string; readonly value: Uint8Array | null }

/** A put that has been decoded, and so may be applied. */
export type Decoded = {
  readonly key: string
  readonly entry: Entry
  readonly value: Uint8Array
  /** The revision it was put at. */
  readonly revision: number
}

export type OwnerState = {
  /** 0 until the first epoch is open. */
  active: number
  /** Revision of `epoch/<owner>`: what new mappings are guarded by. */
  revision: number
  readonly keys: Map<number, WrappedEpochKey>
  /** Revisions of the wrapped keys: what rewrapping is guarded by. */
  readonly keyRevisions: Map<number, number>
  /** Versions of each secret: version v at v - 1. */
  readonly secrets: Map<string, VersionState[]>
  /** The latest `valid_from` of any of its secrets, milliseconds since 1970; 0 where there is none. */
  latest: number
}

/** What is kept in memory of a version; what it holds is in the store. */
export type VersionState = {
  /** Milliseconds since 1970. */
  readonly validFrom: number
  /** Of the entry: what rewrapping is guarded by. */
  readonly revision: number
  /** Id of the root key that wraps its data key. */
  readonly rootKey: string
  /** Where the store has it. */
  readonly record: number
}

/**
 * Decodes the puts of one revision. Foreign keys are left out. Throws CorruptEntry, also for a genesis of a format above
 * ours: what follows it may mean something else.
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
  /** Revision of the genesis: what rewrapping its key is guarded by. */
  genesisRevision = 0
  /** Counts every wrapped key that was learnt: who counted them before knows when to count again. */
  wrappedChanges = 0
  readonly owners = new Map<string, OwnerState>()
  /** Boot to the name of its node. */
  readonly boots = new Map<string, string>()
  /** What each node has read last. */
  readonly nodes = new Map<string, NodeEntry>()
  readonly #nodeRevisions = new Map<string, number>()
  /** Sum modulo 2^256 of the hashes of every entry but mappings, the least word first. */
  readonly #sum = new Uint32Array(WORDS)
  /** How many data keys of secrets each root key wraps. */
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
   * Applies one decoded entry that is no segment; segments go to the index of mappings. `record`: where the store has a
   * version.
   */
  apply(revision: number, key: string, entry: Exclude<Entry, Segment>, record = 0): void {
    switch (entry.kind) {
      case 'genesis':
        if (revision <= this.genesisRevision) return
        this.genesis = entry
        this.genesisRevision = revision
        this.wrappedChanges++
        return
      case 'boot':
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
        return // read from the store
      default:
        unreachable(entry)
    }
  }

  #applyEpoch(revision: number, key: string, entry: ActiveEpoch): void {
    const owner = this.owner(entry.owner)
    if (revision <= owner.revision) return // learnt out of order: the newer one counts
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
      // The same version under another root key.
      this.dataKeys.set(before.rootKey, (this.dataKeys.get(before.rootKey) ?? 0) - 1)
      return
    }
    if (!owner.secrets.has(entry.name)) owner.secrets.set(entry.name, versions)
    owner.latest = Math.max(owner.latest, validFrom)
    this.#account(key, told(entry), 1, entry.sealed)
  }

  /** Revision of a node's entry; 0 where there is none. */
  nodeRevision(node: string): number {
    return this.#nodeRevisions.get(node) ?? 0
  }

  /**
   * Adds what a key holds to the sum, or takes it away. Genesis, boots, nodes, wrapped keys and receipts are left out:
   * they differ after a restore or a rewrap. Texts are of ASCII.
   */
  #account(key: string, text: string, sign: 1 | -1 = 1, rest: Uint8Array = NOTHING): void {
    const head = `${key}\0${text}`
    const content = Buffer.allocUnsafe(head.length + rest.length)
    content.write(head, 'latin1')
    content.set(rest, head.length)
    addWide(this.#sum, hashOnce('sha256', content, 'buffer'), sign)
  }

  /**
   * One SHA-256 over all parts, in hex: the sums themselves would tell one owner another's tokens.
   * `mappings` are per owner and epoch, in any order: count, and sum of token bodies modulo 2^128.
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

function told({ validFrom, keyId, requestId }: SecretVersion): string {
  return `${validFrom} ${keyId} ${requestId}\0`
}

function openedAt({ openedAt: at }: WrappedEpochKey): string {
  return `opened_at ${at}`
}

/** `part`: WORDS words of 32 bits, little-endian. */
function addWide(sum: Uint32Array, part: Buffer, sign: 1 | -1): void {
  let carry = sign === 1 ? 0 : 1
  for (let i = 0; i < WORDS; i++) {
    const word = part.readUInt32LE(4 * i)
    const total = sum[i] + (sign === 1 ? word : ~word >>> 0) + carry
    sum[i] = total
    carry = total > 0xffff_ffff ? 1 : 0
  }
}
