// The problems that callers get for errors of the ledger.
import { Problem } from '../errors.ts'
import { LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'

/** The problem for the caller; undefined where the error is an internal fault, to be logged. */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error
  if (error instanceof UnknownOutcome)
    return new Problem('no-quorum', 'the outcome is unknown', { outcome: 'unknown' })
  if (!(error instanceof LedgerUnavailable)) return undefined
  if (error.reason === 'closed') return new Problem('stopping', 'the node is stopping')
  if (error.reason === 'no-quorum') return new Problem('no-quorum', error.message, { outcome: 'not-applied' })
  return new Problem(error.reason, error.message)
}
