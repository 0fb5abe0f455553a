// Waits: sleeping, polling, retrying, and promises with a deadline. Milliseconds everywhere.
import { setTimeout as afterMs, setImmediate as afterTurn } from 'node:timers/promises'
import type { Deadline } from './clock.ts'

/** Resolves after `ms`, or as soon as the signal aborts. Never rejects. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await afterMs(ms, undefined, signal && { signal })
  } catch (error) {
    if (!signal?.aborted) throw error
  }
}

/** Resolves in the next turn of the event loop; sockets are read first. */
export function nextTurn(): Promise<void> {
  return afterTurn()
}

/**
 * Turns of the event loop for large work, a caller in each, owners in rotation: an owner with a hundred large
 * requests delays the others by a turn. Sockets are read in between.
 */
export class FairTurns {
  /** Callers that wait; the owner whose turn is next stands first. */
  readonly #waiting = new Map<string, (() => void)[]>()
  #running = false

  /** Resolves when it is the caller's turn. */
  next(owner: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const own = this.#waiting.get(owner)
    if (own) own.push(resolve)
    else this.#waiting.set(owner, [resolve])
    if (!this.#running) void this.#run()
    return promise
  }

  async #run(): Promise<void> {
    this.#running = true
    for (;;) {
      await nextTurn()
      const [first] = this.#waiting
      if (first === undefined) break
      const [owner, [wake, ...others]] = first
      this.#waiting.delete(owner)
      if (others.length > 0) this.#waiting.set(owner, others)
      wake()
    }
    this.#running = false
  }
}

type PollOptions = {
  /** The pause between two tries. */
  readonly every: number
  /** How long to go on. */
  readonly within: number
}

/** Polls `done` until the result is true. Returns false where the time has passed first. */
export async function until(
  done: () => boolean | Promise<boolean>,
  { every, within }: PollOptions,
): Promise<boolean> {
  const deadline = performance.now() + within
  while (!(await done())) {
    if (performance.now() > deadline) return false
    await sleep(every)
  }
  return true
}

type RetryOptions = {
  /** The pause between two tries. */
  readonly every: number
  /** Whether another try may help after the error. May throw another error instead. */
  readonly when: (error: unknown) => boolean
  /** How long to go on after the first failure; without end by default. */
  readonly within?: number
  /** Ends the retries: nothing more is tried, and the signal's reason is thrown. */
  readonly signal?: AbortSignal
  /** The monotonic clock for `within`. */
  readonly now?: () => number
}

/** Repeats `work` until a success. Throws the last error where `when` is false, or the time has passed. */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { every, when, within = Number.POSITIVE_INFINITY, signal, now = () => performance.now() } = options
  for (let deadline: number | undefined; ; ) {
    signal?.throwIfAborted()
    try {
      return await work()
    } catch (error) {
      deadline ??= now() + within
      if (!when(error) || now() > deadline) throw error
    }
    await sleep(every, signal)
  }
}

/** Waits for all, also behind a failure. Throws the first failure. */
export async function settled(promises: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason
  }
}

/** The promise, or the error of `late` when `ms` have passed. */
export async function withDeadline<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  const passed = Promise.withResolvers<never>()
  const timer = setTimeout(() => passed.reject(late()), ms)
  try {
    return await Promise.race([promise, passed.promise])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Callers that wait for an event, each up to its deadline. A promise for the event would keep every caller
 * that has given up until the event comes.
 */
export class Waiters {
  readonly #callers = new Set<() => void>()

  /** Resolves with the next `wake`. Throws the error of `late` when the deadline passes. */
  wait(deadline: Deadline, late: () => Error): Promise<void> {
    return new Promise((resolve, reject) => {
      const endWatch = deadline.onPass(() => {
        this.#callers.delete(wake)
        reject(late())
      })
      const wake = (): void => {
        endWatch()
        resolve()
      }
      this.#callers.add(wake)
    })
  }

  wake(): void {
    const callers = [...this.#callers]
    this.#callers.clear()
    for (const wake of callers) wake()
  }

  get count(): number {
    return this.#callers.size
  }
}

/** The promise, or the signal's reason when the signal aborts first. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const abort = (): void => aborted.reject(signal.reason)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort)
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
