// The file under the event log: whole lines, appended. Nobody else writes to the file.
import type { BigIntStats } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { errorCode } from '../errors.ts'

/**
 * Longer than any line of the log (log.ts bounds the texts): the end of a file of this size has a whole line.
 */
const WINDOW_BYTES = 128 * 1024

const NEWLINE = 0x0a

/** Bytes of whole lines to write: the bytes before `at` are written. */
export type Batch = { readonly bytes: Buffer; at: number }

/** The number of lines that are not written to their last byte. */
export function linesLeft(batch: Batch): number {
  let lines = 0
  let at = batch.at
  while ((at = batch.bytes.indexOf(NEWLINE, at) + 1) > 0) lines++
  return lines
}

export class LineFile {
  readonly #handle: FileHandle
  readonly #inode: bigint
  #size: number

  private constructor(handle: FileHandle, { size, ino }: BigIntStats) {
    this.#handle = handle
    this.#inode = ino
    this.#size = Number(size)
  }

  /** Opens for appending; creates an absent file (0600); repairs the end. Throws the errors of node:fs. */
  static async open(path: string): Promise<LineFile> {
    const handle = await open(path, 'a+', 0o600)
    try {
      const file = new LineFile(handle, await handle.stat({ bigint: true }))
      await file.#repair()
      return file
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  get size(): number {
    return this.#size
  }

  /** Appends `batch` up to `end`. Moves `batch.at` by every byte written, also where an error is thrown. */
  async append(batch: Batch, end: number): Promise<void> {
    while (batch.at < end) {
      // On a disk that is nearly full a write takes a part of the bytes, and the next write throws.
      const { bytesWritten } = await this.#handle.write(batch.bytes, batch.at, end - batch.at)
      if (bytesWritten === 0) throw new Error('a write of some bytes wrote none')
      batch.at += bytesWritten
      this.#size += bytesWritten
    }
  }

  /** The beginning of the file, at most `WINDOW_BYTES`. */
  head(): Promise<string> {
    return read(this.#handle, 0, Math.min(this.#size, WINDOW_BYTES))
  }

  /** Whether `path` leads to this file: somebody may have moved or removed the file. */
  async isAt(path: string): Promise<boolean> {
    try {
      return (await stat(path, { bigint: true })).ino === this.#inode
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return false
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }

  /**
   * A crash or a full disk can leave a torn last line. The torn line is cut off, so that every line of the
   * file is whole and readers need no exception: half an event proves nothing. Where cutting fails, and where
   * the rest is longer than any line of the log, a newline is appended instead: then only the torn line is
   * spoiled.
   */
  async #repair(): Promise<void> {
    if (this.#size === 0) return
    const length = Math.min(this.#size, WINDOW_BYTES)
    const { buffer, bytesRead } = await this.#handle.read(
      Buffer.alloc(length),
      0,
      length,
      this.#size - length,
    )
    const torn = bytesRead - (buffer.subarray(0, bytesRead).lastIndexOf(NEWLINE) + 1)
    if (torn === 0) return
    if (torn < WINDOW_BYTES) {
      try {
        await this.#handle.truncate(this.#size - torn)
        this.#size -= torn
        return
      } catch {
        // A file that only grows (chattr +a) cannot be truncated.
      }
    }
    await this.append({ bytes: Buffer.of(NEWLINE), at: 0 }, 1)
  }
}

/** The end of a file, at most `WINDOW_BYTES`; undefined if there is no such file. */
export async function readTail(path: string): Promise<string | undefined> {
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    const { size } = await handle.stat()
    const length = Math.min(size, WINDOW_BYTES)
    return await read(handle, size - length, length)
  } finally {
    await handle.close()
  }
}

async function read(handle: FileHandle, from: number, length: number): Promise<string> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, from)
  return buffer.toString('utf8', 0, bytesRead)
}
