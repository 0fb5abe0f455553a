// Rewrapping: every key in the ledger under an old root key is wrapped anew by the active root key, so that
// the old root key can be removed. The wrapped keys themselves stay the same, and so do tokens, sealed values
// and the digest.
import { assert } from '../assert.ts'
import { type Clock, Deadline } from '../clock.ts'
import { type Keyring, wrappedBy } from '../crypto/keyring.ts'
import { dataKeyContext } from '../crypto/secret.ts'
import { OperatorError } from '../errors.ts'
import type { Replica } from '../replica/replica.ts'
import { decodeEntry, encodeEntry, type Genesis, type WrappedEpochKey } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { State } from '../state/state.ts'
import { decodeWriter } from '../state/writer.ts'

/** Commits in flight together. */
const COMMITS_IN_FLIGHT = 128
/**
 * A second pass finds keys only where other nodes have written keys under another root key since the first.
 */
const PASSES = 8
/** For each barrier and each key. */
const STEP_MS = 4000

export type RewrapOptions = {
  /** Ends the work between two groups of commits, with the signal's reason. */
  readonly signal: AbortSignal
  /**
   * Called before each group of commits with the bytes of the group before, 0 at first: resolves when the
   * ledger has room for another group. Errors end the work.
   */
  readonly room: (bytes: number) => Promise<void>
}

type RewrapParts = {
  readonly replica: Replica
  /** The keyring in force. */
  readonly keyring: () => Keyring
  readonly clock: Clock
}

type RewrapResult = {
  /** Number of keys newly wrapped by the active root key. */
  readonly rewrapped: number
  /** Number of keys left as before, because the keyring lacks their root key. */
  readonly left: number
}

/** A key wrapped by a root key: where the ledger holds the wrapped key, and the revision of its entry. */
type WrappedKey = { readonly rootKey: string; readonly revision: number } & (
  | { readonly kind: 'genesis'; readonly entry: Genesis }
  | { readonly kind: 'key'; readonly entry: WrappedEpochKey }
  | { readonly kind: 'version'; readonly owner: string; readonly name: string; readonly version: number }
)

/** The key of receipts and all epoch keys. */
function* receiptAndEpochKeys(state: State): Iterable<WrappedKey> {
  const { genesis } = state
  if (genesis) {
    const rootKey = wrappedBy(genesis.receiptKey)
    yield { kind: 'genesis', entry: genesis, revision: state.genesisRevision, rootKey }
  }
  for (const { keys, keyRevisions } of state.owners.values()) {
    for (const [epoch, entry] of keys) {
      const revision = keyRevisions.get(epoch)
      assert(revision !== undefined, 'an epoch key is applied together with its revision')
      yield { kind: 'key', entry, revision, rootKey: wrappedBy(entry.wrapped) }
    }
  }
}

/** The data keys of all versions of secrets. */
function* dataKeys(state: State): Iterable<WrappedKey> {
  for (const [owner, { secrets }] of state.owners) {
    for (const [name, versions] of secrets) {
      for (const [i, { revision, rootKey }] of versions.entries())
        yield { kind: 'version', owner, name, version: i + 1, revision, rootKey }
    }
  }
}

/** Counts the keys under each root key, as of the revision applied by a replica. */
export class WrappedKeys {
  readonly #state: State
  /** Counts of receipt and epoch keys, valid while `State.wrappedChanges` has the same value. */
  #counted: { readonly changes: number; readonly counts: ReadonlyMap<string, number> } | undefined

  constructor(state: State) {
    this.#state = state
  }

