// Asserts are for our own bugs, errors (errors.ts) for the world. A broken invariant ends the process.
import { FatalError } from './errors.ts'

/** An invariant of ours does not hold. Nobody catches this error: the process ends. */
export class AssertionError extends FatalError {
  override readonly name = 'AssertionError'
}

/** `invariant` is the sentence that must be true. Throws AssertionError. */
export function assert(condition: unknown, invariant: string): asserts condition {
  if (!condition) throw new AssertionError(`internal error: ${invariant}`)
}

/** For the default branch of a complete switch. Throws AssertionError. */
export function unreachable(value: never): never {
  throw new AssertionError(`internal error: unreachable, got ${typeof value}`)
}
