// The memory driver: the ledger's meaning in a page, and every legal misbehaviour of a real one, on demand.
import {
  type Commit,
  type CommitResult,
  Compacted,
  type Found,
  type Health,
  type Known,
  type Ledger,
  LedgerUnavailable,
  type Revision,
  type SnapshotEntry,
  UnknownOutcome,
} from './ledger.ts'

/**
 * The fault of a commit. `refuse` and `lost`: nothing happens. `late`: the commit happens when `settle()` is
 * called, and the caller never learns. `answer-lost`: the commit happens at once, and the caller does not
 * learn.
 */
export type CommitFault = 'none' | 'refuse' | 'lost' | 'late' | 'answer-lost'

type Live = { value: Uint8Array; revision: number }

export class MemoryLedger implements Ledger {
  /** Faults of the next commits, first to last. */
  readonly faults: CommitFault[] = []
  /** False: nothing can be reached, followers hang. */
  reachable = true
  full = false
  #log: Revision[] = []
  #compacted = 0
  readonly #live = new Map<string, Live>()
  readonly #late: Commit[] = []
  #wake = Promise.withResolvers<void>()
  #generation = 0
  #closed = false

  async commit(commit: Commit): Promise<CommitResult> {
    await Promise.resolve()
    this.#check()
    const fault = this.faults.shift()
    if (fault === 'refuse') throw new LedgerUnavailable('no-quorum', 'refused before it was sent')
    if (fault === 'lost') throw new UnknownOutcome('lost on the way')
    if (fault === 'late') {
      this.#late.push(commit)
      throw new UnknownOutcome('no answer; it may come late')
    }
    const result = this.#apply(commit)
    if (fault === 'answer-lost') throw new UnknownOutcome('the answer was lost')
    return result
  }

  /** Late commits arrive now. */
  settle(): void {
    for (const commit of this.#late.splice(0)) this.#apply(commit)
  }

  #apply(commit: Commit): CommitResult {
    const found = commit.if.map(({ key }) => {
      const live = this.#live.get(key)
      return { key, revision: live?.revision ?? 0, value: live?.value ?? null }
    })
    if (found.some((each, i) => each.revision !== commit.if[i].revision)) {
      return { ok: false, revision: this.#head(), found }
    }
    const puts = commit.put.filter((put) => put.value !== null || this.#live.has(put.key))
    if (puts.length === 0) return { ok: true, revision: this.#head() }
    const revision = this.#head() + 1
    for (const { key, value } of puts) {
      if (value === null) this.#live.delete(key)
      else this.#live.set(key, { value: value.slice(), revision })
    }
    this.#log.push({
      revision,
      puts: puts.map((put) => ({ key: put.key, value: put.value?.slice() ?? null })),
    })
    this.#signal()
    return { ok: true, revision }
  }

  async read(key: string): Promise<Found> {
    await Promise.resolve()
    this.#check()
    const live = this.#live.get(key)
    return { key, revision: live?.revision ?? 0, value: live?.value ?? null }
  }

  async head(): Promise<number> {
    await Promise.resolve()
    this.#check()
    return this.#head()
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    signal?.addEventListener('abort', () => this.#signal(), { once: true })
    const generation = this.#generation
    let last = after
    for (;;) {
      if (this.#closed || signal?.aborted) return
      if (generation !== this.#generation) throw new LedgerUnavailable('no-quorum', 'the stream broke')
      if (last < this.#compacted) throw new Compacted(`revisions up to ${this.#compacted} are gone`)
      const next = this.reachable ? this.#log[last - this.#compacted] : undefined
      if (next) {
        last = next.revision
        yield next
      } else await this.#wake.promise
    }
  }

  async snapshot(
    known: readonly Known[] = [],
  ): Promise<{ revision: number; entries: AsyncIterable<SnapshotEntry> }> {
    await Promise.resolve()
    this.#check()
    const live = [...this.#live].map(([key, { value, revision }]) => ({ key, value, revision }))
    const within = ({ from, to }: Known, key: string): boolean => key >= from && key <= to
    const skipped = known.filter((each) => live.filter(({ key }) => within(each, key)).length === each.count)
    const rest = live.filter(({ key }) => !skipped.some((each) => within(each, key)))
    return { revision: this.#head(), entries: each(rest) }
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
    return { problems, quorum: this.reachable, leader: undefined, members: [], used: 0 }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#signal()
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

async function* each<T>(items: readonly T[]): AsyncIterable<T> {
  yield* items
}
