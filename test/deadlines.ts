// Deadlines for tests: as long as a request has, where a test says no other time.
import { type Clock, Deadline, systemClock } from '../src/clock.ts'

const REQUEST_MS = 4500

export function soon(ms = REQUEST_MS, clock: Clock = systemClock): Deadline {
  return new Deadline(clock, ms)
}

/** A request of the owner. */
export function by(
  owner: string,
  clock: Clock = systemClock,
): { readonly owner: string; readonly deadline: Deadline } {
  return { owner, deadline: soon(REQUEST_MS, clock) }
}
