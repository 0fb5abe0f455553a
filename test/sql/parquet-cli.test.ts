// The commands for files, of a Parquet file.
import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { coffer, fine, refused } from '../cli/cli.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

let vault: SqlVault

before(async () => {
  vault = await startSqlVault()
})

after(() => vault?.[Symbol.asyncDispose]())

test('tokenize and detokenize of a Parquet file; an error leaves no file', async () => {
  const options = { env: vault.env, cwd: vault.folder.path }
  await fine(['sql', '-c', "COPY (SELECT 17 AS n, 'Zoë' AS name) TO 'p.parquet'"], options)
  const away = await coffer(['tokenize', 'p.parquet', '--column', 'n', '--column', 'name', '--json'], options)
  assert.equal(away.code, 0, away.stderr)
  assert.match(away.stderr, /column n has numbers .*--as text/)
  const { seconds, ...report } = JSON.parse(away.stdout)
  assert.ok(seconds > 0)
  const counts = { rows: 1, values: 2, distinct: 2, replaced: 2, not_found: 0, unmatched: 0, epochs: [1] }
  assert.deepEqual(report, counts)
  assert.equal(statSync(vault.folder.file('p.tokens.parquet')).mode & 0o777, 0o600)
  await fine(
    ['detokenize', 'p.tokens.parquet', '--column', 'n', '--column', '#2', '-o', 'q.parquet'],
    options,
  )
  const rows = await fine(['sql', '--csv', '-c', "SELECT typeof(n), n, name FROM 'q.parquet'"], options)
  assert.equal(rows, 'typeof(n),n,name\nINTEGER,17,Zoë')
  const before = readdirSync(vault.folder.path)
  assert.match(await refused(1, ['tokenize', 'p.parquet', '--column', 'n'], options), /exists already/)
  const columns = ['tokenize', 'p.parquet', '--column', 'x', '-o', 'r.parquet']
  assert.match(await refused(2, columns, options), /no column x: the columns are n, name/)
  const other = { ...options, env: vault.otherEnv }
  const strict = ['detokenize', 'p.tokens.parquet', '--column', 'n', '-o', 'r.parquet', '--strict']
  assert.match(await refused(1, strict, other), /1 token not found/)
  assert.match(
    await refused(2, ['tokenize', '-', '--format', 'parquet', '--column', 'n'], options),
    /Parquet/,
  )
  assert.deepEqual(readdirSync(vault.folder.path), before)
})
