// Virtual time: the timers of Node, run by a seeded simulation on one thread instead of by the system's clock. Every
// timer belongs to the simulated process that has set the timer: a process that is paused gets its timers later, a dead
// one never.

import { AsyncLocalStorage } from 'node:async_hooks'
import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers/promises'

/** A simulated process, as far as time goes. */
export class SimProcess {
  readonly name: string
  alive = true
  /** The instant at which a paused process goes on. */
  pausedUntil = 0
  /** One after the other. */
  readonly #pauses: { readonly from: number; readonly until: number }[] = []
  /** Runs work as a part of the process: made once, since to enter a context anew costs more than most events. */
  readonly run: <T>(work: () => T) => T

  constructor(name: string) {
    this.name = name
    this.run = context.run(this, () => AsyncLocalStorage.snapshot())
  }

  pause(from: number, until: number): void {
    const begin = Math.max(from, this.#pauses.at(-1)?.until ?? 0)
    if (until > begin) this.#pauses.push({ from: begin, until })
    this.pausedUntil = Math.max(this.pausedUntil, until)
  }

  /** Milliseconds between two instants in which the process stood still. */
  stoodStill(from: number, to: number): number {
    return this.#pauses.reduce(
      (sum, pause) => sum + Math.max(0, Math.min(to, pause.until) - Math.max(from, pause.from)),
      0,
    )
  }
}

type Event = {
  at: number
  readonly order: number
  /** Undefined after a cancellation. */
  run: (() => void) | undefined
  readonly owner: SimProcess | undefined
  /** Whether the event only resolves a promise, whose waiters run as a part of their own process anyway. */
  readonly resolves: boolean
}

const context = new AsyncLocalStorage<SimProcess | undefined>()
const outside = context.run(undefined, () => AsyncLocalStorage.snapshot())
const settled = Promise.resolve()
const afterSystemTurn = setImmediate
/** Events between two turns of the system's event loop. */
const EVENTS_A_TURN = 1000

/** Runs `work` as a part of the process: so are all timers and promises that come of the work. */
export function within<T>(process: SimProcess | undefined, work: () => T): T {
  return process ? process.run(work) : outside(work)
}

export class VirtualTime {
  /** Milliseconds since the begin of the simulation. */
  now = 0
  /** Events that were run. */
  events = 0
  readonly #heap: Event[] = []
  #order = 0

  /** Runs `run` after `ms` milliseconds, as a part of `owner`. */
  after(ms: number, run: () => void, owner: SimProcess | undefined): Event {
    return this.#push({ at: this.now + Math.max(0, ms), order: this.#order++, run, owner, resolves: false })
  }

  /** Takes an event back. */
  cancel(event: Event): void {
    event.run = undefined
  }

  /** Resolves after `ms` milliseconds, as a part of the calling process. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const owner = context.getStore()
      this.#push({ at: this.now + ms, order: this.#order++, run: resolve, owner, resolves: true })
    })
  }

  /** Runs events until `done`. Throws where nothing is left to do, or the instant `limit` comes first. */
  async until(done: () => boolean, limit: number): Promise<void> {
    const end = Promise.withResolvers<void>()
    const step = (): void => {
      try {
        if (done()) {
          end.resolve()
          return
        }
        const event = this.#next()
        if (!event || event.at > limit) throw new Error(`not done by the instant ${Math.round(limit)} ms`)
        this.now = event.at
        this.events++
        const { run, owner } = event
        if (run && event.resolves) run()
        else if (run) within(owner, run)
      } catch (error) {
        end.reject(error)
        return
      }
      // The promises of an event are settled before the next event: a tick comes after all of the promises.
      if (this.events % EVENTS_A_TURN === 0) afterSystemTurn(step)
      else void settled.then(afterPromises)
    }
    const afterPromises = (): void => process.nextTick(step)
    outside(() => afterSystemTurn(step))
    await end.promise
  }

  /** The next event of a living process that is not paused. */
  #next(): Event | undefined {
    for (;;) {
      const event = this.#pop()
      if (!event) return undefined
      const { owner } = event
      if (!event.run || owner?.alive === false) continue
      if (!owner || owner.pausedUntil <= event.at) return event
      event.at = owner.pausedUntil
      this.#push(event)
    }
  }

  /** Takes the place of the system's timers and monotonic clock. Returns the function that puts all of it back. */
  install(): () => void {
    const saved = { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate }
    const savedPromises = { setTimeout: timers.setTimeout, setImmediate: timers.setImmediate }
    const savedNow = performance.now
    const set = (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]): unknown =>
      this.after(ms, () => run(...args), context.getStore())
    const clear = (event: Event | undefined): void => {
      if (event) event.run = undefined
    }
    const setSoon = (run: (...args: unknown[]) => void, ...args: unknown[]): unknown => set(run, 0, ...args)
    Object.assign(globalThis, {
      setTimeout: set,
      clearTimeout: clear,
      setImmediate: setSoon,
      clearImmediate: clear,
    })
    const sleepUnlessAborted = (
      ms = 0,
      value?: unknown,
      { signal }: { signal?: AbortSignal } = {},
    ): Promise<unknown> =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        const abort = (): void => {
          clear(event)
          reject(signal?.reason)
        }
        const event = this.after(
          ms,
          () => {
            signal?.removeEventListener('abort', abort)
            resolve(value)
          },
          context.getStore(),
        )
        signal?.addEventListener('abort', abort, { once: true })
      })
    Object.assign(timers, { setTimeout: sleepUnlessAborted, setImmediate: () => this.sleep(0) })
    syncBuiltinESMExports()
    performance.now = () => this.now
    return () => {
      Object.assign(globalThis, saved)
      Object.assign(timers, savedPromises)
      syncBuiltinESMExports()
      performance.now = savedNow
    }
  }

  #push(event: Event): Event {
    const heap = this.#heap
    let at = heap.push(event) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (isBefore(heap[parent], event)) break
      heap[at] = heap[parent]
      at = parent
    }
    heap[at] = event
    return event
  }

  #pop(): Event | undefined {
    const heap = this.#heap
    const [first] = heap
    const last = heap.pop()
    if (!last || heap.length === 0) return last
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++
      if (isBefore(last, heap[child])) break
      heap[at] = heap[child]
      at = child
    }
    heap[at] = last
    return first
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
