// The replica of a node: follows the ledger from its own durable cursor and answers all reads. A miss may
// only mean a replica behind the ledger: then the barrier decides. Commits pass through the replica to the
// ledger.
//
// follow.ts reads the ledger into queue.ts · apply.ts applies to LMDB (store.ts, page.ts), the token tables
// (tables.ts, table.ts) and the state · recognition.ts compares ledgers · checkpoint.ts keeps the tables over
// a restart · commit.ts commits · check.ts reads the file through before it is opened.
import type { Clock } from '../clock.ts'
import type { Commit, CommitResult, Guard, Ledger } from '../ledger/ledger.ts'
import { LedgerUnavailable } from '../ledger/ledger.ts'
import type { Decoded, OwnerState, State } from '../state/state.ts'
import { decodeWriter, type Writer } from '../state/writer.ts'
import { withDeadline } from '../waiting.ts'
import { Applier } from './apply.ts'
import { SharedBarrier } from './barrier.ts'
import { Committer, WAIT_MS } from './commit.ts'
import { Follower } from './follow.ts'
import { pageIsWhole } from './page.ts'
import { PageReader } from './reader.ts'
import { DamagedReplica, ReplicaStore, type StoredEntry } from './store.ts'
import type { TokenTable } from './table.ts'
import { RevisionWaiters } from './waiters.ts'

export type { CommitResult, Found, LedgerPut } from '../ledger/ledger.ts'
export type { StoredEntry } from './store.ts'

