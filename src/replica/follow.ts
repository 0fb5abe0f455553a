// Follows the ledger after the replica's own cursor: a reader fills the queue, a writer applies queued
// revisions. When the stream breaks, the reader starts again; when the history after the cursor is gone, or
// long, a snapshot takes its place, in parts through the same queue.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import { Compacted, type Ledger, LedgerUnavailable, type Reader } from '../ledger/ledger.ts'
import { parseKey, snapshotRanges } from '../state/ledger-keys.ts'
import { type Decoded, decodePuts } from '../state/puts.ts'
import type { DecodedRevision } from '../state/step.ts'
import { isUnreadable } from '../state/writer.ts'
import { nextTurn, sleep, Waiters } from '../waiting.ts'
import type { Applier } from './apply.ts'
import { entriesCost, RevisionQueue } from './queue.ts'
import { endsBefore, lacksAccepted, ledgerMismatch, otherwiseApplied, readGenesis } from './recognition.ts'
import { WriteFailed } from './store.ts'

const RETRY_MS = 200
/** Bytes of a part of a snapshot. */
const PART_BYTES = 1024 * 1024
/** Receipts looked at in a turn of the event loop, and removed in a step. */
const RECEIPTS_A_TURN = 20_000
const RECEIPTS_A_STEP = 2000

