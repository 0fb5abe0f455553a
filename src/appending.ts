// Bytes appended to an open file off the event loop. They go to the disk while more of them are made: else
// all of a large file waits for the disk at the end.
import { fdatasync, fsync, write } from 'node:fs'
import { promisify } from 'node:util'

/** A flush begins after so many bytes. */
const FLUSH_BYTES = 32 * 1024 * 1024

const writePart = promisify(write)

export class Appending {
  readonly #file: number
  #unflushed = 0
  #flush: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(file: number) {
    this.#file = file
  }

  /** The bytes must not change meanwhile. Throws errors of the system. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let position = 0; position < bytes.length; ) {
      const rest = { offset: position, length: bytes.length - position }
      position += (await writePart(this.#file, bytes, rest)).bytesWritten
    }
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

  /** Makes all bytes durable. Throws errors of the system. */
  async sync(): Promise<void> {
    await this.#flush
    if (this.#failure) throw this.#failure.error
    await promisify(fsync)(this.#file)
  }
}
