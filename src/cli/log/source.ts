// The events of one log, read in parts: a window of the next events, in the order of the timeline.
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { errorCode } from '../../errors.ts'
import { filesOf, type LogPlace } from './files.ts'
import { type LogEvent, parseLine } from './line.ts'

const BLOCK_BYTES = 256 * 1024
/** Longer than any line of a node (src/events/log.ts bounds the texts). */
const LINE_BYTES = 1024 * 1024
/** Events, and bytes of lines, that are looked ahead: revisions of one log are in order but for a few. */
const WINDOW_EVENTS = 4096
const WINDOW_BYTES = 4 * 1024 * 1024
/** Blocks read in a turn: some 30 ms. */
const TURN_BLOCKS = 16
const NEWLINE = 0x0a
const EMPTY = Buffer.alloc(0)

export type Damage = {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly reason: string
}

type SourceOptions = {
  readonly place: LogPlace
  readonly damaged: (damage: Damage) => void
  /** The file of the node stays open at its end, where lines may be added. */
  readonly follow: boolean
  readonly keep: (event: LogEvent) => boolean
}

type OpenFile = {
  readonly path: string
  readonly file: number
  /** Identifies the file after a rename, as long as the file is open. */
  readonly inode: bigint
  lines: number
  /** Bytes behind the last newline; undefined while a line longer than LINE_BYTES is skipped. */
  rest: Buffer | undefined
}

export function compareEvents(a: LogEvent, b: LogEvent): number {
  const byRevision = (a.revision ?? 0) - (b.revision ?? 0)
  return byRevision || a.at - b.at || (a.node < b.node ? -1 : a.node > b.node ? 1 : a.seq - b.seq)
}

/** Events in the order of `compareEvents`. */
class EventQueue {
  #events: LogEvent[] = []
  /** The events before are taken. */
  #from = 0

  get length(): number {
    return this.#events.length - this.#from
  }

  get first(): LogEvent | undefined {
    return this.#events[this.#from]
  }

  take(): LogEvent | undefined {
    const event = this.#events[this.#from]
    if (event === undefined) return undefined
    this.#from++
    if (this.#from >= WINDOW_EVENTS) {
      this.#events = this.#events.slice(this.#from)
      this.#from = 0
    }
    return event
  }

  /** Logs are nearly in order: the place is near the end. */
  insert(event: LogEvent): void {
    const events = this.#events
    let at = events.length
    while (at > this.#from && compareEvents(events[at - 1], event) > 0) at--
    if (at === events.length) events.push(event)
    else events.splice(at, 0, event)
  }
}

export class LogSource {
  /** Events with a revision, and without. */
  readonly revised = new EventQueue()
  readonly plain = new EventQueue()
  readonly #options: SourceOptions
  readonly #read = new Set<string>()
  readonly #block = Buffer.allocUnsafeSlow(BLOCK_BYTES)
  #open: OpenFile | undefined
  #bytes = 0
  #dry = false

  constructor(options: SourceOptions) {
    this.#options = options
  }

  /**
   * Reads on until the window is full, or the log has no more whole lines now. Returns false where more is to
   * be read: the turn is over.
   */
  fill(): boolean {
    for (let blocks = 0; this.revised.length + this.plain.length < WINDOW_EVENTS; blocks++) {
      if (this.#dry || this.#bytes >= WINDOW_BYTES) break
      if (blocks === TURN_BLOCKS) return false
      this.#dry = !this.#readBlock()
    }
    return true
  }

  /** Looks for more at the end of the log, where `fill` has found none. */
  again(): void {
    this.#dry = false
  }

  /** Removes the first event of a queue. */
  take(queue: 'revised' | 'plain'): void {
    this.#bytes -= this[queue].take()?.bytes.length ?? 0
  }

  close(): void {
    if (this.#open) closeSync(this.#open.file)
    this.#open = undefined
  }

  /** Returns false where there is nothing to read now. */
  #readBlock(): boolean {
    this.#open ??= this.#next()
    const open = this.#open
    if (open === undefined) return false
    const length = readSync(open.file, this.#block, 0, BLOCK_BYTES, null)
    if (length > 0) {
      this.#lines(open, this.#block.subarray(0, length))
      return true
    }
    // The file in which the node writes stays open while it is followed, until the node has another one.
    if (this.#options.follow && this.#isCurrent(open)) return false
    if (open.rest === undefined || open.rest.length > 0) this.#tell(open, 'the last line is torn')
    this.close()
    return true
  }

  #isCurrent({ path, inode }: OpenFile): boolean {
    if (this.#options.place.kind === 'directory')
      return filesOf(this.#options.place).at(-1) === path && same(path, inode)
    return same(path, inode) || statSync(path, { throwIfNoEntry: false }) === undefined
  }

  /** The oldest file that was not read yet. */
  #next(): OpenFile | undefined {
    for (const path of filesOf(this.#options.place)) {
      let file: number
      try {
        file = openSync(path, 'r')
      } catch (error) {
        // Renamed or removed by the node between the list and the call.
        if (errorCode(error) === 'ENOENT') continue
        throw error
      }
      const { ino: inode, birthtimeNs } = fstatSync(file, { bigint: true })
      // A new file may get the inode of a removed file.
      const identity = `${inode} ${birthtimeNs}`
      if (!this.#read.has(identity)) {
        this.#read.add(identity)
        return { path, file, inode, lines: 0, rest: EMPTY }
      }
      closeSync(file)
    }
    return undefined
  }

  #lines(open: OpenFile, block: Buffer): void {
    let from = 0
    for (let end: number; (end = block.indexOf(NEWLINE, from)) >= 0; from = end + 1) {
      open.lines++
      const { rest } = open
      open.rest = EMPTY
      const part = block.subarray(from, end)
      if (rest === undefined) this.#tell(open, 'the line is too long', open.lines)
      else this.#line(open, rest.length === 0 ? part : Buffer.concat([rest, part]))
    }
    if (open.rest === undefined) return
    const rest = Buffer.concat([open.rest, block.subarray(from)])
    open.rest = rest.length > LINE_BYTES ? undefined : rest
  }

  #line(open: OpenFile, bytes: Buffer): void {
    const event = parseLine(bytes)
    if (event === undefined) this.#tell(open, 'the line is not an event', open.lines)
    if (event === undefined || !this.#options.keep(event)) return
    const queue = event.revision === undefined ? this.plain : this.revised
    // A copy: a part of the block would keep the whole block.
    queue.insert({ ...event, bytes: new Uint8Array(bytes) })
    this.#bytes += bytes.length
  }

  #tell({ path, lines }: OpenFile, reason: string, line = lines + 1): void {
    this.#options.damaged({ file: path, line, reason })
  }
}

function same(path: string, inode: bigint): boolean {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino === inode
}
