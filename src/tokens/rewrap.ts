// Rewrapping: the keys in the ledger are wrapped anew by the active root key, so that an old one can go. The
// keys themselves stay, and with them every token, every sealed value and the digest.
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { type Keyring, wrappedBy } from '../crypto/keyring.ts'
import type { Replica } from '../replica/replica.ts'
import { encodeEntry, type Genesis, type WrappedEpochKey } from '../state/entries.ts'
import { GENESIS, wrappedKey } from '../state/keys.ts'
import type { State } from '../state/state.ts'

/** `left` are wrapped by a root key that this keyring lacks. */
export type Rewrapped = { readonly rewrapped: number; readonly left: number }

/** A wrapped key in the ledger, and the revision it was put at. */
type Wrapped = {
  readonly revision: number
  readonly wrapped: Uint8Array
  readonly place: readonly string[]
} & (
  | { readonly kind: 'genesis'; readonly entry: Genesis }
  | { readonly kind: 'key'; readonly entry: WrappedEpochKey }
)

/** Commits that are under way together. */
const AT_ONCE = 256
/** A pass finds work again only where another node has put keys meanwhile. */
const PASSES = 8

function* wrappedKeysOf(state: State): Iterable<Wrapped> {
  const { genesis } = state
  if (genesis) {
    const revision = state.genesisRevision
    yield { kind: 'genesis', entry: genesis, revision, wrapped: genesis.receiptKey, place: ['receipts'] }
  }
  for (const [owner, { keys, keyRevisions }] of state.owners) {
    for (const [epoch, entry] of keys) {
      const place = ['epoch', owner, String(epoch)]
      yield { kind: 'key', entry, revision: keyRevisions.get(epoch) ?? 0, wrapped: entry.wrapped, place }
    }
  }
}

/** Wrapped keys by root key. */
export function countWrapped(state: State): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const { wrapped } of wrappedKeysOf(state)) {
    const id = wrappedBy(wrapped)
    counts.set(id, (counts.get(id) ?? 0) + 1)
  }
  return counts
}

/** Throws UnwrapError, LedgerUnavailable, UnknownOutcome. */
export async function rewrapKeys(replica: Replica, keyring: () => Keyring, clock: Clock): Promise<Rewrapped> {
  let rewrapped = 0
  for (let pass = 0; pass < PASSES; pass++) {
    await replica.barrier()
    const ring = keyring()
    const others = [...wrappedKeysOf(replica.state)].filter(
      ({ wrapped }) => wrappedBy(wrapped) !== ring.active,
    )
    const known = others.filter(({ wrapped }) => ring.ids.includes(wrappedBy(wrapped)))
    if (known.length === 0) return { rewrapped, left: others.length }
    for (let i = 0; i < known.length; i += AT_ONCE) {
      const done = await Promise.all(
        known.slice(i, i + AT_ONCE).map((each) => rewrapOne(replica, ring, clock, each)),
      )
      rewrapped += done.filter(Boolean).length
    }
  }
  throw new Error('other nodes keep wrapping keys by another root key: activate the same one on every node')
}

/** False where somebody else put the key meanwhile. */
async function rewrapOne(replica: Replica, ring: Keyring, clock: Clock, old: Wrapped): Promise<boolean> {
  assert(old.revision > 0, 'a wrapped key that was applied has a revision')
  const fresh = ring.wrap(ring.unwrap(old.wrapped, old.place), old.place, clock)
  const [key, entry] =
    old.kind === 'genesis'
      ? [GENESIS, { ...old.entry, receiptKey: fresh }]
      : [wrappedKey(old.entry.owner, old.entry.epoch), { ...old.entry, wrapped: fresh }]
  const value = encodeEntry(entry, replica.nextWriter())
  const result = await replica.commit({ if: [{ key, revision: old.revision }], put: [{ key, value }] }, key)
  return result.ok
}
