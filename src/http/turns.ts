// Turns of the event loop for work on large bodies.

import { LARGE_BYTES } from '../json/scan-thread.ts'
import { nextTurn } from '../waiting.ts'

/** Runs the work on large bodies one after another, with a turn of the event loop before each. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()

  take<T>(bytes: number, work: () => T): Promise<T> {
    if (bytes < LARGE_BYTES) return Promise.resolve().then(work)
    const turn = this.#last.then(nextTurn).then(work)
    this.#last = turn.catch(() => undefined)
    return turn
  }
}
