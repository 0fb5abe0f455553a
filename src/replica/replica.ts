// The replica of a node: follows the ledger from its own durable cursor and answers all reads. A miss may
// only mean a replica behind the ledger: then the barrier decides. Commits pass through the replica to the
// ledger.
//
// follow.ts reads the ledger into queue.ts · apply.ts takes each step of the machine (state/step.ts) to the
// store (store.ts, lmdb-store.ts), the token tables (tables.ts, table.ts) and the state · recognition.ts
// compares ledgers · checkpoint.ts keeps the tables over a restart · commit.ts commits · check.ts reads the
// file through before it is opened.
import { assert } from '../assert.ts'
import type { Clock, Deadline } from '../clock.ts'
import { Problem } from '../errors.ts'
import type { Commit, CommitResult, Found, Guard, Ledger } from '../ledger/ledger.ts'
import { LedgerUnavailable } from '../ledger/ledger.ts'
import { ledgerKey, parseKey } from '../state/ledger-keys.ts'
import { pageIsWhole } from '../state/page.ts'
import type { Decoded } from '../state/puts.ts'
import { receiptId } from '../state/receipt-index.ts'
import type { OwnerState, State } from '../state/state.ts'
import { DamagedReplica, type StoredEntry } from '../state/stored.ts'
import { decodeWriter, type Writer } from '../state/writer.ts'
import { Applier, type RevisionDigest } from './apply.ts'
import { SharedBarrier } from './barrier.ts'
import { Committer } from './commit.ts'
import { Follower } from './follow.ts'
import { Quotas } from './quota.ts'
import { PageReader } from './reader.ts'
import { endsBefore, otherwiseApplied } from './recognition.ts'
import type { Store } from './store.ts'
import type { TokenTable } from './table.ts'
import { RevisionWaiters } from './waiters.ts'

export type { CommitResult, Found, LedgerPut } from '../ledger/ledger.ts'
export { LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
export type { StoredEntry } from '../state/stored.ts'

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
  /** Closed with the replica. */
  readonly store: Store
  /** New mappings that are worth a checkpoint; a million where undefined. */
  readonly checkpointEvery?: number | undefined
  readonly ledger: Ledger
  /** This run of the node: the writer of its commits. */
  readonly boot: string
  readonly clock: Clock
  /** The quota of an owner in force, in bytes; undefined: any number. */
  readonly quotaOf?: (owner: string) => number | undefined
  readonly events: ReplicaEvents
  /** Called when an invariant broke in the background: the node ends. */
  readonly fatal: (error: Error) => void
}

export class Replica {
  readonly quotas: Quotas
  readonly #ledger: Ledger
  readonly #store: Store
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
  /** The boot that has put the genesis last, as far as seen. */
  #rewrapper: string | undefined
  #closed = false

