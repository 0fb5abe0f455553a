// The memory driver: the ledger's meaning in a page, and every legal misbehaviour of a real one, on demand.
import type { Deadline } from '../clock.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  type Found,
  type Health,
  type KeyRange,
  type Ledger,
  LedgerUnavailable,
  type Revision,
  type Snapshot,
  type SnapshotEntry,
  UnknownOutcome,
} from './ledger.ts'
import { PendingCommit } from './pending-commit.ts'

/**
 * The fault of a commit. `refuse` and `lost`: nothing happens. `late`: the commit happens when `settle()` is
 * called, and the caller never learns. `silent`: as `late`, and the caller waits until its deadline.
 * `answer-lost`: the commit happens at once, and the caller does not learn.
 */
export type CommitFault = 'none' | 'refuse' | 'lost' | 'late' | 'silent' | 'answer-lost'

type Live = { readonly value: Uint8Array; readonly revision: number; readonly created: number }

export class MemoryLedger implements Ledger {
  /** Faults of the next commits, first to last. */
  readonly faults: CommitFault[] = []
  /** False: nothing can be reached, followers hang. */
  reachable = true
  /** True: commits wait to be sent, as behind a disk that hangs; `release` ends that. */
  held = false
  full = false
  right = true
  #log: Revision[] = []
  #compacted = 0
  readonly #live = new Map<string, Live>()
  readonly #late: Commit[] = []
  readonly #waiting: PendingCommit[] = []
  #wake = Promise.withResolvers<void>()
  #generation = 0
  #closed = false

  commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    const pending = new PendingCommit(commit, deadline, (each) => {
      this.#waiting.splice(this.#waiting.indexOf(each), 1)
    })
    this.#waiting.push(pending)
    queueMicrotask(() => this.#sendWaiting())
    return pending.outcome
  }

  /** Commits that wait to be sent. */
  get waiting(): number {
    return this.#waiting.length
  }

  release(): void {
    this.held = false
    this.#sendWaiting()
  }

