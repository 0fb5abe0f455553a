// The values of a table's tokens, without blocking the process: distinct tokens in large requests,
// their values in a temporary table, and a view of the join.
import type { DuckDBConnection, DuckDBMaterializedResult } from '@duckdb/node-api'
import { OperatorError } from '../errors.ts'
import { REQUESTS_AT_ONCE, RequestSize, VALUES_A_REQUEST } from '../table/requests.ts'
import type { Vault } from '../table/vault.ts'
import { askBatch } from './batches.ts'
import { Inserts } from './inserts.ts'
import { textOf } from './scalars.ts'
import { quoted } from './sql-text.ts'

export type RecoverOptions = {
  /** The name of a table or view with tokens. */
  readonly table: string
  /** Columns of type VARCHAR. */
  readonly columns: readonly string[]
  /** A client of the API. */
  readonly client: Vault
  /** The name of the view to make; `<table>_recovered` by default. */
  readonly view?: string
}

export type Recovered = {
  /** A temporary view: the rows of the table, with values as VARCHAR in place of the tokens. */
  readonly view: string
  /** A temporary table `(token, value)` of all distinct tokens. */
  readonly values: string
  readonly distinct: number
  /** Distinct tokens not found: their values are NULL. */
  readonly notFound: number
}

/**
 * Makes a temporary view of `table` with values in place of the tokens of `columns`. Numbers are text in RFC
 * 8785 form. All distinct values are in memory. A second call replaces the view.
 * Throws the errors of DuckDB and of the client, and OperatorError for columns of other types than VARCHAR
 * and for a `view` whose name, with or without `_values`, the caller already uses.
 */
export async function recover(connection: DuckDBConnection, options: RecoverOptions): Promise<Recovered> {
  const { table, columns, client, view = `${table}_recovered` } = options
  await checkColumns(connection, table, columns)
  const values = `${view}_values`
  await checkNames(connection, { table, view, values })
  await connection.run(`DROP VIEW IF EXISTS temp.${quoted(view)}`)
  await connection.run(`CREATE OR REPLACE TEMP TABLE ${quoted(values)} (${VALUES_COLUMNS})`)
  const each = columns.map((column) => `SELECT ${quoted(column)} AS token FROM ${quoted(table)}`)
  const distinct = (condition: string): string =>
    `SELECT DISTINCT token FROM (${each.join(' UNION ALL ')}) WHERE ${condition}`
  const others = await connection.run(
    `INSERT INTO temp.${quoted(values)} SELECT token, NULL FROM (${distinct(`NOT (${IS_LIKE_A_TOKEN})`)})`,
  )
  const tokens = await connection.run(
    `SELECT string_agg(token, ' ') FROM (
       SELECT token, row_number() OVER () // ${VALUES_A_REQUEST} AS batch FROM (${distinct(IS_LIKE_A_TOKEN)})
     ) GROUP BY batch`,
  )
  const filled = await fill({ connection, client, table: values }, tokens)
  await connection.run(viewOf({ view, table, columns, values }))
  return {
    view,
    values,
    distinct: filled.distinct + others.rowsChanged,
    notFound: filled.notFound + others.rowsChanged,
  }
}

const VALUES_COLUMNS = 'token VARCHAR, value VARCHAR'

type Names = { readonly table: string; readonly view: string; readonly values: string }

/** DuckDB compares names without case. Throws OperatorError where a table of the caller is in the way. */
async function checkNames(connection: DuckDBConnection, { table, view, values }: Names): Promise<void> {
  const hint = 'name another view'
  for (const made of [view, values]) {
    if (made.toLowerCase() === table.toLowerCase())
      throw new OperatorError(`recover makes ${made}, and cannot read from ${table}`, { hint })
  }
  const found = await connection.runAndReadAll(
    "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'temp'",
  )
  const columns = found.getRows().map((row) => row.map(String))
  const own = columns.filter(([name]) => name.toLowerCase() === values.toLowerCase())
  const text = own.map(([, column, type]) => `${column} ${type}`).join(', ')
  if (own.length > 0 && text !== VALUES_COLUMNS)
    throw new OperatorError(`recover makes ${values}, and there is a temporary table ${own[0][0]}`, { hint })
}

