// A piece of a text file: whole records, and the places of the values of the named columns in the records.
import { OperatorError } from '../errors.ts'
import type { ByteList, Bytes } from './bytes.ts'
import { type Scalar, VALUE_BYTES } from './vault.ts'

/** The most bytes of a record. */
export const RECORD_BYTES = 16 * 1024 * 1024

const LF = 0x0a
const CR = 0x0d
const QUOTE = 0x22
const BACKSLASH = 0x5c

/** 1 for ASCII that stands for itself in JSON. */
const PLAIN = new Uint8Array(256).fill(1, 0x20, 0x7f)
PLAIN[QUOTE] = PLAIN[BACKSLASH] = 0

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
  readonly words: Bytes
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
  /** Throws UsageError where a named column was in no record. */
  end(): void
  /** Whether the bytes of the place are the form of its value: places of equal values have equal bytes. */
  isPlain(piece: Piece, place: number): boolean
  /**
   * Appends the form of the value at a place that is not plain: JSON. Returns false for null, which stays.
   * Throws OperatorError.
   */
  writeForm(piece: Piece, place: number, out: ByteList): boolean
  /** Appends the value at a plain place, as JSON. Throws OperatorError for a value that no vault takes. */
  writeValue(piece: Piece, place: number, out: ByteList): void
  /** Whether strings are written with the quotes of JSON. */
  readonly withQuotes: boolean
  /** By byte of a text: 1 where quotes go around the text, where the file has none. */
  readonly special: Uint8Array
  /** The text of a value, as between quotes of the file. */
  textOf(value: Exclude<Scalar, null>): string
  /** Text before a new last field, where the operation adds a field instead of replacing the value. */
  readonly delimiter?: string
}

/** Appends text as a string of JSON. Returns false, with nothing appended, for other bytes than ASCII. */
export function appendString({ bytes }: Bytes, start: number, end: number, out: ByteList): boolean {
  out.reserve(end - start + 2)
  const to = out.memory.bytes
  let at = out.size
  to[at++] = QUOTE
  for (let i = start; i < end; i++) {
    const byte = bytes[i]
    if (PLAIN[byte] === 0) return false
    to[at++] = byte
  }
  to[at++] = QUOTE
  out.size = at
  return true
}

/** Whether quotes go around a text where the file has none. */
export function needsQuotes(
  { withQuotes, special }: Pick<Format, 'withQuotes' | 'special'>,
  text: Uint8Array,
  start: number,
  end: number,
): boolean {
  if (withQuotes) return false
  for (let i = start; i < end; i++) if (special[text[i]] === 1) return true
  return start === end
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
