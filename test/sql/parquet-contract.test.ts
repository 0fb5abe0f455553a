// The sentences of the contract about Parquet files, each named, by the commands.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { coffer, fine, refused } from '../cli/cli.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

let vault: SqlVault
let options: { readonly env: Readonly<Record<string, string>>; readonly cwd: string }

before(async () => {
  vault = await startSqlVault()
  options = { env: vault.env, cwd: vault.folder.path }
})

after(() => vault?.[Symbol.asyncDispose]())

const write = (name: string, query: string): Promise<string> =>
  fine(['sql', '-c', `COPY (${query}) TO '${name}'`], options)

const read = async (query: string): Promise<string[]> =>
  (await fine(['sql', '--csv', '-c', query], options)).split('\n').slice(1)

const named = (...columns: string[]): string[] => columns.flatMap((each) => ['--column', each])

test('"integers, DOUBLE and BOOLEAN as JSON has them, text as text, other types by their text"', async () => {
  const day = "DATE '2024-01-31' AS day, 1.50::DECIMAL(5, 2) AS dec"
  await write('types.parquet', `SELECT 17 AS n, 1.5::DOUBLE AS d, true AS b, '17' AS t, ${day}`)
  const columns = ['n', 'd', 'b', 't', 'day', 'dec']
  await fine(['tokenize', 'types.parquet', ...named(...columns)], options)
  const { tokens } = await vault.client.tokenize([17, 1.5, true, '17', '2024-01-31', '1.50'])
  assert.deepEqual(await read(`SELECT unnest([${columns}]) FROM 'types.tokens.parquet'`), tokens)
})

test('"with --as text all by their text"', async () => {
  await write('text.parquet', 'SELECT 17 AS n, 1.5::DOUBLE AS d, true AS b, 0.1::FLOAT AS f')
  const columns = ['n', 'd', 'b', 'f']
  const { stderr } = await coffer(['tokenize', 'text.parquet', ...named(...columns), '--as', 'text'], options)
  assert.equal(stderr, '', 'numbers are not told')
  const { tokens } = await vault.client.tokenize(['17', '1.5', 'true', '0.1'])
  assert.deepEqual(await read(`SELECT unnest([${columns}]) FROM 'text.tokens.parquet'`), tokens)
})

test('"beyond 2^53 - 1: exit 1, naming --as text"; "FLOAT refused but with --as text"', async () => {
  await write('beyond.parquet', 'SELECT 9007199254740992 AS big, 0.5::FLOAT AS f')
  for (const column of ['big', 'f'])
    assert.match(await refused(1, ['tokenize', 'beyond.parquet', '--column', column], options), /--as text/)
  assert.equal(existsSync(vault.folder.file('beyond.tokens.parquet')), false)
})

test('"not found (`detokenize` of Parquet: NULL) is counted, told on stderr, in --json; exit 0"', async () => {
  await write('people.parquet', "SELECT 'Zoë' AS name, i FROM range(3) r(i)")
  await fine(['tokenize', 'people.parquet', '--column', 'name'], options)
  const args = ['detokenize', 'people.tokens.parquet', '--column', 'name', '--json']
  const other = await coffer(args, { ...options, env: vault.otherEnv })
  assert.equal(other.code, 0)
  assert.match(other.stderr, /3 tokens not found, NULL in their places/)
  assert.equal(JSON.parse(other.stdout).not_found, 3)
  assert.deepEqual(await read("SELECT count(*), count(name) FROM 'people.tokens.values.parquet'"), ['3,0'])
  const kept = ['retokenize', 'people.tokens.parquet', '--column', 'name', '--json']
  const retokenized = await coffer(kept, { ...options, env: vault.otherEnv })
  assert.match(retokenized.stderr, /3 tokens not found, left as they are/)
  const same = readFileSync(vault.folder.file('people.tokens.parquet'))
  assert.deepEqual(
    await read("SELECT DISTINCT name FROM 'people.tokens.retokenized.parquet'"),
    await read("SELECT DISTINCT name FROM 'people.tokens.parquet'"),
  )
  const strict = ['detokenize', 'people.tokens.parquet', '--column', 'name', '--strict', '-o', 'no.parquet']
  assert.match(await refused(1, strict, { ...options, env: vault.otherEnv }), /3 tokens not found/)
  assert.equal(existsSync(vault.folder.file('no.parquet')), false)
  assert.ok(same.equals(readFileSync(vault.folder.file('people.tokens.parquet'))))
})

test('"a value that is a token already: exit 1, unless --allow-tokens"', async () => {
  await write('already.parquet', "SELECT tokenize('x') AS name")
  const args = ['tokenize', 'already.parquet', '--column', 'name']
  assert.match(await refused(1, args, options), /column name: .*already-a-token.*--allow-tokens/)
  await fine([...args, '--allow-tokens'], options)
})

test('"OUT has FILE\'s format"; "--map" and "--delimiter" are not for Parquet; "FILE itself: refused"', async () => {
  await write('own.parquet', "SELECT 'x' AS name")
  const args = ['tokenize', 'own.parquet', '--column', 'name']
  for (const more of [
    ['-o', 'own.csv'],
    ['-o', 'own.parquet.gz'],
    ['--delimiter', ';'],
  ])
    await refused(2, [...args, ...more], options)
  await refused(2, ['retokenize', 'own.parquet', '--column', 'name', '--map', 'new'], options)
  assert.match(await refused(1, [...args, '-o', 'own.parquet'], options), /is the file itself/)
  await fine([...args, '-o', 'own.parquet', '--force'], options)
  assert.match((await read("SELECT name FROM 'own.parquet'"))[0], /^tok_1_/)
})
