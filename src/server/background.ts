// The work of a node that nobody waits for: one task at a time, and a newer task supersedes the older.
import { assert } from '../assert.ts'
import { unlessAborted } from '../waiting.ts'

/** Called with an error of a task that was not superseded. */
type OnError = (error: unknown) => void

export class Background {
  readonly #onError: OnError
  #superseded = new AbortController()
  #done: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(onError: OnError) {
    this.#onError = onError
  }

  /** Ends the task in progress, and runs `work`, which ends early once `signal` aborts. */
  run(work: (signal: AbortSignal) => Promise<void>): void {
    assert(!this.#closed, 'a node that has stopped begins no task')
    this.#superseded.abort()
    const { signal } = (this.#superseded = new AbortController())
    const task = unlessAborted(work(signal), signal).catch((error: unknown) => {
      if (!signal.aborted) this.#onError(error)
    })
    this.#done = Promise.all([this.#done, task])
  }

  /** Ends the task in progress. */
  async close(): Promise<void> {
    this.#closed = true
    this.#superseded.abort()
    await this.#done
  }
}
