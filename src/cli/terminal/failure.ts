// How a command ends when it does not succeed: a message for a person, and an exit code.
import { AssertionError } from '../../assert.ts'
import { CofferError } from '../../client/error.ts'
import { errorCode, FAILED, FatalError, OperatorError } from '../../errors.ts'

/** What to print of an error, and the exit code. A fault of ours keeps its stack. */
export function explain(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof OperatorError) return { text: textOf(error), exitCode: error.exitCode }
  if (!(error instanceof Error)) return { text: `internal error: ${String(error)}`, exitCode: FAILED }
  if (isPlain(error)) return { text: error.message, exitCode: FAILED }
  return { text: `internal error: ${error.stack ?? error.message}`, exitCode: FAILED }
}

function textOf({ message, hint }: OperatorError): string {
  return hint === undefined ? message : `${message}: ${hint}`
}

/** Whether the message says all: an answer of a node, damaged data, an error of the system (`EACCES: …, open '…'`). */
function isPlain(error: Error): boolean {
  if (error instanceof AssertionError) return false
  if (error instanceof CofferError || error instanceof FatalError) return true
  return errorCode(error) !== undefined && 'syscall' in error
}
