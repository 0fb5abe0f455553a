// Barriers are shared: those who ask while one is on its way have the next one in common, never one that has
// been sent.
import { CommitDelay } from '../commit-delay.ts'

type Caller = { readonly resolve: () => void; readonly reject: (error: Error) => void }

export class SharedBarrier {
  readonly #send: () => Promise<void>
  readonly #now: () => number
  #sent = false
  /** For the next one. */
  readonly #asking: Caller[] = []
  readonly #delay = new CommitDelay(() => this.#sendNext())

  /** `send` passes one barrier; `now` is in milliseconds. */
  constructor(send: () => Promise<void>, now: () => number) {
    this.#send = send
    this.#now = now
  }

  /** Resolves when a barrier that was sent after this call has been passed. Throws what `send` throws. */
  pass(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#asking.push({ resolve, reject })
    this.#sendNext()
    return promise
  }

  #sendNext(): void {
    if (this.#sent || this.#asking.length === 0 || this.#delay.expectsMore(this.#asking.length)) return
    this.#delay.end()
    const callers = this.#asking.splice(0)
    const started = this.#now()
    this.#sent = true
    const ended = (answer: (caller: Caller) => void): void => {
      this.#sent = false
      for (const caller of callers) answer(caller)
      this.#delay.answered(callers.length, this.#asking.length, this.#now() - started)
      this.#sendNext()
    }
    this.#send().then(
      () => ended(({ resolve }) => resolve()),
      (error: Error) => ended(({ reject }) => reject(error)),
    )
  }

  /** Nobody else is waited for. */
  close(): void {
    this.#delay.end()
    this.#sendNext()
  }
}
