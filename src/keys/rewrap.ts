// Rewrapping: the keys in the ledger are wrapped anew by the active root key, so that an old one can go. The keys
// themselves stay, and with them every token, every sealed value and the digest.
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { type Keyring, wrappedBy } from '../crypto/keyring.ts'
import { dataKeyPlace } from '../crypto/secret.ts'
import type { Replica } from '../replica/replica.ts'
import { decodeEntry, encodeEntry, type Genesis, type WrappedEpochKey } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { State } from '../state/state.ts'
import { decodeWriter } from '../state/writer.ts'

/** `left` are wrapped by a root key that this keyring lacks. */
export type Rewrapped = { readonly rewrapped: number; readonly left: number }

/** A wrapped key in the ledger, and the revision it was put at. */
type Wrapped = { readonly rootKey: string; readonly revision: number } & (
  | { readonly kind: 'genesis'; readonly entry: Genesis }
  | { readonly kind: 'key'; readonly entry: WrappedEpochKey }
  | { readonly kind: 'version'; readonly owner: string; readonly name: string; readonly version: number }
)

/** Commits that are under way together. */
const AT_ONCE = 128
/** A pass finds work again only where another node has put keys meanwhile. */
const PASSES = 8

function* wrappedKeysOf(state: State): Iterable<Wrapped> {
  const { genesis } = state
  if (genesis) {
    const rootKey = wrappedBy(genesis.receiptKey)
    yield { kind: 'genesis', entry: genesis, revision: state.genesisRevision, rootKey }
  }
  for (const { keys, keyRevisions } of state.owners.values()) {
    for (const [epoch, entry] of keys) {
      const revision = keyRevisions.get(epoch) ?? 0
      yield { kind: 'key', entry, revision, rootKey: wrappedBy(entry.wrapped) }
    }
  }
}

function* dataKeysOf(state: State): Iterable<Wrapped> {
  for (const [owner, { secrets }] of state.owners) {
    for (const [name, versions] of secrets) {
      for (const [i, version] of versions.entries())
        yield { kind: 'version', owner, name, version: i + 1, ...version }
    }
  }
}

/** How many keys of the ledger each root key wraps, as of what a replica has applied. */
export class WrappedKeys {
  readonly #state: State
  #counted: { readonly changes: number; readonly counts: ReadonlyMap<string, number> } | undefined

  constructor(state: State) {
    this.#state = state
  }

  counts(): ReadonlyMap<string, number> {
    const { wrappedChanges, dataKeys } = this.#state
    if (this.#counted?.changes !== wrappedChanges) {
      const counts = new Map<string, number>()
      for (const { rootKey } of wrappedKeysOf(this.#state))
        counts.set(rootKey, (counts.get(rootKey) ?? 0) + 1)
      this.#counted = { changes: wrappedChanges, counts }
    }
    const sums = new Map(this.#counted.counts)
    for (const [rootKey, count] of dataKeys) sums.set(rootKey, (sums.get(rootKey) ?? 0) + count)
    return sums
  }
}

/**
 * Has the active root key wrap whatever another one wraps. Throws UnwrapError, LedgerUnavailable, UnknownOutcome; what
 * was done by then is done, and calling again does the rest.
 */
export async function rewrapKeys(replica: Replica, keyring: () => Keyring, clock: Clock): Promise<Rewrapped> {
  let rewrapped = 0
  for (let pass = 0; pass < PASSES; pass++) {
    await replica.barrier()
    const ring = keyring()
    const { state } = replica
    let left = 0
    const known: Wrapped[] = []
    for (const keys of [wrappedKeysOf(state), dataKeysOf(state)]) {
      for (const each of keys) {
        if (each.rootKey === ring.active) continue
        left++
        if (ring.ids.includes(each.rootKey)) known.push(each)
      }
    }
    if (known.length === 0) return { rewrapped, left }
    for (let i = 0; i < known.length; i += AT_ONCE) {
      const some = known.slice(i, i + AT_ONCE)
      const done = await Promise.all(some.map((each) => rewrapOne(replica, ring, clock, each)))
      rewrapped += done.filter(Boolean).length
    }
  }
  throw new Error('other nodes keep wrapping keys by another root key: activate the same one on every node')
}

/** False where somebody else put the key meanwhile. */
async function rewrapOne(replica: Replica, ring: Keyring, clock: Clock, old: Wrapped): Promise<boolean> {
  assert(old.revision > 0, 'a wrapped key that was applied has a revision')
  const again = (wrapped: Uint8Array, place: readonly string[]): Uint8Array =>
    ring.wrap(ring.unwrap(wrapped, place), place, clock)
  const put = anew(replica, old, again)
  if (!put) return false
  const { key, value } = put
  const result = await replica.commit({ if: [{ key, revision: old.revision }], put: [{ key, value }] }, key)
  return result.ok
}

function anew(
  replica: Replica,
  old: Wrapped,
  again: (wrapped: Uint8Array, place: readonly string[]) => Uint8Array,
): { key: string; value: Uint8Array } | undefined {
  switch (old.kind) {
    case 'genesis': {
      const receiptKey = again(old.entry.receiptKey, ['receipts'])
      return {
        key: ledgerKey.genesis,
        value: encodeEntry({ ...old.entry, receiptKey }, replica.nextWriter()),
      }
    }
    case 'key': {
      const { owner, epoch } = old.entry
      const wrapped = again(old.entry.wrapped, ['epoch', owner, String(epoch)])
      const value = encodeEntry({ ...old.entry, wrapped }, replica.nextWriter())
      return { key: ledgerKey.wrappedKey(owner, epoch), value }
    }
    case 'version': {
      const key = ledgerKey.version(old.owner, old.name, old.version)
      const stored = replica.version(old.owner, old.name, old.version)
      if (stored && stored.revision !== old.revision) return undefined // put anew meanwhile
      const entry = stored && decodeEntry(key, stored.value)
      assert(stored && entry?.kind === 'version', 'a version that is known is stored')
      // Its writer stays: whoever put the version and does not know yet whether it is there knows it by that.
      const value = encodeEntry(
        { ...entry, wrapped: again(entry.wrapped, dataKeyPlace(entry)) },
        decodeWriter(stored.value),
      )
      return { key, value }
    }
  }
}