const NOT_REACHED = 'the ledger has not been reached yet'

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
   * Why no reachable part of the ledger is the followed ledger; undefined where the ledger is. Until then
   * nothing is applied or deleted.
   */
  mismatch: string | undefined = NOT_REACHED
  readonly #ledger: Ledger
  readonly #applier: Applier
  readonly #events: FollowEvents
  /** Milliseconds. */
  readonly #now: () => number
  readonly #stop = new AbortController()
  /** Ends the stream of revisions, and another begins. */
  #stream = new AbortController()
  /** Keys that were found otherwise than applied here: read again over every new connection. */
  readonly #doubted = new Set<string>()
  /** Whether a stream of the followed ledger is open. */
  #following = false
  /** Why the connection checked last leads to another ledger, while no stream is open. */
  #refused: string | undefined
  readonly #queue = new RevisionQueue()
  /** Identity of the followed ledger; undefined before the first contact. */
  #identity: string | undefined
  /** Whether anything of a ledger has been taken over. Before, the identity is of the ledger met last. */
  #taken: boolean
  /** The last revision read from the ledger. */
  #read: number
  /** The newest put accepted by the ledger from this process. */
  #accepted = { key: '', revision: 0 }
  readonly #recognized = Promise.withResolvers<void>()
  /** Callers of `checkLedger` before the first look at the ledger. */
  readonly #recognizing = new Waiters()
  /** Revisions that were in the ledger before the stream began: reported as a single event when applied. */
  #catchUp: CatchUp | undefined
  #running: Promise<unknown> = Promise.resolve()

  constructor(ledger: Ledger, applier: Applier, events: FollowEvents, now: () => number) {
    this.#ledger = ledger
    this.#applier = applier
    this.#events = events
    this.#now = now
    this.#identity = applier.state.meta.ledger || undefined
    this.#taken = this.#identity !== undefined
    this.#read = applier.applied
    this.head = applier.applied
  }

  /** Runs until `stop`. `fatal` is called with a broken invariant. */
  start(fatal: (error: Error) => void): void {
    this.#checkConnections()
    this.#running = Promise.all([this.#readForEver(), this.#applyForEver()]).catch((error: Error) => {
      if (this.#stopped) return
      this.#recognized.reject(error)
      fatal(error)
    })
    this.#recognized.promise.catch(() => undefined) // `fatal` has the error
  }

  #checkConnections(): void {
    this.#ledger.checkConnections(async (reader) => {
      const mismatch = await this.#mismatchOf(reader).catch((error: unknown) => {
        // The verdict belongs to the connection: another may lead to the followed ledger.
        if (this.#taken && isUnreadable(error)) return error.message
        throw error
      })
      this.#refused = this.#following ? undefined : mismatch
      if (mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', mismatch)
    })
  }

  get #stopped(): boolean {
    return this.#stop.signal.aborted
  }

  get identity(): string | undefined {
    return this.#identity
  }

  /** Resolves after the first look at the ledger; `mismatch` is the result. Throws the error of `fatal`. */
  get recognized(): Promise<void> {
    return this.#recognized.promise
  }

  /** Whether the revisions applied now were in the ledger before the stream began. */
  get catchingUp(): boolean {
    return this.#catchUp !== undefined
  }

  /** Why the ledger reached is another ledger. Wrong members count where no right member is connected. */
  get changed(): string | undefined {
    if (this.mismatch !== undefined && this.mismatch !== NOT_REACHED) return this.mismatch
    return this.#ledger.right ? undefined : this.#refused
  }

  /** Resolves where the ledger is the followed ledger. Throws LedgerUnavailable ledger-changed, no-quorum. */
  async checkLedger(deadline: Deadline): Promise<void> {
    if (this.mismatch === undefined) return
    if (this.mismatch === NOT_REACHED) await this.#recognizing.wait(deadline, () => this.unavailable())
    if (this.mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', this.mismatch)
  }

  /**
   * An answer contradicts the entries applied here, at `key`: every connection is checked anew, and the key
   * with it, before another answer is believed. Returns the error of whoever has got the answer.
   */
  contradicted(reason: string, key?: string): LedgerUnavailable {
    if (key !== undefined) this.#doubted.add(key)
    this.mismatch = reason
    this.#checkConnections()
    this.#stream.abort()
    return new LedgerUnavailable('ledger-changed', reason)
  }

  sawHead(revision: number): void {
    this.head = Math.max(this.head, revision)
  }

  /** The ledger has accepted a put of this process: the key stays, with the put or a later one. */
  accepted(key: string, revision: number): void {
    if (parseKey(key)?.kind === 'receipt') return // may be removed
    assert(revision > 0, 'an accepted put has a revision')
    if (revision > this.#accepted.revision) this.#accepted = { key, revision }
  }

  /** The ledger has this revision: applied here, or accepted from here. */
  get least(): number {
    return Math.max(this.#applier.applied, this.#accepted.revision)
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

  // ---- reading

  async #readForEver(): Promise<void> {
    for (let lost = false; !this.#stopped; ) {
      try {
        await this.#queue.idle()
        await this.#recognize()
        this.sawHead(await this.#ledger.head())
        // A barrier or a commit may have contradicted the ledger meanwhile.
        if (this.mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', this.mismatch)
        if (lost) this.#events.recovered()
        lost = false
        this.#following = true
        this.#refused = undefined
        await this.#readStream()
      } catch (error) {
        this.#following = false
        const failure = error instanceof Compacted ? await this.#tryResync() : error
        if (failure === undefined) continue
        if (!(failure instanceof LedgerUnavailable)) throw failure
        if (!lost && !this.#stopped) this.#events.lost(failure.message)
        lost = true
        await this.#pause()
      }
    }
  }

  /**
   * Looks whether the ledger is the followed ledger. A driver with connections asks the right member, where
   * there is any: a wrong member alone changes nothing. Throws LedgerUnavailable, CorruptEntry.
   */
  async #recognize(): Promise<void> {
    if (!this.#taken) {
      this.#identity = undefined
      this.head = this.#applier.applied
    }
    try {
      this.mismatch = await this.#mismatchOf(this.#ledger)
    } catch (error) {
      if (!(error instanceof LedgerUnavailable) || error.reason !== 'ledger-changed') throw error
      this.mismatch = error.message
    }
    this.#recognized.resolve()
    this.#recognizing.wake()
    if (this.mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', this.mismatch)
  }

  /** A replica that has taken nothing from a ledger yet follows the ledger that it meets. */
  async #mismatchOf(reader: Reader): Promise<string | undefined> {
    const genesis = await readGenesis(reader)
    if (!genesis) return 'the ledger is empty'
    this.#identity ??= genesis.identity
    const { state } = this.#applier
    const { cursor, witnesses } = state.meta
    for (const key of this.#doubted) {
      const reason = otherwiseApplied(state, await reader.read(key), cursor)
      if (reason !== undefined) return reason
    }
    const { key, revision } = this.#accepted
    if (revision > cursor && (await reader.read(key)).revision < revision) return lacksAccepted(key, revision)
    return ledgerMismatch(reader, genesis, { ledger: this.#identity, cursor, witnesses })
  }

  async #readStream(): Promise<void> {
    assert(this.mismatch === undefined, 'only a recognized ledger is followed')
    this.#expectCatchUp(this.#read, this.head)
    this.#stream = new AbortController()
    const signal = AbortSignal.any([this.#stop.signal, this.#stream.signal])
    for await (const { revision, puts } of this.#ledger.follow(this.#read, signal)) {
      if (signal.aborted) break
      assert(revision === this.#read + 1, 'revisions are dense: each is the cursor + 1')
      this.sawHead(revision)
      const { decoded, removed, foreign } = decodePuts(revision, puts)
      this.foreignKeys += foreign
      this.#taken = true
      this.#read = revision
      this.#queue.push({ revision, decoded, removed })
      await this.#queue.room()
    }
    if (this.#stopped) return
    throw new LedgerUnavailable('no-quorum', this.changed ?? 'the stream of revisions has ended')
  }

  #expectCatchUp(from: number, to: number): void {
    if (to > from) this.#catchUp = { from, to, started: this.#now() }
  }

  /** Takes snapshots until no history is compacted meanwhile. Returns the error of a failure. */
  async #tryResync(): Promise<unknown> {
    for (;;) {
      try {
        await this.#resync()
        return undefined
      } catch (error) {
        if (!(error instanceof Compacted) || this.#stopped) return error
        await this.#pause()
      }
    }
  }

  /** Reads all live entries at a single revision, without the segments that are here already. */
  async #resync(): Promise<void> {
    await this.#queue.idle()
    const { state } = this.#applier
    const { applied } = state
    const wanted = snapshotRanges(state.ranges.known())
    const { least } = this
    const { revision, entries } = await this.#ledger.snapshot(wanted, this.#stop.signal)
    if (revision < least) throw this.contradicted(endsBefore(revision, least))
    this.#taken = true
    this.#expectCatchUp(applied, revision)
    let part: Decoded[] = []
    let cost = 0
    for await (const entry of entries) {
      if (this.#stopped) return
      const reason = entry.revision <= applied ? otherwiseApplied(state, entry, applied) : undefined
      if (reason !== undefined) throw this.contradicted(reason, entry.key)
      const { decoded, foreign } = decodePuts(entry.revision, [entry])
      this.foreignKeys += foreign
      // A receipt that the snapshot does not bring is gone, so all receipts are a part of the snapshot.
      const needed = decoded.filter(({ entry: { kind } }) => entry.revision > applied || kind === 'receipt')
      part.push(...needed)
      cost += entriesCost(needed)
      if (cost < PART_BYTES) continue
      this.#queue.push({ revision, decoded: part, removed: [], snapshot: 'part' })
      part = []
      cost = 0
      await this.#queue.room()
      await nextTurn()
    }
    this.#queue.push({ revision, decoded: part, removed: [], snapshot: 'part' })
    await this.#removeUnseen(revision)
    this.#queue.push({ revision, decoded: [], removed: [], snapshot: 'whole' })
    this.#read = revision
    await this.#queue.room()
  }

  /** Removes the receipts that the snapshot has not brought, in turns, since receipts may be many. */
  async #removeUnseen(revision: number): Promise<void> {
    await this.#queue.idle()
    const { state } = this.#applier
    if (this.#stopped || state.hasSeenAll(revision)) return
    let gone: { readonly owner: string; readonly id: string }[] = []
    const push = async (): Promise<void> => {
      this.#queue.push({ revision, decoded: [], removed: [], gone, snapshot: 'part' })
      gone = []
      await this.#queue.idle()
    }
    let looked = 0
    for (const receipt of state.unseenReceipts(revision)) {
      if (receipt) gone.push(receipt)
      if (gone.length === RECEIPTS_A_STEP) await push()
      if (++looked % RECEIPTS_A_TURN === 0) await nextTurn()
      if (this.#stopped) return
    }
    if (gone.length > 0) await push()
  }

  // ---- applying

  async #applyForEver(): Promise<void> {
    for (;;) {
      const revisions = await this.#queue.take(this.#applier.applied)
      if (revisions.length === 0 && this.#queue.closed) return
      await this.#apply(revisions)
      // A checkpoint written while catching up is soon old, and makes a rebuild a sixth slower.
      if (!this.catchingUp) this.#applier.beginCheckpointIfDue(() => this.#queue.nudge())
    }
  }

  /** Waits while the disk is full: the ledger has every revision, and nothing is lost by being late. */
  async #apply(revisions: readonly DecodedRevision[]): Promise<void> {
    assert(this.#identity !== undefined, 'a ledger is recognized before anything of it is applied')
    for (;;) {
      try {
        await this.#applier.apply(revisions, this.#identity)
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
    for (const { decoded } of revisions) for (const put of decoded) this.#events.applied(put)
    const { applied } = this.#applier
    this.sawHead(applied)
    if (this.#catchUp && applied >= this.#catchUp.to) {
      const { from, to, started } = this.#catchUp
      this.#catchUp = undefined
      this.#events.caughtUp(from, to, Math.round(this.#now() - started))
    }
    this.#events.advanced()
  }

  #pause(): Promise<void> {
    return sleep(RETRY_MS, this.#stop.signal)
  }
}
