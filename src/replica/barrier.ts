// A barrier is shared by its callers. Callers that come while a barrier is in flight share the next barrier,
// never the barrier already sent: a barrier proves only writes acknowledged before its start. A caller whose
// deadline passes leaves; a barrier in flight ends with the last deadline of its callers.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import { CommitDelay } from '../commit-delay.ts'

type Caller = {
  readonly deadline: Deadline
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

type SharedBarrierOptions = {
  /** Passes a barrier; settles by the deadline. */
  readonly send: (deadline: Deadline) => Promise<void>
  /** The error of a caller whose deadline has passed. */
  readonly late: () => Error
  /** Milliseconds. */
  readonly now: () => number
}

export class SharedBarrier {
  readonly #options: SharedBarrierOptions
  #inFlight = false
  /** Callers of the next barrier. */
  readonly #asking = new Set<Caller>()
  readonly #delay = new CommitDelay(() => this.#sendNext())

  constructor(options: SharedBarrierOptions) {
    this.#options = options
  }

  /** Resolves when a barrier sent after the call has passed. Throws the errors of `send` and `late`. */
  pass(deadline: Deadline): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const endWatch = deadline.onPass(() => {
      this.#asking.delete(caller)
      reject(this.#options.late())
    })
    const caller: Caller = {
      deadline,
      resolve: () => {
        endWatch()
        resolve()
      },
      reject: (error) => {
        endWatch()
        reject(error)
      },
    }
    this.#asking.add(caller)
    this.#sendNext()
    return promise
  }

  #sendNext(): void {
    if (this.#inFlight || this.#asking.size === 0 || this.#delay.expectsMore(this.#asking.size)) return
    this.#delay.end()
    const callers = [...this.#asking]
    this.#asking.clear()
    const last = callers.reduce(
      (a, { deadline }) => (a.isBefore(deadline) ? deadline : a),
      callers[0].deadline,
    )
    const started = this.#options.now()
    this.#inFlight = true
    const ended = (answer: (caller: Caller) => void): void => {
      assert(this.#inFlight, 'barriers are sent one after the other')
      this.#inFlight = false
      for (const caller of callers) answer(caller)
      this.#delay.answered(callers.length, this.#asking.size, this.#options.now() - started)
      this.#sendNext()
    }
    this.#options.send(last).then(
      () => ended(({ resolve }) => resolve()),
      (error: Error) => ended(({ reject }) => reject(error)),
    )
  }

  /** Sends waiting callers at once: no more callers are expected. */
  close(): void {
    this.#delay.end()
    this.#sendNext()
  }
}
