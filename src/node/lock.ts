// One process per data directory. SQLite's file lock is a lock of the kernel: the lock ends with the process,
// however the process ends, needs no clean-up, and holds between containers that share the disk. A pid file
// does none of that.
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { OperatorError } from '../errors.ts'

/** Another process has the data directory. */
export class InUse extends OperatorError {
  override readonly name = 'InUse'
}

/**
 * Locks the directory until `release` or the end of the process. Throws InUse after `waitMs`: a command that
 * asks whether a node runs holds the lock for a moment, too.
 */
export function lockDirectory(dir: string, waitMs = 0): { release(): void } {
  const file = new DatabaseSync(join(dir, 'lock'), { timeout: waitMs })
  try {
    file.exec('PRAGMA journal_mode = MEMORY; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (error) {
    file.close()
    if (error instanceof Error && /locked/.test(error.message))
      throw new InUse(`${dir} is in use by another process`)
    throw error
  }
  return { release: () => file.close() }
}
