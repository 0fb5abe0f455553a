// The event log of a node: events in order, for people and for programs. The log never delays or fails its
// callers: emit() only adds to a buffer, and an event that cannot be written is counted.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { type EventFields, type EventName, LineWriter } from './event.ts'
import { type Batch, LineFile, linesLeft } from './file.ts'
import { type EventDisk, Keeping, type KeepLimits, systemDisk } from './keeping.ts'
import { CURRENT, lastNumber, recordNumber, rotate } from './rotation.ts'

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
  readonly limits: KeepLimits
  readonly disk?: EventDisk
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
  readonly #keeping: Keeping
  #closed = false
  /** Whether the file is opened anew before the next write. */
  #isStale = false

  private constructor(options: EventLogOptions, seq: number) {
    this.#options = options
    this.#path = join(options.dir, CURRENT)
    this.#lines = new LineWriter(options.node, options.clock)
    this.#keeping = new Keeping({ disk: systemDisk, ...options })
    this.#seq = seq
  }

  /**
   * Finds the last number, so that numbers go on. Throws the error of node:fs where the folder cannot be
   * created or its files cannot be read. A file that cannot be written is not an error here: its events are
   * counted later.
   */
  static async open(options: EventLogOptions): Promise<EventLog> {
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
    if (this.#writing === undefined && this.#hasWork) this.#startWrite()
    await this.#writing
  }

  /** Opens the file anew, soon: somebody has moved the file away. Numbers go on. */
  reopen(): void {
    if (this.#closed) return
    this.#isStale = true
    this.#schedule()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.flush()
    await this.#closeFile()
    recordNumber(this.#options.dir, this.#seq)
  }

  get #hasWork(): boolean {
    return this.#pending !== '' || this.#isStale
  }

  /**
   * All events of BATCH_MS, or of the time of another write, share a write, which costs as much as 20 events.
   */
  #schedule(): void {
    if (this.#scheduled || this.#writing !== undefined) return
    this.#scheduled = true
    setTimeout(() => {
      this.#scheduled = false
      if (this.#writing === undefined && this.#hasWork) this.#startWrite()
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
      if (this.#hasWork) this.#schedule()
    })
  }

  /**
   * Never rejects. After an error the next batch opens the file again, and opening repairs the end of the
   * file.
   */
  async #write(batch: Batch): Promise<void> {
    try {
      do {
        const file = await this.#openFile(batch.bytes.length - batch.at)
        await file.append(batch, this.#endOfPart(batch, file))
      } while (batch.at < batch.bytes.length)
    } catch {
      this.#dropped += linesLeft(batch)
      await this.#closeFile()
    }
  }

  /** The end of the line that fills the file; the end of the batch where the file cannot be rotated. */
  #endOfPart({ bytes, at }: Batch, file: LineFile): number {
    const room = Math.ceil(this.#keeping.fileBytes) - file.size
    if (room <= 0 || at + room > bytes.length) return bytes.length
    return bytes.indexOf(NEWLINE, at + room - 1) + 1
  }

  /** The file for the next `coming` bytes. */
  async #openFile(coming: number): Promise<LineFile> {
    if (this.#isStale) await this.#closeFile()
    this.#isStale = false
    let file = await this.#current()
    if (this.#keeping.isDue(file.size, coming)) {
      if (!(await file.isAt(this.#path))) {
        await this.#closeFile()
        file = await this.#current()
      }
      await this.#keeping.look(file.size, coming)
    }
    if (file.size < this.#keeping.fileBytes) return file
    const { dir, clock } = this.#options
    const path = await rotate(dir, { head: await file.head(), fallback: this.#seq })
    // Where the rotation fails the file grows: lines matter more than the size of a file.
    if (path === undefined) return file
    this.#keeping.add({ path, bytes: file.size, at: clock.now() })
    await this.#closeFile()
    file = await this.#current()
    await this.#keeping.look(file.size, coming)
    return file
  }

  async #current(): Promise<LineFile> {
    if (this.#file !== undefined) return this.#file
    this.#file = await LineFile.open(this.#path)
    if (this.#file.size === 0) recordNumber(this.#options.dir, this.#seq)
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
