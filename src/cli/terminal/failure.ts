// The end of a command that fails: a message for a person, and an exit code.
import { AssertionError } from '../../assert.ts'
import { CofferError } from '../../client/error.ts'
import { errorCode, FAILED, FatalError, OperatorError } from '../../errors.ts'

/** The text to print for an error, and the exit code. An error in Coffer itself keeps its stack. */
export function explain(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof OperatorError) return { text: textOf(error), exitCode: error.exitCode }
  if (!(error instanceof Error)) return { text: `internal error: ${String(error)}`, exitCode: FAILED }
  if (isPlain(error)) return { text: error.message, exitCode: FAILED }
  return { text: `internal error: ${error.stack ?? error.message}`, exitCode: FAILED }
}

function textOf({ message, hint }: OperatorError): string {
  return hint === undefined ? message : `${message}: ${hint}`
}

/** Whether the message is enough without a stack: a node's answer, damaged data, an error of the system. */
function isPlain(error: Error): boolean {
  if (error instanceof AssertionError) return false
  if (error instanceof CofferError || error instanceof FatalError) return true
  return errorCode(error) !== undefined && 'syscall' in error
}
