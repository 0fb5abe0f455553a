// Which bytes of a file of JSON are whole records, and how the records become the elements of one array.

import type { Scan } from '../json/matches.ts'
import { KIND } from '../json/matches.ts'
import { faultAt, lineAt, RECORD_BYTES } from './piece.ts'

const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const QUOTE = 0x22
const COMMA = 0x2c
const OPEN_ARRAY = 0x5b
const BACKSLASH = 0x5c
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
const BOM: readonly number[] = [0xef, 0xbb, 0xbf]
const CORRECT = 'correct the line and run the command again'

/** The records of `taken` bytes are [from, to); `separators` makes them the elements of an array. */
export type Batch = {
  readonly taken: number
  readonly from: number
  readonly to: number
  readonly separators: (records: Uint8Array) => void
}

type Place = { readonly isLast: boolean; readonly line: number }
type Checked = { readonly batch: Batch; readonly line: number }

export type Batches = {
  /** Names of the members of the first record, for errors. */
  readonly members: string
  /** Throws OperatorError. */
  take(bytes: Uint8Array, place: Place): Batch
  /** Throws OperatorError where the elements found are not the records meant. */
  check(content: Buffer, found: Scan, checked: Checked): void
  /** The records one by one, where each is a line; none elsewhere. */
  lines(content: Buffer, batch: Batch): Iterable<Batch>
}

const nothing = (): void => undefined
const NONE: Batch = { taken: 0, from: 0, to: 0, separators: nothing }

/** A record a line; blank lines are left out. */
export class LineBatches implements Batches {
  members = 'no members'
  #isFirst = true

  take(bytes: Buffer, { isLast, line }: Place): Batch {
    if (this.#isFirst && bytes.length < BOM.length && !isLast) return NONE
    const from = this.#isFirst ? bomOf(bytes) : 0
    const taken = isLast ? bytes.length : bytes.lastIndexOf(LF) + 1
    if (bytes.length - taken > RECORD_BYTES) throw tooLong(lineAt({ bytes, line }, taken))
    if (taken > 0) this.#isFirst = false
    if (taken <= from || isBlank(bytes, from, taken)) return { ...NONE, taken }
    return { taken, from, to: taken, separators: lineEndsToCommas }
  }

  check(content: Buffer, found: Scan, { batch: { from, to }, line }: Checked): void {
    const shift = from - 1
    let element = nextElement(found, 0)
    for (let start = from; start < to; ) {
      const at = content.indexOf(LF, start)
      const end = at < 0 || at >= to ? to : at
      if (end - start > RECORD_BYTES) throw tooLong(lineAt({ bytes: content, line }, start))
      if (!isBlank(content, start, end)) {
        const isOne =
          element < found.count && found.start[element] + shift >= start && found.end[element] + shift <= end
        if (!isOne) throw notOneRecord(lineAt({ bytes: content, line }, start))
        element = nextElement(found, element + 1)
        if (element < found.count && found.start[element] + shift < end)
          throw notOneRecord(lineAt({ bytes: content, line }, start))
      }
      start = end + 1
    }
    if (this.members === 'no members') this.members = membersOf(content, found, shift)
  }

  *lines(content: Buffer, { taken, from, to }: Batch): Generator<Batch> {
    for (let start = from; start < to; ) {
      const at = content.indexOf(LF, start)
      const end = at < 0 || at >= to ? to : at
      if (!isBlank(content, start, end)) yield { taken, from: start, to: end, separators: nothing }
      start = end + 1
    }
  }
}

/** The elements of one array, or a single record. */
export class ListBatches implements Batches {
  members = 'no members'
  #state: 'start' | 'list' | 'single' | 'done' = 'start'
  #isFirst = true
  #hasRecords = false

  take(bytes: Buffer, { isLast, line }: Place): Batch {
    switch (this.#state) {
      case 'start':
        return this.#start(bytes, { isLast, line })
      case 'list':
        return this.#list(bytes, { isLast, line })
      case 'single':
        if (bytes.length > RECORD_BYTES) throw tooLong(line)
        return isLast ? { taken: bytes.length, from: 0, to: bytes.length, separators: nothing } : NONE
      case 'done':
        if (!isBlank(bytes, 0, bytes.length)) throw faultAt(line, 'text behind the end of the array', CORRECT)
        return { ...NONE, taken: bytes.length }
    }
  }

