// The texts of the VARCHAR column of a function's results: all texts in a single piece
// of DuckDB's memory, and entries with addresses in the piece. A call into DuckDB for every text costs
// more than the work on the text.
import type { DuckDBVector } from '@duckdb/node-api'
import { assert } from '../assert.ts'
import type { DuckDB } from './package.ts'
import { addressAt, ENTRY_BYTES, insideOf, LONGEST_INSIDE } from './texts.ts'

/** Bytes of a text in an entry with the address of the text. */
const PREFIX_BYTES = 4

/** Texts as bytes, one after another: the text of row i has `lengths[i]` bytes; -1: NULL. */
export type TextBytes = { readonly bytes: Uint8Array; readonly lengths: Int32Array }

/** Makes `texts[i]` the value of row i. The column is flat, as all results of functions. */
export function writeTexts(duckdb: DuckDB, column: DuckDBVector, texts: readonly (string | null)[]): void {
  const joined = texts.join('')
  const bytes = Buffer.from(joined)
  const isAscii = bytes.length === joined.length
  const lengths = new Int32Array(texts.length)
  for (const [i, text] of texts.entries()) {
    if (text === null) lengths[i] = -1
    else lengths[i] = isAscii ? text.length : Buffer.byteLength(text)
  }
  writeBytes(duckdb, column, { bytes, lengths })
}

/** As `writeTexts`. */
export function writeBytes(duckdb: DuckDB, column: DuckDBVector, { bytes, lengths }: TextBytes): void {
  const rows = lengths.length
  if (rows === 0) return
  const hasLong = lengths.some((length) => length > LONGEST_INSIDE)
  const address = hasLong ? keep(duckdb, column, bytes) : 0
  const entries = duckdb.DuckDBUHugeIntVector.fromRawVector(rawOf(column), rows)
  const { dataView, validity } = insideOf(entries)
  const own = new Uint8Array(dataView.buffer, dataView.byteOffset, dataView.byteLength).fill(0)
  let from = 0
  for (let i = 0, at = 0; i < rows; i++, at += ENTRY_BYTES) {
    const length = lengths[i]
    if (length < 0) {
      validity.setItemValid(i, false)
      continue
    }
    const isInside = length <= LONGEST_INSIDE
    const inside = isInside ? length : PREFIX_BYTES
    for (let j = 0; j < inside; j++) own[at + 4 + j] = bytes[from + j]
    dataView.setUint32(at, length, true)
    if (!isInside) {
      dataView.setUint32(at + 8, (address + from) % 2 ** 32, true)
      dataView.setUint32(at + 12, Math.floor((address + from) / 2 ** 32), true)
    }
    from += length
  }
  assert(from === bytes.length, 'the texts are as long together as each alone')
  entries.flush()
}

/** Copies bytes into the memory of the column, and returns their address. */
function keep(duckdb: DuckDB, column: DuckDBVector, bytes: Uint8Array): number {
  assert(bytes.length > LONGEST_INSIDE, 'shorter bytes have no address')
  const raw = rawOf(column)
  const first = duckdb.DuckDBBlobVector.fromRawVector(raw, 1)
  first.setItem(0, new duckdb.DuckDBBlobValue(bytes))
  first.flush()
  return addressAt(insideOf(duckdb.DuckDBBlobVector.fromRawVector(raw, 1)).dataView, 0)
}

type RawVector = Parameters<DuckDB['DuckDBBlobVector']['fromRawVector']>[0]

function rawOf(column: DuckDBVector): RawVector {
  const raw: unknown = Reflect.get(column, 'vector')
  assert(typeof raw === 'object' && raw !== null, 'a column has its vector')
  return raw as RawVector // a handle without members, only for calls into the package
}
