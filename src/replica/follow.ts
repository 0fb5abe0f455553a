// The follow loop: read the own cursor, follow the ledger after it, apply in transactions, begin again when the
// stream breaks. The reader runs ahead of the writer by a bounded number of bytes.
import { Compacted, type Ledger, LedgerUnavailable, type Reader } from '../ledger/ledger.ts'
import { RECEIPT_PREFIX } from '../state/ledger-keys.ts'
import { type Decoded, decodePuts } from '../state/state.ts'
import { sleep } from '../waiting.ts'
import type { Applier, Step } from './apply.ts'
import { WriteFailed } from './store.ts'

/** Bytes of revisions that may wait to be applied, and that go into one transaction. */
const QUEUE_BYTES = 8 * 1024 * 1024
const RETRY_MS = 200
/** Commits smaller than this together wait so long for more, unless somebody waits for them. */
const GATHER_BYTES = 256 * 1024
const GATHER_MS = 25

export type FollowEvents = {
  lost(reason: string): void
  recovered(): void
  caughtUp(from: number, to: number, ms: number): void
  /** An entry can be read here. */
  applied(put: Decoded): void
}

export class Follower {
  /** The ledger's head as last seen. */
  head = 0
  /** Puts under keys that are not ours. */
  foreignKeys = 0
  /** Why nothing can be applied at the moment, if so. */
  stalled: string | undefined
  /** Why the ledger is not the one that was followed: nothing is applied, nothing is deleted. */
  mismatch: string | undefined = 'the ledger has not been reached yet'
  readonly #ledger: Ledger
  readonly #applier: Applier
  readonly #events: FollowEvents
  readonly #now: () => number
  readonly #stop = new AbortController()
  readonly #advanced: (error?: Error) => void
  #queue: Step[] = []
  #queueBytes = 0
  /** The last revision that was read from the ledger. */
  #read: number
  #arrived = Promise.withResolvers<void>()
  #room = Promise.withResolvers<void>()
  #hurried = Promise.withResolvers<void>()
  #recognized = Promise.withResolvers<void>()
  /** The highest revision that somebody waits for. */
  #wanted = 0
  #running: Promise<unknown> = Promise.resolve()

  /** `advanced` is called whenever more has been applied. */
  constructor(
    ledger: Ledger,
    applier: Applier,
    events: FollowEvents,
    now: () => number,
    advanced: () => void,
  ) {
    this.#ledger = ledger
    this.#applier = applier
    this.#events = events
    this.#now = now
    this.#advanced = advanced
    this.#read = applier.applied
    this.head = applier.applied
  }

