// A piece of a text file: whole records, and the places of the values of the named columns in the records.
import { OperatorError } from '../errors.ts'
import { type Scalar, VALUE_BYTES } from './vault.ts'

/** The most bytes of a record. */
export const RECORD_BYTES = 16 * 1024 * 1024

const LF = 0x0a
const CR = 0x0d

/** Byte spans [start, end) of values, in the order of the file; valid up to `count`. */
export type Places = {
  readonly count: number
  readonly start: Uint32Array
  readonly end: Uint32Array
  /** The index of the named column, by place. */
  readonly column: Uint16Array
  /** A Kind of JSON, by place. */
  readonly kind?: Uint8Array
  /** The end of the record, by place: where a new last field goes. */
  readonly recordEnd?: Uint32Array
}

export type Piece = {
  /** Whole records, or bytes to write unchanged, such as the header. */
  readonly bytes: Buffer
  /** How many bytes of the file the piece stands for; 0: more bytes are needed. */
  readonly taken: number
  /** The physical line of the first byte; the first line of a file is 1. */
  readonly line: number
  readonly rows: number
  /** Records without a place for a path. */
  readonly unmatched: number
  readonly places: Places
}

/** A text format: finds places, and knows how values are written. */
export type Format = {
  /** The named columns, as written on the command line. */
  readonly columns: readonly string[]
  /**
   * Whole records at the beginning of `bytes`, maybe none; the next call gets the rest.
   * `isLast`: the file ends with `bytes`, and all bytes are taken by some calls. Throws OperatorError,
   * UsageError.
   */
  take(bytes: Buffer, isLast: boolean): Piece
  /** The value at a place; null is never replaced. Throws OperatorError. */
  valueAt(piece: Piece, place: number): Scalar
  /** Throws UsageError where a named column was in no record. */
  end(): void
  /** Whether the bytes of the place are the form of its value: places of equal values have equal bytes. */
  isPlain(piece: Piece, place: number): boolean
  /** The form of a value whose place is not plain. */
  formOf(value: Exclude<Scalar, null>): Uint8Array
  /** The text of a value, as between quotes of the file. */
  textOf(value: Exclude<Scalar, null>): string
  /** Whether quotes go around a text where the file has none. */
  needsQuotes(text: string): boolean
  /** Text before a new last field, where the operation adds a field instead of replacing the value. */
  readonly delimiter?: string
}

/** The physical line of a byte: LF, CR LF and CR alone end a line. */
export function lineAt({ bytes, line }: { bytes: Uint8Array; line: number }, at: number): number {
  const before = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, Math.min(at, bytes.length))
  return line + placesOf(before, LF) + (before.includes(CR) ? lonelyCarriageReturns(bytes, before.length) : 0)
}

function placesOf(bytes: Buffer, byte: number): number {
  let count = 0
  for (let i = bytes.indexOf(byte); i >= 0; i = bytes.indexOf(byte, i + 1)) count++
  return count
}

function lonelyCarriageReturns(bytes: Uint8Array, end: number): number {
  let count = 0
  for (let i = 0; i < end; i++) if (bytes[i] === CR && bytes[i + 1] !== LF) count++
  return count
}

/** An error at a line of the file, in the file's own terms; never with a value. */
export function faultAt(line: number, message: string, hint?: string): OperatorError {
  return new OperatorError(`line ${line}: ${message}`, hint === undefined ? {} : { hint })
}

/** An error at a place: line and column. */
export function faultOf(
  piece: Piece,
  place: number,
  { columns }: Pick<Format, 'columns'>,
  fault: { readonly message: string; readonly hint?: string },
): OperatorError {
  const { start, column } = piece.places
  const name = JSON.stringify(columns[column[place]])
  return faultAt(lineAt(piece, start[place]), `column ${name}: ${fault.message}`, fault.hint)
}

/** Throws OperatorError for a text longer than any vault takes. */
export function checkLength(text: string, piece: Piece, place: number, format: Format): void {
  if (Buffer.byteLength(text) <= VALUE_BYTES) return
  const message = `the value is longer than ${VALUE_BYTES} bytes`
  throw faultOf(piece, place, format, { message, hint: 'shorten the value, or name another column' })
}
