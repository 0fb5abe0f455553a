// Updates of one secret at the node go one after the other: each begins at the version before.
import type { Deadline } from '../clock.ts'
import { LedgerUnavailable } from '../replica/replica.ts'

export class UpdateTurns {
  /** Resolves when the last update of the secret has ended, and all before. */
  readonly #last = new Map<string, Promise<void>>()

  /**
   * Runs `work` when all earlier updates under the key have ended. Throws LedgerUnavailable where the
   * deadline passes before: then `work` does not run, and later updates do not wait for this one.
   */
  async take<T>(key: string, deadline: Deadline, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key)
    const own = Promise.withResolvers<void>()
    const last = Promise.all([before, own.promise]).then(() => {
      if (this.#last.get(key) === last) this.#last.delete(key)
    })
    this.#last.set(key, last)
    try {
      if (before !== undefined) await deadline.race(before, noTurn)
      return await work()
    } finally {
      own.resolve()
    }
  }
}

function noTurn(): LedgerUnavailable {
  return new LedgerUnavailable('no-quorum', 'earlier updates of the secret get no answer')
}
