// Locks between processes: one process per data directory, and one command at a time for a file. SQLite's
// file lock is a lock of the kernel: the lock ends with the process, however the process ends, needs no
// clean-up, and holds between containers that share the disk. A pid file does none of that.
import { closeSync, fchownSync, openSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { errorCode, OperatorError } from '../errors.ts'

/** Another process has the data directory, or changes the file. */
export class InUse extends OperatorError {
  override readonly name = 'InUse'
}

/** Ends, too, when nobody refers to the lock any more. */
export type Lock = { release(): void }

/**
 * Locks the directory until `release` or the end of the process. Throws InUse after `waitMs`: a command that
 * asks whether a node runs holds the lock for a moment, too.
 */
export function lockDirectory(dir: string, waitMs = 0): Lock {
  const lock = take(join(dir, 'lock'), waitMs)
  if (!lock) throw new InUse(`${dir} is in use by another process`)
  return lock
}

/**
 * Locks a file that is about to be changed, until `release` or the end of the process. The lock is the file
 * `.NAME.lock` beside, because the file itself is replaced. Throws InUse after `waitMs`, OperatorError where
 * the directory takes no file.
 */
export function lockFile(path: string, waitMs: number): Lock {
  const beside = join(dirname(path), `.${basename(path)}.lock`)
  try {
    createLike(path, beside)
  } catch (error) {
    throw new OperatorError(`${path} cannot be changed: ${beside} cannot be opened (${errorCode(error)})`, {
      hint: 'run the command as the owner of the file and of its directory',
    })
  }
  const lock = take(beside, waitMs)
  if (!lock)
    throw new InUse(`${path} is being changed by another command`, {
      hint: 'let that command end (or end it), and repeat this one',
    })
  return lock
}

/** A command run by root must not leave a lock that the owner of the file cannot open. */
function createLike(path: string, lock: string): void {
  const { uid, gid } = statSync(path)
  const file = openSync(lock, 'a', 0o600)
  try {
    if (process.getuid?.() === 0) fchownSync(file, uid, gid)
  } finally {
    closeSync(file)
  }
}

/**
 * undefined: another process has the lock after `waitMs`. Without SQLite's exclusive locking mode, in which
 * two processes that wait keep shared locks, and wait for each other.
 */
function take(path: string, waitMs: number): Lock | undefined {
  const file = openDatabase(path, waitMs)
  try {
    file.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (error) {
    file.close()
    if (error instanceof Error && /locked/.test(error.message)) return undefined
    throw cannotLock(path, error)
  }
  return { release: () => file.close() }
}

function openDatabase(path: string, waitMs: number): DatabaseSync {
  try {
    return new DatabaseSync(path, { timeout: waitMs })
  } catch (error) {
    throw cannotLock(path, error)
  }
}

/** SQLite's messages name no path, and no reason of the system. */
function cannotLock(path: string, error: unknown): OperatorError {
  let reason = error instanceof Error ? error.message : String(error)
  try {
    closeSync(openSync(path, 'a+', 0o600))
  } catch (opening) {
    reason = errorCode(opening) ?? reason
  }
  return new OperatorError(`${path} cannot be locked (${reason})`, {
    cause: error,
    hint: `let the user of the process own ${dirname(path)} and all files in it`,
  })
}
