// Lines of JSON, an array of records, or a single record. Records are checked and searched by the scan of
// json/, many at a time as the elements of an array; all bytes but the values at the paths stay.
import { isUtf8 } from 'node:buffer'
import { assert } from '../assert.ts'
import { Problem, UsageError } from '../errors.ts'
import { KIND, type Scan } from '../json/matches.ts'
import { Paths } from '../json/paths.ts'
import { scan } from '../json/scan.ts'
import { type ByteList, Bytes } from './bytes.ts'
import { type Batch, type Batches, LineBatches, ListBatches } from './json-batches.ts'
import { appendString, checkLength, type Format, faultAt, faultOf, lineAt, type Piece } from './piece.ts'
import { type Operation, type Scalar, VALUE_BYTES } from './vault.ts'

const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d
const REPLACEMENT = '\ufffd'
const CORRECT = 'correct the line and run the command again'

type JsonOptions = {
  /** Paths as in the configuration of a node. */
  readonly columns: readonly string[]
  /** Whether each record is a line. */
  readonly isLines: boolean
  /** Numbers and booleans are tokenized as text, as written. */
  readonly asText: boolean
  readonly operation: Operation
}

export class JsonFormat implements Format {
  readonly columns: readonly string[]
  readonly #asText: boolean
  readonly #operation: Operation
  readonly #batches: Batches
  /** The elements, the columns, and the first members of the columns. */
  readonly #paths: Paths
  /** By column: the leaf of the column's first member. */
  readonly #firstLeaf: readonly number[]
  /** By leaf: whether a record has had a place. */
  readonly #seen: Uint8Array
  #rows = 0
  #line = 1

  constructor({ columns, isLines, asText, operation }: JsonOptions) {
    this.columns = columns
    this.#asText = asText
    this.#operation = operation
    this.#batches = isLines ? new LineBatches() : new ListBatches()
    const firsts = columns.map((column) => elementPath(/^[^.[\]]*/.exec(column)?.[0] ?? ''))
    const paths = columns.map(elementPath)
    const all = [...new Set(['[]', ...paths, ...firsts])]
    if (columns.includes(''))
      throw new UsageError('a path is empty', { hint: 'write a path such as patient.ssn' })
    if (new Set(paths).size < paths.length)
      throw new UsageError('a path is named twice', { hint: 'name each path once' })
    try {
      this.#paths = new Paths(all)
    } catch (error) {
      throw new UsageError(
        `a path of --column is not valid: ${columns.map((name) => JSON.stringify(name)).join(', ')}`,
        {
          cause: error,
          hint: 'write a path such as patient.ssn or contacts[].phone',
        },
      )
    }
    this.#firstLeaf = firsts.map((first) => all.indexOf(first))
    this.#seen = new Uint8Array(all.length)
  }

