// Bytes appended to an open file off the event loop. They go to the disk while more of them are made: else
// all of a large file waits for the disk at the end.
import { fdatasync, fsync, writev } from 'node:fs'
import { promisify } from 'node:util'

/** A flush begins after so many bytes. */
const FLUSH_BYTES = 32 * 1024 * 1024

/** Writes parts in the order of the calls, all waiting parts at once: a busy event loop delays few writes. */
export class WriteQueue {
  readonly #file: number
  /** Not begun yet. */
  #waiting: { readonly parts: Uint8Array[]; readonly written: Promise<void> } | undefined
  #last: Promise<void> = Promise.resolve()

  constructor(file: number) {
    this.#file = file
  }

  /**
   * Resolves once the bytes are written; until then the bytes must not change. Throws errors of the system,
   * also of earlier calls.
   */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#waiting) {
      this.#waiting.parts.push(bytes)
      return this.#waiting.written
    }
    const parts = [bytes]
    const written = this.#last.then(() => {
      this.#waiting = undefined
      return this.#writeAll(parts)
    })
    this.#waiting = { parts, written }
    this.#last = written
    return written
  }

  async #writeAll(parts: readonly Uint8Array[]): Promise<void> {
    for (let rest = parts; rest.length > 0; ) {
      const bytes = await writeParts(this.#file, rest)
      rest = without(rest, bytes)
    }
  }
}

/** Resolves to the bytes written, of the first parts. */
function writeParts(file: number, parts: readonly Uint8Array[]): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(file, parts, (error, bytes) => (error ? reject(error) : resolve(bytes)))
  })
}

/** The parts without their first bytes. */
function without(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let left = bytes
  for (const [i, part] of parts.entries()) {
    if (part.length > left) return [part.subarray(left), ...parts.slice(i + 1)]
    left -= part.length
  }
  return []
}

export class Appending {
  readonly #file: number
  readonly #queue: WriteQueue
  #unflushed = 0
  #flush: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(file: number) {
    this.#file = file
    this.#queue = new WriteQueue(file)
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