  check(content: Buffer, found: Scan, { batch: { from }, line }: Checked): void {
    const first = nextElement(found, 0)
    const isOne = first < found.count && nextElement(found, first + 1) === found.count
    if (first === found.count || (this.#state === 'single' && !isOne))
      throw faultAt(line, 'not acceptable JSON: expected a record', CORRECT)
    for (let i = first; i < found.count; i = nextElement(found, i + 1)) {
      if (found.end[i] - found.start[i] > RECORD_BYTES)
        throw tooLong(lineAt({ bytes: content, line }, found.start[i] + from - 1))
    }
    this.#hasRecords = true
    if (this.members === 'no members') this.members = membersOf(content, found, from - 1)
  }

  lines(): Batch[] {
    return []
  }

  #start(bytes: Buffer, place: Place): Batch {
    const { isLast } = place
    if (this.#isFirst && bytes.length < BOM.length && !isLast) return NONE
    let from = this.#isFirst ? bomOf(bytes) : 0
    this.#isFirst = false
    while (from < bytes.length && isBlank(bytes, from, from + 1)) from++
    if (from === bytes.length) {
      if (isLast) throw faultAt(1, 'the file is empty', 'name a file with an array of records, or one record')
      // The LF of a line end may follow.
      return { ...NONE, taken: bytes[from - 1] === CR ? from - 1 : from }
    }
    this.#state = bytes[from] === OPEN_ARRAY ? 'list' : 'single'
    const taken = this.#state === 'list' ? from + 1 : from
    return taken > 0 ? { ...NONE, taken } : this.take(bytes, place)
  }

  #list(bytes: Buffer, { isLast, line }: Place): Batch {
    const { comma, close } = endsOf(bytes)
    if (close >= 0) {
      if (bytes[close] !== CLOSE_ARRAY) throw unexpected(bytes, line, close)
      this.#state = 'done'
      const isEmpty = isBlank(bytes, 0, close)
      if (isEmpty && this.#hasRecords) throw unexpected(bytes, line, close)
      return isEmpty
        ? { ...NONE, taken: close + 1 }
        : { taken: close + 1, from: 0, to: close, separators: nothing }
    }
    if (isLast) throw faultAt(lineAt({ bytes, line }, bytes.length), 'the array has no end', CORRECT)
    if (bytes.length - comma > RECORD_BYTES) throw tooLong(lineAt({ bytes, line }, comma + 1))
    const separators = (records: Uint8Array): void => {
      records[comma] = SPACE
    }
    return comma < 0 ? NONE : { taken: comma + 1, from: 0, to: comma + 1, separators }
  }
}

/** The last comma between elements, and the end of the array; -1: none. */
function endsOf(bytes: Uint8Array): { readonly comma: number; readonly close: number } {
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
  let comma = -1
  let depth = 1
  for (let i = 0; i < plain.length; i++) {
    const c = plain[i]
    if (c === QUOTE) {
      for (i++; i < plain.length && plain[i] !== QUOTE; i++) if (plain[i] === BACKSLASH) i++
    } else if (c === COMMA) {
      if (depth === 1) comma = i
    } else if (c === OPEN_OBJECT || c === OPEN_ARRAY) depth++
    else if ((c === CLOSE_OBJECT || c === CLOSE_ARRAY) && --depth === 0) return { comma, close: i }
  }
  return { comma, close: -1 }
}

/** A comma for the line end before each record but the first. */
function lineEndsToCommas(records: Uint8Array): void {
  const bytes = Buffer.from(records.buffer, records.byteOffset, records.length)
  let isFirst = true
  for (let start = 0; start < bytes.length; ) {
    const at = bytes.indexOf(LF, start)
    const end = at < 0 ? bytes.length : at
    if (!isBlank(bytes, start, end)) {
      if (!isFirst) bytes[start - 1] = COMMA
      isFirst = false
    }
    start = end + 1
  }
}

/** The index of the next match of an element itself; `count` where there is none. */
function nextElement(found: Scan, from: number): number {
  let i = from
  while (i < found.count && found.leaf[i] !== 0) i++
  return i
}

function isBlank(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    const c = bytes[i]
    if (c !== SPACE && c !== LF && c !== CR && c !== 0x09) return false
  }
  return true
}

function bomOf(bytes: Uint8Array): number {
  return BOM.every((byte, i) => bytes[i] === byte) ? BOM.length : 0
}

/** The names of the members of the first record. */
function membersOf(content: Buffer, found: Scan, shift: number): string {
  const first = nextElement(found, 0)
  if (first === found.count || found.kinds[first] !== KIND.object) return 'no members'
  const text = content.toString('utf8', found.start[first] + shift, found.end[first] + shift)
  const names = Object.keys(JSON.parse(text)).slice(0, MEMBERS_SHOWN)
  return names.map((name) => JSON.stringify(name)).join(', ') || 'no members'
}

const MEMBERS_SHOWN = 50

function tooLong(line: number): Error {
  return faultAt(line, `the record is longer than ${RECORD_BYTES} bytes`, 'write shorter records')
}

function unexpected(bytes: Uint8Array, line: number, at: number): Error {
  return faultAt(lineAt({ bytes, line }, at), 'not acceptable JSON: expected a record or "]"', CORRECT)
}

function notOneRecord(line: number): Error {
  const hint = 'write each record on a line of its own, or use --format json'
  return faultAt(line, 'the line is not one record', hint)
}