  take(bytes: Buffer, isLast: boolean): Piece {
    const line = this.#line
    const batch = this.#batches.take(bytes, { isLast, line })
    const content = bytes.subarray(0, batch.taken)
    this.#line = lineAt({ bytes: content, line }, content.length)
    const none = { count: 0, start: new Uint32Array(0), end: new Uint32Array(0), column: new Uint16Array(0) }
    const words = new Bytes(content)
    if (batch.to === batch.from)
      return { bytes: content, words, taken: batch.taken, line, rows: 0, unmatched: 0, places: none }
    const found = this.#records(content, batch, line)
    return { ...this.#pieceOf(found, batch.from - 1), bytes: content, words, taken: batch.taken, line }
  }

  readonly withQuotes = true
  readonly special = new Uint8Array(256)

  #valueAt(piece: Piece, place: number): Scalar {
    const { start, end, kind } = piece.places
    const [from, to] = [start[place], end[place]]
    assert(kind, 'places of JSON have kinds')
    switch (kind[place]) {
      case KIND.null:
        return null
      case KIND.true:
      case KIND.false: {
        const value = kind[place] === KIND.true
        return this.#asText ? String(value) : value
      }
      case KIND.number:
        return this.#number(piece, place, piece.bytes.toString('latin1', from, to))
      case KIND.string:
      case KIND.escaped:
        return this.#text(piece, place, piece.bytes.toString('utf8', from + 1, to - 1))
      default: {
        // Only tokens are looked for on the way back, and no object is a token.
        if (this.#operation !== 'tokenize') return null
        const message = `the value is ${kind[place] === KIND.object ? 'an object' : 'an array'}`
        throw faultOf(piece, place, this, { message, hint: 'name the paths of the values inside' })
      }
    }
  }

  isPlain({ places }: Piece, place: number): boolean {
    return places.kind?.[place] === KIND.string
  }

  writeForm(piece: Piece, place: number, out: ByteList): boolean {
    const value = this.#valueAt(piece, place)
    if (value !== null) out.appendText(this.textOf(value))
    return value !== null
  }

  writeValue(piece: Piece, place: number, out: ByteList): void {
    const start = piece.places.start[place]
    const end = piece.places.end[place]
    if (end - start > VALUE_BYTES || !appendString(piece.words, start + 1, end - 1, out))
      out.appendText(JSON.stringify(this.#valueAt(piece, place)))
  }

  textOf(value: Exclude<Scalar, null>): string {
    return JSON.stringify(value)
  }

  end(): void {
    if (this.#rows === 0) return
    const missing = this.columns.filter((_, i) => this.#seen[this.#firstLeaf[i]] === 0)
    if (missing.length === 0) return
    const names = missing.map((name) => JSON.stringify(name)).join(', ')
    throw new UsageError(`no record has ${names}`, { hint: `the first record has ${this.#batches.members}` })
  }

  #text(piece: Piece, place: number, raw: string): string {
    const { start, end, kind } = piece.places
    // Only tokens are looked for on the way back, and no token has such a fault.
    const isChecked = this.#operation === 'tokenize'
    if (isChecked && raw.includes(REPLACEMENT) && !isUtf8(piece.bytes.subarray(start[place], end[place])))
      throw faultOf(piece, place, this, {
        message: 'the value is not UTF-8',
        hint: 'convert the file to UTF-8',
      })
    const text: string = kind?.[place] === KIND.escaped ? JSON.parse(`"${raw}"`) : raw
    if (isChecked && raw.length > VALUE_BYTES / 4) checkLength(text, piece, place, this)
    return text
  }

  #number(piece: Piece, place: number, digits: string): Scalar {
    if (this.#operation !== 'tokenize') return Number(digits)
    if (this.#asText) {
      if (digits.length > VALUE_BYTES) checkLength(digits, piece, place, this)
      return digits
    }
    const value = Number(digits)
    if (Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))) return value
    const message = 'the number is beyond 2^53 - 1'
    throw faultOf(piece, place, this, { message, hint: 'tokenize the digits as text with --as text' })
  }

  /** Throws OperatorError with the line of the first fault. */
  #records(content: Buffer, batch: Batch, line: number): Scan {
    try {
      return this.#checked(content, batch, line)
    } catch (error) {
      // A record without an end goes on in the lines behind: the fault is found there, or at their end.
      for (const record of this.#batches.lines(content, batch)) this.#checked(content, record, line)
      throw error
    }
  }

  #checked(content: Buffer, batch: Batch, line: number): Scan {
    const found = this.#scan(content, batch, line)
    this.#batches.check(content, found, { batch, line })
    return found
  }

  /** Scans the records as the elements of an array. Throws OperatorError with the line of a fault. */
  #scan(content: Buffer, { from, to, separators }: Batch, line: number): Scan {
    const body = Buffer.allocUnsafe(to - from + 2)
    body[0] = OPEN_ARRAY
    content.copy(body, 1, from, to)
    body[body.length - 1] = CLOSE_ARRAY
    separators(body.subarray(1, -1))
    try {
      return scan(body, this.#paths)
    } catch (error) {
      if (!(error instanceof Problem)) throw error
      const at = Number(/ at byte (\d+)/.exec(error.message)?.[1] ?? 1) - 1 + from
      const where = lineAt({ bytes: content, line }, Math.min(at, to - 1))
      throw faultAt(where, `not acceptable JSON: expected ${String(error.members.expected)}`, CORRECT)
    }
  }

  /** The matches of columns as places; `shift` from the scanned body to the content. */
  #pieceOf(found: Scan, shift: number): Pick<Piece, 'rows' | 'unmatched' | 'places'> {
    const columns = this.columns.length
    const start = new Uint32Array(found.count)
    const end = new Uint32Array(found.count)
    const column = new Uint16Array(found.count)
    const kind = new Uint8Array(found.count)
    const inRecord = new Uint8Array(columns)
    let matched = columns // columns with a place in the record
    let count = 0
    let rows = 0
    let unmatched = 0
    for (let i = 0; i < found.count; i++) {
      const leaf = found.leaf[i]
      this.#seen[leaf] = 1
      if (leaf === 0) {
        if (matched < columns) unmatched++
        inRecord.fill(0)
        matched = 0
        rows++
      }
      if (leaf === 0 || leaf > columns) continue
      if (inRecord[leaf - 1] === 0) matched++
      inRecord[leaf - 1] = 1
      start[count] = found.start[i] + shift
      end[count] = found.end[i] + shift
      kind[count] = found.kinds[i]
      column[count++] = leaf - 1
    }
    if (rows > 0 && matched < columns) unmatched++
    this.#rows += rows
    return { rows, unmatched, places: { count, start, end, column, kind } }
  }
}

function elementPath(column: string): string {
  return column.startsWith('[') || column === '' ? `[]${column}` : `[].${column}`
}
