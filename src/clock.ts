// Time and randomness: an object that is handed in, so that tests can replace both. Deadlines.
// No room of the server calls Date.now or randomBytes itself (test/tidy.test.ts lists the exceptions).
import { randomFillSync } from 'node:crypto'

export type Clock = {
  /** Wall time, milliseconds since 1970. May jump. */
  now(): number
  /** Milliseconds, never decreasing, for durations and deadlines. */
  monotonic(): number
  /** `length` bytes from the system's secure generator. */
  random(length: number): Uint8Array
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  random: (length) => fresh(length),
}

/** The longest delay of a timer of Node. */
const TIMER_MS = 2 ** 31 - 1

/**
 * An instant of the monotonic clock by which a request is answered, or a step in the background ends. Handed
 * down from the edge to the ledger: all steps of a request draw on one deadline. One timer serves all waits,
 * and runs only while something waits.
 */
export class Deadline {
  /** For waits that end otherwise. */
  static readonly never = new Deadline({ monotonic: () => 0 }, Number.POSITIVE_INFINITY)

  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #at: number
  readonly #mayExtend: () => boolean
  readonly #listeners = new Set<() => void>()
  #timer: NodeJS.Timeout | undefined

  /** `ms` milliseconds from now. `mayExtend` is asked by `atLeast`. */
  constructor(clock: Pick<Clock, 'monotonic'>, ms: number, mayExtend = (): boolean => true) {
    this.#clock = clock
    this.#at = clock.monotonic() + ms
    this.#mayExtend = mayExtend
  }

  /** Milliseconds up to the deadline; 0 where the deadline has passed. */
  left(): number {
    return Math.max(0, this.#at - this.#clock.monotonic())
  }

  get passed(): boolean {
    return this.left() === 0
  }

  /** This deadline; a later deadline where fewer than `ms` milliseconds are left and `mayExtend` allows. */
  atLeast(ms: number): Deadline {
    return this.left() >= ms || !this.#mayExtend() ? this : new Deadline(this.#clock, ms, this.#mayExtend)
  }

  /** Of deadlines by the same clock. */
  isBefore(other: Deadline): boolean {
    return this.#at < other.#at
  }

  /** Calls `listener` once the deadline has passed. Returns the function that takes the listener back. */
  onPass(listener: () => void): () => void {
    const left = this.left()
    if (left === Number.POSITIVE_INFINITY) return () => undefined
    const own = (): void => listener() // a listener may be given twice
    this.#listeners.add(own)
    this.#timer ??= setTimeout(() => this.#ring(), Math.min(TIMER_MS, Math.ceil(left)))
    return () => {
      this.#listeners.delete(own)
      if (this.#listeners.size > 0) return
      clearTimeout(this.#timer)
      this.#timer = undefined
    }
  }

  /** A timer may be early by a part of a millisecond. */
  #ring(): void {
    const left = this.left()
    this.#timer = left > 0 ? setTimeout(() => this.#ring(), Math.min(TIMER_MS, Math.ceil(left))) : undefined
    if (left > 0) return
    const listeners = [...this.#listeners]
    this.#listeners.clear()
    for (const listener of listeners) listener()
  }

  /**
   * The promise, or the error of `late` once the deadline has passed. Only for waits that leave no work in a
   * queue.
   */
  async race<T>(promise: Promise<T>, late: () => Error): Promise<T> {
    const passed = Promise.withResolvers<never>()
    const end = this.onPass(() => passed.reject(late()))
    try {
      return await Promise.race([promise, passed.promise])
    } finally {
      end()
    }
  }
}

/** `bytes` random bytes as hexadecimal digits. */
export function randomHex(clock: Clock, bytes: number): string {
  return Buffer.from(clock.random(bytes)).toString('hex')
}

/**
 * The system takes as long for a few bytes as for some thousand. Bytes that are handed out are erased here.
 */
const POOL_BYTES = 4096
const pool = new Uint8Array(POOL_BYTES)
let used = POOL_BYTES

function fresh(length: number): Uint8Array {
  if (length > POOL_BYTES) return randomFillSync(new Uint8Array(length))
  if (used + length > POOL_BYTES) {
    randomFillSync(pool)
    used = 0
  }
  const bytes = pool.slice(used, used + length)
  pool.fill(0, used, used + length)
  used += length
  return bytes
}
