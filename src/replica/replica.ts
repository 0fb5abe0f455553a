// The replica of one node: it follows the ledger from its own durable cursor, and answers all reads. What it does not
// have it may not have learnt yet: then the barrier decides. And it is the way of a commit to the ledger.
//
// follow.ts reads the ledger · apply.ts applies to LMDB (store.ts, page.ts), the token tables (tables.ts, table.ts) and
// the state · checkpoint.ts keeps the tables over a restart · check.ts reads the file through before it is opened.
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import {
  type Commit,
  type CommitResult,
  commitBytes,
  type Ledger,
  LedgerUnavailable,
  UnknownOutcome,
} from '../ledger/ledger.ts'
import { parseKey } from '../state/ledger-keys.ts'
import type { OwnerState, State } from '../state/state.ts'
import { decodeWriter, sameWriter, type Writer } from '../state/writer.ts'
import { sleep, withDeadline } from '../waiting.ts'
import { Applier } from './apply.ts'
import { SharedBarrier } from './barrier.ts'
import { Follower } from './follow.ts'
import { pageIsWhole } from './page.ts'
import { PageReader } from './reader.ts'
import { DamagedReplica, ReplicaStore, type StoredEntry } from './store.ts'
import type { TokenTable } from './table.ts'

export type { CommitResult, Found, LedgerPut } from '../ledger/ledger.ts'
export type { StoredEntry } from './store.ts'

const RETRY_MS = 100
/** A request without quorum is answered within 5 s; what waits for the ledger gives up before. */
const WAIT_MS = 4000
/**
 * Bytes that this node may have committed and not applied. Acknowledgements do not wait for replicas; without a bound a
 * long load would leave them so far behind that a barrier takes longer than a request may.
 */
const AHEAD_BYTES = 2 * 1024 * 1024

export type ReplicaEvents = {
  lost(reason: string): void
  recovered(): void
  caughtUp(from: number, to: number, ms: number): void
  /** An epoch of this owner was learnt. */
  epoch(owner: string, epoch: number, revision: number): void
  /** A commit made by another node was applied. */
  applied(node: string, revision: number): void
}

export type ReplicaOptions = {
  readonly path: string
  readonly ledger: Ledger
  /** This run of the node: the writer of its commits. */
  readonly boot: string
  readonly clock: Clock
  readonly events: ReplicaEvents
  /** Called when an invariant broke in the background: the node ends. */
  readonly fatal: (error: Error) => void
}

