// Witnesses: the entries by which a ledger is known again as the ledger that was applied. Two ledgers with a
// common beginning, one of them put back from a copy and written on, have the same identity; only entries put
// after the copy tell one from the other. Segments and boots are put once. Versions, wrapped keys, epochs and
// the genesis are put again, by a rewrap or a rotation, so a part of each never changes: the revision of the
// put that created the key, and the content that a rewrap keeps.
//
// Of keys and versions two witnesses are kept: the last one put, and the last one created. Both histories may
// rewrap the same old key, and the last put alone would then hide every key and version created before it.
//
// A ledger that passes has all that was created here, and every rotation. Not noticed is a copy without the
// last rewraps, in which the same keys were rewrapped again after the cursor, and a copy without the last
// puts of `node/` and `receipt/`: nothing that a caller was told is lost then. But the entries that the other
// history has at revisions up to the cursor are missing here. A commit shows that: its guard is refused by an
// entry which is not here (replica/commit.ts).
import { hash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import { decodeEntry, type Entry } from './entries.ts'
import { parseKey } from './ledger-keys.ts'
import { isUnreadable, WRITER_BYTES } from './writer.ts'

/** Plain data, stored as JSON with the replica's cursor. */
export type Witness = {
  readonly key: string
  /** Revision of the put that was applied, and of the put that created the key. */
  readonly revision: number
  readonly created: number
  /** CRC-32 of the whole value. */
  readonly crc: number
  /**
   * What no later put of the key changes: a SHA-256 in hex; of an epoch its number; '' where the key is never
   * put again, as after a tombstone.
   */
  readonly immutable: string
}

type Slot = 'segment' | 'boot' | 'genesis' | 'epoch' | 'key' | 'version' | 'newest-key' | 'newest-version'

/** Of each kind the last entry put; `newest-`: the last entry created. */
export type Witnesses = { readonly [slot in Slot]?: Witness }

type WitnessedPut = Pick<Witness, 'key' | 'revision' | 'created'> & {
  readonly value: Uint8Array
  readonly entry: Entry
}

/** A key as a ledger holds it: revisions 0 and a null value where the key is absent. */
type FoundEntry = {
  readonly revision: number
  readonly created: number
  readonly value: Uint8Array | null
}

const SLOTS: { readonly [kind in Entry['kind']]: readonly Slot[] } = {
  segment: ['segment'],
  boot: ['boot'],
  genesis: ['genesis'],
  epoch: ['epoch'],
  key: ['key', 'newest-key'],
  tombstone: ['key', 'newest-key'],
  version: ['version', 'newest-version'],
  node: [],
  receipt: [],
}

const NAMES: { readonly [kind in Entry['kind']]: string } = {
  segment: 'the segment',
  boot: 'the boot',
  genesis: 'the genesis',
  epoch: 'the active epoch',
  key: 'the epoch key',
  tombstone: 'the epoch key',
  version: 'the version of a secret',
  node: 'the node entry',
  receipt: 'the receipt',
}

/** The kind of a key, for messages: neither an owner nor a secret is named. */
export function nameOf(key: string): string {
  const name = parseKey(key)
  assert(name, 'a key that is compared is a key of ours')
  return NAMES[name.kind]
}

/**
 * The witnesses after the puts were applied, in any order: a function of the entries, whether a stream or a
 * snapshot has brought them. Computes checksums of the chosen entries only.
 */
export function witnessesAfter(before: Witnesses, puts: Iterable<WitnessedPut>): Witnesses {
  const chosen = new Map<Slot, WitnessedPut>()
  for (const put of puts) {
    for (const slot of SLOTS[put.entry.kind]) {
      if (isLater(slot, put, chosen.get(slot) ?? before[slot])) chosen.set(slot, put)
    }
  }
  if (chosen.size === 0) return before
  const after: { [slot in Slot]?: Witness } = { ...before }
  const made = new Map<WitnessedPut, Witness>()
  for (const [slot, put] of chosen) {
    const witness = made.get(put) ?? witnessOf(put)
    made.set(put, witness)
    after[slot] = witness
  }
  return after
}

/** Several entries of a kind may share a revision: then the key decides. */
function isLater(
  slot: Slot,
  put: WitnessedPut,
  before: Pick<Witness, 'key' | 'revision' | 'created'> | undefined,
): boolean {
  if (!before) return true
  const newest = slot === 'newest-key' || slot === 'newest-version'
  if (newest && put.created !== before.created) return put.created > before.created
  if (put.revision !== before.revision) return put.revision > before.revision
  return put.key > before.key
}

function witnessOf({ key, revision, created, value, entry }: WitnessedPut): Witness {
  assert(created >= 1 && created <= revision, 'a key is created by its first put')
  // Nothing follows a tombstone.
  const immutable = entry.kind === 'tombstone' ? '' : immutablePart(entry, value)
  return { key, revision, created, crc: crc32(value), immutable }
}

function immutablePart(entry: Entry, value: Uint8Array): string {
  switch (entry.kind) {
    case 'genesis':
      return hash('sha256', `${entry.identity} ${entry.format}`)
    case 'epoch':
      return String(entry.active)
    case 'key':
    case 'tombstone':
      return hash('sha256', `opened ${entry.openedAt}`)
    case 'version': {
      // A rewrap keeps the writer of a version.
      const head = `${entry.validFrom} ${entry.keyId} ${entry.requestId} `
      const writer = value.subarray(0, WRITER_BYTES)
      return hash('sha256', Buffer.concat([Buffer.from(head, 'latin1'), writer, entry.sealed]))
    }
    default:
      return ''
  }
}

/**
 * Why a ledger in which the key of the witness was found is another one than the ledger applied up to
 * `cursor`; undefined where the ledger may be the same.
 */
export function contradiction(witness: Witness, found: FoundEntry, cursor: number): string | undefined {
  const { key, revision, created } = witness
  if (found.value !== null && found.created === created) {
    if (found.revision === revision && crc32(found.value) === witness.crc) return undefined
    // A later put up to the cursor would have been applied here, and be the witness.
    if (found.revision > Math.max(revision, cursor) && isContinued(witness, found.value)) return undefined
  }
  return `the ledger does not hold ${nameOf(key)} of revision ${revision} as it was applied here`
}

/** Whether a later put of the witness's key keeps what never changes. */
function isContinued({ key, immutable }: Witness, value: Uint8Array): boolean {
  if (immutable === '') return false
  try {
    const entry = decodeEntry(key, value)
    assert(entry, 'a witness has a key of ours')
    // Only a rotation puts an epoch again.
    if (entry.kind === 'epoch') return entry.active > Number(immutable)
    return immutablePart(entry, value) === immutable
  } catch (error) {
    if (isUnreadable(error)) return false
    throw error
  }
}
