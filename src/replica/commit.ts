// Commits of this node: an unknown outcome is resolved by sending the same bytes again, and the answers are
// compared with the entries applied here. A guard is a revision that was applied here, so the ledger has the
// revision or a later one; and a refusal tells the ledger's head, up to which the replica then has every
// entry. Else the ledger is not the ledger that was applied here.
import { assert } from '../assert.ts'
import { Deadline } from '../clock.ts'
import {
  type Commit,
  type CommitResult,
  commitBytes,
  type Found,
  type Guard,
  type Ledger,
  LedgerUnavailable,
  UnknownOutcome,
} from '../ledger/ledger.ts'
import { noAnswer, overdue } from '../ledger/pending-commit.ts'
import { parseKey } from '../state/ledger-keys.ts'
import { decodeWriter, sameWriter, type Writer } from '../state/writer.ts'
import { sleep, Waiters } from '../waiting.ts'
import type { Follower } from './follow.ts'
import { endsBefore } from './recognition.ts'

const RETRY_MS = 100
/**
 * Bytes that this node may have committed and not applied. Acknowledgements do not wait for replicas; without
 * a bound a long load would leave the replica so far behind that a barrier takes longer than a request may.
 */
const AHEAD_BYTES = 2 * 1024 * 1024

type CommitterOptions = {
  readonly ledger: Ledger
  /** This run of the node: the writer of its commits. */
  readonly boot: string
  readonly follower: Follower
  /** As `Replica.waitApplied`. */
  readonly waitApplied: (revision: number, deadline: Deadline) => Promise<void>
  /** The last applied revision. */
  readonly applied: () => number
  /** As `otherwiseApplied` of recognition.ts. */
  readonly otherwiseApplied: (found: Found, head: number) => string | undefined
}

/** `isMine`: whether the entry found under the immutable key was put by the commit. */
type SentCommit = {
  readonly commit: Commit
  readonly immutable: string
  /** Whether the immutable key was absent. */
  readonly creates: boolean
  readonly isMine: (found: Found) => boolean
}

export class Committer {
  readonly #ledger: Ledger
  readonly #boot: string
  readonly #follower: Follower
  readonly #waitApplied: CommitterOptions['waitApplied']
  readonly #applied: () => number
  readonly #otherwiseApplied: (found: Found, head: number) => string | undefined
  #commits = 0
  /** Bytes accepted by the ledger and not applied here. */
  #ahead = 0
  readonly #lessAhead = new Waiters()

  constructor(options: CommitterOptions) {
    this.#ledger = options.ledger
    this.#boot = options.boot
    this.#follower = options.follower
    this.#waitApplied = options.waitApplied
    this.#applied = options.applied
    this.#otherwiseApplied = options.otherwiseApplied
  }

