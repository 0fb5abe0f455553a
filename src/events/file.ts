// The file under the event log: whole lines, appended. Nothing else writes to it.
import { type FileHandle, open } from 'node:fs/promises'
import { errorCode } from '../errors.ts'

// No line of the log is longer (log.ts bounds its texts), so the end of a file this large has a whole one.
export const WINDOW_BYTES = 128 * 1024

const NEWLINE = 0x0a

/** Bytes of whole lines on their way to the disk: those before `at` are there. */
export type Batch = { readonly bytes: Buffer; at: number }

/** The lines of which not every byte is there. */
export function linesLeft(batch: Batch): number {
  let lines = 0
  let at = batch.at
  while ((at = batch.bytes.indexOf(NEWLINE, at) + 1) > 0) lines++
  return lines
}

export class LineFile {
  readonly #handle: FileHandle
  #size: number

  private constructor(handle: FileHandle, size: number) {
    this.#handle = handle
    this.#size = size
  }

  /** Opens for appending; makes the file (0600) if absent; repairs its end. Throws what node:fs throws. */
  static async open(path: string): Promise<LineFile> {
    const handle = await open(path, 'a+', 0o600)
    try {
      const { size } = await handle.stat()
      const file = new LineFile(handle, size)
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

  /** Appends `batch` up to `end` and moves `batch.at` by every byte that got there, also when it throws. */
  async append(batch: Batch, end: number): Promise<void> {
    while (batch.at < end) {
      // One write takes fewer bytes than it was given when the disk is nearly full; the next one throws.
      const { bytesWritten } = await this.#handle.write(batch.bytes, batch.at, end - batch.at)
      if (bytesWritten === 0) throw new Error('a write of some bytes wrote none')
      batch.at += bytesWritten
      this.#size += bytesWritten
    }
  }

  /** The beginning of the file, at most `WINDOW_BYTES` of it. */
  head(): Promise<string> {
    return read(this.#handle, 0, Math.min(this.#size, WINDOW_BYTES))
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }

  /**
   * A crash or a full disk can leave a last line without its end. It is cut off, so that every line of the
   * file is whole and readers need no exception; half an event says nothing that is certain. Where cutting
   * fails, and where the rest is too long to be a line of ours, it is completed by a newline instead: then
   * one line is spoiled, never the one after it.
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
        // A file system that only appends (chattr +a) refuses this.
      }
    }
    await this.append({ bytes: Buffer.of(NEWLINE), at: 0 }, 1)
  }
}

/** The end of a file, at most `WINDOW_BYTES` of it; undefined if there is no such file. */
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
