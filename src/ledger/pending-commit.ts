// A commit in a driver, from the call to its outcome. Settles once, and by its deadline: not sent by then,
// nothing has happened, and the commit is never sent; sent and not answered, the outcome is unknown.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import { type Commit, type CommitResult, LedgerUnavailable, UnknownOutcome } from './ledger.ts'

export class PendingCommit {
  readonly commit: Commit
  readonly #deadline: Deadline
  readonly #outcome = Promise.withResolvers<CommitResult>()
  readonly #endWatch: () => void
  #stage: 'waiting' | 'sent' | 'settled' = 'waiting'

  /** `leave` is called when the deadline passes before the commit is sent: a queue forgets the commit. */
  constructor(commit: Commit, deadline: Deadline, leave: (pending: PendingCommit) => void) {
    this.commit = commit
    this.#deadline = deadline
    this.#endWatch = deadline.onPass(() => {
      if (this.#stage === 'waiting') leave(this)
      this.reject(this.#stage === 'waiting' ? notTaken() : noAnswer())
    })
  }

  /** Throws LedgerUnavailable, UnknownOutcome. */
  get outcome(): Promise<CommitResult> {
    return this.#outcome.promise
  }

  /**
   * Call right before the commit is sent. Returns the milliseconds up to the deadline; 0: the deadline has
   * passed, and the commit must not be sent.
   */
  depart(): number {
    if (this.#stage === 'settled') return 0 // given up while a member was chosen, or by a closed driver
    assert(this.#stage === 'waiting', 'a commit is sent once')
    const left = this.#deadline.left()
    if (left > 0) this.#stage = 'sent'
    else this.reject(notTaken())
    return left
  }

  /** The outcome of a commit given up is dropped. */
  resolve(result: CommitResult): void {
    assert(this.#stage !== 'waiting', 'a commit has a result after it was sent')
    this.#end()
    this.#outcome.resolve(result)
  }

  reject(error: unknown): void {
    this.#end()
    this.#outcome.reject(error)
  }

  #end(): void {
    this.#stage = 'settled'
    this.#endWatch()
  }
}

function notTaken(): LedgerUnavailable {
  return new LedgerUnavailable('no-quorum', 'the ledger has not taken the write in time')
}

/** The error for a commit that was sent and not answered. */
export function noAnswer(): UnknownOutcome {
  return new UnknownOutcome('the ledger has not answered a write in time')
}

/** The error for a commit that comes after its deadline. */
export function overdue(): LedgerUnavailable {
  return new LedgerUnavailable('no-quorum', 'the time of the request has passed')
}
