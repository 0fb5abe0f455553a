// Files of the benchmark, made of their numbers: the same bytes at every call.
import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { atRandom, VALUE_BYTES, writeValue } from './values.ts'

const PART_BYTES = 1024 * 1024

/** Writes one row at `at`. Returns its end. */
type RowWriter = (out: Buffer, at: number, row: number) => number

export type Table = {
  readonly rows: number
  readonly header: string
  readonly rowBytes: number
  readonly write: RowWriter
}

/** Some 44 bytes a row; the column `ssn` has `distinct` values at random. */
export function narrowTable(rows: number, distinct: number): Table {
  const order = atRandom(distinct)
  const rest = ',2026-03-14,1204.50,open\n'
  const write: RowWriter = (out, at, row) => {
    let to = writeNumber(out, at, row)
    out[to++] = 0x2c
    to = writeValue(out, to, order(row))
    return to + out.write(rest, to, 'latin1')
  }
  return { rows, header: 'id,ssn,day,amount,state\n', rowBytes: 10 + VALUE_BYTES + rest.length, write }
}

const NOTE_BYTES = 936

/** Some 980 bytes a row; `ssn` has `distinct` values at random, `phone` another one in each row. */
export function wideTable(rows: number, distinct: number): Table {
  const order = atRandom(distinct)
  const note = Buffer.from(`,"${'A note of the ward, with commas. '.repeat(40).slice(0, NOTE_BYTES)}"\n`)
  const write: RowWriter = (out, at, row) => {
    let to = writeNumber(out, at, row)
    out[to++] = 0x2c
    to = writeValue(out, to, order(row))
    out[to++] = 0x2c
    to = writeValue(out, to, distinct + row)
    return to + note.copy(out, to)
  }
  return { rows, header: 'id,ssn,phone,note\n', rowBytes: 10 + 2 * VALUE_BYTES + note.length + 1, write }
}

const LINE_NOTE = `,"note":"${'with commas, and {braces} in text. '.repeat(20).slice(0, 420)}"}\n`
/** Longer than any value or token. */
const FIELD_BYTES = 64

/** What the places of a line have: writes at `at`, and returns the end. */
type Fields = { readonly ssn: RowWriter; readonly visit: RowWriter }

/** `ssn` has `distinct` values at random, `visit` another one in each line. */
export function valueFields(distinct: number): Fields {
  const order = atRandom(distinct)
  return {
    ssn: (out, at, row) => writeValue(out, at, order(row)),
    visit: (out, at, row) => writeValue(out, at, distinct + row),
  }
}

/** JSON lines of some 500 bytes: `n` counts from 0, `patient.ssn` and `visit` have the fields. */
export function lineTable(rows: number, { ssn, visit }: Fields): Table {
  const note = Buffer.from(LINE_NOTE)
  const write: RowWriter = (out, at, row) => {
    let to = at + out.write('{"n":', at, 'latin1')
    to = writeNumber(out, to, row)
    to += out.write(',"patient":{"ssn":"', to, 'latin1')
    to = ssn(out, to, row)
    to += out.write('"},"visit":"', to, 'latin1')
    to = visit(out, to, row)
    to += out.write('"', to, 'latin1')
    return to + note.copy(out, to)
  }
  return { rows, header: '', rowBytes: 48 + 10 + 2 * FIELD_BYTES + note.length, write }
}

/** The text of value `number`, as the tables have it. */
export function valueText(number: number): string {
  const bytes = Buffer.alloc(VALUE_BYTES)
  return bytes.toString('latin1', 0, writeValue(bytes, 0, number))
}

/** The content of a table in parts of at most 1 MiB. */
export function* content({ rows, header, rowBytes, write }: Table): Generator<Buffer> {
  if (header !== '') yield Buffer.from(header)
  for (let row = 0; row < rows; ) {
    const part = Buffer.allocUnsafe(PART_BYTES)
    let to = 0
    for (; row < rows && to + rowBytes <= PART_BYTES; row++) to = write(part, to, row)
    yield part.subarray(0, to)
  }
}

export async function writeTable(file: string, table: Table): Promise<void> {
  await pipeline(Readable.from(content(table)), createWriteStream(file, { flags: 'wx' }))
}

/** Decimal, without leading zeros. */
function writeNumber(out: Buffer, at: number, number: number): number {
  let digits = 1
  for (let rest = number; rest >= 10; rest = (rest / 10) | 0) digits++
  let rest = number
  for (let i = at + digits - 1; i >= at; i--) {
    const tenth = (rest / 10) | 0
    out[i] = 48 + rest - tenth * 10
    rest = tenth
  }
  return at + digits
}
