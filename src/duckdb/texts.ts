// The texts of a VARCHAR column of a chunk. A call into DuckDB for every text costs more than the work on the
// text: texts lie close together in memory, and are read in a few large pieces.
import type { DuckDBVector } from '@duckdb/node-api'
import { assert } from '../assert.ts'
import type { DuckDB } from './package.ts'

/**
 * Bytes of a text in a column: its length, then the text; of a text that does not fit, the first four bytes
 * and the address.
 */
const ENTRY_BYTES = 16
const LONGEST_INSIDE = 12
/** Two texts that are at most so far from each other are read together. Pages of memory are larger. */
const GAP_BYTES = 1_024

/** `result[i]` is the text of row i. A byte order mark stays, which DuckDB's package leaves out. */
export function textsOf(duckdb: DuckDB, vector: DuckDBVector, rows: number): (string | null)[] {
  const { dataView, validity } = insideOf(vector)
  const texts: (string | null)[] = new Array(rows).fill(null)
  const lengths = new Int32Array(rows).fill(-1)
  const memory = new Memory(duckdb)
  for (let i = 0; i < rows; i++) {
    if (!validity.itemValid(i)) continue
    const length = dataView.getUint32(i * ENTRY_BYTES, true)
    lengths[i] = length
    if (length > LONGEST_INSIDE) memory.plan(addressAt(dataView, i), length)
  }
  memory.read()
  const own = Buffer.from(dataView.buffer, dataView.byteOffset, dataView.byteLength)
  for (let i = 0; i < rows; i++) {
    const length = lengths[i]
    if (length < 0) continue
    const start = i * ENTRY_BYTES + 4
    texts[i] =
      length > LONGEST_INSIDE
        ? memory.text(addressAt(dataView, i), length)
        : own.toString('utf8', start, start + length)
  }
  return texts
}

/** Exact: addresses have 48 bits, sometimes 52. */
function addressAt(entries: DataView, row: number): number {
  const at = row * ENTRY_BYTES + 8
  return entries.getUint32(at, true) + entries.getUint32(at + 4, true) * 2 ** 32
}

/** Parts of the memory of DuckDB, copied. */
class Memory {
  readonly #duckdb: DuckDB
  readonly #starts: number[] = []
  readonly #ends: number[] = []
  /** Addresses of the parts, ascending, and their bytes. */
  readonly #from: number[] = []
  readonly #bytes: Buffer[] = []
  #last = 0

  constructor(duckdb: DuckDB) {
    this.#duckdb = duckdb
  }

  /** A text to be read. */
  plan(address: number, length: number): void {
    this.#starts.push(address)
    this.#ends.push(address + length)
  }

  read(): void {
    const starts = Float64Array.from(this.#starts).sort()
    const ends = Float64Array.from(this.#ends).sort()
    // Texts may share memory. A part ends after text i, by address, where so many texts have ended before the
    // next text begins.
    for (let first = 0, i = 0; i < starts.length; i++) {
      if (i + 1 < starts.length && starts[i + 1] - ends[i] <= GAP_BYTES) continue
      this.#from.push(starts[first])
      this.#bytes.push(bytesAt(this.#duckdb, starts[first], ends[i] - starts[first]))
      first = i + 1
    }
  }

  text(address: number, length: number): string {
    const part = this.#partOf(address)
    const at = address - this.#from[part]
    return this.#bytes[part].toString('utf8', at, at + length)
  }

  #partOf(address: number): number {
    const from = this.#from
    const last = this.#last
    if (address >= from[last] && (last + 1 === from.length || address < from[last + 1])) return last
    let low = 0
    for (let high = from.length; high - low > 1; ) {
      const middle = (low + high) >> 1
      if (from[middle] <= address) low = middle
      else high = middle
    }
    this.#last = low
    return low
  }
}

/** Reads `length` bytes, more than an entry holds: by an entry of our own that has the address. */
function bytesAt(duckdb: DuckDB, address: number, length: number): Buffer {
  const vector = duckdb.DuckDBDataChunk.create([duckdb.BLOB], 1).getColumnVector(0)
  assert(vector instanceof duckdb.DuckDBBlobVector, 'a column of BLOB has its class')
  const { dataView } = insideOf(vector)
  dataView.setUint32(0, length, true)
  dataView.setUint32(8, address % 2 ** 32, true)
  dataView.setUint32(12, Math.floor(address / 2 ** 32), true)
  const bytes = vector.getItemBytes(0)
  assert(bytes?.length === length, 'the bytes at an address are as many as asked for')
  return Buffer.from(bytes.buffer, bytes.byteOffset, length)
}

type Inside = { readonly dataView: DataView; readonly validity: { itemValid(row: number): boolean } }

/** The parts of a column of VARCHAR or BLOB that DuckDB's package has for itself. */
function insideOf(vector: DuckDBVector): Inside {
  const dataView: unknown = Reflect.get(vector, 'dataView')
  assert(dataView instanceof DataView, 'a column of texts has its entries')
  return { dataView, validity: Reflect.get(vector, 'validity') }
}
