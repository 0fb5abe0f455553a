// Whole files that a user names, with a bound.
import { createReadStream, fstatSync } from 'node:fs'
import { OperatorError } from '../../errors.ts'

type Bound = {
  /** Bytes. */
  readonly most: number
  /** The next step where there are more. */
  readonly hint: string
}

/** The bytes of the file, or of stdin for `-`. Throws OperatorError above the bound; the system's errors. */
export async function readInput(file: string, { most, hint }: Bound): Promise<Buffer> {
  // Node takes a directory on stdin for an empty file.
  if (file === '-' && fstatSync(0).isDirectory())
    throw new OperatorError('stdin is a directory', { hint: 'name a file' })
  const pieces: Buffer[] = []
  let length = 0
  try {
    for await (const piece of file === '-' ? process.stdin : createReadStream(file)) {
      pieces.push(piece)
      length += piece.length
      if (length > most) break
    }
  } catch (error) {
    // The error of a read names no path.
    throw error instanceof Error ? Object.assign(error, { path: file }) : error
  }
  if (length <= most) return Buffer.concat(pieces)
  throw new OperatorError(`${file === '-' ? 'stdin' : file} has more than ${most} bytes`, { hint })
}
