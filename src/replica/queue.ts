// The queue between the reader of the ledger and the writer of the replica, bounded by bytes.
import { assert } from '../assert.ts'
import type { DecodedRevision } from '../state/step.ts'

/** Bytes of revisions that may wait to be applied. */
const QUEUE_BYTES = 8 * 1024 * 1024
/** Bytes applied together: smaller steps cost more transactions. */
const STEP_BYTES = 8 * 1024 * 1024
/** What an entry costs beside its bytes: reading and applying a small one takes as long as some kilobytes. */
const ENTRY_BYTES = 1536
/**
 * Queued revisions smaller than this together wait up to GATHER_MS for more, unless a caller waits for a
 * revision.
 */
const GATHER_BYTES = 256 * 1024
const GATHER_MS = 25

type Queued = { readonly revision: DecodedRevision; readonly bytes: number }

export class RevisionQueue {
  readonly #queued: Queued[] = []
  #bytes = 0
  /** Whether taken revisions are being applied. */
  #applying = false
  #closed = false
  /** A step is wanted without revisions. */
  #nudged = false
  /** The highest revision that a caller waits for. */
  #wanted = 0
  #arrived = Promise.withResolvers<void>()
  #room = Promise.withResolvers<void>()
  #hurried = Promise.withResolvers<void>()
  #idle = Promise.withResolvers<void>()

  push(revision: DecodedRevision): void {
    assert(this.#closed || this.#bytes <= QUEUE_BYTES, 'the queue is bounded by bytes')
    const last = this.#queued.at(-1)?.revision
    if (last && revision.snapshot === undefined)
      assert(revision.revision === last.revision + 1, 'queued revisions are dense')
    const bytes = costOf(revision)
    this.#queued.push({ revision, bytes })
    this.#bytes += bytes
    this.#arrived.resolve()
    if (this.#bytes >= GATHER_BYTES) this.#hurried.resolve()
  }

  /** Resolves when at most QUEUE_BYTES are queued, or the queue is closed. */
  async room(): Promise<void> {
    while (this.#bytes > QUEUE_BYTES && !this.#closed) await this.#room.promise
  }

  /** Resolves when all pushed revisions have been applied, or the queue is closed. */
  async idle(): Promise<void> {
    while ((this.#queued.length > 0 || this.#applying) && !this.#closed) await this.#idle.promise
  }

  /**
   * The next revisions, up to STEP_BYTES, as soon as there are any; none where a step without revisions is
   * wanted, or the queue was closed. The revisions taken before count as applied. Small commits gather for a
   * while and share a transaction, unless a caller waits for a revision after `applied`: acknowledgements of
   * the ledger do not wait for the replica.
   */
  async take(applied: number): Promise<readonly DecodedRevision[]> {
    this.#applying = false
    if (this.#queued.length === 0) this.#signalIdle()
    while (this.#queued.length === 0 && !this.#nudged && !this.#closed) {
      this.#arrived = Promise.withResolvers()
      await this.#arrived.promise
    }
    if (this.#closed) return []
    this.#nudged = false
    if (this.#queued.length > 0 && applied >= this.#wanted && this.#bytes < GATHER_BYTES) await this.#gather()
    return this.#takeStep()
  }

  #takeStep(): readonly DecodedRevision[] {
    let count = 0
    let bytes = 0
    while (count < this.#queued.length && (count === 0 || bytes + this.#queued[count].bytes <= STEP_BYTES))
      bytes += this.#queued[count++].bytes
    const taken = this.#queued.splice(0, count)
    this.#bytes -= bytes
    assert(this.#bytes >= 0, 'bytes of queued revisions are counted once')
    this.#applying = true
    this.#room.resolve()
    this.#room = Promise.withResolvers()
    return taken.map(({ revision }) => revision)
  }

  async #gather(): Promise<void> {
    this.#hurried = Promise.withResolvers()
    const timer = setTimeout(this.#hurried.resolve, GATHER_MS)
    await this.#hurried.promise
    clearTimeout(timer)
  }

  #signalIdle(): void {
    this.#idle.resolve()
    this.#idle = Promise.withResolvers()
  }

  /** A caller waits for the revision: queued revisions are taken without gathering. */
  hurry(revision: number): void {
    this.#wanted = Math.max(this.#wanted, revision)
    this.#hurried.resolve()
  }

  /** A step is wanted, also without revisions. */
  nudge(): void {
    this.#nudged = true
    this.#arrived.resolve()
  }

  get closed(): boolean {
    return this.#closed
  }

  close(): void {
    this.#closed = true
    this.#arrived.resolve()
    this.#hurried.resolve()
    this.#room.resolve()
    this.#signalIdle()
  }
}

/** What decoded entries cost the queue. */
export function entriesCost(entries: DecodedRevision['decoded']): number {
  let bytes = 0
  for (const { key, value } of entries) bytes += ENTRY_BYTES + key.length + value.length
  return bytes
}

function costOf({ decoded, removed }: DecodedRevision): number {
  return entriesCost(decoded) + removed.length * ENTRY_BYTES
}
