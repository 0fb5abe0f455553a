// Time and randomness: an object that is handed in, so that tests can replace both. No room of the server
// calls Date.now or randomBytes itself (test/tidy.test.ts lists the exceptions).
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
