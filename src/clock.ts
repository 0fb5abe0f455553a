// The seam for time and randomness: one object, handed in. No room of the server calls Date.now or randomBytes itself
// (test/tidy.test.ts lists the exceptions).
import { randomBytes } from 'node:crypto'

export type Clock = {
  /** Wall time, milliseconds since 1970. May jump. */
  now(): number
  /** Milliseconds that only ever grow, for measuring and for deadlines. */
  monotonic(): number
  /** `length` bytes from the system's secure generator. */
  random(length: number): Uint8Array
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  random: (length) => randomBytes(length),
}
