// Callers waiting until a revision has been applied.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'

type Waiter = {
  readonly revision: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
  readonly endWatch: () => void
}

export class RevisionWaiters {
  #waiters: Waiter[] = []
  #applied = 0

  /**
   * Resolves when `wake` is called with the revision or a later revision. Throws the error of `late` when the
   * deadline passes, and the error of `rejectAll`.
   */
  wait(revision: number, deadline: Deadline, late: () => Error): Promise<void> {
    return new Promise((resolve, reject) => {
      const endWatch = deadline.onPass(() => {
        this.#waiters = this.#waiters.filter((each) => each !== waiter)
        reject(late())
      })
      const waiter = { revision, resolve, reject, endWatch }
      this.#waiters.push(waiter)
    })
  }

  wake(applied: number): void {
    assert(applied >= this.#applied, 'the applied revision never goes back')
    this.#applied = applied
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) {
      if (waiter.revision > applied) this.#waiters.push(waiter)
      else {
        waiter.endWatch()
        waiter.resolve()
      }
    }
  }

  rejectAll(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) {
      waiter.endWatch()
      waiter.reject(error)
    }
  }
}
