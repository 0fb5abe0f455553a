// The ledger is the only authority: a totally ordered list of guarded commits of opaque bytes. Drivers: memory
// (tests), LMDB (one node), etcd (a cluster). checked.ts wraps any of them; contract.ts is the suite they all pass.
import { OperatorError } from '../errors.ts'

/** `revision` is the one under which the key was last put; 0 means that the key is absent. */
export type Guard = { readonly key: string; readonly revision: number }
export type LedgerPut = { readonly key: string; readonly value: Uint8Array | null }
export type Commit = { readonly if: readonly Guard[]; readonly put: readonly LedgerPut[] }

/** A guarded key as of the write that was refused; `value` is null and `revision` 0 where it is absent. */
export type Found = { readonly key: string; readonly revision: number; readonly value: Uint8Array | null }

export type CommitResult =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly revision: number; readonly found: readonly Found[] }

/** The puts of one revision. */
export type Revision = { readonly revision: number; readonly puts: readonly LedgerPut[] }

export type SnapshotEntry = { readonly key: string; readonly value: Uint8Array; readonly revision: number }

/** Of a ledger, or of one connection to it. */
export type Reader = Pick<Ledger, 'head' | 'read'>

/** `count` entries with keys from `from` to `to`, both of them among those: what a caller has of them already. */
export type Known = { readonly from: string; readonly to: string; readonly count: number }

/** How the ledger is, as asked just now. */
export type Health = {
  /** Why it cannot be read, or would refuse commits; empty when all is well. */
  readonly problems: readonly string[]
  readonly quorum: boolean
  /** The node whose member leads; undefined where none does, or the ledger has no members. */
  readonly leader: string | undefined
  readonly members: readonly { readonly node: string; readonly ready: boolean }[]
  /** The part of its room that is used, 0 to 1; 0 where only the disk bounds it. */
  readonly used: number
}

/** From this part of its room on a ledger is `full`: the rest is kept for what is small and rare. */
export const FULL = 0.75

/** Nothing of a commit is larger, in any driver; checked before anything is sent. */
export const COMMIT_BYTES = 1024 * 1024
export const KEY_BYTES = 512

export type Ledger = {
  /**
   * One guarded, atomic write. It exists, for its answer, `head` and `follow` alike, only once a crash cannot take
   * it back. Throws UnknownOutcome where it may or may not have happened, LedgerUnavailable where it has not.
   * A driver never repeats a commit by itself.
   */
  commit(commit: Commit): Promise<CommitResult>
  /** A key as of now, linearizable. Throws LedgerUnavailable. */
  read(key: string): Promise<Found>
  /** The latest revision, linearizable. Throws LedgerUnavailable. */
  head(): Promise<number>
  /**
   * Every revision after `after`, in order and gapless, for ever; ends on close and when `signal` aborts. Throws
   * Compacted, LedgerUnavailable.
   */
  follow(after: number, signal?: AbortSignal): AsyncIterable<Revision>
  /**
   * All live entries at one revision, in any order. What is `known` may be left out where the ledger holds just as
   * many there. Throws LedgerUnavailable; its entries throw Compacted where they take too long.
   */
  snapshot(
    known?: readonly Known[],
  ): Promise<{ readonly revision: number; readonly entries: AsyncIterable<SnapshotEntry> }>
  /**
   * From now on `check` looks at every new connection, by a reader of that connection, before anything that comes over
   * it is believed and anything is sent: what it throws is what callers get. A driver without connections never calls.
   */
  checkConnections(check: (reader: Reader) => Promise<void>): void
  /** Asked once a second. Never throws, and answers within 3 s. */
  health(): Promise<Health>
  /** As `health` has found it last: bulky commits should not come any more. */
  readonly full: boolean
  close(): Promise<void>
}

/** The commit may or may not have happened: send the same bytes again to know. */
export class UnknownOutcome extends OperatorError {
  override readonly name = 'UnknownOutcome'
}

/** `ledger-changed`: it is not the ledger that was followed, or has lost revisions. */
export type UnavailableReason = 'no-quorum' | 'disk-full' | 'ledger-full' | 'ledger-changed' | 'closed'

/** The ledger could not be reached, or would not take it; nothing happened. */
export class LedgerUnavailable extends OperatorError {
  override readonly name = 'LedgerUnavailable'
  readonly reason: UnavailableReason
  constructor(reason: UnavailableReason, detail: string) {
    super(detail)
    this.reason = reason
  }
}

/** The revisions asked for are no longer there: take a snapshot. */
export class Compacted extends Error {
  override readonly name = 'Compacted'
}

export function commitBytes(commit: Commit): number {
  let bytes = 0
  for (const guard of commit.if) bytes += guard.key.length + 16
  for (const put of commit.put) bytes += put.key.length + 16 + (put.value?.length ?? 0)
  return bytes
}