  /** Runs until `stop`; an invariant that breaks goes to `fatal`. */
  start(fatal: (error: Error) => void): void {
    this.#ledger.checkConnections((reader) => this.#recognize(reader))
    this.#running = Promise.all([this.#readForEver(), this.#applyForEver()]).catch((error: Error) => {
      if (!this.#stopped) fatal(error)
    })
  }

  get #stopped(): boolean {
    return this.#stop.signal.aborted
  }

  /** Resolves when the ledger has been looked at for the first time: `mismatch` tells what was found. */
  get recognized(): Promise<void> {
    return this.#recognized.promise
  }

  /** What is applied now was there before this node looked. */
  get catchingUp(): boolean {
    return this.#catchUp !== undefined
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#arrived.resolve()
    this.#hurried.resolve()
    this.#room.resolve()
    await this.#running
  }

  async #readForEver(): Promise<void> {
    for (let lost = false; !this.#stopped; ) {
      try {
        while (this.#applier.applied < this.#read && !this.#stopped) await this.#pause()
        await this.#recognize()
        this.head = Math.max(this.head, await this.#ledger.head())
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

  /** Before anything is believed of a (re)connected ledger: is it the one that was followed? */
  async #recognize(ledger: Reader = this.#ledger): Promise<void> {
    this.mismatch = await this.#applier.ledgerMismatch(ledger)
    this.#recognized.resolve()
    if (this.mismatch !== undefined) throw new LedgerUnavailable('ledger-changed', this.mismatch)
  }

  async #readStream(): Promise<void> {
    this.#tellWhenCaughtUp(this.#read, this.head)
    for await (const { revision, puts } of this.#ledger.follow(this.#read, this.#stop.signal)) {
      if (this.#stopped) return
      this.head = Math.max(this.head, revision)
      const { decoded, removed, foreign } = decodePuts(revision, puts)
      this.foreignKeys += foreign
      const bytes = puts.reduce((sum, put) => sum + put.key.length + (put.value?.length ?? 0), 0)
      this.#read = revision
      this.#queue.push({ revision, decoded, removed, bytes })
      this.#queueBytes += bytes
      this.#arrived.resolve()
      if (this.#queueBytes >= GATHER_BYTES) this.#hurried.resolve()
      while (this.#queueBytes > QUEUE_BYTES && !this.#stopped) await this.#room.promise
    }
    if (!this.#stopped) throw new LedgerUnavailable('closed', 'the stream of revisions has ended')
  }

  /** One event stands for a whole catch-up. */
  #catchUp: { readonly from: number; readonly to: number; readonly started: number } | undefined

  #tellWhenCaughtUp(from: number, to: number): void {
    if (to > from) this.#catchUp = { from, to, started: this.#now() }
  }

  async #applyForEver(): Promise<void> {
    while (!this.#stopped) {
      if (this.#queue.length === 0) {
        this.#arrived = Promise.withResolvers()
        await this.#arrived.promise
        continue
      }
      await this.#gather()
      const steps = this.#queue
      this.#queue = []
      this.#queueBytes = 0
      this.#room.resolve()
      this.#room = Promise.withResolvers()
      await this.#apply(steps)
      this.#applier.checkpointIfDue((error) =>
        this.#events.lost(`the checkpoint could not be written: ${error.message}`),
      )
    }
  }

  /** Somebody waits for this revision: it is applied as soon as it is here. */
  hurry(revision: number): void {
    this.#wanted = Math.max(this.#wanted, revision)
    this.#hurried.resolve()
  }

  /** Small commits that nobody waits for share a transaction: the ledger's acknowledgement does not need this one. */
  async #gather(): Promise<void> {
    if (this.#applier.applied < this.#wanted || this.#queueBytes >= GATHER_BYTES) return
    this.#hurried = Promise.withResolvers()
    const timer = setTimeout(this.#hurried.resolve, GATHER_MS)
    await this.#hurried.promise
    clearTimeout(timer)
  }

  /** A full disk is waited out: the ledger has it all, and nothing is lost by being late. */
  async #apply(steps: readonly Step[]): Promise<void> {
    for (;;) {
      try {
        await this.#applier.apply(steps, this.#events.applied)
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
    this.head = Math.max(this.head, this.#applier.applied)
    if (this.#catchUp && this.#applier.applied >= this.#catchUp.to) {
      const { from, to, started } = this.#catchUp
      this.#catchUp = undefined
      this.#events.caughtUp(from, to, Math.round(this.#now() - started))
    }
    this.#advanced()
  }

  /** Returns what it has failed of. History that goes on the way is no failure: again, from a new head. */
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

  /** Everything live at one revision, when the history in between is gone. What is here already is left out. */
  async #resync(): Promise<void> {
    while (this.#applier.applied < this.#read && !this.#stopped) await this.#pause()
    const from = this.#applier.applied
    const { revision, entries } = await this.#ledger.snapshot(this.#applier.known())
    this.#tellWhenCaughtUp(from, revision)
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
      await this.#apply([{ revision: from, decoded, removed: [], bytes }]) // the cursor stays until all is there
      decoded = []
      bytes = 0
    }
    // No other kind of entry is ever removed.
    const removed = this.#applier.receiptKeys().filter((key) => !receipts.has(key))
    await this.#apply([{ revision, decoded, removed, bytes, whole: true }])
    this.#read = revision
  }

  #pause(): Promise<void> {
    return sleep(RETRY_MS, this.#stop.signal)
  }
}
