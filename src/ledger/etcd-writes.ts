// The batching writer of the etcd driver: waiting commits travel together, and each gets its own outcome.
// Knows the ledger's commits only; sending is handed in.
import { assert } from '../assert.ts'
import { CommitDelay } from '../commit-delay.ts'
import { type Commit, type CommitResult, commitBytes, LedgerUnavailable } from './ledger.ts'

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
  readonly commit: Commit
  /** Guarded and put. */
  readonly keys: ReadonlySet<string>
  readonly bytes: number
  readonly resolve: (result: CommitResult) => void
  readonly reject: (error: unknown) => void
}

/** A write in flight. */
type Write = {
  /** When the write was sent, by `performance.now()`. */
  readonly sentAt: number
  readonly small: boolean
}

type EtcdWritesOptions = {
  /** Sends independent commits as one write. Returns a result for each; rejects where all failed. */
  readonly send: (commits: readonly Commit[]) => Promise<readonly CommitResult[]>
  /** Called every 200 ms while a write is slow. */
  readonly slow: () => void
}

export class EtcdWrites {
  readonly #options: EtcdWritesOptions
  readonly #waiting: WaitingCommit[] = []
  #waitingBytes = 0
  readonly #inFlight = new Set<Write>()
  readonly #delay = new CommitDelay(() => this.#sendWaiting())
  #slowTimer: NodeJS.Timeout | undefined

  constructor(options: EtcdWritesOptions) {
    this.#options = options
  }

  commit(commit: Commit): Promise<CommitResult> {
    return new Promise((resolve, reject) => {
      const keys = new Set([...commit.put.map((put) => put.key), ...commit.if.map((guard) => guard.key)])
      const bytes = commitBytes(commit)
      this.#waiting.push({ commit, keys, bytes, resolve, reject })
      this.#waitingBytes += bytes
      queueMicrotask(() => this.#sendWaiting())
    })
  }

  /** Rejects the waiting commits. Writes in flight still get their answers. */
  close(): void {
    this.#delay.end()
    this.#waitingBytes = 0
    for (const { reject } of this.#waiting.splice(0))
      reject(new LedgerUnavailable('closed', 'the ledger is closed'))
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
        [...next.keys].some((key) => put.has(key)) || next.commit.put.some(({ key }) => touched.has(key))
      if (dependent) break
      for (const { key } of next.commit.put) put.add(key)
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
    try {
      const results = await this.#options.send(batch.map(({ commit }) => commit))
      assert(results.length === batch.length, 'each commit of a write gets its own outcome')
      for (const [i, { resolve }] of batch.entries()) resolve(results[i])
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  }

  #answered(write: Write, commits: number): void {
    this.#inFlight.delete(write)
    if (write.small) this.#delay.answered(commits, this.#waiting.length, performance.now() - write.sentAt)
    this.#sendWaiting()
    if (this.#inFlight.size > 0) return
    clearInterval(this.#slowTimer)
    this.#slowTimer = undefined
  }

  #reportSlow(): void {
    const since = performance.now() - SLOW_MS
    if ([...this.#inFlight].some(({ sentAt }) => sentAt < since)) this.#options.slow()
  }
}
