// DuckDB's package is large and optional: loaded when Parquet or SQL is asked for.
import { errorCode, OperatorError } from '../errors.ts'

export type DuckDB = typeof import('@duckdb/node-api')

/** Throws OperatorError, with the command for npm, where the package is not there. */
export async function loadDuckDB(): Promise<DuckDB> {
  try {
    const duckdb = await import('@duckdb/node-api')
    // Versions before 1.5.5-r.4 have no table functions, and their functions keep the process alive for ever.
    if ('DuckDBTableFunction' in duckdb) return duckdb
  } catch (error) {
    if (errorCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new OperatorError('Parquet and SQL need DuckDB, which is not installed', {
      cause: error,
      hint: 'install it beside coffer: npm install @duckdb/node-api',
    })
  }
  throw new OperatorError('the version of @duckdb/node-api is too old', {
    hint: 'install a newer version: npm install @duckdb/node-api@latest',
  })
}

/**
 * Lets the texts of rows have a byte order mark at their beginning, which DuckDB's package leaves out. For a
 * process of our own: the decoder of the whole package is replaced.
 */
export async function keepByteOrderMarks(): Promise<void> {
  const { default: accessors } = await import('@duckdb/node-api/lib/vectors/dataAccessors.js')
  Reflect.set(accessors, 'textDecoder', new TextDecoder('utf-8', { ignoreBOM: true }))
}
