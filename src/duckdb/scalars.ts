// Values of DuckDB as values of the vault, and back.
import type { DuckDBVector } from '@duckdb/node-api'
import { OperatorError } from '../errors.ts'
import { type Scalar, TOKEN } from '../table/vault.ts'
import type { DuckDB } from './package.ts'
import { textsOf } from './texts.ts'

/** A type or a number without a token. */
export class ScalarError extends OperatorError {
  override readonly name = 'ScalarError'
}

const LARGEST = BigInt(Number.MAX_SAFE_INTEGER)
const CAST = 'CAST the value, as in tokenize(CAST(x AS VARCHAR))'

/** The values of a column of a chunk. Throws ScalarError for types and numbers without a token. */
export function readScalars(duckdb: DuckDB, vector: DuckDBVector, rows: number): Scalar[] {
  const { DuckDBTypeId: Id } = duckdb
  const { typeId } = vector.type
  switch (typeId) {
    case Id.VARCHAR:
      return textsOf(duckdb, vector, rows)
    case Id.BOOLEAN:
    case Id.TINYINT:
    case Id.SMALLINT:
    case Id.INTEGER:
    case Id.UTINYINT:
    case Id.USMALLINT:
    case Id.UINTEGER:
      return itemsOf<number | boolean>(vector, rows)
    case Id.BIGINT:
    case Id.UBIGINT:
      return itemsOf<bigint>(vector, rows).map(smallInteger)
    case Id.DOUBLE:
      return itemsOf<number>(vector, rows).map(finite)
    case Id.SQLNULL:
      return new Array(rows).fill(null)
    default:
      // The name alone: the text of the type of an ENUM has all members.
      throw withoutToken(Id[typeId])
  }
}

/** The vault's value as text: numbers in RFC 8785 form, `true`, `false`. */
export function textOf(value: Scalar): string | null {
  return value === null ? null : String(value)
}

/** The epoch in a token; null where the text has not the form of a token. */
export function epochOf(text: string): number | null {
  const match = TOKEN.exec(text)
  const epoch = Number(match?.[1])
  return match && epoch < 2 ** 31 ? epoch : null
}

function itemsOf<T extends string | number | bigint | boolean>(
  vector: DuckDBVector,
  rows: number,
): (T | null)[] {
  return Array.from({ length: rows }, (_, i) => vector.getItem(i) as T | null) // by the type of the vector
}

function smallInteger(value: bigint | null): number | null {
  if (value === null) return null
  if (value > LARGEST || value < -LARGEST) throw beyond('an integer is beyond 2^53 - 1')
  return Number(value)
}

function finite(value: number | null): number | null {
  if (value === null) return null
  if (!Number.isFinite(value)) throw beyond('a number is NaN or infinite')
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) throw beyond('a number is beyond 2^53 - 1')
  return value
}

function withoutToken(type: string): ScalarError {
  return new ScalarError(`tokenize takes VARCHAR, BOOLEAN, DOUBLE and integers to 64 bits, not ${type}`, {
    hint: CAST,
  })
}

function beyond(fault: string): ScalarError {
  return new ScalarError(`${fault}, and has no token as a number`, { hint: CAST })
}