type Waiter = {
  readonly revision: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class Replica {
  readonly #ledger: Ledger
  readonly #store: ReplicaStore
  readonly #applier: Applier
  readonly #follower: Follower
  readonly #boot: string
  readonly #clock: Clock
  readonly #events: ReplicaEvents
  readonly #fatal: (error: Error) => void
  readonly #barriers: SharedBarrier
  #commits = 0
  /** Of another node, what an event was written for last: one stands for all that it has put in one revision. */
  #told = { boot: '', revision: 0 }
  #ahead = 0
  #lessAhead = Promise.withResolvers<void>()
  #waiters: Waiter[] = []
  #closed = false
  #digest: { readonly revision: number; readonly digest: string } | undefined

  private constructor(options: ReplicaOptions, store: ReplicaStore, applier: Applier) {
    this.#ledger = options.ledger
    this.#store = store
    this.#applier = applier
    this.#boot = options.boot
    this.#clock = options.clock
    this.#events = options.events
    this.#fatal = options.fatal
    this.#barriers = new SharedBarrier(
      () => this.#passBarrier(),
      () => options.clock.monotonic(),
    )
    const events = {
      lost: options.events.lost,
      recovered: options.events.recovered,
      caughtUp: options.events.caughtUp,
      applied: this.#tell.bind(this),
    }
    this.#follower = new Follower(
      options.ledger,
      applier,
      events,
      () => options.clock.monotonic(),
      () => this.#wake(),
    )
  }

  /** Opens the replica's file: what it holds can be read. Throws DamagedReplica where a record is damaged. */
  static async open(options: ReplicaOptions): Promise<Replica> {
    const store = new ReplicaStore(options.path)
    try {
      const applier = new Applier(options.path, store, options.clock)
      await applier.load()
      return new Replica(options, store, applier)
    } catch (error) {
      await store.close()
      throw error
    }
  }

  /** Begins to follow the ledger, once it is certain that there is one. */
  follow(): void {
    this.#follower.start((error) => {
      this.#rejectWaiters(error)
      this.#fatal(error)
    })
  }

  #tell({ entry, value, revision }: Parameters<Parameters<Applier['apply']>[1]>[0]): void {
    if (this.#follower.catchingUp) return // one event stands for all of it
    if (entry.kind === 'epoch') this.#events.epoch(entry.owner, entry.active, revision)
    const { boot } = decodeWriter(value)
    if (boot === this.#boot || (boot === this.#told.boot && revision === this.#told.revision)) return
    this.#told = { boot, revision }
    const node = this.state.boots.get(boot)
    if (node !== undefined) this.#events.applied(node, revision)
  }

  // ---- waiting

  /** Resolves once `revision` has been applied here. Throws LedgerUnavailable when the replica closes. */
  waitApplied(revision: number): Promise<void> {
    if (this.#applier.applied >= revision) return Promise.resolve()
    if (this.#closed) return Promise.reject(new LedgerUnavailable('closed', 'the replica is closed'))
    return new Promise((resolve, reject) => this.#waiters.push({ revision, resolve, reject }))
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) {
      if (waiter.revision <= this.#applier.applied) waiter.resolve()
      else this.#waiters.push(waiter)
    }
  }

  #rejectWaiters(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }

  /**
   * One linearizable read of the ledger's head, then until it has been applied here. After it, what is not found is
   * not there. Callers share one that has not been sent yet, never one that has. Throws LedgerUnavailable.
   */
  barrier(): Promise<void> {
    // Counted from here: whoever waits for another barrier to end first must not wait twice.
    return withDeadline(this.#barriers.pass(), WAIT_MS, () => this.#late())
  }

  /** Nothing goes to a ledger, and nothing is believed of one, that is not the one that was followed. */
  async #recognize(): Promise<void> {
    if (this.#follower.mismatch === undefined) return
    await this.#follower.recognized
    const { mismatch } = this.#follower
    if (mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', mismatch)
  }

  async #passBarrier(): Promise<void> {
    await withDeadline(this.#recognize(), WAIT_MS, () => this.#late())
    const head = await withDeadline(this.#ledger.head(), WAIT_MS, () => this.#late())
    this.#follower.head = Math.max(this.#follower.head, head)
    if (this.#applier.applied >= head) return
    this.#follower.hurry(head)
    await withDeadline(this.waitApplied(head), WAIT_MS, () => this.#late())
  }

  #late(): LedgerUnavailable {
    if (this.#follower.stalled !== undefined)
      return new LedgerUnavailable('disk-full', 'the replica cannot be written')
    const behind = this.#applier.applied < this.#follower.head
    return new LedgerUnavailable(
      'no-quorum',
      behind ? 'the replica is behind the ledger' : 'the ledger cannot be reached',
    )
  }

  // ---- committing

  /** The writer of the next commit. */
  nextWriter(): Writer {
    return { boot: this.#boot, commit: ++this.#commits }
  }

  /**
   * Commits, and resolves an unknown outcome: `immutable` is a key that the commit guards and puts; the same bytes
   * are sent again until the answer is definite. Throws LedgerUnavailable where nothing happened, UnknownOutcome
   * where the deadline passes first.
   */
  async commit(commit: Commit, immutable: string): Promise<CommitResult> {
    const value = commit.put.find((put) => put.key === immutable)?.value
    assert(value, 'a commit puts its immutable key')
    const writer = decodeWriter(value)
    if (this.#ledger.full && parseKey(immutable)?.kind === 'segment')
      throw new LedgerUnavailable('ledger-full', 'the ledger is nearly full: new tokens are refused')
    const deadline = this.#clock.monotonic() + WAIT_MS
    const left = (): number => deadline - this.#clock.monotonic()
    const unreached = (): Error => new LedgerUnavailable('no-quorum', 'the ledger cannot be reached')
    await withDeadline(this.#recognize(), left(), unreached)
    while (this.#ahead > AHEAD_BYTES) await withDeadline(this.#lessAhead.promise, left(), () => this.#late())
    for (let unknown = false; ; ) {
      try {
        const result = await withDeadline(this.#ledger.commit(commit), left(), noAnswer)
        this.#follower.head = Math.max(this.#follower.head, result.revision)
        if (result.ok) this.#countAhead(result.revision, commitBytes(commit))
        if (result.ok || !unknown) return result
        const found = result.found.find((each) => each.key === immutable)
        assert(found, 'the immutable key is guarded')
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
   * Removes receipts that nobody will ask for any more, unless one of them has been put anew. False where nothing is
   * known to be removed: it may be tried again at any time.
   */
  async removeReceipts(
    receipts: readonly { readonly key: string; readonly revision: number }[],
  ): Promise<boolean> {
    const put = receipts.map(({ key }) => ({ key, value: null }))
    const guards = receipts.map(({ key, revision }) => ({ key, revision }))
    try {
      await this.#recognize()
      const result = await this.#ledger.commit({ if: guards, put })
      this.#follower.head = Math.max(this.#follower.head, result.revision)
      return result.ok
    } catch (error) {
      if (error instanceof LedgerUnavailable || error instanceof UnknownOutcome) return false
      throw error
    }
  }

  #countAhead(revision: number, bytes: number): void {
    this.#ahead += bytes
    this.waitApplied(revision).then(
      () => {
        this.#ahead -= bytes
        this.#lessAhead.resolve()
        this.#lessAhead = Promise.withResolvers()
      },
      () => undefined, // the replica is closed: nothing is committed any more
    )
  }

  // ---- reading

  get state(): State {
    return this.#applier.state
  }

  owner(owner: string): OwnerState | undefined {
    return this.#applier.state.owners.get(owner)
  }

  tokens(owner: string, epoch: number): TokenTable | undefined {
    return this.#applier.tables.get(owner, epoch)?.tokens
  }

  /** A version as it is stored, as of what has been applied here. Throws DamagedReplica. */
  version(owner: string, name: string, version: number): StoredEntry | undefined {
    const known = this.owner(owner)?.secrets.get(name)?.[version - 1]
    return known && this.#store.record(known.record)
  }

  /** As `version`. */
  receipt(key: string): StoredEntry | undefined {
    const number = this.#applier.receipts.get(key)
    return number === undefined ? undefined : this.#store.record(number)
  }

  /** Oldest first, each as of when it is taken. Throws DamagedReplica. */
  *receipts(): Iterable<StoredEntry> {
    for (const number of this.#applier.receipts.numbers()) {
      const stored = this.#store.record(number)
      if (stored) yield stored
    }
  }

  /** For one turn of the event loop. */
  reader(): PageReader {
    return new PageReader(this.#store)
  }

  /** Throws DamagedReplica where the page is damaged. */
  checkPage(number: number): void {
    const page = this.#store.page(number)
    if (!page || !pageIsWhole(page, page.length, number))
      throw new DamagedReplica(`page ${number} is damaged`)
  }

  /** The digest and the revision it belongs to, read together. */
  digest(): { readonly revision: number; readonly digest: string } {
    const { applied, state, tables } = this.#applier
    if (this.#digest?.revision !== applied) {
      this.#digest = { revision: applied, digest: state.digest(tables.sums()) }
    }
    return this.#digest
  }

  /** The last revision whose effects can be read here. */
  get applied(): number {
    return this.#applier.applied
  }

  /** The ledger's head as last seen. */
  get head(): number {
    return this.#follower.head
  }

  /** Resolves when the ledger has been looked at for the first time; whether it is the one followed: `problems`. */
  get recognized(): Promise<void> {
    return this.#follower.recognized
  }

  /** Identity of the ledger that is followed; undefined before the first contact. */
  get identity(): string | undefined {
    return this.#applier.identity
  }

  /** Why the node cannot serve fully at the moment, as far as its replica goes. */
  get problems(): readonly string[] {
    const { mismatch, stalled } = this.#follower
    if (mismatch !== undefined) return [mismatch]
    return stalled === undefined ? [] : [`the replica cannot be written: ${stalled}`]
  }

  /** Mappings, secrets and their versions known. */
  get contents(): { mappings: number; secrets: number; secretVersions: number } {
    const { tables, state } = this.#applier
    const secretVersions = [...state.dataKeys.values()].reduce((sum, count) => sum + count, 0)
    const secrets = [...state.owners.values()].reduce((sum, owner) => sum + owner.secrets.size, 0)
    return { mappings: tables.mappings, secrets, secretVersions }
  }

  /** Since the start: segments applied, equal mappings ignored, keys that are not ours. */
  get counts(): { segments: number; ignoredDuplicates: number; foreignKeys: number } {
    const { segments, ignoredDuplicates } = this.#applier
    return { segments, ignoredDuplicates, foreignKeys: this.#follower.foreignKeys }
  }

  /** Ends following, writes a checkpoint where anything is new, and closes the file. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#rejectWaiters(new LedgerUnavailable('closed', 'the replica is closed'))
    this.#barriers.close()
    await this.#follower.stop()
    await this.#applier.close((error) => this.#events.lost(`no checkpoint: ${error.message}`))
  }
}

/** The error of a request that has reached the ledger in part: that nothing was applied is no longer true. */
export function asReached(error: unknown): unknown {
  if (!(error instanceof LedgerUnavailable) || error.reason !== 'no-quorum') return error
  return new UnknownOutcome(error.message)
}

function noAnswer(): Error {
  return new UnknownOutcome('the outcome of a write is unknown')
}
