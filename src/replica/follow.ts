// Follows the ledger after the replica's own cursor: a reader fills the queue, a writer applies queued
// revisions. When the stream breaks, the reader starts again; when the history after the cursor is gone, a
// snapshot takes its place.

import { assert } from '../assert.ts'
import { Compacted, type Ledger, LedgerUnavailable, type Reader } from '../ledger/ledger.ts'
import { RECEIPT_PREFIX, snapshotRanges } from '../state/ledger-keys.ts'
import { type Decoded, decodePuts } from '../state/state.ts'
import { sleep } from '../waiting.ts'
import type { Applier, DecodedRevision } from './apply.ts'
import { QUEUE_BYTES, RevisionQueue } from './queue.ts'
import { WriteFailed } from './store.ts'

const RETRY_MS = 200

type FollowEvents = {
  lost(reason: string): void
  recovered(): void
  caughtUp(from: number, to: number, ms: number): void
  /** The entry can be read here. */
  applied(put: Decoded): void
  /** More revisions have been applied. */
  advanced(): void
}

type CatchUp = { readonly from: number; readonly to: number; readonly started: number }

export class Follower {
  /** The ledger's head as last seen. */
  head: number
  /** Puts under keys that are not ours. */
  foreignKeys = 0
  /** Why nothing can be applied at the moment; undefined when all is well. */
  stalled: string | undefined
  /**
   * Why the ledger is not the followed ledger; undefined where it is. Until then nothing is applied or
   * deleted.
   */
  mismatch: string | undefined = 'the ledger has not been reached yet'
  readonly #ledger: Ledger
  readonly #applier: Applier
  readonly #events: FollowEvents
  /** Milliseconds. */
  readonly #now: () => number
  readonly #stop = new AbortController()
  readonly #queue = new RevisionQueue()
  /** The last revision read from the ledger. */
  #read: number
  readonly #recognized = Promise.withResolvers<void>()
  /** Revisions that were in the ledger before the stream began: reported as a single event when applied. */
  #catchUp: CatchUp | undefined
  #running: Promise<unknown> = Promise.resolve()

  constructor(ledger: Ledger, applier: Applier, events: FollowEvents, now: () => number) {
    this.#ledger = ledger
    this.#applier = applier
    this.#events = events
    this.#now = now
    this.#read = applier.applied
    this.head = applier.applied
  }

