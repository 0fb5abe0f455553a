// The queue between the reader of the ledger and the writer of the replica, bounded by bytes.
import { assert } from '../assert.ts'
import type { DecodedRevision } from './apply.ts'

/** Bytes of revisions that may wait to be applied, and bytes of a single transaction. */
export const QUEUE_BYTES = 8 * 1024 * 1024
/**
 * Queued revisions smaller than this together wait up to GATHER_MS for more, unless a caller waits for a
 * revision.
 */
const GATHER_BYTES = 256 * 1024
const GATHER_MS = 25

export class RevisionQueue {
  #queued: DecodedRevision[] = []
  #bytes = 0
  #closed = false
  /** The highest revision that a caller waits for. */
  #wanted = 0
  #arrived = Promise.withResolvers<void>()
  #room = Promise.withResolvers<void>()
  #hurried = Promise.withResolvers<void>()

  push(next: DecodedRevision): void {
    assert(this.#closed || this.#bytes <= QUEUE_BYTES, 'the queue is bounded by bytes')
    const last = this.#queued.at(-1)
    assert(!last || next.revision === last.revision + 1, 'queued revisions are dense')
    this.#queued.push(next)
    this.#bytes += next.bytes
    this.#arrived.resolve()
    if (this.#bytes >= GATHER_BYTES) this.#hurried.resolve()
  }

  /** Resolves when at most QUEUE_BYTES are queued, or the queue is closed. */
  async room(): Promise<void> {
    while (this.#bytes > QUEUE_BYTES && !this.#closed) await this.#room.promise
  }

  /**
   * All queued revisions, as soon as there are any; none where the queue was closed. Small commits gather for
   * a while and share a transaction, unless a caller waits for a revision after `applied`: acknowledgements
   * of the ledger do not wait for the replica.
   */
  async take(applied: number): Promise<readonly DecodedRevision[]> {
    while (this.#queued.length === 0 && !this.#closed) {
      this.#arrived = Promise.withResolvers()
      await this.#arrived.promise
    }
    if (this.#closed) return []
    if (applied >= this.#wanted && this.#bytes < GATHER_BYTES) await this.#gather()
    const taken = this.#queued
    this.#queued = []
    this.#bytes = 0
    this.#room.resolve()
    this.#room = Promise.withResolvers()
    return taken
  }

  async #gather(): Promise<void> {
    this.#hurried = Promise.withResolvers()
    const timer = setTimeout(this.#hurried.resolve, GATHER_MS)
    await this.#hurried.promise
    clearTimeout(timer)
  }

  /** A caller waits for the revision: queued revisions are taken without gathering. */
  hurry(revision: number): void {
    this.#wanted = Math.max(this.#wanted, revision)
    this.#hurried.resolve()
  }

  close(): void {
    this.#closed = true
    this.#arrived.resolve()
    this.#hurried.resolve()
    this.#room.resolve()
  }
}
