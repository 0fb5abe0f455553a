// Reading a file with keys: refused when others can read it.
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { fillReserve, withReserve } from '../descriptors.ts'
import { errorCode, OperatorError } from '../errors.ts'

/** The file cannot be used; the message says what to do. */
class PrivateFileError extends OperatorError {
  override readonly name = 'PrivateFileError'
}

/** Throws PrivateFileError where the file is missing, or group or others have any right on the file. */
export function readPrivateFile(path: string): string {
  let file: number
  try {
    file = withReserve(() => openSync(path, 'r'))
  } catch (error) {
    const code = errorCode(error)
    if (code === 'ENOENT')
      throw new PrivateFileError(`${path} is missing: restore it from where it is kept safe`)
    throw new PrivateFileError(`${path} cannot be read (${code})`)
  }
  try {
    const { mode } = fstatSync(file)
    if ((mode & 0o077) !== 0) {
      throw new PrivateFileError(
        `${path} can be read by others (mode ${(mode & 0o777).toString(8)}): chmod 600 it`,
      )
    }
    return readFileSync(file, 'utf8')
  } finally {
    closeSync(file)
    fillReserve()
  }
}
