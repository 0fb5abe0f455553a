// Parquet files that are odd or wrong, and runs that end early, by the commands.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { fine, freePort, refused, spawnCoffer, until } from '../cli/cli.ts'
import { hasTerminals, Terminal } from './terminal.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

let vault: SqlVault
let connection: DuckDBConnection
let options: { readonly env: Readonly<Record<string, string>>; readonly cwd: string }

before(async () => {
  vault = await startSqlVault()
  options = { env: vault.env, cwd: vault.folder.path }
  connection = await (await DuckDBInstance.create(':memory:')).connect()
})

after(async () => {
  connection?.closeSync()
  await vault?.[Symbol.asyncDispose]()
})

async function write(name: string, query: string, more = ''): Promise<void> {
  const file = vault.folder.file(name).replaceAll("'", "''")
  await connection.run(`COPY (${query}) TO '${file}' (FORMAT parquet${more})`)
}

async function rows(name: string): Promise<unknown> {
  // A pattern for the path alone.
  const file = vault.folder.file(name).replaceAll("'", "''").replace(/[*?[]/g, '[$&]')
  const sql = `SELECT * FROM read_parquet('${file}', hive_partitioning = false)`
  return (await connection.runAndReadAll(sql)).getRowsJson()
}

/** Changes bytes of a file of the same number: DuckDB writes no such file by itself. */
function patch(name: string, from: string, to: string): void {
  const bytes = readFileSync(vault.folder.file(name), 'latin1')
  assert.ok(bytes.includes(from), `${name} has the bytes`)
  writeFileSync(vault.folder.file(name), bytes.replaceAll(from, to), 'latin1')
}

test('columns `Id` and `id` are refused with both names', async () => {
  await write('ids.parquet', 'SELECT 1 AS "Id", 2 AS "xy"')
  patch('ids.parquet', 'xy', 'id')
  const told = await refused(1, ['tokenize', 'ids.parquet', '--column', 'Id'], options)
  assert.match(told, /columns Id and id, which DuckDB cannot tell apart: rename a column/)
  assert.equal(existsSync(vault.folder.file('ids.tokens.parquet')), false)
})

test('a column that is there twice: exit 2 with the names, as of CSV', async () => {
  await write('twice.parquet', 'SELECT 1 AS "ssn", 2 AS "xyz", 3 AS other')
  patch('twice.parquet', 'xyz', 'ssn')
  const told = await refused(2, ['tokenize', 'twice.parquet', '--column', 'ssn'], options)
  assert.match(told, /column ssn is there twice.*: the columns are ssn, ssn, other/)
  const other = await refused(1, ['tokenize', 'twice.parquet', '--column', 'other'], options)
  assert.match(other, /columns ssn and ssn, which DuckDB cannot tell apart/)
})

test('text that is not UTF-8 is told without the text', async () => {
  await write('bytes.parquet', "SELECT 'secret-xy' AS ssn, 1 AS id", ', COMPRESSION uncompressed')
  patch('bytes.parquet', 'secret-xy', 'secret-\xff\xfe')
  const told = await refused(1, ['tokenize', 'bytes.parquet', '--column', 'ssn'], options)
  assert.match(told, /string encoding .*bytes\.parquet/)
  assert.doesNotMatch(told, /secret/)
})

/** In the footer of a file: the logical types up to their units, without a time zone and in UTC. */
const [TIMESTAMP, TIMESTAMP_UTC] = ['\x8c\x12\x1c', '\x8c\x11\x1c']
const [TIME, TIME_UTC] = ['\x7c\x12\x1c', '\x7c\x11\x1c']
const NANOS = '\x3c\x00\x00'

test('nanoseconds stay, or the file is refused: no digits go silently', async () => {
  const moment = "TIMESTAMP_NS '2024-01-01 00:00:00.123456789' AS t"
  await write('nanos.parquet', `SELECT 'x' AS x, ${moment}, TIME_NS '00:00:01.123456789' AS clock`)
  await fine(['tokenize', 'nanos.parquet', '--column', 'x'], options)
  await fine(['detokenize', 'nanos.tokens.parquet', '--column', 'x', '-o', 'nanos.back.parquet'], options)
  assert.deepEqual(await rows('nanos.back.parquet'), await rows('nanos.parquet'))
  assert.match(JSON.stringify(await rows('nanos.back.parquet')), /\.123456789".*\.123456789"/)
  await write(
    'utc.parquet',
    `SELECT 'x' AS x, {'inside': [{${moment.replace(/(.*) AS t/, "'t': $1")}}]} AS s`,
  )
  patch('utc.parquet', TIMESTAMP + NANOS, TIMESTAMP_UTC + NANOS)
  const told = await refused(1, ['tokenize', 'utc.parquet', '--column', 'x'], options)
  assert.match(told, /column s is TIMESTAMP\(NANOS\), .* microseconds only: cast the column/)
  await write('time.parquet', "SELECT 'x' AS x, TIME_NS '00:00:01' AS t")
  patch('time.parquet', TIME + NANOS, TIME_UTC + NANOS)
  assert.match(
    await refused(1, ['tokenize', 'time.parquet', '--column', 'x'], options),
    /column t is TIME\(NANOS\)/,
  )
  await write('int96.parquet', "SELECT 'x' AS x, 1.5::DOUBLE AS t")
  const [double, int96] = ['\x0a', '\x06'].map((type) => `\x15${type}\x25\x02\x18\x01t`)
  patch('int96.parquet', double, int96)
  assert.match(await refused(1, ['tokenize', 'int96.parquet', '--column', 'x'], options), /column t is INT96/)
})

test('ids of fields stay, also inside', async () => {
  const ids =
    '{x: 3, s: {__duckdb_field_id: 4, a: 5, b: 6}, l: {__duckdb_field_id: 7, element: 8}, m: {__duckdb_field_id: 9, key: 10, value: 11}}'
  const query = "SELECT 'x' AS x, {'a': 1, 'b': 2} AS s, [1] AS l, MAP {'k': 1} AS m, 2 AS none"
  await write('fields.parquet', query, `, FIELD_IDS ${ids}`)
  const found = async (name: string): Promise<unknown> => {
    const sql = `SELECT name, field_id FROM parquet_schema('${vault.folder.file(name)}')`
    return (await connection.runAndReadAll(sql)).getRowsJson()
  }
  await fine(['tokenize', 'fields.parquet', '--column', 'x'], options)
  assert.deepEqual(await found('fields.tokens.parquet'), await found('fields.parquet'))
  await fine(['tokenize', 'fields.parquet', '--column', 'l', '-o', 'inside.parquet'], options)
  const inside = "SELECT field_id FROM parquet_schema('inside.parquet') WHERE name = 'l'"
  assert.equal(await fine(['sql', '--csv', '-c', inside], options), 'field_id\n7')
})

test('a file without rows goes and comes back; a file without bytes is an error', async () => {
  await write('none.parquet', "SELECT 17 AS n, 'x' AS x WHERE false")
  const args = ['tokenize', 'none.parquet', '--column', 'n', '--column', 'x', '--json']
  const { seconds: _, ...report } = JSON.parse(await fine(args, options))
  const counts = { rows: 0, values: 0, distinct: 0, replaced: 0, not_found: 0, unmatched: 0, epochs: [] }
  assert.deepEqual(report, counts)
  await fine(['detokenize', 'none.tokens.parquet', '--column', 'n', '-o', 'none.back.parquet'], options)
  const types = "SELECT n, t FROM (DESCRIBE 'none.back.parquet') d(n, t, a, b, c, e)"
  assert.equal(await fine(['sql', '--csv', '-c', types], options), 'n,t\nn,INTEGER\nx,VARCHAR')
  writeFileSync(vault.folder.file('void.parquet'), '')
  assert.match(await refused(1, ['tokenize', 'void.parquet', '--column', 'x'], options), /void\.parquet/)
  assert.equal(existsSync(vault.folder.file('void.tokens.parquet')), false)
})

test('2,000 columns', async () => {
  const columns = Array.from({ length: 2_000 }, (_, i) => `'v' || i || '.${i}' AS c${i}`)
  await write('wide.parquet', `SELECT ${columns.join(', ')} FROM range(10) r(i)`)
  const named = ['--column', 'c0', '--column', '#1000', '--column', 'c1999']
  await fine(['tokenize', 'wide.parquet', ...named], options)
  await fine(['detokenize', 'wide.tokens.parquet', ...named, '-o', 'wide.back.parquet'], options)
  assert.deepEqual(await rows('wide.back.parquet'), await rows('wide.parquet'))
})

test("paths with `*`, `'`, blanks and `year=2024/`", async () => {
  mkdirSync(vault.folder.file('year=2024'))
  const file = "year=2024/it's a *.parquet"
  await write(file, "SELECT 'x' AS x")
  await write("year=2024/it's a b.parquet", "SELECT 'another' AS x")
  await fine(['tokenize', file, '--column', 'x'], options)
  const out = "year=2024/it's a *.tokens.parquet"
  await fine(['detokenize', out, '--column', 'x', '-o', 'of year.parquet'], options)
  assert.deepEqual(await rows('of year.parquet'), [['x']])
})

test('OUT where nothing can be written', { skip: !existsSync('/proc/self') }, async () => {
  await write('small.parquet', "SELECT 'x' AS x")
  const to = (out: string): string[] => ['tokenize', 'small.parquet', '--column', 'x', '-o', out]
  assert.match(await refused(1, to('/proc/small.parquet'), options), /\/proc\/small\.parquet/)
  assert.match(await refused(1, to('small.parquet/small.parquet'), options), /small\.parquet/)
})

test('SIGINT, SIGTERM and SIGKILL leave no OUT, and what a killed run left goes at the next run', async () => {
  await write('signals.parquet', "SELECT 'x' AS x")
  const before = readdirSync(vault.folder.path)
  const args = ['tokenize', 'signals.parquet', '--column', 'x', '-o', 'signals.out.parquet']
  const left = (): string[] => readdirSync(vault.folder.path).filter((name) => !before.includes(name))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    let asked = false
    const silent = createServer(() => {
      asked = true
    })
    const port = await freePort()
    await new Promise<void>((resolve) => silent.listen(port, '127.0.0.1', resolve))
    const env = { ...vault.env, COFFER_URL: `http://127.0.0.1:${port}` }
    const child = spawnCoffer(args, { ...options, env })
    await until('a request', () => asked)
    child.kill(signal)
    await until('the end', () => child.exitCode !== null || child.signalCode !== null, 15_000)
    silent.closeAllConnections()
    silent.close()
    assert.equal(left().length, signal === 'SIGKILL' ? 1 : 0, signal)
    assert.ok(!left().includes('signals.out.parquet'))
  }
  await fine(args, options)
  assert.deepEqual(left(), ['signals.out.parquet'])
})

