// A single pass over the bytes of CSV (RFC 4180): the places of the named fields in whole records, without an
// object per field or record.
import { faultAt, lineAt, RECORD_BYTES } from './piece.ts'
import { PlaceList } from './places.ts'

export const QUOTE = 0x22
const LF = 0x0a
const CR = 0x0d
const OPEN = -1

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
    this.#line = line
    this.#inQuotes = this.#placesWhole = 0
    this.places.count = this.whole = this.rows = this.lines = 0
  }

  /** The end behind the closing quote; OPEN where more bytes must be seen. */
  #quotedEnd(start: number, isLast: boolean): number {
    const bytes = this.#bytes
    const size = bytes.length
    for (let i = start + 1; i < size; i++) {
      const c = bytes[i]
      if (c === QUOTE) {
        if (i + 1 === size) return isLast ? size : OPEN
        if (bytes[i + 1] !== QUOTE) return i + 1
        i++
      } else if (c === LF || (c === CR && bytes[i + 1] !== LF)) this.#inQuotes++
    }
    if (!isLast) return OPEN
    throw this.#fault(start, 'a quote is left open up to the end of the file')
  }

  #bareEnd(start: number): number {
    const bytes = this.#bytes
    const ends = this.#ends
    const size = bytes.length
    let i = start
    while (i < size && ends[bytes[i]] === 0) i++
    return i
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

function fieldsOf(count: number): string {
  return count === 1 ? '1 field' : `${count} fields`
}
