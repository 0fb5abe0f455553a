// The batching writer of the etcd driver: waiting commits travel together, and each gets its own outcome.
// Knows the ledger's commits only; choosing a member and sending are handed in.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import { CommitDelay } from '../commit-delay.ts'
import { type Commit, type CommitResult, commitBytes, LedgerUnavailable } from './ledger.ts'
import { PendingCommit } from './pending-commit.ts'

/** Bytes and commits of one write; etcd refuses requests above 1.5 MiB. */
const WRITE_BYTES = 1024 * 1024
const WRITE_COMMITS = 64
/** Writes sent and not answered, at most. */
const IN_FLIGHT = 4
/**
 * Below this total, waiting commits are held back while a small write is in flight, and share the next write.
 */
const SMALL_BYTES = 64 * 1024
/** A slower write may wait for a leader that is gone. */
const SLOW_MS = 300
const SLOW_POLL_MS = 200

type WaitingCommit = {
  readonly pending: PendingCommit
  /** Guarded and put. */
  readonly keys: ReadonlySet<string>
  readonly bytes: number
}

/** A write in flight. */
type Write = {
  /** When the write was sent, by `performance.now()`. */
  readonly sentAt: number
  readonly small: boolean
}

type EtcdWritesOptions<Member> = {
  /** Chooses the member for a write, which takes seconds where members hang. */
  readonly choose: () => Promise<Member>
  /**
   * Sends independent commits as one write, at once; `ms`: up to the last of their deadlines. Returns a
   * result for each; rejects where all failed.
   */
  readonly send: (member: Member, commits: readonly Commit[], ms: number) => Promise<readonly CommitResult[]>
  /** Called every 200 ms while a write is slow. */
  readonly slow: () => void
}

export class EtcdWrites<Member> {
  readonly #options: EtcdWritesOptions<Member>
  readonly #waiting: WaitingCommit[] = []
  #waitingBytes = 0
  readonly #inFlight = new Set<Write>()
  readonly #delay = new CommitDelay(() => this.#sendWaiting())
  #slowTimer: NodeJS.Timeout | undefined

  constructor(options: EtcdWritesOptions<Member>) {
    this.#options = options
  }

  /** As `Ledger.commit`. */
  commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    const pending = new PendingCommit(commit, deadline, () => this.#leave(waiting))
    const keys = new Set([...commit.put.map((put) => put.key), ...commit.if.map((guard) => guard.key)])
    const waiting: WaitingCommit = { pending, keys, bytes: commitBytes(commit) }
    this.#waiting.push(waiting)
    this.#waitingBytes += waiting.bytes
    queueMicrotask(() => this.#sendWaiting())
    return pending.outcome
  }

  /** A commit taken out for a write whose member is being chosen is in no queue, and is left out later. */
  #leave(waiting: WaitingCommit): void {
    const at = this.#waiting.indexOf(waiting)
    if (at < 0) return
    this.#waiting.splice(at, 1)
    this.#waitingBytes -= waiting.bytes
  }

  /** Rejects the waiting commits. Writes in flight still get their answers. */
  close(): void {
    this.#delay.end()
    this.#endSlowTimer()
    this.#waitingBytes = 0
    for (const { pending } of this.#waiting.splice(0))
      pending.reject(new LedgerUnavailable('closed', 'the ledger is closed'))
  }

  #sendWaiting(): void {
    while (this.#waiting.length > 0 && this.#inFlight.size < IN_FLIGHT && !this.#mayGrow()) {
      this.#delay.end()
      const batch = this.#takeBatch()
      const bytes = batch.reduce((sum, each) => sum + each.bytes, 0)
      const write = { sentAt: performance.now(), small: bytes < SMALL_BYTES }
      this.#inFlight.add(write)
      this.#slowTimer ??= setInterval(() => this.#reportSlow(), SLOW_POLL_MS)
      void this.#write(batch).then(() => this.#answered(write, batch.length))
    }
  }

  /** Whether the waiting commits are small, and a small write is in flight or more commits are expected. */
  #mayGrow(): boolean {
    if (this.#waitingBytes >= SMALL_BYTES || this.#waiting.length >= WRITE_COMMITS) return false
    if ([...this.#inFlight].some(({ small }) => small)) return true
    return this.#delay.expectsMore(this.#waiting.length)
  }

  /**
   * The longest run of independent commits at the front: no commit touches a key that another commit puts.
   */
  #takeBatch(): WaitingCommit[] {
    const batch: WaitingCommit[] = []
    const put = new Set<string>()
    const touched = new Set<string>()
    let bytes = 0
    while (this.#waiting.length > 0 && batch.length < WRITE_COMMITS) {
      const next = this.#waiting[0]
      if (batch.length > 0 && bytes + next.bytes > WRITE_BYTES) break
      const dependent =
        [...next.keys].some((key) => put.has(key)) ||
        next.pending.commit.put.some(({ key }) => touched.has(key))
      if (dependent) break
      for (const { key } of next.pending.commit.put) put.add(key)
      for (const key of next.keys) touched.add(key)
      bytes += next.bytes
      batch.push(next)
      this.#waiting.shift()
    }
    this.#waitingBytes -= bytes
    assert(batch.length > 0, 'a write carries at least one commit')
    assert(this.#waitingBytes >= 0, 'the bytes of waiting commits are counted once')
    return batch
  }

  /** Resolves when every commit of the batch has its outcome. */
  async #write(batch: readonly WaitingCommit[]): Promise<void> {
    let sent = batch.map(({ pending }) => pending)
    try {
      const member = await this.#options.choose()
      let ms = 0
      sent = sent.filter((pending) => {
        const left = pending.depart()
        ms = Math.max(ms, left)
        return left > 0
      })
      if (sent.length === 0) return
      const commits = sent.map(({ commit }) => commit)
      const results = await this.#options.send(member, commits, ms)
      assert(results.length === sent.length, 'each commit of a write gets its own outcome')
      for (const [i, pending] of sent.entries()) pending.resolve(results[i])
    } catch (error) {
      for (const pending of sent) pending.reject(error)
    }
  }

  #answered(write: Write, commits: number): void {
    this.#inFlight.delete(write)
    if (write.small) this.#delay.answered(commits, this.#waiting.length, performance.now() - write.sentAt)
    this.#sendWaiting()
    if (this.#inFlight.size === 0) this.#endSlowTimer()
  }

  #endSlowTimer(): void {
    clearInterval(this.#slowTimer)
    this.#slowTimer = undefined
  }

  #reportSlow(): void {
    const since = performance.now() - SLOW_MS
    if ([...this.#inFlight].some(({ sentAt }) => sentAt < since)) this.#options.slow()
  }
}
