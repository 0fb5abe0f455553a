// Changes of files by commands: one command at a time, on the content that is there then.
import { realpathSync } from 'node:fs'
import { type Lock, lockFile } from '../../node/lock.ts'

/** How long another command that changes the same file is waited for. */
const WAIT_MS = 10_000

/**
 * Runs `work` with all files locked; `work` reads the files again. The files exist; symbolic links count as
 * their targets. Throws InUse, OperatorError, errors of `work`.
 */
export async function whileLocked<T>(paths: readonly string[], work: () => T | Promise<T>): Promise<T> {
  const locks: Lock[] = []
  try {
    // In one order for all commands: two commands never wait for each other.
    for (const path of [...new Set(paths.map((each) => realpathSync(each)))].sort())
      locks.push(lockFile(path, WAIT_MS))
    return await work()
  } finally {
    for (const lock of locks.reverse()) lock.release()
  }
}