/** Other texts are no tokens, and are not asked for. */
const IS_LIKE_A_TOKEN = `starts_with(token, 'tok_') AND strlen(token) BETWEEN 38 AND 47
  AND NOT contains(token, ' ')`

async function checkColumns(
  connection: DuckDBConnection,
  table: string,
  columns: readonly string[],
): Promise<void> {
  if (columns.length === 0)
    throw new OperatorError('no columns are named', { hint: 'name a column with tokens' })
  const reader = await connection.runAndReadAll(`DESCRIBE SELECT * FROM ${quoted(table)}`)
  const types = new Map(reader.getRows().map(([name, type]) => [String(name), String(type)]))
  for (const column of columns) {
    const type = types.get(column)
    if (type === 'VARCHAR') continue
    const fault =
      type === undefined ? `has no column ${column}` : `has ${type} in column ${column}, not tokens`
    throw new OperatorError(`${table} ${fault}`, { hint: `the columns are ${[...types.keys()].join(', ')}` })
  }
}

type Filling = {
  readonly connection: DuckDBConnection
  readonly client: Vault
  readonly table: string
}

/** Asks for values in overlapping requests, and inserts them. `tokens`: lists with blanks between tokens. */
async function fill(
  { connection, client, table }: Filling,
  tokens: DuckDBMaterializedResult,
): Promise<{ readonly distinct: number; readonly notFound: number }> {
  const counts = { distinct: 0, notFound: 0 }
  const inserts = await Inserts.prepare(connection, table)
  const size = new RequestSize('detokenize')
  const batches = batchesOf(tokens, size)
  let failed = false
  const work = async (): Promise<void> => {
    while (!failed) {
      const { value: values, done } = await batches.next()
      if (done) return
      const { answers } = await askBatch(client, { operation: 'detokenize', values }, size)
      counts.distinct += answers.length
      const missing = await inserts.insert(values, answers.map(textOf))
      counts.notFound += missing
    }
  }
  const working = Array.from({ length: REQUESTS_AT_ONCE }, () =>
    work().catch((error: unknown) => {
      failed = true
      throw error
    }),
  )
  try {
    // After an error too, the other requests end before the statements are closed.
    for (const end of await Promise.allSettled(working)) if (end.status === 'rejected') throw end.reason
  } finally {
    inserts.close()
  }
  return counts
}

/** Parts of the size of a request. Callers take parts in turn. */
async function* batchesOf(
  result: DuckDBMaterializedResult,
  size: RequestSize,
): AsyncGenerator<readonly string[]> {
  for (;;) {
    const chunk = await result.fetchChunk()
    if (!chunk || chunk.rowCount === 0) return
    const lists = chunk.getColumnVector(0)
    for (let i = 0; i < chunk.rowCount; i++) {
      const tokens = String(lists.getItem(i)).split(' ')
      while (tokens.length > 0) yield tokens.splice(0, size.values)
    }
  }
}

function viewOf({
  view,
  table,
  columns,
  values,
}: {
  readonly view: string
  readonly table: string
  readonly columns: readonly string[]
  readonly values: string
}): string {
  const replaced = columns.map((column, i) => `v${i}.value AS ${quoted(column)}`)
  const joins = columns.map(
    (column, i) => `LEFT JOIN temp.${quoted(values)} v${i} ON v${i}.token = t.${quoted(column)}`,
  )
  return `CREATE TEMP VIEW ${quoted(view)} AS
    SELECT t.* REPLACE (${replaced.join(', ')}) FROM ${quoted(table)} t ${joins.join(' ')}`
}
