// How a command ends when it does not succeed: a message for a person, and an exit code.

export const FAILED = 1
export const USED_WRONGLY = 2

/**
 * A command that failed (1) or was used wrongly (2). The message says what was wrong, where, and what to do.
 */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly exitCode: number

  constructor(message: string, exitCode: number = FAILED) {
    super(message)
    this.exitCode = exitCode
  }
}

/** Errors that are written for a person: they are told without a stack. */
const PLAIN: ReadonlySet<string> = new Set([
  'ConfigError',
  'StartError',
  'InUse',
  'PrivateFileError',
  'KeyringError',
  'CofferError',
  'DamagedLedger',
  'DamagedReplica',
  'CorruptEntry',
  'LedgerUnavailable',
  'NoEtcd',
  'MembershipError',
  'BackupError',
  'DamagedBackup',
])

/** What to print of an error, and the exit code. A fault of ours keeps its stack. */
export function explain(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof Failure) return { text: error.message, exitCode: error.exitCode }
  if (!(error instanceof Error)) return { text: `internal error: ${String(error)}`, exitCode: FAILED }
  // By name, since the classes live in rooms that a client's command need not load.
  if (PLAIN.has(error.name)) return { text: error.message, exitCode: FAILED }
  // An error of the system, as `EACCES: permission denied, open '…'`.
  if ('code' in error && 'syscall' in error) return { text: error.message, exitCode: FAILED }
  return { text: `internal error: ${error.stack ?? error.message}`, exitCode: FAILED }
}
