// The event log of a node: events in order, for people and for programs. The log never delays or fails its
// callers: emit() only adds to a buffer, and an event that cannot be written is counted.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { type EventFields, type EventName, LineWriter } from './event.ts'
import { type Batch, LineFile, linesLeft } from './file.ts'
import { CURRENT, lastNumber, rotate } from './rotation.ts'

/** Characters of lines that are not written yet; further events are dropped. */
const MAX_WAITING = 8 * 1024 * 1024
/** How long an event may wait for other events. */
const BATCH_MS = 10

const NEWLINE = 0x0a

type EventLogOptions = {
  /** The node's data folder; created if absent. */
  readonly dir: string
  readonly node: string
  readonly clock: Clock
  /** The line that reaches this size is the last line of its file. */
  readonly maxBytes: number
  /** Number of rotated files to keep, beside the current file. */
  readonly keep: number
}

export class EventLog {
  readonly #options: EventLogOptions
  readonly #path: string
  readonly #lines: LineWriter
  #seq: number
  #dropped = 0
  #pending = ''
  #inFlight = 0
  #scheduled = false
  #writing: Promise<void> | undefined
  #file: LineFile | undefined
  #closed = false

  private constructor(options: EventLogOptions, seq: number) {
    this.#options = options
    this.#path = join(options.dir, CURRENT)
    this.#lines = new LineWriter(options.node, options.clock)
    this.#seq = seq
  }

  /**
   * Finds the last number, so that numbers go on. Throws the error of node:fs where the folder cannot be
   * created or its files cannot be read. A file that cannot be written is not an error here: its events are
   * counted later.
   */
  static async open(options: EventLogOptions): Promise<EventLog> {
    assert(options.maxBytes > 0 && options.keep > 0, 'an event log needs room for a file')
    await mkdir(options.dir, { recursive: true, mode: 0o700 })
    return new EventLog(options, await lastNumber(options.dir))
  }

  /** Events that are not in the log: the disk was full, refused, or too slow. The log lacks their numbers. */
  get dropped(): number {
    return this.#dropped
  }

  /** Adds an event. Never throws, never waits. After close() the event is only counted. */
  emit(event: EventName, fields: EventFields = {}): void {
    try {
      const line = this.#lines.line(++this.#seq, event, fields)
      if (this.#closed || this.#pending.length + this.#inFlight + line.length > MAX_WAITING) {
        this.#dropped++
      } else {
        this.#pending += line
        this.#schedule()
      }
    } catch {
      // A clock without a valid time, or a field that is not JSON: a fault, but not a reason to fail the
      // caller.
      this.#dropped++
    }
  }

  /** Resolves when every event emitted before is in the file or counted as dropped. Never rejects. */
  async flush(): Promise<void> {
    await this.#writing
    // Another flush() may have begun the next write meanwhile, with everything that was pending.
    if (this.#writing === undefined && this.#pending !== '') this.#startWrite()
    await this.#writing
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.flush()
    await this.#closeFile()
  }

  /**
   * All events of BATCH_MS, or of the time of another write, share a write, which costs as much as 20 events.
   */
  #schedule(): void {
    if (this.#scheduled || this.#writing !== undefined) return
    this.#scheduled = true
    setTimeout(() => {
      this.#scheduled = false
      if (this.#writing === undefined && this.#pending !== '') this.#startWrite()
    }, BATCH_MS)
  }

  #startWrite(): void {
    assert(this.#writing === undefined, 'the event log has one write at a time')
    const batch: Batch = { bytes: Buffer.from(this.#pending), at: 0 }
    this.#inFlight = this.#pending.length
    this.#pending = ''
    this.#writing = this.#write(batch).then(() => {
      this.#writing = undefined
      this.#inFlight = 0
      if (this.#pending !== '') this.#schedule()
    })
  }

  /**
   * Never rejects. After an error the next batch opens the file again, and opening repairs the end of the
   * file.
   */
  async #write(batch: Batch): Promise<void> {
    try {
      while (batch.at < batch.bytes.length) {
        const file = await this.#openFile()
        await file.append(batch, this.#endOfPart(batch, file))
      }
    } catch {
      this.#dropped += linesLeft(batch)
      await this.#closeFile()
    }
  }

  /** The end of the line that fills the file; the end of the batch where the file cannot be rotated. */
  #endOfPart({ bytes, at }: Batch, file: LineFile): number {
    const room = this.#options.maxBytes - file.size
    if (room <= 0 || at + room > bytes.length) return bytes.length
    return bytes.indexOf(NEWLINE, at + room - 1) + 1
  }

  async #openFile(): Promise<LineFile> {
    this.#file ??= await LineFile.open(this.#path)
    const { dir, keep, maxBytes } = this.#options
    // Where the rotation fails the file grows: lines matter more than the size of a file.
    if (
      this.#file.size < maxBytes ||
      !(await rotate(dir, { head: await this.#file.head(), keep, fallback: this.#seq }))
    ) {
      return this.#file
    }
    await this.#closeFile()
    this.#file = await LineFile.open(this.#path)
    return this.#file
  }

  async #closeFile(): Promise<void> {
    const file = this.#file
    this.#file = undefined
    try {
      await file?.close()
    } catch {
      // Every event is written or counted already.
    }
  }
}
