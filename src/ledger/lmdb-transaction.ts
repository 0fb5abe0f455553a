// How lmdb tells that a transaction failed, turned into one rejection.
//
// All writes of one turn of the event loop are one transaction. When it fails, each of their promises is rejected
// with the same text, the cause hides in one more rejected promise, and lmdb leaves a rejected promise of its own
// behind that nobody can reach: that one the process has to expect (`isStrayRejection`). Its asynchronous `transaction()`
// never answers after a failed one (seen with 3.5.6 on a full disk), so it is no way out.

const STRAY = 'Commit failed (see commitError for details)'

/** Waits for all writes of one transaction; throws the cause where it failed. */
export async function committed(puts: readonly Promise<boolean>[]): Promise<void> {
  const all = await Promise.allSettled(puts)
  const failed = all.find((result) => result.status === 'rejected')
  if (!failed) return
  const reason: unknown = failed.reason
  if (reason instanceof Error && 'commitError' in reason) {
    throw await Promise.resolve(reason.commitError).catch((cause: unknown) => cause)
  }
  throw reason
}

/** True for the unhandled rejection that lmdb leaves behind a failed write, whose promise has told it already. */
export function isStrayRejection(reason: unknown): boolean {
  return (
    reason instanceof Error &&
    (reason.message === STRAY || /^(Input\/output error|No space left)/.test(reason.message))
  )
}
