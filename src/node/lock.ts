// One process per data directory. SQLite's file lock is a lock of the kernel: it ends with its process, whatever ends
// that, needs no clean-up, and holds between containers that share the disk. A pid file does none of these.
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { OperatorError } from '../errors.ts'

/** Another process has the data directory. */
export class InUse extends OperatorError {
  override readonly name = 'InUse'
}

/**
 * Throws InUse, after `waitMs`: whoever only looks whether a node runs holds the lock for a moment too. It is held until
 * `release` or the end of the process.
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
