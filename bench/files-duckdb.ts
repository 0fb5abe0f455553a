// DuckDB as a child of the suite `files`: files-duckdb.ts ACTION FILE …. Prints {"seconds"} of the work alone, as its
// last line. Throws where a result is not the right one.
import assert from 'node:assert/strict'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { Coffer } from '../src/client/index.ts'
import { recover, registerVault } from '../src/duckdb/index.ts'

const [action, file, ...rest] = process.argv.slice(2)
const address = { urls: process.env.COFFER_URL ?? '', key: process.env.COFFER_KEY ?? '' }
/** For the tokens in a table: values like `value 17`. */
const VALUE = "'value ' || range"

async function open(path = ':memory:', mode = 'AUTOMATIC'): Promise<DuckDBConnection> {
  const instance = await DuckDBInstance.create(path, { temp_directory: '', access_mode: mode })
  return instance.connect()
}

const quoted = (path: string): string => `'${path.replaceAll("'", "''")}'`

async function firstRow(connection: DuckDBConnection, sql: string): Promise<readonly unknown[]> {
  return (await connection.runAndReadAll(sql)).getRows()[0]
}

async function timed(work: () => Promise<unknown>): Promise<void> {
  const began = performance.now()
  await work()
  console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000 }))
}

async function makeParquet(rows: number): Promise<void> {
  const connection = await open()
  const distinct = rows / 5
  const columns = `range AS id, 'A' || (hash(range) % ${distinct}) || '-99170' AS ssn, DATE '2026-03-14' AS day,
    (range % 100_000)::DECIMAL(9, 2) AS amount, 'open' AS state`
  await connection.run(`COPY (SELECT ${columns} FROM range(${rows})) TO ${quoted(file)}`)
}

async function copyParquet(to: string): Promise<void> {
  const connection = await open()
  await timed(() => connection.run(`COPY (SELECT * FROM ${quoted(file)}) TO ${quoted(to)}`))
}

async function compareParquet(other: string): Promise<void> {
  const connection = await open()
  const [one, two] = [file, other].map(
    (path) => `SELECT *, file_row_number FROM read_parquet(${quoted(path)}, file_row_number = true)`,
  )
  for (const sql of [`(${one}) EXCEPT (${two})`, `(${two}) EXCEPT (${one})`])
    assert.deepEqual(await firstRow(connection, `SELECT count(*) FROM (${sql})`), [0n])
}

/** Tables: `many` with a token a row, in the order in which they were made, `shuffled` with the same tokens, `few` with some tokens, `known` with the values of all. */
async function makeTokens(rows: number, few: number): Promise<void> {
  const connection = await open(file)
  const vault = await registerVault(connection, address)
  await timed(() =>
    connection.run(`CREATE TABLE known AS SELECT range AS n, ${VALUE} AS value, tokenize(${VALUE}) AS token
      FROM range(${rows})`),
  )
  await connection.run('CREATE TABLE many AS SELECT token FROM known ORDER BY n')
  await connection.run('CREATE TABLE shuffled AS SELECT token FROM known ORDER BY hash(n)')
  await connection.run(`CREATE TABLE few AS SELECT token FROM range(${rows}) r(i)
    JOIN known ON n = hash(i) % ${few}`)
  await connection.run(`CREATE TABLE known_few AS SELECT * FROM known WHERE n < ${few}`)
  await vault.close()
}

/** Of `many` or `few`: the sum of the lengths of all values, by a query on `(token, value)`. */
const SUM = 'SELECT count(*), count(value), sum(length(value))'
const MANY_JOINED = `${SUM} FROM many LEFT JOIN known USING (token)`
const FEW_JOINED = `${SUM} FROM few LEFT JOIN known_few USING (token)`
const called = (table: string): string => `${SUM} FROM (SELECT detokenize(token) AS value FROM ${table})`
const JOIN = `WITH m AS MATERIALIZED (SELECT token, detokenize(token) AS value FROM (SELECT DISTINCT token FROM few))
  ${SUM} FROM few LEFT JOIN m USING (token)`

/**
 * Measures a way to the values of a table; the result must be that of the local join. `isWarm`: a function was called
 * before, so that its thread is there.
 */
async function values(
  table: 'many' | 'shuffled' | 'few',
  way: (connection: DuckDBConnection) => Promise<readonly unknown[]>,
  isWarm = false,
): Promise<void> {
  const connection = await open(file, 'READ_ONLY')
  const vault = await registerVault(connection, address)
  const due = await firstRow(connection, table === 'few' ? FEW_JOINED : MANY_JOINED)
  assert.equal(due[0], due[1])
  if (isWarm) await firstRow(connection, 'SELECT detokenize(token) FROM known WHERE n = 99_999')
  let found: readonly unknown[] = []
  await timed(async () => {
    found = await way(connection)
  })
  assert.deepEqual(found, due)
  await vault.close()
}

async function recovered(connection: DuckDBConnection): Promise<readonly unknown[]> {
  const client = new Coffer({ ...address, timeoutMs: 10_000 })
  const { view } = await recover(connection, { table: 'many', columns: ['token'], client })
  client.close()
  return firstRow(connection, `SELECT count(*), count(token), sum(length(token)) FROM ${view}`)
}

const ACTIONS: Readonly<Record<string, () => Promise<void>>> = {
  'make-parquet': () => makeParquet(Number(rest[0])),
  'copy-parquet': () => copyParquet(rest[0]),
  'compare-parquet': () => compareParquet(rest[0]),
  'make-tokens': () => makeTokens(Number(rest[0]), Number(rest[1])),
  'join-many': () => values('many', (connection) => firstRow(connection, MANY_JOINED)),
  'join-few': () => values('few', (connection) => firstRow(connection, FEW_JOINED)),
  recover: () => values('many', recovered),
  function: () => values('many', (connection) => firstRow(connection, called('many'))),
  shuffled: () => values('shuffled', (connection) => firstRow(connection, called('shuffled'))),
  'first-join': () => values('few', (connection) => firstRow(connection, JOIN)),
  join: () => values('few', (connection) => firstRow(connection, JOIN), true),
}

await ACTIONS[action]()