  /** Runs until `stop`. `fatal` is called with a broken invariant. */
  start(fatal: (error: Error) => void): void {
    this.#ledger.checkConnections((reader) => this.#recognize(reader))
    this.#running = Promise.all([this.#readForEver(), this.#applyForEver()]).catch((error: Error) => {
      if (!this.#stopped) fatal(error)
    })
  }

  get #stopped(): boolean {
    return this.#stop.signal.aborted
  }

  /** Resolves after the first look at the ledger; `mismatch` is the result. */
  get recognized(): Promise<void> {
    return this.#recognized.promise
  }

  /** Whether the revisions applied now were in the ledger before the stream began. */
  get catchingUp(): boolean {
    return this.#catchUp !== undefined
  }

  /** Resolves where the ledger is the followed ledger. Throws LedgerUnavailable ledger-changed. */
  async checkLedger(): Promise<void> {
    if (this.mismatch === undefined) return
    await this.recognized
    if (this.mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', this.mismatch)
  }

  sawHead(revision: number): void {
    this.head = Math.max(this.head, revision)
  }

  /** The error of a wait that has lasted too long. */
  unavailable(): LedgerUnavailable {
    if (this.stalled !== undefined) return new LedgerUnavailable('disk-full', 'the replica cannot be written')
    const behind = this.#applier.applied < this.head
    return new LedgerUnavailable(
      'no-quorum',
      behind ? 'the replica is behind the ledger' : 'the ledger cannot be reached',
    )
  }

  /** A caller waits for the revision: no gathering before. */
  hurry(revision: number): void {
    this.#queue.hurry(revision)
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#queue.close()
    await this.#running
  }

  async #readForEver(): Promise<void> {
    for (let lost = false; !this.#stopped; ) {
      try {
        await this.#drained()
        await this.#recognize()
        this.sawHead(await this.#ledger.head())
        if (lost) this.#events.recovered()
        lost = false
        await this.#readStream()
      } catch (error) {
        const failure = error instanceof Compacted ? await this.#tryResync() : error
        if (failure === undefined) continue
        if (!(failure instanceof LedgerUnavailable)) throw failure
        if (!lost && !this.#stopped) this.#events.lost(failure.message)
        lost = true
        await this.#pause()
      }
    }
  }

  /** Waits until all revisions read have been applied. */
  async #drained(): Promise<void> {
    while (this.#applier.applied < this.#read && !this.#stopped) await this.#pause()
  }

  /**
   * Checks a new connection before anything read from it is believed. Throws LedgerUnavailable, CorruptEntry.
   */
  async #recognize(ledger: Reader = this.#ledger): Promise<void> {
    this.mismatch = await this.#applier.ledgerMismatch(ledger)
    this.#recognized.resolve()
    if (this.mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', this.mismatch)
  }

  async #readStream(): Promise<void> {
    this.#expectCatchUp(this.#read, this.head)
    for await (const { revision, puts } of this.#ledger.follow(this.#read, this.#stop.signal)) {
      if (this.#stopped) return
      assert(revision === this.#read + 1, 'revisions are dense: each is the cursor + 1')
      this.sawHead(revision)
      const { decoded, removed, foreign } = decodePuts(revision, puts)
      this.foreignKeys += foreign
      const bytes = puts.reduce((sum, put) => sum + put.key.length + (put.value?.length ?? 0), 0)
      this.#read = revision
      this.#queue.push({ revision, decoded, removed, bytes })
      await this.#queue.room()
    }
    if (!this.#stopped) throw new LedgerUnavailable('closed', 'the stream of revisions has ended')
  }

  #expectCatchUp(from: number, to: number): void {
    if (to > from) this.#catchUp = { from, to, started: this.#now() }
  }

  async #applyForEver(): Promise<void> {
    while (!this.#stopped) {
      const revisions = await this.#queue.take(this.#applier.applied)
      if (revisions.length === 0) return
      await this.#apply(revisions)
      this.#applier.checkpointer.beginIfDue((error) =>
        this.#events.lost(`the checkpoint could not be written: ${error.message}`),
      )
    }
  }

  /** Waits while the disk is full: the ledger has every revision, and nothing is lost by being late. */
  async #apply(revisions: readonly DecodedRevision[]): Promise<void> {
    for (;;) {
      try {
        await this.#applier.apply(revisions, this.#events.applied)
        break
      } catch (error) {
        if (this.#stopped || !(error instanceof WriteFailed)) throw error
        if (this.stalled === undefined) this.#events.lost(`the replica cannot be written: ${error.message}`)
        this.stalled = error.message
        await this.#pause()
      }
    }
    if (this.stalled !== undefined) this.#events.recovered()
    this.stalled = undefined
    const { applied } = this.#applier
    this.sawHead(applied)
    if (this.#catchUp && applied >= this.#catchUp.to) {
      const { from, to, started } = this.#catchUp
      this.#catchUp = undefined
      this.#events.caughtUp(from, to, Math.round(this.#now() - started))
    }
    this.#events.advanced()
  }

  /**
   * Takes snapshots until no history is compacted meanwhile. Returns the error of a failure; undefined for
   * success.
   */
  async #tryResync(): Promise<unknown> {
    for (;;) {
      try {
        await this.#resync()
        return undefined
      } catch (error) {
        if (!(error instanceof Compacted) || this.#stopped) return error
      }
    }
  }

  /** Applies all live entries at a single revision, without the segments that are here already. */
  async #resync(): Promise<void> {
    await this.#drained()
    const from = this.#applier.applied
    const { revision, entries } = await this.#ledger.snapshot(snapshotRanges(this.#applier.known()))
    this.#expectCatchUp(from, revision)
    let decoded: Decoded[] = []
    let bytes = 0
    const receipts = new Set<string>()
    for await (const entry of entries) {
      if (this.#stopped) return
      if (entry.key.startsWith(RECEIPT_PREFIX)) receipts.add(entry.key)
      if (entry.revision <= from) continue
      const one = decodePuts(entry.revision, [entry])
      this.foreignKeys += one.foreign
      decoded.push(...one.decoded)
      bytes += entry.value.length
      if (bytes < QUEUE_BYTES) continue
      // The cursor stays until the whole snapshot is applied.
      await this.#apply([{ revision: from, decoded, removed: [], bytes }])
      decoded = []
      bytes = 0
    }
    // Entries of no other kind are ever removed.
    const removed = this.#applier.receiptKeys().filter((key) => !receipts.has(key))
    await this.#apply([{ revision, decoded, removed, bytes, whole: true }])
    this.#read = revision
  }

  #pause(): Promise<void> {
    return sleep(RETRY_MS, this.#stop.signal)
  }
}