test('SIGTERM while DuckDB writes: the command ends, and nothing is left', async () => {
  await write('many.parquet', "SELECT 'many ' || i AS x FROM range(400000) r(i)", ', ROW_GROUP_SIZE 20480')
  const before = readdirSync(vault.folder.path)
  const child = spawnCoffer(['tokenize', 'many.parquet', '--column', 'x'], options)
  await until('a part is written', () => {
    const [part] = readdirSync(vault.folder.path).filter((name) => !before.includes(name))
    return part !== undefined && statSync(vault.folder.file(part)).size > 100
  })
  child.kill('SIGTERM')
  await until('the end', () => child.exitCode !== null || child.signalCode !== null)
  assert.equal(child.signalCode, 'SIGTERM')
  assert.deepEqual(readdirSync(vault.folder.path), before)
})

test('progress on a terminal, with rate and time left', { skip: !hasTerminals }, async () => {
  await write('long.parquet', "SELECT 'long ' || i AS x FROM range(30000) r(i)")
  using terminal = new Terminal(['tokenize', 'long.parquet', '--column', 'x'], options)
  await terminal.shows(/tokenizing \[[=-]+\] \d+ %, \d+ of 30000 rows, \d+ rows\/s, .* left/)
  await terminal.shows('long.tokens.parquet: 30000 rows, 30000 of 30000 values tokenized')
  assert.equal(await terminal.ended(), 0)
})
