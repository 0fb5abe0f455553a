// A single pass over the bytes of CSV (RFC 4180): the places of the named fields in whole records, without an
// object per field or record.
import { faultAt, lineAt, RECORD_BYTES } from './piece.ts'
import { PlaceList } from './places.ts'

export const QUOTE = 0x22
const LF = 0x0a
const CR = 0x0d
const OPEN = -1
// So many bytes are searched by a loop; a call for the bytes behind costs less than a longer loop. A field
// without quotes is mostly short, up to a token.
const NEAR_END = 48
const NEAR_QUOTE = 16

type Options = {
  readonly delimiter: number
  /** Empty fields without quotes and the ends of records are listed, too. */
  readonly withRecordEnds: boolean
}

export class CsvScanner {
  readonly #delimiter: number
  readonly #withRecordEnds: boolean
  /** 1 for the bytes at the end of a field. */
  readonly #ends = new Uint8Array(256)
  readonly #delimiters: Search
  readonly #lfs = new Search(LF)
  readonly #crs = new Search(CR)
  readonly #quotes = new Search(QUOTE)
  /** The places of the last scan, of whole records only. */
  readonly places = new PlaceList()
  /** The end of the last whole record. */
  whole = 0
  rows = 0
  /** Line ends in the whole records. */
  lines = 0
  /** Fields in each record; 0: not known yet. */
  fields = 0
  #names: readonly string[] = []
  #columnOf = new Int32Array(0)

  #bytes: Uint8Array = new Uint8Array(0)
  #line = 0
  #inQuotes = 0

  constructor({ delimiter, withRecordEnds }: Options) {
    this.#delimiter = delimiter
    this.#withRecordEnds = withRecordEnds
    for (const byte of [delimiter, LF, CR]) this.#ends[byte] = 1
    this.#delimiters = new Search(delimiter)
  }

  /** `columnOf[field]` is the index of the named column, or -1; `names` are all names of the header. */
  begin(columnOf: Int32Array<ArrayBuffer>, names: readonly string[]): void {
    this.#columnOf = columnOf
    this.#names = names
    this.fields = names.length
  }

  /**
   * Scans whole records; before `begin` only the header, with all of its fields. `line`: of the first byte.
   * Throws OperatorError with the line of a malformed record.
   */
  scan(bytes: Uint8Array, line: number, isLast: boolean): void {
    this.#begin(bytes, line)
    const size = bytes.length
    const isHeader = this.fields === 0
    const columns = this.#columnOf.length
    let field = 0
    let i = 0
    while (i < size || (isLast && field > 0)) {
      const isQuoted = i < size && bytes[i] === QUOTE
      const end = isQuoted ? this.#quotedEnd(i, isLast) : this.#bareEnd(i)
      if (end === OPEN || (end === size && !isLast)) break
      if (isQuoted && end < size && this.#ends[bytes[end]] === 0)
        throw this.#fault(end, `${this.#called(field)}: text behind the closing quote`)
      if (isHeader) this.places.add(i, end, field)
      else if (field < columns && this.#columnOf[field] >= 0) this.#add(i, end, field)
      if (end < size && bytes[end] === this.#delimiter) {
        field++
        i = end + 1
        continue
      }
      if (end + 1 === size && bytes[end] === CR && !isLast) break
      i = this.#endRecord(end, field + 1)
      field = 0
      if (isHeader) break
    }
    this.places.count = this.#placesWhole
    if (size - this.whole > RECORD_BYTES && !isHeader) throw this.#tooLong(this.whole)
    if (isHeader && this.rows === 0 && size > RECORD_BYTES) throw this.#tooLong(0)
  }

  #placesWhole = 0

  #begin(bytes: Uint8Array, line: number): void {
    // Always a plain Uint8Array: every access to the bytes of a Buffer is slower.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    for (const search of [this.#delimiters, this.#lfs, this.#crs, this.#quotes]) search.begin(bytes)
    this.#line = line
    this.#inQuotes = this.#placesWhole = 0
    this.places.count = this.whole = this.rows = this.lines = 0
  }

  /** The end behind the closing quote; OPEN where more bytes must be seen. */
  #quotedEnd(start: number, isLast: boolean): number {
    const bytes = this.#bytes
    const size = bytes.length
    for (let from = start + 1; ; ) {
      const quote = this.#nextQuote(from)
      if (quote === size) break
      if (quote + 1 === size && !isLast) return OPEN
      if (bytes[quote + 1] !== QUOTE) {
        this.#inQuotes += this.#linesIn(start, quote)
        return quote + 1
      }
      from = quote + 2
    }
    if (!isLast) return OPEN
    throw this.#fault(start, 'a quote is left open up to the end of the file')
  }

