// Reading a file with keys: refused when others can read it.
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { fillReserve, withReserve } from '../descriptors.ts'
import { errorCode, OperatorError } from '../errors.ts'

/** The file cannot be used; the message says what to do. */
class PrivateFileError extends OperatorError {
  override readonly name = 'PrivateFileError'
}

/**
 * Throws PrivateFileError where the file is missing, or group or others have any right on the file. Only of a
 * file of root the group may read: Kubernetes gives secrets to processes in such files (0440, fsGroup).
 */
export function readPrivateFile(path: string): string {
  try {
    return withReserve(() => readChecked(path))
  } catch (error) {
    const code = errorCode(error)
    if (code === undefined) throw error
    if (code === 'ENOENT')
      throw new PrivateFileError(`${path} is missing: restore it from where it is kept safe`)
    throw new PrivateFileError(`${path} cannot be read (${code})`, {
      cause: error,
      hint: 'let the user of the node own the file, and read it: chmod 600',
    })
  } finally {
    fillReserve()
  }
}

function readChecked(path: string): string {
  const file = openSync(path, 'r')
  try {
    const stats = fstatSync(file)
    const { mode, uid } = stats
    if (stats.isDirectory()) throw new PrivateFileError(`${path} is a directory`, { hint: 'name the file' })
    const allowed = uid === 0 ? 0o740 : 0o700
    if ((mode & 0o777 & ~allowed) !== 0) {
      throw new PrivateFileError(
        `${path} can be read by others (mode ${(mode & 0o777).toString(8)}): chmod 600 it`,
      )
    }
    return readFileSync(file, 'utf8')
  } finally {
    closeSync(file)
  }
}
