// The etcd driver: a commit is a Txn, the head a linearizable read, following a watch of the whole key space.
//
// etcd-client.ts has the calls · etcd-members.ts chooses the member to ask · etcd-messages.ts translates ·
// etcd-writes.ts batches independent commits, each with its own guards and its own outcome.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import {
  type EtcdEndpoint,
  EtcdError,
  type Header,
  isCompacted,
  isTooLarge,
  type RangeResponse,
  type Tls,
  type WatchResponse,
} from './etcd-client.ts'
import { EtcdMembers, HEAD, headOf, unavailable } from './etcd-members.ts'
import {
  ALL,
  foundIn,
  fromEtcd,
  keyBytes,
  Revisions,
  toEtcd,
  txnRequest,
  txnResults,
} from './etcd-messages.ts'
import { entriesAt } from './etcd-snapshot.ts'
import { EtcdWrites } from './etcd-writes.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  type Found,
  FULL,
  type Health,
  type KeyRange,
  type Ledger,
  LedgerUnavailable,
  type Reader,
  type Revision,
  type Snapshot,
  UnknownOutcome,
} from './ledger.ts'

const WRITE_MS = 2500
const READ_MS = 1000
/** A page or a count of a snapshot. The keepalive ends a call sooner where the member is halted. */
const PAGE_MS = 30_000
/**
 * The member reads all revisions of a watch at once into memory, under its store's lock: 500 revisions have
 * at most 500 MiB. What was written while a snapshot was read is watched up to a higher limit: else a ledger
 * under load would be read by snapshots for ever.
 */
const WATCH_REVISIONS = { most: 500, afterSnapshot: 5000 }
/** A stream without an answer for so long, while the head is ahead, hangs. */
const STALL_MS = 2000

type Answer = { readonly header: Header }