  nextWriter(): Writer {
    return { boot: this.#boot, commit: ++this.#commits }
  }

  /**
   * Commits, and resolves an unknown outcome: `immutable` is a key that the commit guards and puts; the same
   * bytes are sent again until the answer is definite, or the deadline passes. After a refusal the entries
   * that refused the commit have been applied here. Throws LedgerUnavailable where nothing happened,
   * UnknownOutcome where the commit was sent and the deadline passes before a definite answer.
   */
  async commit(commit: Commit, immutable: string, deadline: Deadline): Promise<CommitResult> {
    const value = commit.put.find((put) => put.key === immutable)?.value
    assert(value, 'a commit puts its immutable key')
    const guard = commit.if.find((each) => each.key === immutable)
    assert(guard, 'a commit guards its immutable key')
    assert(guard.revision <= this.#applied(), 'a guard has been applied here')
    const creates = guard.revision === 0
    const isMine = creates ? hasWriter(decodeWriter(value)) : hasBytes(value)
    if (this.#ledger.full && parseKey(immutable)?.kind === 'segment')
      throw new LedgerUnavailable('ledger-full', 'the ledger is nearly full: new tokens are refused')
    await this.#follower.checkLedger(deadline)
    while (this.#ahead > AHEAD_BYTES) await this.#lessAhead.wait(deadline, () => this.#follower.unavailable())
    const { least } = this.#follower
    const result = await this.#definite({ commit, immutable, creates, isMine }, deadline)
    if (result.revision < least || (result.ok && result.revision === least))
      throw this.#follower.contradicted(endsBefore(result.revision, least))
    if (result.ok) this.#follower.accepted(immutable, result.revision)
    else await this.#compareRefusal(result.revision, result.found, deadline)
    return result
  }

  /** Sends the commit until the answer is definite. */
  async #definite(
    { commit, immutable, creates, isMine }: SentCommit,
    deadline: Deadline,
  ): Promise<CommitResult> {
    for (let unknown = false; ; ) {
      try {
        const result = await this.#ledger.commit(commit, deadline)
        this.#follower.sawHead(result.revision)
        if (result.ok) this.#countAhead(result.revision, commitBytes(commit))
        if (result.ok || !unknown) return result
        const found = result.found.find((each) => each.key === immutable)
        assert(found, 'a refused commit reports every guarded key')
        if (!isMine(found)) return result
        assert(found.created > 0, 'a found entry was created')
        // Wrapped anew since, a created entry has a later revision than the commit.
        return { ok: true, revision: creates ? found.created : found.revision }
      } catch (error) {
        if (error instanceof UnknownOutcome) unknown = true
        else if (!(error instanceof LedgerUnavailable) || !unknown) throw error
        if (deadline.left() <= RETRY_MS) throw noAnswer()
        await sleep(RETRY_MS)
      }
    }
  }

  /**
   * A refused commit has read the ledger at `head`. Waits until `head` has been applied here; then the
   * replica has every guarded key as the key was found, or a later put. Throws LedgerUnavailable.
   */
  async #compareRefusal(head: number, found: readonly Found[], deadline: Deadline): Promise<void> {
    this.#follower.hurry(head)
    await this.#waitApplied(head, deadline)
    for (const each of found) {
      const reason = this.#otherwiseApplied(each, head)
      if (reason !== undefined) throw this.#follower.contradicted(reason, each.key)
    }
  }

  /**
   * Removes receipts, unless one of the receipts has been put anew. Returns false where nothing is known to
   * be removed: the removal may be retried at any time.
   */
  async removeReceipts(receipts: readonly Guard[], deadline: Deadline): Promise<boolean> {
    const put = receipts.map(({ key }) => ({ key, value: null }))
    const guards = receipts.map(({ key, revision }) => ({ key, revision }))
    try {
      await this.#follower.checkLedger(deadline)
      const result = await this.#ledger.commit({ if: guards, put }, deadline)
      this.#follower.sawHead(result.revision)
      return result.ok
    } catch (error) {
      if (error instanceof LedgerUnavailable || error instanceof UnknownOutcome) return false
      throw error
    }
  }

  #countAhead(revision: number, bytes: number): void {
    this.#ahead += bytes
    this.#waitApplied(revision, Deadline.never).then(
      () => {
        this.#ahead -= bytes
        assert(this.#ahead >= 0, 'a commit is applied once')
        this.#lessAhead.wake()
      },
      () => undefined, // the replica is closed, and there are no more commits
    )
  }
}

/** A created entry keeps its writer, whoever wraps its key anew. */
function hasWriter(writer: Writer): SentCommit['isMine'] {
  return ({ value }) => value !== null && sameWriter(decodeWriter(value), writer)
}

/** Entries in place of one another may have the same writer: wrapped anew by this node, and by another. */
function hasBytes(bytes: Uint8Array): SentCommit['isMine'] {
  return ({ value }) => value !== null && Buffer.compare(value, bytes) === 0
}

/**
 * The error of a request that has reached the ledger in part: a part of the request may have been applied.
 */
export function asReached(error: unknown): unknown {
  if (!(error instanceof LedgerUnavailable) || error.reason !== 'no-quorum') return error
  return new UnknownOutcome(error.message)
}

/** Throws LedgerUnavailable where the deadline has passed: nothing more of the request is begun. */
export function checkTime(deadline: Deadline): void {
  if (deadline.passed) throw overdue()
}