  private constructor(options: ReplicaOptions, applier: Applier) {
    const { store, ledger, boot, clock, events } = options
    this.#ledger = ledger
    this.#store = store
    this.#applier = applier
    this.#boot = boot
    this.#events = events
    this.#fatal = options.fatal
    const now = (): number => clock.monotonic()
    this.#barriers = new SharedBarrier({
      send: (deadline) => this.#passBarrier(deadline),
      late: () => this.#follower.unavailable(),
      now,
    })
    const followEvents = {
      lost: events.lost,
      recovered: events.recovered,
      caughtUp: events.caughtUp,
      applied: this.#report.bind(this),
      advanced: () => this.#waiters.wake(applier.applied),
    }
    this.#follower = new Follower(ledger, applier, followEvents, now)
    const waitApplied = this.waitApplied.bind(this)
    this.quotas = new Quotas({
      applied: (owner) => applier.state.owners.get(owner)?.bytes ?? 0,
      quotaOf: options.quotaOf ?? (() => undefined),
      waitApplied,
    })
    this.#committer = new Committer({
      ledger,
      boot,
      follower: this.#follower,
      waitApplied,
      applied: () => applier.applied,
      otherwiseApplied: (found, head) => otherwiseApplied(applier.state, found, head),
    })
  }

  /**
   * Opens the replica of a store; its content can be read at once. Closes the store where opening fails.
   * Throws DamagedReplica where a record is damaged.
   */
  static async open(options: ReplicaOptions): Promise<Replica> {
    const { store, clock, checkpointEvery, events } = options
    const checkpointFailed = ({ message }: Error): void => events.lost(`no checkpoint: ${message}`)
    try {
      const applier = await Applier.open({ store, clock, checkpointEvery, checkpointFailed })
      return new Replica(options, applier)
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

  #report({ entry, value, revision, created }: Decoded): void {
    if (entry.kind === 'genesis') this.#rewrapper = decodeWriter(value).boot
    if (this.#follower.catchingUp) return // reported as a single event
    if (entry.kind === 'epoch') this.#events.epoch(entry.owner, entry.active, revision)
    // A rewrap puts the genesis first, and keeps the writers of all other entries.
    const isRewrapped = (entry.kind === 'key' || entry.kind === 'version') && created < revision
    const boot = isRewrapped ? this.#rewrapper : decodeWriter(value).boot
    if (boot === undefined) return
    if (boot === this.#boot || (boot === this.#reported.boot && revision === this.#reported.revision)) return
    this.#reported = { boot, revision }
    const node = this.state.boots.get(boot)
    if (node !== undefined) this.#events.applied(node, revision)
  }

  /**
   * The guard of every commit that puts a key wrapped by the keyring in force. Every rewrap puts the genesis
   * anew: a commit of before, however late, is refused, and leaves no key under a root key to be removed.
   */
  get wrapGuard(): Guard {
    return { key: ledgerKey.genesis, revision: this.state.genesisRevision }
  }

  // ---- waiting

  /**
   * Resolves when `revision` has been applied here. Throws LedgerUnavailable when the deadline passes and
   * when the replica closes.
   */
  waitApplied(revision: number, deadline: Deadline): Promise<void> {
    if (this.#applier.applied >= revision) return Promise.resolve()
    if (this.#closed) return Promise.reject(new LedgerUnavailable('closed', 'the replica is closed'))
    return this.#waiters.wait(revision, deadline, () => this.#follower.unavailable())
  }

  /**
   * Reads the ledger's head (linearizable) and waits until the head has been applied here: a key not found
   * afterwards does not exist. Callers share a barrier that has not been sent yet, never a sent barrier.
   * Throws LedgerUnavailable.
   */
  barrier(deadline: Deadline): Promise<void> {
    return this.#barriers.pass(deadline)
  }

  /**
   * The result of `look`. The keyring may be newer than what has been applied here: where a root key lacks,
   * `look` looks again after a barrier. Throws the errors of `look`, LedgerUnavailable.
   */
  async lookAgain<T>(deadline: Deadline, look: () => T): Promise<T> {
    try {
      return look()
    } catch (error) {
      if (!(error instanceof Problem) || error.slug !== 'unknown-root-key') throw error
      await this.barrier(deadline)
      return look()
    }
  }

  async #passBarrier(deadline: Deadline): Promise<void> {
    await this.#follower.checkLedger(deadline)
    const { least } = this.#follower
    const head = await deadline.race(this.#ledger.head(), () => this.#follower.unavailable())
    if (head < least) throw this.#follower.contradicted(endsBefore(head, least))
    this.#follower.sawHead(head)
    if (this.#applier.applied >= head) return
    this.#follower.hurry(head)
    await this.waitApplied(head, deadline)
  }

  /**
   * Call before an answer "not found" that passed no barrier: under another ledger nothing is known to be
   * absent. Throws LedgerUnavailable ledger-changed.
   */
  checkAbsence(): void {
    const { changed } = this.#follower
    if (changed !== undefined) throw new LedgerUnavailable('ledger-changed', changed)
  }

  /** The entry that the ledger has now. Throws LedgerUnavailable. */
  async read(key: string, deadline: Deadline): Promise<Found> {
    await this.#follower.checkLedger(deadline)
    return deadline.race(this.#ledger.read(key), () => this.#follower.unavailable())
  }

  // ---- committing

  /** The writer of the next commit. */
  nextWriter(): Writer {
    return this.#committer.nextWriter()
  }

  /** As `Committer.commit`. */
  commit(commit: Commit, immutable: string, deadline: Deadline): Promise<CommitResult> {
    return this.#committer.commit(commit, immutable, deadline)
  }

  /** As `Committer.removeReceipts`. */
  removeReceipts(receipts: readonly Guard[], deadline: Deadline): Promise<boolean> {
    return this.#committer.removeReceipts(receipts, deadline)
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

  /** As `Applier.isDropped`. */
  isDropped(owner: string, epoch: number): boolean {
    return this.#applier.isDropped(owner, epoch)
  }

  /** A version as stored, as of the last applied revision. Throws DamagedReplica. */
  version(owner: string, name: string, version: number): StoredEntry | undefined {
    const known = this.owner(owner)?.secrets.get(name)?.[version - 1]
    return known && this.#record(known.record, ledgerKey.version(owner, name, version))
  }

  /** A receipt as stored, as of the last applied revision. Throws DamagedReplica. */
  receipt(key: string): StoredEntry | undefined {
    const name = parseKey(key)
    assert(name?.kind === 'receipt', 'the key of a receipt')
    const number = this.owner(name.owner)?.receipts.get(receiptId(name.hash))
    if (number === undefined) return undefined
    // The step under way may have removed the record, and forgets the number only after its write.
    if (this.#applier.stepping && this.#store.record(number) === undefined) return undefined
    return this.#record(number, key)
  }

  /** Throws DamagedReplica where the record is missing, or holds another key. */
  #record(number: number, key: string): StoredEntry {
    const stored = this.#store.record(number)
    if (stored?.key !== key) throw new DamagedReplica(`record ${number} does not hold the key asked for`)
    return stored
  }

  /** All receipts, each as of the moment of its reading. Throws DamagedReplica. */
  *receipts(): Iterable<StoredEntry> {
    for (const { receipts } of this.state.owners.values()) {
      for (const [, number] of receipts.entries()) {
        const stored = this.#store.record(number)
        if (stored) yield stored
      }
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

  /** The digest and its revision, read together; '' where the digest of the revision is not known. */
  digest(): RevisionDigest {
    return this.#applier.digest()
  }

  /** The last revision whose effects can be read here. */
  get applied(): number {
    return this.#applier.applied
  }

  /** The ledger's head as last seen. */
  get head(): number {
    return this.#follower.head
  }

  /** Resolves after the first look at the ledger; `mismatch` is the result. Throws the error of `fatal`. */
  get recognized(): Promise<void> {
    return this.#follower.recognized
  }

  /** Identity of the followed ledger; undefined before the first contact. */
  get identity(): string | undefined {
    return this.#follower.identity
  }

  /** As `Follower.mismatch`. */
  get mismatch(): string | undefined {
    return this.#follower.mismatch
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
    const { segments, ignoredDuplicates } = this.state
    return { segments, ignoredDuplicates, foreignKeys: this.#follower.foreignKeys }
  }

  /** Pages read at the start: the pages that no checkpoint covered. */
  get pagesRead(): number {
    return this.#applier.pagesRead
  }

  /** Ends following, writes a checkpoint where mappings are new, and closes the file. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#waiters.rejectAll(new LedgerUnavailable('closed', 'the replica is closed'))
    this.#barriers.close()
    await this.#follower.stop()
    await this.#applier.close()
  }
}
