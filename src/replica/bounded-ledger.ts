// A read-only view of a ledger that ends at a revision.
import { assert } from '../assert.ts'
import {
  type Found,
  type KeyRange,
  type Ledger,
  LedgerUnavailable,
  type Reader,
  type Revision,
  type Snapshot,
} from '../ledger/ledger.ts'

export class BoundedLedger implements Ledger {
  readonly full = false
  /** The last revision. A snapshot of a later revision moves the end. */
  end: number
  readonly #ledger: Ledger
  readonly #checks: ((reader: Reader) => Promise<void>)[] = []
  #moved = Promise.withResolvers<void>()

  constructor(ledger: Ledger, end: number) {
    this.end = end
    this.#ledger = ledger
  }

  async head(): Promise<number> {
    return this.end
  }

  read(key: string): Promise<Found> {
    return this.#ledger.read(key)
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    const aborted = Promise.withResolvers<void>()
    const abort = (): void => aborted.resolve()
    signal?.addEventListener('abort', abort)
    try {
      for (let last = after; !signal?.aborted; ) {
        if (last >= this.end) {
          await Promise.race([this.#moved.promise, aborted.promise])
          continue
        }
        for await (const revision of this.#ledger.follow(last, signal)) {
          assert(revision.revision <= this.end, 'the view ends at its last revision')
          yield revision
          last = revision.revision
          if (last >= this.end) break
        }
        if (last < this.end) return // the ledger is closed
      }
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  async snapshot(ranges: readonly KeyRange[], signal?: AbortSignal): Promise<Snapshot> {
    const taken = await this.#ledger.snapshot(ranges, signal)
    this.end = Math.max(this.end, taken.revision)
    this.#moved.resolve()
    this.#moved = Promise.withResolvers()
    return taken
  }

  /** Several followers may add their checks. */
  checkConnections(check: (reader: Reader) => Promise<void>): void {
    this.#checks.push(check)
    this.#ledger.checkConnections(async (reader) => {
      for (const each of this.#checks) await each(reader)
    })
  }

  get right(): boolean {
    return this.#ledger.right
  }

  commit(): Promise<never> {
    return Promise.reject(new LedgerUnavailable('closed', 'the ledger is only read here'))
  }

  health(): Promise<never> {
    return this.commit()
  }

  async close(): Promise<void> {}
}
