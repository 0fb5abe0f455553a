// The programs of docs/duckdb.md and docs/warehouses.md run as they stand there, against a node: TypeScript, Python where
// its package `duckdb` is installed, the command line of DuckDB where there is one, and the adapters of warehouses.
// COFFER_PYTHON names another Python than python3, COFFER_DUCKDB another program than duckdb.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Coffer } from '../src/client/index.ts'
import { coffer, Folder, type NodeProcess, startVault } from './cli/cli.ts'

const ROOT = join(import.meta.dirname, '..')
const MS = 30_000
const SCRIPT_FLAGS = ['--conditions=coffer-source', '--disable-warning=ExperimentalWarning']

const folder = new Folder()
let node: NodeProcess
let client: Coffer
let env: Record<string, string> = {}
let hasDuckDB = false

before(async () => {
  const vault = await startVault(folder)
  node = vault.node
  client = vault.client
  const path = [join(ROOT, 'bin'), process.env.PATH].join(delimiter)
  env = { ...vault.env, PATH: path, HOME: folder.path }
  // `import 'coffer'` from a directory outside of the checkout.
  mkdirSync(folder.file('node_modules', '@duckdb'), { recursive: true })
  symlinkSync(ROOT, folder.file('node_modules', 'coffer'))
  symlinkSync(join(ROOT, 'node_modules/@duckdb/node-api'), folder.file('node_modules/@duckdb/node-api'))
  const files = `COPY (SELECT tokenize('value ' || i) AS ssn, i AS visit FROM range(2) r(i)
    UNION ALL SELECT tokenize(1e-7), 2 UNION ALL SELECT tokenize(true), 3 UNION ALL SELECT NULL, 4) TO 'visits.parquet'`
  const made = await coffer(['sql', '-c', files], { env, cwd: folder.path })
  assert.ok(made.code === 0 || /DuckDB, which is not installed/.test(made.stderr), made.stderr)
  hasDuckDB = made.code === 0
})

after(async () => {
  client?.close()
  await node?.[Symbol.asyncDispose]()
  folder[Symbol.dispose]()
})

/** The only block of a language. */
function blockOf(document: string, language: string): string {
  const text = readFileSync(join(ROOT, 'docs', document), 'utf8')
  return new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(text)?.[1] ?? assert.fail(language)
}

/** Returns stdout of a program that ends with 0. */
function run(program: string, args: readonly string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd: folder.path,
    env,
    input,
    encoding: 'utf8',
    timeout: MS,
  })
  assert.equal(status, 0, `${error ?? ''}${stdout}${stderr}`)
  return stdout
}

/** Whether a program is there, and ends with 0. */
function works(program: string, ...args: readonly string[]): boolean {
  return spawnSync(program, args, { timeout: MS, stdio: 'ignore' }).status === 0
}

test('the program in TypeScript: recover gives a table its values', async (t) => {
  if (!hasDuckDB) return t.skip('DuckDB is not installed')
  const table = "CREATE TABLE patients AS SELECT tokenize('123-45') AS ssn, tokenize('+1 555') AS phone"
  const made = await coffer(['sql', 'clinic.duckdb', '--write', '-c', table], { env, cwd: folder.path })
  assert.equal(made.code, 0, made.stderr)
  const text = blockOf('duckdb.md', 'ts').replace('http://127.0.0.1:8200', node.url)
  const tail = `
    const rows = await connection.runAndReadAll('SELECT * FROM patients_recovered')
    console.log(JSON.stringify([rows.getRows(), notFound]))`
  writeFileSync(folder.file('program.ts'), text + tail)
  assert.equal(
    run(process.execPath, [...SCRIPT_FLAGS, folder.file('program.ts')]),
    '[[["123-45","+1 555"]],0]\n',
  )
})

test('the program in Python', (t) => {
  const python = process.env.COFFER_PYTHON ?? 'python3'
  if (!hasDuckDB) return t.skip('DuckDB is not installed')
  if (!works(python, '-c', 'import duckdb')) return t.skip(`${python} has no package duckdb`)
  const text = blockOf('duckdb.md', 'python').replace('LIMIT 3").show()', '").fetchall()')
  assert.match(text, /fetchall\(\)\n$/)
  const program = text.replace(/^(db\.sql\(.*)$/m, 'print(json.dumps($1))')
  assert.deepEqual(JSON.parse(run(python, ['-'], program)), [
    ['value 0', 0],
    ['value 1', 1],
    ['1e-7', 2],
    ['true', 3],
    [null, 4],
  ])
})

test('the command line of DuckDB', (t) => {
  const duckdb = process.env.COFFER_DUCKDB ?? 'duckdb'
  if (!hasDuckDB) return t.skip('DuckDB is not installed')
  if (!works(duckdb, '--version')) return t.skip(`there is no program ${duckdb}`)
  const printed = run(
    duckdb,
    ['-csv'],
    blockOf('duckdb.md', 'text').replace('USING (ssn)', '$& ORDER BY visit'),
  )
  assert.match(printed, /^value,visit\nvalue 0,0\nvalue 1,1\n1e-7,2\ntrue,3\n(?:NULL)?,4\n$/m)
})

test('the adapters of warehouses answer requests in the documented forms', async () => {
  const { tokens } = await client.tokenize(['a', 17])
  writeFileSync(folder.file('adapters.mjs'), blockOf('warehouses.md', 'js'))
  const rows = [...tokens, null, `tok_1_${'0'.repeat(32)}`]
  const calls = `
    import { bigquery, redshift, snowflake } from './adapters.mjs'
    const rows = ${JSON.stringify(rows)}
    const lambda = await snowflake({ body: JSON.stringify({ data: rows.map((token, i) => [i, token]) }) })
    const sent = []
    const response = { json: (body) => sent.push(body), status: (code) => (sent.push(code), response) }
    const calls = rows.map((token) => [token])
    await bigquery({ body: { requestId: 'r', caller: 'c', calls } }, response)
    const udf = await redshift({ request_id: 'r', num_records: rows.length, arguments: calls })
    await bigquery({ body: { calls: [[1]] } }, response)
    const refused = await redshift({ arguments: [[1]] })
    console.log(JSON.stringify([lambda, sent, JSON.parse(udf), JSON.parse(refused)]))
    process.exit(0)`
  const [lambda, sent, udf, refused] = JSON.parse(
    run(process.execPath, [...SCRIPT_FLAGS, '--input-type=module', '-'], calls),
  )
  const values = ['a', '17', null, null]
  assert.deepEqual(lambda.statusCode, 200)
  assert.deepEqual(JSON.parse(lambda.body), { data: values.map((value, i) => [i, value]) })
  assert.deepEqual(sent[0], { replies: values })
  assert.deepEqual(udf, { success: true, num_records: 4, results: values })
  assert.equal(sent[1], 503)
  assert.ok(sent[2].errorMessage && refused.success === false && refused.error_msg)
})
