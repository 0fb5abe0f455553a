// Callers waiting until a revision has been applied.
import { assert } from '../assert.ts'

type Waiter = {
  readonly revision: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class RevisionWaiters {
  #waiters: Waiter[] = []
  #applied = 0

  /**
   * Resolves when `wake` is called with the revision or a later revision. Throws the error of `rejectAll`.
   */
  wait(revision: number): Promise<void> {
    return new Promise((resolve, reject) => this.#waiters.push({ revision, resolve, reject }))
  }

  wake(applied: number): void {
    assert(applied >= this.#applied, 'the applied revision never goes back')
    this.#applied = applied
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) {
      if (waiter.revision <= applied) waiter.resolve()
      else this.#waiters.push(waiter)
    }
  }

  rejectAll(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }
}
