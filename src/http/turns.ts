// Turns of the event loop for work on large bodies.

import { LARGE_BYTES } from '../json/scan-thread.ts'
import { FairTurns } from '../waiting.ts'

/**
 * Runs the work on large bodies one after another, owners in rotation, with a turn of the event loop before
 * each.
 */
export class Turns {
  readonly #turns = new FairTurns()

  next(owner: string): Promise<void> {
    return this.#turns.next(owner)
  }

  async take<T>(
    { owner, bytes }: { readonly owner: string; readonly bytes: number },
    work: () => T,
  ): Promise<T> {
    if (bytes >= LARGE_BYTES) await this.#turns.next(owner)
    return work()
  }
}
