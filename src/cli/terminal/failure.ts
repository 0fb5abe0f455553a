// The end of a command that fails: a message for a person, and an exit code.
import { getSystemErrorMessage } from 'node:util'
import { AssertionError } from '../../assert.ts'
import { CofferError } from '../../client/error.ts'
import { errorCode, FAILED, FatalError, OperatorError } from '../../errors.ts'

/** The text to print for an error, and the exit code. An error in Coffer itself keeps its stack. */
export function explain(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof OperatorError) return { text: textOf(error), exitCode: error.exitCode }
  if (!(error instanceof Error)) return { text: `internal error: ${String(error)}`, exitCode: FAILED }
  if (isOfSystem(error)) return { text: systemText(error), exitCode: FAILED }
  if (isPlain(error)) return { text: error.message, exitCode: FAILED }
  return { text: `internal error: ${error.stack ?? error.message}`, exitCode: FAILED }
}

function textOf({ message, hint }: OperatorError): string {
  return hint === undefined ? message : `${message}: ${hint}`
}

/** Whether the message is enough without a stack: a node's answer, damaged data. */
function isPlain(error: Error): boolean {
  if (error instanceof AssertionError) return false
  return error instanceof CofferError || error instanceof FatalError
}

function isOfSystem(error: Error): error is NodeJS.ErrnoException {
  return errorCode(error) !== undefined && 'syscall' in error
}

/** The path where one is known, the reason and the next step. */
function systemText({ path, errno, code = '', message }: NodeJS.ErrnoException): string {
  if (errno === undefined) return message
  const hint = Object.hasOwn(NEXT_STEPS, code) ? `: ${NEXT_STEPS[code]}` : ''
  const place = path === undefined ? '' : `${path}: `
  return `${place}${getSystemErrorMessage(errno)} (${code})${hint}`
}

const NEXT_STEPS: Readonly<Record<string, string>> = {
  ENOENT: 'correct the path',
  ENOTDIR: 'correct the path',
  EISDIR: 'name a file',
  EEXIST: 'name another path',
  EACCES: 'run the command as the owner of the file, or as root',
  EPERM: 'run the command as the owner of the file, or as root',
  EROFS: 'name a path on a disk that can be written',
  ENOSPC: 'make room on the disk',
}
