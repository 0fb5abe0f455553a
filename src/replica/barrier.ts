// Barriers are shared: those who ask while one is on its way have the next one in common, never one that has been sent.
// Callers that have just been answered are soon followed by more of the same: where a barrier takes long, one for all of
// them costs less than one for each that comes first.

/** The next one waits for as many callers as were seen: as long as the last one took, and not for less than a timer can. */
const GATHER_MS = { least: 2, most: 10 }

type Caller = { readonly resolve: () => void; readonly reject: (error: Error) => void }

export class SharedBarrier {
  readonly #send: () => Promise<void>
  readonly #now: () => number
  #sent = false
  /** For the next one. */
  #asking: Caller[] = []
  /** The next one is put off until so many ask for it, or the timer ends. */
  #gathering: { readonly callers: number; readonly timer: NodeJS.Timeout } | undefined

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
    if (this.#sent || this.#asking.length === 0) return
    if (this.#asking.length < (this.#gathering?.callers ?? 0)) return
    this.#gathered()
    const callers = this.#asking.splice(0)
    const started = this.#now()
    this.#sent = true
    const ended = (answer: (caller: Caller) => void): void => {
      this.#sent = false
      for (const caller of callers) answer(caller)
      this.#gather(callers.length, this.#now() - started)
      this.#sendNext()
    }
    this.#send().then(
      () => ended(({ resolve }) => resolve()),
      (error: Error) => ended(({ reject }) => reject(error)),
    )
  }

  #gather(answered: number, took: number): void {
    const callers = answered + this.#asking.length
    if (took < GATHER_MS.least || callers < 2) return
    const timer = setTimeout(() => this.close(), Math.min(GATHER_MS.most, took))
    this.#gathering = { callers, timer }
  }

  #gathered(): void {
    clearTimeout(this.#gathering?.timer)
    this.#gathering = undefined
  }

  /** Nobody else is waited for. */
  close(): void {
    this.#gathered()
    this.#sendNext()
  }
}