  #bareEnd(start: number): number {
    const bytes = this.#bytes
    const ends = this.#ends
    const near = Math.min(start + NEAR_END, bytes.length)
    let i = start
    while (i < near && ends[bytes[i]] === 0) i++
    if (i < near) return i
    return Math.min(this.#delimiters.next(i), this.#lfs.next(i), this.#crs.next(i))
  }

  #nextQuote(from: number): number {
    const bytes = this.#bytes
    const near = Math.min(from + NEAR_QUOTE, bytes.length)
    let i = from
    while (i < near && bytes[i] !== QUOTE) i++
    return i < near ? i : this.#quotes.next(i)
  }

  #linesIn(start: number, end: number): number {
    if (this.#lfs.next(start) >= end && this.#crs.next(start) >= end) return 0
    const bytes = this.#bytes
    let lines = 0
    for (let i = start; i < end; i++) {
      if (bytes[i] === LF || (bytes[i] === CR && bytes[i + 1] !== LF)) lines++
    }
    return lines
  }

  /** Adds a named field; a quoted field without its quotes. */
  #add(start: number, end: number, field: number): void {
    const bytes = this.#bytes
    const column = this.#columnOf[field]
    if (start < end && bytes[start] === QUOTE) {
      this.places.add(start + 1, end - 1, column)
      return
    }
    for (let i = start; i < end; i++) {
      if (bytes[i] === QUOTE)
        throw this.#fault(
          i,
          `${this.#called(field)}: a quote inside a field that does not begin with a quote`,
        )
    }
    if (start < end || this.#withRecordEnds) this.places.add(start, end, column)
  }

  /** Takes the end of a record. Returns the start of the next record. */
  #endRecord(end: number, fields: number): number {
    const bytes = this.#bytes
    if (fields !== this.fields && this.fields > 0)
      throw this.#fault(this.whole, `${fieldsOf(fields)}, but the header has ${this.fields}`)
    if (end - this.whole > RECORD_BYTES) throw this.#tooLong(this.whole)
    if (this.#withRecordEnds && this.places.count > 0) this.places.recordEnd[this.places.count - 1] = end
    let next = end
    if (next < bytes.length) next += bytes[end] === CR && bytes[end + 1] === LF ? 2 : 1
    this.rows++
    this.lines += this.#inQuotes + 1
    this.#inQuotes = 0
    this.whole = next
    this.#placesWhole = this.places.count
    return next
  }

  #called(field: number): string {
    const name = this.#names[field]
    return name === undefined ? `field ${field + 1}` : `column ${JSON.stringify(name)}`
  }

  #tooLong(at: number): Error {
    return this.#fault(at, `the record is longer than ${RECORD_BYTES} bytes: is a quote left open?`)
  }

  #fault(at: number, message: string): Error {
    const line = lineAt({ bytes: this.#bytes, line: this.#line }, at)
    return faultAt(line, message, 'correct the line and run the command again')
  }
}

/** The places of a byte, found as far as asked for: all bytes are searched once. */
class Search {
  readonly #byte: number
  #bytes = Buffer.alloc(0)
  #next = 0

  constructor(byte: number) {
    this.#byte = byte
  }

  begin({ buffer, byteOffset, length }: Uint8Array<ArrayBufferLike>): void {
    this.#bytes = Buffer.from(buffer as ArrayBuffer, byteOffset, length)
    this.#next = -1
  }

  /** The first place from `start` on, or the size. `start` ascends from call to call. */
  next(start: number): number {
    if (this.#next >= start) return this.#next
    const found = this.#bytes.indexOf(this.#byte, start)
    this.#next = found < 0 ? this.#bytes.length : found
    return this.#next
  }
}

function fieldsOf(count: number): string {
  return count === 1 ? '1 field' : `${count} fields`
}
