// Asserts are for our own bugs, errors (errors.ts) for the world. A broken invariant ends the process.
import { FatalError } from './errors.ts'

/** Thrown when an invariant of ours does not hold. Nobody catches it: the process ends. */
export class AssertionError extends FatalError {
  override readonly name = 'AssertionError'
}

export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new AssertionError(`internal error: ${what}`)
}

/** For the branch that a complete switch never reaches. */
export function unreachable(value: never): never {
  throw new AssertionError(`internal error: unreachable, got ${typeof value}`)
}