export class EtcdLedger implements Ledger {
  full = false
  readonly #members: EtcdMembers
  readonly #writes = new EtcdWrites<EtcdEndpoint>({
    choose: () => this.#chooseForWrite(),
    send: (endpoint, commits, ms) => this.#send(endpoint, commits, ms),
    slow: () => void this.#askTerm(),
  })
  #cluster = ''
  #term = 0n
  /** Aborted when a newer term is seen: writes sent before may wait for a leader that is gone. */
  #termEnd = new AbortController()
  /** The highest revision in any answer. */
  #seen = 0
  /** The revision of a snapshot that no watch has followed yet. */
  #snapshotAt: number | undefined

  constructor(urls: readonly string[], tls?: Tls) {
    this.#members = new EtcdMembers(urls, tls)
  }

  checkConnections(check: (reader: Reader) => Promise<void>): void {
    this.#members.check = check
  }

  get right(): boolean {
    return this.#members.right
  }

  // ---- writing

  commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    return this.#writes.commit(commit, deadline)
  }

  async #chooseForWrite(): Promise<EtcdEndpoint> {
    try {
      return await this.#members.choose()
    } catch (error) {
      throw asOutcome(error)
    }
  }

  async #send(
    endpoint: EtcdEndpoint,
    commits: readonly Commit[],
    ms: number,
  ): Promise<readonly CommitResult[]> {
    assert(ms > 0, 'nothing is sent after its deadline')
    try {
      const { signal } = this.#termEnd
      const sent = endpoint.txn(txnRequest(commits), Math.min(WRITE_MS, ms), signal)
      return txnResults(await this.#answer(endpoint, sent, signal), commits)
    } catch (error) {
      throw asOutcome(error)
    }
  }

  /** A newer term means another leader: writes sent in the older term are given up. */
  async #askTerm(): Promise<void> {
    for (const header of await this.#members.ledHeaders()) {
      if (header.cluster_id === this.#cluster && BigInt(header.raft_term) > this.#term)
        this.#learnTerm(header)
    }
  }

  /**
   * The answer of a call. A member whose call failed is asked last for a while, and so is a member with an
   * older term, which may not know of the new leader. A call given up by `givenUp` says nothing about its
   * member.
   */
  async #answer<T extends Answer>(
    endpoint: EtcdEndpoint,
    sent: Promise<T>,
    givenUp?: AbortSignal,
  ): Promise<T> {
    const { connections } = endpoint
    try {
      const answer = await sent
      checkConnection(endpoint, connections)
      this.#learnTerm(answer.header)
      this.#seen = Math.max(this.#seen, fromEtcd(answer.header.revision))
      return answer
    } catch (error) {
      if (!givenUp?.aborted && !isCompacted(error) && !isTooLarge(error)) this.#members.avoid(endpoint)
      throw error
    }
  }

  /**
   * Throws EtcdError for an older term. Terms begin anew in another cluster, which may hold the same ledger.
   */
  #learnTerm({ cluster_id: cluster, raft_term }: Header): void {
    const term = BigInt(raft_term)
    if (cluster !== this.#cluster) {
      this.#cluster = cluster
      this.#term = term
    }
    if (term < this.#term) throw new EtcdError('the answer has an older term', 'unknown')
    if (term === this.#term) return
    this.#term = term
    this.#termEnd.abort()
    this.#termEnd = new AbortController()
  }

  // ---- reading

  async read(key: string): Promise<Found> {
    return foundIn(key, await this.#range({ key: keyBytes(key) }))
  }

  async head(): Promise<number> {
    return headOf(await this.#range(HEAD))
  }

  /**
   * Asks one member after the other: a read changes nothing. Throws Compacted, LedgerUnavailable, and
   * EtcdError where the answer is too large: from every member.
   */
  async #range(query: object, ms = READ_MS, signal?: AbortSignal): Promise<RangeResponse> {
    const { closing } = this.#members
    const givenUp = signal ? AbortSignal.any([closing, signal]) : closing
    let last: unknown
    for (let tries = 0; tries < this.#members.count; tries++) {
      const endpoint = await this.#members.choose()
      try {
        return await this.#answer(endpoint, endpoint.range(query, ms, givenUp), givenUp)
      } catch (error) {
        if (givenUp.aborted) throw new LedgerUnavailable('closed', 'the ledger is closed, or no longer read')
        if (isCompacted(error)) throw new Compacted('the revision is gone')
        if (isTooLarge(error)) throw error
        last = error
      }
    }
    throw unavailable(last)
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    const endpoint = await this.#members.choose()
    const behind = this.#seen - after
    const { most, afterSnapshot } = WATCH_REVISIONS
    const limit = after === this.#snapshotAt ? afterSnapshot : most
    this.#snapshotAt = undefined
    if (behind > limit) throw new Compacted(`${behind} revisions are too many to watch`)
    const { connections } = endpoint
    const stream = endpoint.watch()
    stream.on('error', () => undefined) // the loop below gets the error, too
    const stopped = AbortSignal.any([this.#members.closing, ...(signal ? [signal] : [])])
    const stop = (): void => stream.cancel()
    if (stopped.aborted) return stop()
    stopped.addEventListener('abort', stop, { once: true })
    const revisions = new Revisions(after)
    const watchdog = new Watchdog(() => this.#seen > revisions.last, stop)
    try {
      stream.write({ create_request: { ...ALL, start_revision: toEtcd(after + 1), fragment: true } })
      for await (const response of stream as AsyncIterable<WatchResponse>) {
        watchdog.pause()
        checkConnection(endpoint, connections)
        this.#seen = Math.max(this.#seen, fromEtcd(response.header.revision))
        yield* revisions.add(response)
        watchdog.resume()
      }
      throw new LedgerUnavailable('no-quorum', 'the stream of revisions ended')
    } catch (error) {
      if (stopped.aborted) return
      this.#members.avoid(endpoint)
      if (error instanceof Compacted || error instanceof LedgerUnavailable) throw error
      throw new LedgerUnavailable(
        'no-quorum',
        `the stream of revisions ${watchdog.barked ? 'hung' : 'broke'}`,
      )
    } finally {
      watchdog.end()
      stopped.removeEventListener('abort', stop)
      stream.cancel()
    }
  }

  async snapshot(ranges: readonly KeyRange[], signal?: AbortSignal): Promise<Snapshot> {
    const revision = await this.head()
    this.#snapshotAt = revision
    const ask = (query: object): Promise<RangeResponse> => this.#range(query, PAGE_MS, signal)
    return { revision, entries: entriesAt(revision, ranges, ask) }
  }

  // ---- health

  async health(): Promise<Health> {
    const health = await this.#members.health(this.head())
    this.full = health.used >= FULL
    if (!this.full) return health
    const percent = Math.floor(health.used * 100)
    return {
      ...health,
      problems: [...health.problems, `the ledger is ${percent} % full: new tokens are refused`],
    }
  }

  async close(): Promise<void> {
    this.#writes.close()
    this.#members.close()
  }
}

/** Calls `bark` once the stream has been waited for too long while `behind` is true. */
class Watchdog {
  barked = false
  #waiting = true
  #since = performance.now()
  readonly #timer: NodeJS.Timeout

  constructor(behind: () => boolean, bark: () => void) {
    this.#timer = setInterval(() => {
      if (!this.#waiting || !behind()) this.#since = performance.now()
      if (performance.now() - this.#since < STALL_MS) return
      this.barked = true
      bark()
    }, STALL_MS / 8)
  }

  /** An answer has come and is being used, which may take any time. */
  pause(): void {
    this.#waiting = false
  }

  resume(): void {
    this.#waiting = true
    this.#since = performance.now()
  }

  end(): void {
    clearInterval(this.#timer)
  }
}

/**
 * Throws EtcdError where the answer may have come over a later connection than the call was meant for: that
 * connection may lead to another ledger.
 */
function checkConnection(endpoint: EtcdEndpoint, connections: number): void {
  if (endpoint.connections !== connections)
    throw new EtcdError('the member has connected again, and has not been checked since', 'unknown')
}

/** The ledger's error for the failure of a write. */
function asOutcome(error: unknown): Error {
  if (error instanceof LedgerUnavailable) return error
  if (error instanceof EtcdError) {
    return error.executed === 'no'
      ? new LedgerUnavailable('no-quorum', error.message)
      : new UnknownOutcome(error.message)
  }
  return error instanceof Error ? error : new Error(String(error))
}