type ReplicaEvents = {
  lost(reason: string): void
  recovered(): void
  caughtUp(from: number, to: number, ms: number): void
  /** The active epoch of the owner was applied. */
  epoch(owner: string, epoch: number, revision: number): void
  /** A commit of another node was applied. */
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

export class Replica {
  readonly #ledger: Ledger
  readonly #store: ReplicaStore
  readonly #applier: Applier
  readonly #follower: Follower
  readonly #committer: Committer
  readonly #boot: string
  readonly #events: ReplicaEvents
  readonly #fatal: (error: Error) => void
  readonly #barriers: SharedBarrier
  readonly #waiters = new RevisionWaiters()
  /** The last (boot, revision) reported as `applied`, so that a revision with many puts is reported once. */
  #reported = { boot: '', revision: 0 }
  #closed = false
  #digest: { readonly revision: number; readonly digest: string } | undefined

  private constructor(options: ReplicaOptions, store: ReplicaStore, applier: Applier) {
    const { ledger, boot, clock, events } = options
    this.#ledger = ledger
    this.#store = store
    this.#applier = applier
    this.#boot = boot
    this.#events = events
    this.#fatal = options.fatal
    const now = (): number => clock.monotonic()
    this.#barriers = new SharedBarrier(() => this.#passBarrier(), now)
    const followEvents = {
      lost: events.lost,
      recovered: events.recovered,
      caughtUp: events.caughtUp,
      applied: this.#report.bind(this),
      advanced: () => this.#waiters.wake(applier.applied),
    }
    this.#follower = new Follower(ledger, applier, followEvents, now)
    const waitApplied = this.waitApplied.bind(this)
    this.#committer = new Committer({ ledger, boot, clock, follower: this.#follower, waitApplied })
  }

  /**
   * Opens the replica's file; its content can be read at once. Throws DamagedReplica where a record is
   * damaged.
   */
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

  /** Begins to follow the ledger, once a ledger is certain to exist. */
  follow(): void {
    this.#follower.start((error) => {
      this.#waiters.rejectAll(error)
      this.#fatal(error)
    })
  }

  #report({ entry, value, revision }: Decoded): void {
    if (this.#follower.catchingUp) return // reported as a single event
    if (entry.kind === 'epoch') this.#events.epoch(entry.owner, entry.active, revision)
    const { boot } = decodeWriter(value)
    if (boot === this.#boot || (boot === this.#reported.boot && revision === this.#reported.revision)) return
    this.#reported = { boot, revision }
    const node = this.state.boots.get(boot)
    if (node !== undefined) this.#events.applied(node, revision)
  }

  // ---- waiting

  /** Resolves when `revision` has been applied here. Throws LedgerUnavailable when the replica closes. */
  waitApplied(revision: number): Promise<void> {
    if (this.#applier.applied >= revision) return Promise.resolve()
    if (this.#closed) return Promise.reject(new LedgerUnavailable('closed', 'the replica is closed'))
    return this.#waiters.wait(revision)
  }

  /**
   * Reads the ledger's head (linearizable) and waits until the head has been applied here: a key not found
   * afterwards does not exist. Callers share a barrier that has not been sent yet, never a sent barrier.
   * Throws LedgerUnavailable.
   */
  barrier(): Promise<void> {
    // The deadline begins here: a caller that waits for the barrier before its own must not wait twice.
    return this.#inTime(this.#barriers.pass())
  }

  async #passBarrier(): Promise<void> {
    await this.#inTime(this.#follower.checkLedger())
    const head = await this.#inTime(this.#ledger.head())
    this.#follower.sawHead(head)
    if (this.#applier.applied >= head) return
    this.#follower.hurry(head)
    await this.#inTime(this.waitApplied(head))
  }

  #inTime<T>(promise: Promise<T>): Promise<T> {
    return withDeadline(promise, WAIT_MS, () => this.#follower.unavailable())
  }

  // ---- committing

  /** The writer of the next commit. */
  nextWriter(): Writer {
    return this.#committer.nextWriter()
  }

  /** As `Committer.commit`. */
  commit(commit: Commit, immutable: string): Promise<CommitResult> {
    return this.#committer.commit(commit, immutable)
  }

  /** As `Committer.removeReceipts`. */
  removeReceipts(receipts: readonly Guard[]): Promise<boolean> {
    return this.#committer.removeReceipts(receipts)
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

  /** A version as stored, as of the last applied revision. Throws DamagedReplica. */
  version(owner: string, name: string, version: number): StoredEntry | undefined {
    const known = this.owner(owner)?.secrets.get(name)?.[version - 1]
    return known && this.#store.record(known.record)
  }

  /** A receipt as stored, as of the last applied revision. Throws DamagedReplica. */
  receipt(key: string): StoredEntry | undefined {
    const number = this.#applier.receipts.get(key)
    return number === undefined ? undefined : this.#store.record(number)
  }

  /** All receipts, oldest first, each as of the moment of its reading. Throws DamagedReplica. */
  *receipts(): Iterable<StoredEntry> {
    for (const number of this.#applier.receipts.numbers()) {
      const stored = this.#store.record(number)
      if (stored) yield stored
    }
  }

  /** A reader of pages, for a single turn of the event loop. */
  reader(): PageReader {
    return new PageReader(this.#store)
  }

  /** Throws DamagedReplica where the page is damaged. */
  checkPage(number: number): void {
    const page = this.#store.page(number)
    if (!page || !pageIsWhole(page, page.length, number))
      throw new DamagedReplica(`page ${number} is damaged`)
  }

  /** The digest and its revision, read together. */
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

  /** Resolves after the first look at the ledger; `problems` says whether it is the followed ledger. */
  get recognized(): Promise<void> {
    return this.#follower.recognized
  }

  /** Identity of the followed ledger; undefined before the first contact. */
  get identity(): string | undefined {
    return this.#applier.identity
  }

  /** Why the replica cannot serve fully at the moment; empty when all is well. */
  get problems(): readonly string[] {
    const { mismatch, stalled } = this.#follower
    if (mismatch !== undefined) return [mismatch]
    return stalled === undefined ? [] : [`the replica cannot be written: ${stalled}`]
  }

  /** Numbers of mappings, secrets and versions of secrets. */
  get contents(): { mappings: number; secrets: number; secretVersions: number } {
    const { tables, state } = this.#applier
    const secretVersions = [...state.dataKeys.values()].reduce((sum, count) => sum + count, 0)
    const secrets = [...state.owners.values()].reduce((sum, owner) => sum + owner.secrets.size, 0)
    return { mappings: tables.mappings, secrets, secretVersions }
  }

  /** Since the start: segments applied, duplicate mappings ignored, foreign keys skipped. */
  get counts(): { segments: number; ignoredDuplicates: number; foreignKeys: number } {
    const { segments, ignoredDuplicates } = this.#applier
    return { segments, ignoredDuplicates, foreignKeys: this.#follower.foreignKeys }
  }

  /** Ends following, writes a checkpoint where mappings are new, and closes the file. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#waiters.rejectAll(new LedgerUnavailable('closed', 'the replica is closed'))
    this.#barriers.close()
    await this.#follower.stop()
    await this.#applier.close((error) => this.#events.lost(`no checkpoint: ${error.message}`))
  }
}
