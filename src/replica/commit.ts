// Commits of this node: an unknown outcome is resolved by sending the same bytes again, and the answers are
// compared with the entries applied here. A guard is a revision that was applied here, so the ledger has the
// revision or a later one; and a refusal tells the ledger's head, up to which the replica then has every
// entry. Else the ledger is not the ledger that was applied here.
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
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
import { parseKey } from '../state/ledger-keys.ts'
import { decodeWriter, sameWriter, type Writer } from '../state/writer.ts'
import { sleep, withDeadline } from '../waiting.ts'
import type { Follower } from './follow.ts'
import { endsBefore } from './recognition.ts'

const RETRY_MS = 100
/** A request without quorum is answered within 5 s, so a wait for the ledger gives up before. */
export const WAIT_MS = 4000
/** How long a request may begin again where other writers were first. */
const AGAIN_MS = 1000
/**
 * Bytes that this node may have committed and not applied. Acknowledgements do not wait for replicas; without
 * a bound a long load would leave the replica so far behind that a barrier takes longer than a request may.
 */
const AHEAD_BYTES = 2 * 1024 * 1024

type CommitterOptions = {
  readonly ledger: Ledger
  /** This run of the node: the writer of its commits. */
  readonly boot: string
  readonly clock: Clock
  readonly follower: Follower
  /** Resolves when the revision has been applied here; rejects when the replica closes. */
  readonly waitApplied: (revision: number) => Promise<void>
  /** The last applied revision. */
  readonly applied: () => number
  /** As `otherwiseApplied` of recognition.ts. */
  readonly otherwiseApplied: (found: Found, head: number) => string | undefined
}

type SentCommit = { readonly commit: Commit; readonly immutable: string; readonly writer: Writer }

export class Committer {
  readonly #ledger: Ledger
  readonly #boot: string
  readonly #clock: Clock
  readonly #follower: Follower
  readonly #waitApplied: (revision: number) => Promise<void>
  readonly #applied: () => number
  readonly #otherwiseApplied: (found: Found, head: number) => string | undefined
  #commits = 0
  /** Bytes accepted by the ledger and not applied here. */
  #ahead = 0
  #lessAhead = Promise.withResolvers<void>()

  constructor(options: CommitterOptions) {
    this.#ledger = options.ledger
    this.#boot = options.boot
    this.#clock = options.clock
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
   * bytes are sent again until the answer is definite. After a refusal the entries that refused the commit
   * have been applied here. Throws LedgerUnavailable where nothing happened, UnknownOutcome where the
   * deadline passes first.
   */
  async commit(commit: Commit, immutable: string): Promise<CommitResult> {
    const value = commit.put.find((put) => put.key === immutable)?.value
    assert(value, 'a commit puts its immutable key')
    const guarded = commit.if.some((each) => each.key === immutable)
    assert(guarded, 'a commit guards its immutable key')
    const writer = decodeWriter(value)
    if (this.#ledger.full && parseKey(immutable)?.kind === 'segment')
      throw new LedgerUnavailable('ledger-full', 'the ledger is nearly full: new tokens are refused')
    const deadline = this.#clock.monotonic() + WAIT_MS
    const left = (): number => deadline - this.#clock.monotonic()
    await withDeadline(this.#follower.checkLedger(), left(), unreached)
    while (this.#ahead > AHEAD_BYTES)
      await withDeadline(this.#lessAhead.promise, left(), () => this.#follower.unavailable())
    const applied = this.#applied()
    const result = await this.#definite({ commit, immutable, writer }, left)
    if (result.revision < applied || (result.ok && result.revision === applied))
      throw this.#follower.contradicted(endsBefore(result.revision, applied))
    if (!result.ok) await this.#compareRefusal(result.revision, result.found, left)
    return result
  }

  /** Sends the commit until the answer is definite; `left` returns the milliseconds up to the deadline. */
  async #definite({ commit, immutable, writer }: SentCommit, left: () => number): Promise<CommitResult> {
    for (let unknown = false; ; ) {
      try {
        const result = await withDeadline(this.#ledger.commit(commit), left(), noAnswer)
        this.#follower.sawHead(result.revision)
        if (result.ok) this.#countAhead(result.revision, commitBytes(commit))
        if (result.ok || !unknown) return result
        const found = result.found.find((each) => each.key === immutable)
        assert(found, 'a refused commit reports every guarded key')
        const mine = found.value !== null && sameWriter(decodeWriter(found.value), writer)
        return mine ? { ok: true, revision: found.revision } : result
      } catch (error) {
        if (error instanceof UnknownOutcome) unknown = true
        else if (!(error instanceof LedgerUnavailable) || !unknown) throw error
        if (left() <= RETRY_MS) throw noAnswer()
        await sleep(RETRY_MS)
      }
    }
  }

  /**
   * A refused commit has read the ledger at `head`. Waits until `head` has been applied here; then the
   * replica has every guarded key as the key was found, or a later put. Throws LedgerUnavailable.
   */
  async #compareRefusal(head: number, found: readonly Found[], left: () => number): Promise<void> {
    this.#follower.hurry(head)
    await withDeadline(this.#waitApplied(head), left(), () => this.#follower.unavailable())
    for (const each of found) {
      const reason = this.#otherwiseApplied(each, head)
      if (reason !== undefined) throw this.#follower.contradicted(reason, each.key)
    }
  }

  /**
   * Removes receipts, unless one of the receipts has been put anew. Returns false where nothing is known to
   * be removed: the removal may be retried at any time.
   */
  async removeReceipts(receipts: readonly Guard[]): Promise<boolean> {
    const put = receipts.map(({ key }) => ({ key, value: null }))
    const guards = receipts.map(({ key, revision }) => ({ key, revision }))
    try {
      await this.#follower.checkLedger()
      const result = await this.#ledger.commit({ if: guards, put })
      this.#follower.sawHead(result.revision)
      return result.ok
    } catch (error) {
      if (error instanceof LedgerUnavailable || error instanceof UnknownOutcome) return false
      throw error
    }
  }

  #countAhead(revision: number, bytes: number): void {
    this.#ahead += bytes
    this.#waitApplied(revision).then(
      () => {
        this.#ahead -= bytes
        assert(this.#ahead >= 0, 'a commit is applied once')
        this.#lessAhead.resolve()
        this.#lessAhead = Promise.withResolvers()
      },
      () => undefined, // the replica is closed, and there are no more commits
    )
  }
}

/**
 * The error of a request that has reached the ledger in part: a part of the request may have been applied.
 */
export function asReached(error: unknown): unknown {
  if (!(error instanceof LedgerUnavailable) || error.reason !== 'no-quorum') return error
  return new UnknownOutcome(error.message)
}

/**
 * For a request that begins again where another writer was first: the result is called before each new try.
 * Throws LedgerUnavailable where the tries have taken too long.
 */
export function triesOf(clock: Clock): () => void {
  const deadline = clock.monotonic() + AGAIN_MS
  return () => {
    if (clock.monotonic() <= deadline) return
    throw new LedgerUnavailable('no-quorum', 'other writers were first again and again')
  }
}

function unreached(): LedgerUnavailable {
  return new LedgerUnavailable('no-quorum', 'the ledger cannot be reached')
}

function noAnswer(): UnknownOutcome {
  return new UnknownOutcome('the outcome of a write is unknown')
}
