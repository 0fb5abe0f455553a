// A barrier is shared by its callers. Callers that come while a barrier is in flight share the next barrier,
// never the barrier already sent: a barrier proves only writes acknowledged before its start.
import { assert } from '../assert.ts'
import { CommitDelay } from '../commit-delay.ts'

type Caller = { readonly resolve: () => void; readonly reject: (error: Error) => void }

export class SharedBarrier {
  readonly #send: () => Promise<void>
  readonly #now: () => number
  #inFlight = false
  /** Callers of the next barrier. */
  readonly #asking: Caller[] = []
  readonly #delay = new CommitDelay(() => this.#sendNext())

  /** `send` passes a barrier; `now` returns milliseconds. */
  constructor(send: () => Promise<void>, now: () => number) {
    this.#send = send
    this.#now = now
  }

  /** Resolves when a barrier sent after the call has passed. Throws the errors of `send`. */
  pass(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#asking.push({ resolve, reject })
    this.#sendNext()
    return promise
  }

  #sendNext(): void {
    if (this.#inFlight || this.#asking.length === 0 || this.#delay.expectsMore(this.#asking.length)) return
    this.#delay.end()
    const callers = this.#asking.splice(0)
    const started = this.#now()
    this.#inFlight = true
    const ended = (answer: (caller: Caller) => void): void => {
      assert(this.#inFlight, 'barriers are sent one after the other')
      this.#inFlight = false
      for (const caller of callers) answer(caller)
      this.#delay.answered(callers.length, this.#asking.length, this.#now() - started)
      this.#sendNext()
    }
    this.#send().then(
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