  #sendWaiting(): void {
    while (!this.held && this.#waiting.length > 0) {
      const [pending] = this.#waiting.splice(0, 1)
      if (pending.depart() === 0) continue
      try {
        this.#send(pending)
      } catch (error) {
        pending.reject(error)
      }
    }
  }

  #send(pending: PendingCommit): void {
    this.#check()
    const fault = this.faults.shift()
    if (fault === 'refuse') throw new LedgerUnavailable('no-quorum', 'refused before it was sent')
    if (fault === 'lost') throw new UnknownOutcome('lost on the way')
    if (fault === 'late' || fault === 'silent') {
      this.#late.push(pending.commit)
      if (fault === 'silent') return
      throw new UnknownOutcome('no answer; it may come late')
    }
    const result = this.#apply(pending.commit)
    if (fault === 'answer-lost') throw new UnknownOutcome('the answer was lost')
    pending.resolve(result)
  }

  /** Late commits arrive now. */
  settle(): void {
    for (const commit of this.#late.splice(0)) this.#apply(commit)
  }

  #apply(commit: Commit): CommitResult {
    const found = commit.if.map(({ key }) => this.#find(key))
    if (found.some((each, i) => each.revision !== commit.if[i].revision)) {
      return { ok: false, revision: this.#head(), found }
    }
    const puts = commit.put.filter((put) => put.value !== null || this.#live.has(put.key))
    if (puts.length === 0) return { ok: true, revision: this.#head() }
    const revision = this.#head() + 1
    const logged = puts.map(({ key, value }) => {
      if (value === null) {
        this.#live.delete(key)
        return { key, value, created: 0 }
      }
      const live = { value: value.slice(), revision, created: this.#live.get(key)?.created ?? revision }
      this.#live.set(key, live)
      return { key, value: live.value.slice(), created: live.created }
    })
    this.#log.push({ revision, puts: logged })
    this.#signal()
    return { ok: true, revision }
  }

  async read(key: string): Promise<Found> {
    await Promise.resolve()
    this.#check()
    return this.#find(key)
  }

  #find(key: string): Found {
    const live = this.#live.get(key)
    return live ? { key, ...live } : { key, revision: 0, created: 0, value: null }
  }

  async head(): Promise<number> {
    await Promise.resolve()
    this.#check()
    return this.#head()
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    const abort = (): void => this.#signal()
    signal?.addEventListener('abort', abort)
    const generation = this.#generation
    try {
      for (let last = after; ; ) {
        if (this.#closed || signal?.aborted) return
        if (generation !== this.#generation) throw new LedgerUnavailable('no-quorum', 'the stream broke')
        if (last < this.#compacted) throw new Compacted(`revisions up to ${this.#compacted} are gone`)
        const next = this.reachable ? this.#log[last - this.#compacted] : undefined
        if (next) {
          last = next.revision
          yield next
        } else await this.#wake.promise
      }
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  async snapshot(ranges: readonly KeyRange[], signal?: AbortSignal): Promise<Snapshot> {
    await Promise.resolve()
    this.#check()
    const live = [...this.#live].map(([key, each]) => ({ key, ...each }))
    live.sort((a, b) => (a.key < b.key ? -1 : 1))
    const entries = ranges.flatMap((range) => inRange(live, range))
    const revision = this.#head()
    return { revision, entries: this.#entriesAt(revision, entries, signal) }
  }

  /** What can happen to the reader of a real ledger while the reader reads can happen here, too. */
  async *#entriesAt(
    revision: number,
    entries: readonly SnapshotEntry[],
    signal: AbortSignal | undefined,
  ): AsyncIterable<SnapshotEntry> {
    for (const entry of entries) {
      if (signal?.aborted) throw new LedgerUnavailable('closed', 'the ledger is no longer read')
      this.#check()
      if (revision < this.#compacted) throw new Compacted(`revision ${revision} is gone`)
      yield entry
    }
  }

  /** Forgets the history up to `revision`. */
  compact(revision: number): void {
    this.#log = this.#log.filter((entry) => entry.revision > revision)
    this.#compacted = Math.max(this.#compacted, revision)
    this.#signal()
  }

  /** Breaks every follower's stream: each follower must begin again from its own cursor. */
  disconnect(): void {
    this.#generation++
    this.#signal()
  }

  reconnect(): void {
    this.reachable = true
    this.#signal()
  }

  checkConnections(): void {}

  async health(): Promise<Health> {
    const problems = this.reachable ? [] : ['the ledger cannot be reached']
    return { problems, quorum: this.reachable, leader: undefined, members: [], used: 0, occupied: 0 }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#signal()
  }

  /** The same ledger after a restart: streams are broken, late commits are still on their way. */
  reopen(): this {
    this.#closed = false
    this.disconnect()
    return this
  }

  #head(): number {
    return this.#compacted + this.#log.length
  }

  #check(): void {
    if (this.#closed) throw new LedgerUnavailable('closed', 'the ledger is closed')
    if (!this.reachable) throw new LedgerUnavailable('no-quorum', 'the ledger cannot be reached')
  }

  #signal(): void {
    this.#wake.resolve()
    this.#wake = Promise.withResolvers<void>()
  }
}

/** The entries of the range, without the known parts of which the ledger has as many entries. */
function inRange(live: readonly SnapshotEntry[], { from, to, known = [] }: KeyRange): SnapshotEntry[] {
  const all = live.filter(({ key }) => key >= from && (to === '' || key < to))
  const left: SnapshotEntry[] = []
  let at = 0
  for (const part of known) {
    while (at < all.length && all[at].key < part.from) left.push(all[at++])
    const first = at
    while (at < all.length && all[at].key <= part.to) at++
    if (at - first !== part.count) for (let i = first; i < at; i++) left.push(all[i])
  }
  while (at < all.length) left.push(all[at++])
  return left
}
