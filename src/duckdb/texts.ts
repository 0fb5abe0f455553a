// The texts of a VARCHAR column of a chunk. A call into DuckDB for every text costs more than the work on the
// text: texts lie close together in memory, and are read in a few large pieces.
import type { DuckDBVector } from '@duckdb/node-api'
import { assert } from '../assert.ts'
import type { DuckDB } from './package.ts'

/**
 * Bytes of a text in a column: its length, then the text; of a text that does not fit, the first four bytes
 * and the address.
 */
export const ENTRY_BYTES = 16
export const LONGEST_INSIDE = 12
/** Two texts that are at most so far from each other are read together. Pages of memory are larger. */
const GAP_BYTES = 1_024

/** The texts of a column as copies of their bytes. */
export class Texts {
  /** Bytes of the text of each row; -1: NULL. */
  readonly lengths: Int32Array
  /** The bytes with the text of `seek`, and where the text begins. No Buffer: slower byte by byte. */
  bytes: Uint8Array
  at = 0
  readonly #entries: DataView
  readonly #own: Uint8Array
  readonly #memory: Memory

  constructor(duckdb: DuckDB, vector: DuckDBVector, rows: number) {
    const { dataView, validity } = insideOf(vector)
    this.lengths = new Int32Array(rows).fill(-1)
    this.#entries = dataView
    this.#own = this.bytes = new Uint8Array(dataView.buffer, dataView.byteOffset, dataView.byteLength)
    this.#memory = new Memory(duckdb)
    for (let i = 0; i < rows; i++) {
      if (!validity.itemValid(i)) continue
      const length = dataView.getUint32(i * ENTRY_BYTES, true)
      this.lengths[i] = length
      if (length > LONGEST_INSIDE) this.#memory.plan(addressAt(dataView, i), length)
    }
    this.#memory.read()
  }

  /** Points at the text of a row; not for NULL. */
  seek(row: number): void {
    if (this.lengths[row] <= LONGEST_INSIDE) {
      this.bytes = this.#own
      this.at = row * ENTRY_BYTES + 4
    } else {
      const address = addressAt(this.#entries, row)
      const part = this.#memory.partOf(address)
      this.bytes = this.#memory.bytesOf(part)
      this.at = address - this.#memory.startOf(part)
    }
  }
}

/** `result[i]` is the text of row i. A byte order mark stays, which DuckDB's package leaves out. */
export function textsOf(duckdb: DuckDB, vector: DuckDBVector, rows: number): (string | null)[] {
  const found = new Texts(duckdb, vector, rows)
  const texts: (string | null)[] = new Array(rows).fill(null)
  for (let i = 0; i < rows; i++) {
    const length = found.lengths[i]
    if (length < 0) continue
    found.seek(i)
    const { bytes, at } = found
    texts[i] = Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('utf8')
  }
  return texts
}

/** Exact: addresses have 48 bits, sometimes 52. */
export function addressAt(entries: DataView, row: number): number {
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
  readonly #bytes: Uint8Array[] = []
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
    // Mostly the texts lie in the order of their rows.
    const starts = ascending(this.#starts)
    const ends = ascending(this.#ends)
    // Texts may share memory. A part ends after text i, by address, where so many texts have ended before the
    // next text begins.
    for (let first = 0, i = 0; i < starts.length; i++) {
      if (i + 1 < starts.length && starts[i + 1] - ends[i] <= GAP_BYTES) continue
      this.#from.push(starts[first])
      this.#bytes.push(bytesAt(this.#duckdb, starts[first], ends[i] - starts[first]))
      first = i + 1
    }
  }

  bytesOf(part: number): Uint8Array {
    return this.#bytes[part]
  }

  /** The address of a part. */
  startOf(part: number): number {
    return this.#from[part]
  }

  /** The part with an address. */
  partOf(address: number): number {
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

function ascending(numbers: readonly number[]): readonly number[] | Float64Array {
  for (let i = 1; i < numbers.length; i++)
    if (numbers[i] < numbers[i - 1]) return Float64Array.from(numbers).sort()
  return numbers
}

/** Reads `length` bytes, more than an entry holds: by an entry of our own that has the address. */
function bytesAt(duckdb: DuckDB, address: number, length: number): Uint8Array {
  const vector = duckdb.DuckDBDataChunk.create([duckdb.BLOB], 1).getColumnVector(0)
  assert(vector instanceof duckdb.DuckDBBlobVector, 'a column of BLOB has its class')
  const { dataView } = insideOf(vector)
  dataView.setUint32(0, length, true)
  dataView.setUint32(8, address % 2 ** 32, true)
  dataView.setUint32(12, Math.floor(address / 2 ** 32), true)
  const bytes = vector.getItemBytes(0)
  assert(bytes?.length === length, 'the bytes at an address are as many as asked for')
  return bytes
}

type Inside = {
  readonly dataView: DataView
  readonly validity: {
    itemValid(row: number): boolean
    setItemValid(row: number, isValid: boolean): void
  }
}

/** The parts of a column with entries of 16 bytes that DuckDB's package has for itself. */
export function insideOf(vector: DuckDBVector): Inside {
  const dataView: unknown = Reflect.get(vector, 'dataView')
  assert(dataView instanceof DataView, 'a column of texts has its entries')
  return { dataView, validity: Reflect.get(vector, 'validity') }
}
