// The way of one simulated node to the ledger: a network that delays and reorders, loses requests and answers, breaks
// streams and cuts snapshots. What was sent arrives even where the sender is dead by then.

import { Deadline } from '../../src/clock.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  type KeyRange,
  type Ledger,
  LedgerUnavailable,
  type Reader,
  type Revision,
  type Snapshot,
  type SnapshotEntry,
  UnknownOutcome,
} from '../../src/ledger/ledger.ts'
import type { MemoryLedger } from '../../src/ledger/memory.ts'
import { PendingCommit } from '../../src/ledger/pending-commit.ts'
import { isToldApart, type OtherLedger } from './other-ledger.ts'
import type { Random } from './seed.ts'
import { Violation } from './violation.ts'
import type { SimProcess, VirtualTime } from './virtual-time.ts'

/** A call that is not a commit is given up after so long by a driver; longer than a request has, too. */
const CALL_MS = [1000, 3000, 12_000]
/** Why a stream is over: a reason that is an error would be made with each of the many. */
const ENDED = 'the stream has ended'

/** `late`: the caller is told that the outcome is unknown, and the commit arrives much later. */
export type CommitFault = 'refused' | 'lost' | 'silent' | 'late' | 'answer-lost'

/** How good the way is. Changed by faults while calls are under way. */
export class Weather {
  /** Most milliseconds one way. */
  delay = 2
  /** Answers of commits take so much longer, in milliseconds. */
  lateAnswers = 0
  /** Nothing gets through: calls are refused at once, or hang. */
  cut: 'open' | 'refuses' | 'hangs' = 'open'
  /** Revisions arrive so much later, in milliseconds. */
  lag = 0
  /** Faults of the next commits. */
  readonly faults: CommitFault[] = []
  /** Where new connections lead to, before or instead of the right ledger. */
  other: OtherLedger | undefined
  /** How many of the next snapshots are refused, and how many are cut. */
  refusedPages = 0
  cutPages = 0

  mendWay(): void {
    Object.assign(this, { delay: 2, lag: 0, lateAnswers: 0 })
  }

  mend(): void {
    this.mendWay()
    Object.assign(this, { cut: 'open', other: undefined, refusedPages: 0, cutPages: 0 })
    this.faults.length = 0
  }
}

type LinkOptions = {
  readonly ledger: MemoryLedger
  readonly time: VirtualTime
  readonly random: Random
  readonly process: SimProcess
  readonly weather: Weather
  /** All revisions of the ledger, also those compacted. */
  readonly history: readonly Revision[]
  /** Of the replica; undefined before the replica is open. */
  readonly cursor: () => number | undefined
}

export class Link implements Ledger {
  full = false
  readonly #options: LinkOptions
  readonly #streams = new Set<AbortController>()
  #check: (reader: Reader) => Promise<void> = async () => undefined
  /** Whether the connection has passed the check. */
  #checked = false

  constructor(options: LinkOptions) {
    this.#options = options
  }

  commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    const pending = new PendingCommit(commit, deadline, () => undefined)
    this.#send(pending).catch((error: unknown) => pending.reject(error))
    return pending.outcome
  }

  async #send(pending: PendingCommit): Promise<void> {
    const { weather, time, random, process } = this.#options
    await this.#leave()
    if (weather.cut === 'hangs') return
    const fault = weather.cut === 'refuses' ? 'refused' : weather.faults.shift()
    if (fault === 'refused') throw new LedgerUnavailable('no-quorum', 'refused before the commit was sent')
    await this.#connect()
    if (pending.depart() === 0) return
    if (fault === 'lost') throw new UnknownOutcome('lost on the way')
    if (fault === 'silent') return
    const delay = fault === 'late' ? random.below(8000) : this.#delay()
    time.after(delay, () => this.#arrive(pending, fault), undefined)
    if (fault !== 'late') return
    await time.sleep(random.below(50))
    if (process.alive) throw new UnknownOutcome('no answer; the commit may come late')
  }

  #arrive(pending: PendingCommit, fault: CommitFault | undefined): void {
    const { ledger, process, time, weather } = this.#options
    void ledger.commit(pending.commit, Deadline.never).then((result) => {
      const lost = fault === 'late' || fault === 'silent' || weather.cut !== 'open'
      if (lost) return
      time.after(
        this.#delay() + weather.lateAnswers,
        () => {
          if (fault === 'answer-lost') pending.reject(new UnknownOutcome('the answer was lost'))
          else pending.resolve(result)
        },
        process,
      )
    })
  }

  head(): Promise<number> {
    return this.#call(() => this.#options.ledger.head())
  }

  read(key: string): ReturnType<Ledger['read']> {
    return this.#call(() => this.#options.ledger.read(key))
  }

  /** A linearizable read: as of an instant between call and answer. */
  async #call<T>(read: () => Promise<T>): Promise<T> {
    const { weather, time, random } = this.#options
    await this.#leave()
    if (weather.cut === 'hangs') await time.sleep(random.pick(CALL_MS))
    if (weather.cut !== 'open') throw unreachable()
    await this.#connect()
    const answer = await read()
    await this.#travel()
    if (weather.cut !== 'open') throw unreachable()
    return answer
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    const { weather, ledger, time, random } = this.#options
    await this.#leave()
    if (weather.cut !== 'open') throw unreachable()
    await this.#connect()
    const stream = new AbortController()
    this.#streams.add(stream)
    const end = (): void => stream.abort(ENDED)
    if (signal?.aborted) end()
    // Without the option the signal, and all of the world, would be kept where the process dies in a sleep.
    signal?.addEventListener('abort', end, { signal: stream.signal })
    try {
      for await (const revision of ledger.follow(after, stream.signal)) {
        if (weather.lag > 0 || random.chance(0.3)) await time.sleep(this.#delay() + weather.lag)
        if (stream.signal.aborted) break
        yield revision
      }
    } finally {
      signal?.removeEventListener('abort', end)
      this.#streams.delete(stream)
    }
    if (!signal?.aborted) throw unreachable()
  }

  /** Opens and checks a connection, as etcd-members.ts. Throws LedgerUnavailable, Violation. */
  async #connect(): Promise<void> {
    while (!this.#checked) {
      const { weather, ledger, time, random } = this.#options
      const { other } = weather
      if (other) {
        const refusal = await this.checkOther(other)
        if (other.everywhere) throw refusal
      }
      await time.sleep(random.below(weather.delay + 1))
      const check = this.#check
      await check(ledger)
      if (check === this.#check) this.#checked = true
    }
  }

  /** A connection to another ledger, beside those to the right one. Returns the refusal. Throws Violation. */
  async checkOther(other: OtherLedger): Promise<unknown> {
    const { process, history, cursor } = this.#options
    const applied = cursor()
    if (applied === undefined || !process.alive) return unreachable() // such a node would take any ledger
    try {
      await this.#check(other.ledger)
    } catch (error) {
      return error
    }
    if (isToldApart(other, history, applied))
      throw new Violation('law 1: another ledger was taken for the followed one')
    return unreachable()
  }

  checkConnections(check: (reader: Reader) => Promise<void>): void {
    this.#check = check
    this.#checked = false
  }

  /** A cut way has no connection that is known to be open. */
  get right(): boolean {
    return this.#checked && this.#options.weather.cut === 'open'
  }

  /** Every connection ends; a stream of revisions begins again at the cursor of the replica. */
  breakStreams(): void {
    this.#checked = false
    for (const stream of this.#streams) stream.abort(ENDED)
  }

  async snapshot(ranges: readonly KeyRange[], signal?: AbortSignal): Promise<Snapshot> {
    const { weather, ledger } = this.#options
    await this.#leave()
    if (weather.cut !== 'open') throw unreachable()
    await this.#connect()
    if (weather.refusedPages > 0) {
      weather.refusedPages--
      throw new LedgerUnavailable('no-quorum', 'the page was refused')
    }
    const { revision, entries } = await ledger.snapshot(ranges, signal)
    return { revision, entries: this.#pages(entries) }
  }

  async *#pages(entries: AsyncIterable<SnapshotEntry>): AsyncIterable<SnapshotEntry> {
    const { weather, random } = this.#options
    const cutAfter = weather.cutPages > 0 ? random.below(30) : Number.POSITIVE_INFINITY
    let count = 0
    for await (const entry of entries) {
      if (random.chance(0.1)) await this.#travel()
      if (weather.cut !== 'open') throw unreachable()
      if (count++ === cutAfter) {
        weather.cutPages--
        throw random.chance(0.5) ? unreachable() : new Compacted('compacted while the pages were read')
      }
      yield entry
    }
  }

  #delay(): number {
    return this.#options.random.below(this.#options.weather.delay + 1)
  }

  /** The way to the ledger: at once, where no time passes. */
  async #leave(): Promise<void> {
    const delay = this.#delay()
    if (delay > 0) await this.#options.time.sleep(delay)
  }

  /** The way back: a process that stands still gets the answer when the process goes on. */
  #travel(): Promise<void> {
    return this.#options.time.sleep(this.#delay())
  }

  health(): ReturnType<Ledger['health']> {
    return this.#options.ledger.health()
  }

  async close(): Promise<void> {
    this.breakStreams()
  }
}

function unreachable(): LedgerUnavailable {
  return new LedgerUnavailable('no-quorum', 'the ledger cannot be reached')
}
