// CSV and TSV: the first record is the header, values are text, an empty field is null and `""` the empty
// string. A field keeps its quotes, and gets quotes where the new content needs quotes.
import { isUtf8 } from 'node:buffer'
import { assert } from '../assert.ts'
import { UsageError } from '../errors.ts'
import { type ByteList, Bytes } from './bytes.ts'
import { CsvScanner, QUOTE } from './csv-scan.ts'
import {
  appendString,
  checkLength,
  type Format,
  faultOf,
  needsQuotes,
  type Piece,
  type Places,
} from './piece.ts'
import { PlaceList } from './places.ts'
import { type Scalar, VALUE_BYTES } from './vault.ts'

const BOM = Buffer.from([0xef, 0xbb, 0xbf])
const REPLACEMENT = '\ufffd'
type CsvOptions = {
  /** Names, or `#3` by place. */
  readonly columns: readonly string[]
  /** A single byte. */
  readonly delimiter: string
  /** The name of a new last field; each record gets the new token there, and the named value stays. */
  readonly newField?: string | undefined
}

export class CsvFormat implements Format {
  readonly columns: readonly string[]
  readonly delimiter?: string
  readonly #newField: string | undefined
  readonly #separator: string
  readonly #scanner: CsvScanner
  readonly withQuotes = false
  readonly special = new Uint8Array(256)
  #line = 1

  constructor({ columns, delimiter, newField }: CsvOptions) {
    assert(newField === undefined || columns.length === 1, 'a new field has one source')
    this.columns = columns
    this.#newField = newField
    this.#separator = delimiter
    if (newField !== undefined) this.delimiter = delimiter
    this.#scanner = new CsvScanner({
      delimiter: delimiter.charCodeAt(0),
      withRecordEnds: newField !== undefined,
    })
    for (const character of `"\r\n${delimiter}`) this.special[character.charCodeAt(0)] = 1
  }

  take(bytes: Buffer, isLast: boolean): Piece {
    const scanner = this.#scanner
    if (scanner.fields === 0) return this.#takeHeader(bytes, isLast)
    const line = this.#line
    scanner.scan(bytes, line, isLast)
    this.#line += scanner.lines
    const { whole, rows, places } = scanner
    const content = bytes.subarray(0, whole)
    return {
      bytes: content,
      words: new Bytes(content),
      taken: whole,
      line,
      rows,
      unmatched: 0,
      places: places.copy(this.delimiter !== undefined),
    }
  }

  isPlain({ bytes, places }: Piece, place: number): boolean {
    const start = places.start[place]
    return start !== places.end[place] || bytes[start - 1] === QUOTE
  }

  /** Of null only: all other places are plain. */
  writeForm(): boolean {
    return false
  }

  writeValue(piece: Piece, place: number, out: ByteList): void {
    const start = piece.places.start[place]
    const end = piece.places.end[place]
    if (end - start > VALUE_BYTES || !appendString(piece.words, start, end, out))
      out.appendText(JSON.stringify(this.#valueAt(piece, place)))
  }

  #valueAt(piece: Piece, place: number): string {
    const start = piece.places.start[place]
    const end = piece.places.end[place]
    const { bytes } = piece
    const text = bytes.toString('utf8', start, end)
    if (text.includes(REPLACEMENT) && !isUtf8(bytes.subarray(start, end)))
      throw faultOf(piece, place, this, {
        message: 'the value is not UTF-8',
        hint: 'convert the file to UTF-8',
      })
    const value = bytes[start - 1] === QUOTE && text.includes('"') ? text.replaceAll('""', '"') : text
    if (end - start > VALUE_BYTES) checkLength(value, piece, place, this)
    return value
  }

  textOf(value: Exclude<Scalar, null>): string {
    const text = String(value)
    return text.includes('"') ? text.replaceAll('"', '""') : text
  }

  end(): void {
    if (this.#scanner.fields === 0)
      throw new UsageError('the file is empty: there is no header with the names of the columns', {
        hint: 'name a file whose first line has the names of the columns',
      })
  }

  #fieldOf(name: string): string {
    const text = this.textOf(name)
    return needsQuotes(this, Buffer.from(text), 0, Buffer.byteLength(text)) ? `"${text}"` : text
  }

  #takeHeader(bytes: Buffer, isLast: boolean): Piece {
    const scanner = this.#scanner
    const none = { line: 1, rows: 0, unmatched: 0, places: NO_PLACES }
    const from = bytes.subarray(0, BOM.length).equals(BOM) ? BOM.length : 0
    const nothing = { ...none, bytes: bytes.subarray(0, 0), words: new Bytes(bytes.subarray(0, 0)), taken: 0 }
    if (bytes.length < BOM.length && !isLast) return nothing
    const record = bytes.subarray(from)
    scanner.scan(record, 1, isLast)
    if (scanner.rows === 0) return { ...nothing, taken: isLast ? bytes.length : 0 }
    const { start, end, count } = scanner.places
    const names = Array.from({ length: count }, (_, i) => nameOf(record, start[i], end[i]))
    this.#line += scanner.lines
    const taken = from + scanner.whole
    scanner.begin(columnsOf(this.columns, names), names)
    const added = this.#newField
    if (added === undefined) {
      const header = bytes.subarray(0, taken)
      return { ...none, bytes: header, words: new Bytes(header), taken }
    }
    if (names.includes(added))
      throw new UsageError(`there is a column ${JSON.stringify(added)} already`, {
        hint: 'name another column with --map',
      })
    const headerEnd = from + end[count - 1]
    const parts = [bytes.subarray(0, headerEnd), Buffer.from(this.#separator + this.#fieldOf(added))]
    const header = Buffer.concat([...parts, bytes.subarray(headerEnd, taken)])
    return { ...none, bytes: header, words: new Bytes(header), taken }
  }
}

const NO_PLACES: Places = new PlaceList().copy(false)

function nameOf(bytes: Buffer, start: number, end: number): string {
  const isQuoted = bytes[start] === QUOTE
  const text = bytes.toString('utf8', isQuoted ? start + 1 : start, isQuoted ? end - 1 : end)
  return isQuoted ? text.replaceAll('""', '"') : text
}

/** The index of the named column by field of the header, or -1. Throws UsageError. */
function columnsOf(columns: readonly string[], names: readonly string[]): Int32Array<ArrayBuffer> {
  const columnOf = new Int32Array(names.length).fill(-1)
  for (const [index, column] of columns.entries()) {
    const field = fieldOf(column, names)
    if (columnOf[field] >= 0) throw wrongColumn(`column ${JSON.stringify(column)} is named twice`, names)
    columnOf[field] = index
  }
  return columnOf
}

function fieldOf(column: string, names: readonly string[]): number {
  const field = names.indexOf(column)
  if (field >= 0 && names.lastIndexOf(column) !== field)
    throw wrongColumn(`column ${JSON.stringify(column)} is there twice: name the column by its place`, names)
  if (field >= 0) return field
  const place = /^#([1-9]\d{0,6})$/.exec(column)?.[1]
  if (place !== undefined && Number(place) <= names.length) return Number(place) - 1
  throw wrongColumn(`there is no column ${JSON.stringify(column)}`, names)
}

const NAMES_SHOWN = 50

function wrongColumn(message: string, names: readonly string[]): UsageError {
  const shown = names.slice(0, NAMES_SHOWN).map((name, i) => `${JSON.stringify(name)} (#${i + 1})`)
  const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : ''
  return new UsageError(message, { hint: `the columns are ${shown.join(', ')}${more}` })
}
