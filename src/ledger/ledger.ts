// The ledger is the only authority: a totally ordered list of guarded commits of opaque bytes. Drivers:
// memory (tests), LMDB (one node), etcd (a cluster). checked.ts wraps every driver; contract.ts is the suite
// all drivers pass.
import type { Deadline } from '../clock.ts'
import { OperatorError } from '../errors.ts'

/** `revision`: of the key's last put; 0: the key is absent. */
export type Guard = { readonly key: string; readonly revision: number }
/** A null value removes the key. */
export type LedgerPut = { readonly key: string; readonly value: Uint8Array | null }
export type Commit = { readonly if: readonly Guard[]; readonly put: readonly LedgerPut[] }

/**
 * A key as it was found. `created`: the revision of the put that created the key. An absent key has
 * `revision` and `created` 0 and a null value.
 */
export type Found = {
  readonly key: string
  readonly revision: number
  readonly created: number
  readonly value: Uint8Array | null
}

export type CommitResult =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly revision: number; readonly found: readonly Found[] }

/** `created`: the revision of the put that created the key; 0 for a removal. */
export type RevisionPut = LedgerPut & { readonly created: number }

/** The puts of one revision. */
export type Revision = { readonly revision: number; readonly puts: readonly RevisionPut[] }

export type SnapshotEntry = {
  readonly key: string
  readonly value: Uint8Array
  readonly revision: number
  readonly created: number
}

export type Snapshot = { readonly revision: number; readonly entries: AsyncIterable<SnapshotEntry> }

/** Linearizable reads of a ledger, or over one connection to a ledger. */
export type Reader = Pick<Ledger, 'head' | 'read'>

/**
 * A range of keys, `from` and `to` included, of which the caller has `count` entries already. Entries of the
 * range are never put again nor removed, so an equal count in the ledger means the same entries.
 */
export type Known = { readonly from: string; readonly to: string; readonly count: number }

/** The keys from `from` (included) to `to` (excluded; empty: to the end). */
export type KeyRange = {
  readonly from: string
  readonly to: string
  /**
   * Most bytes of an entry's key and value. An entry may be larger where others than Coffer write: reading
   * costs more then.
   */
  readonly largest: number
  /** Parts of the range, ascending and apart. */
  readonly known?: readonly Known[]
}

/** The health of a ledger, just asked for. */
export type Health = {
  /** Why the ledger cannot be read, or would refuse commits; empty when all is well. */
  readonly problems: readonly string[]
  readonly quorum: boolean
  /** The node whose member leads; undefined: no member leads, or the ledger has no members. */
  readonly leader: string | undefined
  readonly members: readonly { readonly node: string; readonly ready: boolean }[]
  /** The used part of the ledger's room, 0 to 1; 0 where only the disk bounds the room. */
  readonly used: number
  /** The part of the room in use by entries and history; the rest of `used` is free for new entries. */
  readonly occupied: number
}

/** From this used part on a ledger is filling up: there is time to make room. */
export const FILLING = 0.6

/** From this used part on a ledger is `full`: the rest of its room is kept for epochs and secrets. */
export const FULL = 0.75

/** Upper bounds of a commit and of a key, the same in all drivers; checked before anything is sent. */
export const COMMIT_BYTES = 1024 * 1024
export const KEY_BYTES = 512

export type Ledger = {
  /**
   * One guarded, atomic write. The answer, `head` and `follow` show a commit only once no crash can take the
   * commit back. A driver never repeats a commit by itself. Throws UnknownOutcome where the commit may or may
   * not have happened, LedgerUnavailable where nothing has happened.
   *
   * Settles by the deadline. A commit that has not been sent by then leaves the driver's queue, never
   * happens, and is LedgerUnavailable; a commit sent and not answered is UnknownOutcome. Nothing is sent
   * after its deadline.
   */
  commit(commit: Commit, deadline: Deadline): Promise<CommitResult>
  /** The key's last put, linearizable. Throws LedgerUnavailable. */
  read(key: string): Promise<Found>
  /** The latest revision, linearizable. Throws LedgerUnavailable. */
  head(): Promise<number>
  /**
   * Every revision after `after`, in order and gapless, for ever; ends on close and when `signal` aborts.
   * Throws Compacted, LedgerUnavailable.
   */
  follow(after: number, signal?: AbortSignal): AsyncIterable<Revision>
  /**
   * All live entries at one revision: range after range in the order given, within a range in ascending order
   * of keys. Ranges do not overlap. A `known` part may be left out where the ledger has as many entries in
   * the part as the caller. Throws LedgerUnavailable; `entries` throws LedgerUnavailable, also where `signal`
   * aborts while entries are waited for, and Compacted where reading takes so long that history was compacted
   * meanwhile.
   */
  snapshot(ranges: readonly KeyRange[], signal?: AbortSignal): Promise<Snapshot>
  /**
   * From now on `check` judges every new connection, by reads over the connection, before any other answer is
   * believed and anything is sent. Callers get the error of `check`. A driver without connections never calls
   * `check`.
   */
  checkConnections(check: (reader: Reader) => Promise<void>): void
  /** Whether an open connection has passed the check; true where the driver has no connections. */
  readonly right: boolean
  /** Called once a second. Never throws, and resolves within 3 s. */
  health(): Promise<Health>
  /** Whether the last `health` found `used` at FULL or above: callers must not send bulky commits then. */
  readonly full: boolean
  close(): Promise<void>
}

/** The commit may or may not have happened. Sending the same bytes again gives the answer. */
export class UnknownOutcome extends OperatorError {
  override readonly name = 'UnknownOutcome'
}

/** `ledger-changed`: another ledger than the followed one, or the same with revisions lost. */
type UnavailableReason = 'no-quorum' | 'disk-full' | 'ledger-full' | 'ledger-changed' | 'closed'

/** The ledger could not be reached, or refused the commit for want of room; nothing happened. */
export class LedgerUnavailable extends OperatorError {
  override readonly name = 'LedgerUnavailable'
  readonly reason: UnavailableReason
  constructor(reason: UnavailableReason, detail: string) {
    super(detail)
    this.reason = reason
  }
}

/** The requested revisions were compacted: take a snapshot. */
export class Compacted extends Error {
  override readonly name = 'Compacted'
}

/** An upper bound of the bytes that a commit takes on the wire, without etcd's own overhead. */
export function commitBytes(commit: Commit): number {
  let bytes = 0
  for (const guard of commit.if) bytes += guard.key.length + 16
  for (const put of commit.put) bytes += put.key.length + 16 + (put.value?.length ?? 0)
  return bytes
}
