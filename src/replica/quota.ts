// Stored bytes of owners against their quotas: bytes applied here, and bytes on the way from here to the
// ledger. Nodes do not ask each other: several nodes together may pass a quota by the bytes on their way.
import { assert } from '../assert.ts'
import { Deadline } from '../clock.ts'
import { Problem } from '../errors.ts'
import type { CommitResult } from '../ledger/ledger.ts'

type QuotasOptions = {
  /** Bytes of the owner's live entries, as applied here. */
  readonly applied: (owner: string) => number
  /** Most bytes of the owner; undefined: any number. */
  readonly quotaOf: (owner: string) => number | undefined
  /** As `Replica.waitApplied`. */
  readonly waitApplied: (revision: number, deadline: Deadline) => Promise<void>
}

export class Quotas {
  readonly #options: QuotasOptions
  /** Bytes sent or about to be sent, and not applied here; 0 is left out. */
  readonly #onItsWay = new Map<string, number>()

  constructor(options: QuotasOptions) {
    this.#options = options
  }

  /** Bytes of the owner: applied here, or on their way from here. */
  used(owner: string): number {
    return this.#options.applied(owner) + (this.#onItsWay.get(owner) ?? 0)
  }

  /**
   * Whether the owner may store as many bytes more. Before a refusal a caller passes a barrier and asks
   * again: the replica may lack an earlier success of the same request, or the removal of receipts.
   */
  fits(owner: string, bytes: number): boolean {
    const quota = this.#options.quotaOf(owner)
    return quota === undefined || this.used(owner) + bytes <= quota
  }

  /** The refusal of a request. */
  exceeded(owner: string): Problem {
    const [quota, used] = [this.#options.quotaOf(owner), this.used(owner)]
    const stored = `${used} of ${quota} bytes of the owner's quota are used, and the request needs more`
    return new Problem('quota-exceeded', `${stored}: ask the operator for a larger quota`, { quota, used })
  }

  /** Counts bytes as on their way, until `free` is called. */
  add(owner: string, bytes: number): void {
    this.#onItsWay.set(owner, (this.#onItsWay.get(owner) ?? 0) + bytes)
  }

  free(owner: string, bytes: number): void {
    const left = (this.#onItsWay.get(owner) ?? 0) - bytes
    assert(left >= 0, 'bytes on their way are freed once')
    if (left === 0) this.#onItsWay.delete(owner)
    else this.#onItsWay.set(owner, left)
  }

  /** Frees the bytes of an accepted commit once its revision has been applied here. */
  freeApplied(owner: string, bytes: number, revision: number): void {
    this.#options.waitApplied(revision, Deadline.never).then(
      () => this.free(owner, bytes),
      () => undefined, // the replica is closed, and there are no more commits
    )
  }

  /**
   * Counts the bytes of a commit as on their way, until the commit is applied here or has failed. A failure
   * with an unknown outcome frees the bytes, too: bytes applied after all count again.
   */
  async during(owner: string, bytes: number, commit: () => Promise<CommitResult>): Promise<CommitResult> {
    this.add(owner, bytes)
    let revision = 0
    try {
      const result = await commit()
      if (result.ok) revision = result.revision
      return result
    } finally {
      if (revision > 0) this.freeApplied(owner, bytes, revision)
      else this.free(owner, bytes)
    }
  }
}
