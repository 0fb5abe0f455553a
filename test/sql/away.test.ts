// The ways to a vault break while commands run, and vaults refuse: tables in, errors or whole tables out.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { coffer, fine, refused } from '../cli/cli.ts'
import { Door, refusingVault } from './doors.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

const ROWS = 60_000
/** Of the answers for all rows, about half. */
const HALF = ROWS * 20

let vault: SqlVault
let cwd: string

before(async () => {
  vault = await startSqlVault()
  cwd = vault.folder.path
  const rows = `SELECT 'v' || i AS ssn, i AS n FROM range(${ROWS}) r(i)`
  await fine(['sql', '-c', `COPY (${rows}) TO 'rows.parquet'`], { env: vault.env, cwd })
})

after(() => vault?.[Symbol.asyncDispose]())

const tokenize = (out: string): string[] => ['tokenize', 'rows.parquet', '--column', 'ssn', '-o', out]

test('a node that dies on the way is not an error: Parquet', async () => {
  await using door = await Door.open(vault.node.url, HALF)
  const env = { ...vault.env, COFFER_URL: `${door.url},${vault.node.url}` }
  await fine(tokenize('a.parquet'), { env, cwd })
  assert.ok(door.isClosed, 'the first way broke')
  await fine(tokenize('b.parquet'), { env: vault.env, cwd })
  const differ = "SELECT count(*) AS n FROM 'a.parquet' a POSITIONAL JOIN 'b.parquet' b WHERE a <> b"
  assert.equal(await fine(['sql', '--csv', '-c', differ], { env, cwd }), 'n\n0')
})

test('a node that dies on the way is not an error: SQL', async () => {
  await using door = await Door.open(vault.node.url, HALF)
  const env = { ...vault.env, COFFER_URL: `${door.url},${vault.node.url}` }
  const sql = "SELECT count(tokenize(ssn)) AS n, count(DISTINCT tokenize(ssn)) AS d FROM 'rows.parquet'"
  assert.equal(await fine(['sql', '--csv', '-c', sql], { env, cwd }), `n,d\n${ROWS},${ROWS}`)
  assert.ok(door.isClosed, 'the first way broke')
})

test('a vault that is away at half is an error within 12 s, and no OUT: Parquet', async () => {
  await using door = await Door.open(vault.node.url, HALF)
  const files = readdirSync(cwd)
  const began = performance.now()
  const told = await refused(1, tokenize('c.parquet'), { env: { ...vault.env, COFFER_URL: door.url }, cwd })
  assert.ok(performance.now() - began < 13_000)
  assert.match(told, /column ssn: .*unreachable.*COFFER_URL/)
  assert.deepEqual(readdirSync(cwd), files)
})

test('"An unreachable vault is an error within 12 s": Parquet, from the start', async () => {
  const door = await Door.open(vault.node.url, HALF)
  await door[Symbol.asyncDispose]()
  const files = readdirSync(cwd)
  const began = performance.now()
  const told = await refused(1, tokenize('d.parquet'), { env: { ...vault.env, COFFER_URL: door.url }, cwd })
  assert.ok(performance.now() - began < 12_500)
  assert.match(told, /unreachable.*COFFER_URL/)
  assert.deepEqual(readdirSync(cwd), files)
})

test('a vault that is away at half is an error, never NULL: SQL', async () => {
  await using door = await Door.open(vault.node.url, HALF)
  const { code, stdout, stderr } = await coffer(
    ['sql', '--csv', '-c', "SELECT tokenize(ssn) AS t FROM 'rows.parquet'"],
    { env: { ...vault.env, COFFER_URL: door.url }, cwd },
  )
  assert.equal(code, 1)
  assert.match(stderr, /unreachable.*COFFER_URL/)
  for (const line of stdout.trim().split('\n').slice(1)) assert.match(line, /^(?:tok_1_\w{32})$/)
})

test('a key without the right: 403 is told as such, by files of text, Parquet and SQL', async () => {
  const refusing = await refusingVault('tokenize')
  const options = { env: { ...vault.env, COFFER_URL: refusing.url }, cwd }
  writeFileSync(vault.folder.file('rows.csv'), 'ssn\nsecret-value\n')
  try {
    for (const args of [
      ['tokenize', 'rows.csv', '--column', 'ssn', '-o', 'd.csv'],
      tokenize('d.parquet'),
      ['sql', '-c', "SELECT tokenize('secret-value')"],
    ]) {
      const told = await refused(1, args, options)
      assert.match(told, /the API key lacks the right `tokenize`.*: use an API key with the right/)
      assert.doesNotMatch(told.split('\n\nLINE ')[0], /secret-value/)
    }
  } finally {
    refusing.close()
  }
  for (const out of ['d.csv', 'd.parquet']) assert.equal(existsSync(vault.folder.file(out)), false)
  assert.equal(readFileSync(vault.folder.file('rows.csv'), 'utf8'), 'ssn\nsecret-value\n')
})
