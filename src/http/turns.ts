// Turns of the event loop for work on large bodies.
import type { Deadline } from '../clock.ts'
import { timePassed } from '../errors.ts'
import { LARGE_BYTES } from '../json/scan-thread.ts'
import { nextTurn } from '../waiting.ts'

/** Runs the work on large bodies one after another, with a turn of the event loop before each. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()

  /** Throws Problem no-quorum where the deadline passes before the turn comes: then `work` does not run. */
  take<T>(bytes: number, deadline: Deadline, work: () => T): Promise<T> {
    if (bytes < LARGE_BYTES) return Promise.resolve().then(work)
    const turn = this.#last.then(nextTurn).then(() => {
      if (deadline.passed) throw timePassed()
      return work()
    })
    this.#last = turn.catch(() => undefined)
    return deadline.race(turn, timePassed)
  }
}