  /** Id of each root key to the number of keys wrapped by the root key. */
  counts(): ReadonlyMap<string, number> {
    const sums = new Map(this.#receiptAndEpochKeys())
    for (const [rootKey, count] of this.#state.dataKeys) {
      assert(count >= 0, 'a root key wraps no fewer than zero data keys')
      sums.set(rootKey, (sums.get(rootKey) ?? 0) + count)
    }
    return sums
  }

  #receiptAndEpochKeys(): ReadonlyMap<string, number> {
    const { wrappedChanges } = this.#state
    if (this.#counted?.changes !== wrappedChanges) {
      const counts = new Map<string, number>()
      for (const { rootKey } of receiptAndEpochKeys(this.#state))
        counts.set(rootKey, (counts.get(rootKey) ?? 0) + 1)
      this.#counted = { changes: wrappedChanges, counts }
    }
    return this.#counted.counts
  }
}

/**
 * Wraps every key under the active root key. The genesis is put anew first, also where the active root key
 * wraps the genesis already: whatever was wrapped before, and is late, is refused from then on. Throws
 * UnwrapError, LedgerUnavailable, UnknownOutcome, OperatorError, errors of the options; keys rewrapped before
 * the error stay rewrapped, and another call continues with the others.
 */
export async function rewrapKeys(
  { replica, keyring, clock }: RewrapParts,
  { signal, room }: RewrapOptions,
): Promise<RewrapResult> {
  let rewrapped = await putGenesis(replica, keyring, clock)
  let bytes = 0
  for (let pass = 0; pass < PASSES; pass++) {
    await replica.barrier(new Deadline(clock, STEP_MS))
    signal.throwIfAborted()
    const ring = keyring()
    const { known, left } = keysToRewrap(replica.state, ring)
    if (known.length === 0) return { rewrapped, left }
    for (let i = 0; i < known.length; i += COMMITS_IN_FLIGHT) {
      await room(bytes)
      signal.throwIfAborted()
      const group = known.slice(i, i + COMMITS_IN_FLIGHT)
      const done = await Promise.all(group.map((key) => rewrapKey(replica, ring, clock, key)))
      bytes = done.reduce((sum, size) => sum + size, 0)
      assert(bytes >= 0 && done.length === group.length, 'each key of a group is rewrapped or left')
      rewrapped += done.filter((size) => size > 0).length
    }
  }
  throw new OperatorError('other nodes keep wrapping keys by another root key', {
    hint: 'activate the same root key on every node',
  })
}

/**
 * The keys wrapped by another root key of the keyring. `left` counts the keys whose root key the keyring
 * lacks.
 */
function keysToRewrap(state: State, ring: Keyring): { readonly known: WrappedKey[]; readonly left: number } {
  const known: WrappedKey[] = []
  let left = 0
  for (const keys of [receiptAndEpochKeys(state), dataKeys(state)]) {
    for (const key of keys) {
      if (key.rootKey === ring.active) continue
      if (ring.ids.includes(key.rootKey)) known.push(key)
      else left++
    }
  }
  return { known, left }
}

/**
 * Puts the genesis anew, unless the keyring lacks the root key. Another node may be first: its put is as
 * good. Returns how many keys have another root key now: 0 or 1.
 */
async function putGenesis(replica: Replica, keyring: () => Keyring, clock: Clock): Promise<number> {
  const deadline = new Deadline(clock, STEP_MS)
  await replica.barrier(deadline)
  const ring = keyring()
  const [genesis] = receiptAndEpochKeys(replica.state)
  assert(genesis?.kind === 'genesis', 'a ledger begins with the genesis')
  if (!ring.ids.includes(genesis.rootKey)) return 0
  const size = await rewrapKey(replica, ring, clock, genesis)
  return size > 0 && genesis.rootKey !== ring.active ? 1 : 0
}

/**
 * Returns the bytes of the new entry; 0 where another writer has replaced the entry since `old` was read, or
 * another rewrap has begun since.
 */
async function rewrapKey(replica: Replica, ring: Keyring, clock: Clock, old: WrappedKey): Promise<number> {
  assert(old.revision > 0, 'a wrapped key that was applied has a revision')
  const deadline = new Deadline(clock, STEP_MS)
  const entry = await rewrappedEntry(replica, deadline, old, (wrapped, context) =>
    ring.wrap(ring.unwrap(wrapped, context), context, clock),
  )
  if (!entry) return 0
  const { key, value } = entry
  const guard = { key, revision: old.revision }
  const guards = old.kind === 'genesis' ? [guard] : [guard, replica.wrapGuard]
  const commit = { if: guards, put: [{ key, value }] }
  const { ok } = await replica.commit(commit, key, deadline)
  assert(value.length > 0, 'an entry with a wrapped key is not removed')
  return ok ? key.length + value.length : 0
}

/**
 * The entry with its key wrapped anew; undefined where the entry is not of `old.revision` any more. What a
 * request has created keeps its writer: a node with an unknown outcome knows its own commit by the writer.
 */
async function rewrappedEntry(
  replica: Replica,
  deadline: Deadline,
  old: WrappedKey,
  rewrap: (wrapped: Uint8Array, context: readonly string[]) => Uint8Array,
): Promise<{ readonly key: string; readonly value: Uint8Array } | undefined> {
  switch (old.kind) {
    case 'genesis': {
      const receiptKey = rewrap(old.entry.receiptKey, ['receipts'])
      const value = encodeEntry({ ...old.entry, receiptKey }, replica.nextWriter())
      return { key: ledgerKey.genesis, value }
    }
    case 'key': {
      const { owner, epoch } = old.entry
      const key = ledgerKey.wrappedKey(owner, epoch)
      const found = await replica.read(key, deadline) // the state knows no writer
      if (found.value === null || found.revision !== old.revision) return undefined
      const wrapped = rewrap(old.entry.wrapped, ['epoch', owner, String(epoch)])
      return { key, value: encodeEntry({ ...old.entry, wrapped }, decodeWriter(found.value)) }
    }
    case 'version': {
      const key = ledgerKey.version(old.owner, old.name, old.version)
      const stored = replica.version(old.owner, old.name, old.version)
      if (stored && stored.revision !== old.revision) return undefined
      const entry = stored && decodeEntry(key, stored.value)
      assert(stored && entry?.kind === 'version', 'the store holds every version that the state knows')
      const wrapped = rewrap(entry.wrapped, dataKeyContext(entry))
      return { key, value: encodeEntry({ ...entry, wrapped }, decodeWriter(stored.value)) }
    }
  }
}
