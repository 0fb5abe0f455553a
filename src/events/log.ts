// The event log of one node: what happened, in order, for people and for `coffer log`. It is told things, and
// never stands in their way: emit() only adds to a buffer, and what cannot be written is counted.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { type Batch, LineFile, linesLeft } from './file.ts'
import { CURRENT, lastNumber, rotate } from './rotation.ts'

export const EVENT_NAMES = [
  'node.started',
  'node.ready',
  'node.stopped',
  'ledger.connected',
  'ledger.leader',
  'ledger.lost',
  'ledger.recovered',
  'replica.applied',
  'replica.caught-up',
  'replica.rebuilt',
  'tokens.issued',
  'tokens.resolved',
  'epoch.rotated',
  'epoch.observed',
  'secret.created',
  'secret.updated',
  'secret.read',
  'request.refused',
] as const

export type EventName = (typeof EVENT_NAMES)[number]

/** What applies to the event. Never a value, a secret or a key. A text too long for a line is cut. */
export type EventFields = {
  owner?: string
  key_id?: string
  request?: string
  epoch?: number
  revision?: number
  count?: number
  missing?: number
  from?: string | number
  to?: string | number
  /** A duration in milliseconds. */
  ms?: number
  reason?: string
}

// In characters; in a longer line the texts are cut. Both keep lines well below WINDOW_BYTES of file.ts, also
// where each character is three bytes or is escaped as six.
const MAX_LINE = 16 * 1024
const MAX_TEXT = 1024
/** Characters of lines that wait for the disk, or are on their way to it; beyond this, events are dropped. */
const MAX_WAITING = 8 * 1024 * 1024
/** How long an event may wait for others, in milliseconds. */
const GATHER_MS = 10

const NEWLINE = 0x0a

export type EventLogOptions = {
  /** The node's data folder; made if absent. */
  readonly dir: string
  readonly node: string
  readonly clock: Clock
  /** A file is closed by the line that reaches this size. */
  readonly maxBytes: number
  /** Rotated files that are kept; the current one is not among them. */
  readonly keep: number
}

export class EventLog {
  readonly #options: EventLogOptions
  readonly #path: string
  #seq: number
  #dropped = 0
  #pending = ''
  #inFlight = 0
  #scheduled = false
  #writing: Promise<void> | undefined
  #file: LineFile | undefined
  #closed = false
  #stamp = { at: Number.NaN, text: '' }

  private constructor(options: EventLogOptions, seq: number) {
    this.#options = options
    this.#path = join(options.dir, CURRENT)
    this.#seq = seq
  }

  /**
   * Finds the last number used, so that numbers go on. Throws what node:fs throws when the folder cannot be
   * made or what is in it cannot be read. That the file cannot be written is no error here, but counted
   * later.
   */
  static async open(options: EventLogOptions): Promise<EventLog> {
    assert(options.maxBytes > 0 && options.keep > 0, 'an event log needs room for a file')
    await mkdir(options.dir, { recursive: true, mode: 0o700 })
    return new EventLog(options, await lastNumber(options.dir))
  }

  /** Events not in the log: the disk was full, refused, or too slow. Their numbers are missing there. */
  get dropped(): number {
    return this.#dropped
  }

  /** Adds one event. Never throws, never waits. After close() it only counts. */
  emit(event: EventName, fields: EventFields = {}): void {
    try {
      const line = this.#line(event, fields)
      if (this.#closed || this.#pending.length + this.#inFlight + line.length > MAX_WAITING) {
        this.#dropped++
      } else {
        this.#pending += line
        this.#schedule()
      }
    } catch {
      // A clock that gives no time or a field that is no JSON: wrong, but no reason to fail what called.
      this.#dropped++
    }
  }

  /** Resolves when every event emitted before is in the file or counted as dropped. Never rejects. */
  async flush(): Promise<void> {
    await this.#writing
    // Another flush() may have begun the next write meanwhile; that one has all that was pending.
    if (this.#writing === undefined && this.#pending !== '') this.#start()
    await this.#writing
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.flush()
    await this.#letGo()
  }

  #line(event: EventName, fields: EventFields): string {
    const now = this.#options.clock.now()
    if (now !== this.#stamp.at) this.#stamp = { at: now, text: new Date(now).toISOString() }
    const { owner, key_id, request, epoch, revision, count, missing, from, to, ms, reason } = fields
    const members = {
      // The order of the members in a line. Naming each keeps out what is no field of the log, and one
      // JSON.stringify takes two thirds of the time of putting the line together by hand.
      time: this.#stamp.text,
      node: this.#options.node,
      seq: ++this.#seq,
      event,
      owner,
      key_id,
      request,
      epoch,
      revision,
      count,
      missing,
      from,
      to,
      ms,
      reason,
    }
    const line = JSON.stringify(members)
    return `${line.length <= MAX_LINE ? line : JSON.stringify(members, cut)}\n`
  }

  /** One write for all that is emitted within GATHER_MS, or while another write goes on: a write costs 20 events. */
  #schedule(): void {
    if (this.#scheduled || this.#writing !== undefined) return
    this.#scheduled = true
    setTimeout(() => {
      this.#scheduled = false
      if (this.#writing === undefined && this.#pending !== '') this.#start()
    }, GATHER_MS)
  }

  #start(): void {
    assert(this.#writing === undefined, 'two writes to the event log at once')
    const batch: Batch = { bytes: Buffer.from(this.#pending), at: 0 }
    this.#inFlight = this.#pending.length
    this.#pending = ''
    this.#writing = this.#write(batch).then(() => {
      this.#writing = undefined
      this.#inFlight = 0
      if (this.#pending !== '') this.#schedule()
    })
  }

  /** Never rejects. The next batch opens the file again, which repairs what this one may have left. */
  async #write(batch: Batch): Promise<void> {
    try {
      while (batch.at < batch.bytes.length) {
        const file = await this.#openFile()
        await file.append(batch, this.#endOfPart(batch, file))
      }
    } catch {
      this.#dropped += linesLeft(batch)
      await this.#letGo()
    }
  }

  /** What goes into this file ends with the line that fills it, or is everything if the file stays full. */
  #endOfPart({ bytes, at }: Batch, file: LineFile): number {
    const room = this.#options.maxBytes - file.size
    if (room <= 0 || at + room > bytes.length) return bytes.length
    return bytes.indexOf(NEWLINE, at + room - 1) + 1
  }

  async #openFile(): Promise<LineFile> {
    this.#file ??= await LineFile.open(this.#path)
    const { dir, keep, maxBytes } = this.#options
    // Where rotating does not work the file grows: lines matter more than its size.
    if (this.#file.size < maxBytes || !(await rotate(dir, await this.#file.head(), this.#seq, keep))) {
      return this.#file
    }
    await this.#letGo()
    this.#file = await LineFile.open(this.#path)
    return this.#file
  }

  async #letGo(): Promise<void> {
    const file = this.#file
    this.#file = undefined
    try {
      await file?.close()
    } catch {
      // What was written is written, and counted; there is nothing more to do for it.
    }
  }
}

function cut(_name: string, value: unknown): unknown {
  return typeof value === 'string' ? value.slice(0, MAX_TEXT) : value
}
