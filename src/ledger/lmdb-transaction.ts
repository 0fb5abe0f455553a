// The failure of an lmdb transaction, turned into one rejection.
//
// All writes of one turn of the event loop are one transaction. When a transaction fails, lmdb rejects the
// promise of each write with the same text, hides the cause in one more rejected promise, and leaves a
// rejected promise behind without a reference: the process must ignore the last (`isStrayRejection`). lmdb's
// asynchronous `transaction()` never resolves after a failed transaction (seen with 3.5.6 on a full disk),
// and so is not used.

const STRAY = 'Commit failed (see commitError for details)'

/** Waits for all writes of one transaction. Throws the cause where the transaction failed. */
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

/**
 * Whether `reason` is the unhandled rejection of lmdb after a failed write; the write's own promise was
 * rejected, too.
 */
export function isStrayRejection(reason: unknown): boolean {
  return (
    reason instanceof Error &&
    (reason.message === STRAY || /^(Input\/output error|No space left)/.test(reason.message))
  )
}
