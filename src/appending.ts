// Bytes appended to an open file off the event loop. They go to the disk while more of them are made: else
// all of a large file waits for the disk at the end.
import { fdatasync, fsync, write } from 'node:fs'
import { promisify } from 'node:util'
import { settled } from './waiting.ts'

/**
 * The most bytes of one write. For more the system takes larger runs of free memory, which a virtual machine
 * may have given back to its host: then the write takes ten times as long.
 */
export const WRITE_BYTES = 256 * 1024
/** Writes of a file on their way: the next one does not wait for a turn of a busy event loop. */
const WRITES_AT_ONCE = 3
/** A flush begins after so many bytes. */
const FLUSH_BYTES = 32 * 1024 * 1024

/** Writes of a file go in any order, each to its place; those of a stream one after another. */
export class WriteQueue {
  readonly #file: number
  readonly #isStream: boolean
  #end = 0
  #underWay = 0
  /** Writes that wait for others, the first one first. */
  readonly #waiting: (() => void)[] = []
  #failure: { readonly error: unknown } | undefined

  /** A file must be empty, and nobody else writes to the file. */
  constructor(file: number, kind: 'file' | 'stream') {
    this.#file = file
    this.#isStream = kind === 'stream'
  }

  /**
   * Resolves once the bytes are written; until then the bytes must not change. Throws errors of the system,
   * also of earlier calls. No bytes of the call are on their way then.
   */
  async write(bytes: Uint8Array): Promise<void> {
    const writes: Promise<void>[] = []
    for (let from = 0; from < bytes.length; from += WRITE_BYTES) {
      const part = bytes.subarray(from, from + WRITE_BYTES)
      writes.push(this.#writePart(part, this.#end))
      this.#end += part.length
    }
    await settled(writes)
  }

  async #writePart(part: Uint8Array, at: number): Promise<void> {
    if (this.#underWay === (this.#isStream ? 1 : WRITES_AT_ONCE))
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    else this.#underWay++
    try {
      if (this.#failure) throw this.#failure.error
      for (let done = 0; done < part.length; )
        done += await writeSome(this.#file, part.subarray(done), this.#isStream ? null : at + done)
    } catch (error) {
      this.#failure ??= { error }
      throw error
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#underWay--
    }
  }
}

/** Resolves to the number of bytes written; `at`: null for a stream. */
function writeSome(file: number, bytes: Uint8Array, at: number | null): Promise<number> {
  return new Promise((resolve, reject) => {
    write(file, bytes, 0, bytes.length, at, (error, written) => {
      if (error) reject(error)
      else if (written === 0) reject(new Error('the system writes nothing'))
      else resolve(written)
    })
  })
}

export class Appending {
  readonly #file: number
  readonly #queue: WriteQueue
  #unflushed = 0
  #flush: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined

  /** The file must be empty. */
  constructor(file: number) {
    this.#file = file
    this.#queue = new WriteQueue(file, 'file')
  }

  /** As `WriteQueue.write`. */
  async write(bytes: Uint8Array): Promise<void> {
    await this.#queue.write(bytes)
    this.#unflushed += bytes.length
    if (this.#unflushed >= FLUSH_BYTES && this.#flush === undefined) this.#beginFlush()
  }

  #beginFlush(): void {
    this.#unflushed = 0
    this.#flush = promisify(fdatasync)(this.#file)
      .catch((error: unknown) => {
        // The system tells a failure once: the sync at the end would succeed.
        this.#failure ??= { error }
      })
      .finally(() => {
        this.#flush = undefined
      })
  }

  /** Makes the bytes of finished writes durable. Throws errors of the system. */
  async sync(): Promise<void> {
    await this.#flush
    if (this.#failure) throw this.#failure.error
    await promisify(fsync)(this.#file)
  }
}
