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

test('columns `Id` and `id` are refused with both names', async () => {
  await write('ids.parquet', 'SELECT 1 AS "Id", 2 AS "xy"')
  const bytes = readFileSync(vault.folder.file('ids.parquet'), 'latin1')
  writeFileSync(vault.folder.file('ids.parquet'), bytes.replaceAll('xy', 'id'), 'latin1')
  const told = await refused(1, ['tokenize', 'ids.parquet', '--column', 'Id'], options)
  assert.match(told, /columns Id and id, which DuckDB cannot tell apart: rename a column/)
  assert.equal(existsSync(vault.folder.file('ids.tokens.parquet')), false)
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
