// `coffer sql` as a command.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, watch } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { coffer, fine, refused } from '../cli/cli.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

let vault: SqlVault

before(async () => {
  vault = await startSqlVault()
})

after(() => vault?.[Symbol.asyncDispose]())

const sql = (...args: string[]): Promise<string> => fine(['sql', ...args], { env: vault.env })

test('a value goes and comes back; a table is aligned', async () => {
  const out = await sql(
    '-c',
    "SELECT 'a' AS name, detokenize(tokenize(1234)) AS value, 5 AS n, NULL AS nothing",
  )
  assert.deepEqual(
    out.split('\n').map((line) => line.trim()),
    ['name  value  n  nothing', 'a     1234   5     NULL'],
  )
})

test('"`--json` one list of objects, of the last statement"', async () => {
  const out = await sql(
    '--json',
    '-c',
    `CREATE TABLE t (i BIGINT, x VARCHAR); INSERT INTO t VALUES (9007199254740993, 'a'), (NULL, '');
     SELECT i, x, 1.50::DECIMAL(5, 2) AS d, 0.1::FLOAT AS f, [1, 2] AS list, {'a': 'b'} AS s, DATE '2024-01-02' AS day,
       'NaN'::DOUBLE AS nan, i FROM t ORDER BY x DESC`,
  )
  const rest = '"d":1.50,"f":0.1,"list":[1,2],"s":{"a":"b"},"day":"2024-01-02","nan":"NaN"'
  assert.equal(
    out,
    `[{"i":9007199254740993,"x":"a",${rest},"i_1":9007199254740993},\n{"i":null,"x":"",${rest},"i_1":null}]`,
  )
  assert.equal(await sql('--json', '-c', 'SELECT 1 AS a WHERE false'), '[]')
})

test('infinite dates and floats are printed as DuckDB casts them to text, at any depth', async () => {
  const infinite = ['DATE', 'TIMESTAMP', 'TIMESTAMP_S', 'TIMESTAMP_MS', 'TIMESTAMP_NS', 'TIMESTAMPTZ']
    .flatMap((type) => [`'infinity'::${type}`, `'-infinity'::${type}`])
    .map((value, i) => `${value} AS i${i}`)
  const nested = `{'a': [0.1::FLOAT, NULL], 'b': {'c': DATE 'infinity', 'd': 0.1::DOUBLE}}`
  const values = `${infinite.join(', ')}, 0.1::FLOAT AS f, DATE '2024-01-02' AS day, ${nested} AS s, [${nested}] AS l,
    [0.1::FLOAT]::FLOAT[1] AS array,
    union_value(x := 0.1::FLOAT) AS u, ${nested}::VARIANT AS v, [0.1::FLOAT::VARIANT, 1::VARIANT] AS w,
    NULL::FLOAT AS nothing`
  const texts = `SELECT COLUMNS(*)::VARCHAR FROM (SELECT ${values})`
  assert.equal(await sql('--csv', '-c', `SELECT ${values}`), await sql('--csv', '-c', texts))
  const out = await sql(
    '--json',
    '-c',
    `SELECT ${nested} AS s, MAP {0.2::FLOAT: DATE '-infinity'} AS m, MAP {1: 0.3::FLOAT} AS n`,
  )
  const s = { a: [0.1, null], b: { c: 'infinity', d: 0.1 } }
  assert.deepEqual(JSON.parse(out), [
    { s, m: [{ key: 0.2, value: '-infinity' }], n: [{ key: 1, value: 0.3 }] },
  ])
})

test('a STRUCT with fields that would be lost is refused before the statement runs', async () => {
  const file = vault.folder.file('fields.duckdb')
  await sql(file, '--write', '-c', 'CREATE TABLE t (i INTEGER)')
  for (const value of ['(1, 2, 3)', '[(i, 2)]', "{'a': row(1)}", 'MAP {1: (1, 2)}', "{'__proto__': 1}"]) {
    const statement = `INSERT INTO t VALUES (1) RETURNING ${value} AS x`
    const told = await refused(1, ['sql', file, '--write', '-c', statement], { env: vault.env })
    assert.match(told, /name the fields/)
  }
  assert.equal(
    await sql(file, '--csv', '-c', 'SELECT count(*) AS n, (1, 2)::VARCHAR AS x FROM t'),
    'n,x\n0,"(1, 2)"',
  )
})

test('"`--csv`: NULL is nothing, \'\' is """', async () => {
  const out = await sql('--csv', '-c', `SELECT * FROM (VALUES (1, NULL, ''), (2, 'a,"b"', ' c')) v(i, x, y)`)
  assert.equal(out, 'i,x,y\n1,,""\n2,"a,""b"""," c"')
})

test('a byte order mark at the beginning of a text is printed', async () => {
  const out = await sql(
    '--json',
    '-c',
    "SELECT detokenize(tokenize(chr(65279) || 'x')) AS v, [chr(65279)] AS l",
  )
  assert.equal(out, '[{"v":"\ufeffx","l":["\ufeff"]}]')
})

test('"SQL by `-c` or stdin"', async () => {
  const out = await fine(['sql', '--csv'], {
    env: vault.env,
    input: "SELECT detokenize(tokenize('x')) AS v;\n",
  })
  assert.equal(out, 'v\nx')
  assert.match(await refused(2, ['sql'], { env: vault.env, input: ' \n' }), /there is no SQL/)
})

test('"not found, or no token: NULL, counted", on stderr', async () => {
  const { tokens } = await vault.other.tokenize(['of another owner'])
  const { code, stdout, stderr } = await coffer(
    [
      'sql',
      '--csv',
      '-c',
      `SELECT detokenize(t) AS v FROM (VALUES ('${tokens[0]}'), ('hello'), (NULL)) x(t)`,
    ],
    { env: vault.env },
  )
  assert.deepEqual([code, stdout], [0, 'v\n\n\n\n'])
  assert.match(stderr, /^coffer: 2 tokens not found: /)
})

test('"a database is opened read-only without `--write`"; "a DATABASE that is not there: exit 1 without `--write`"', async () => {
  const file = vault.folder.file('clinic.duckdb')
  assert.match(await refused(1, ['sql', file, '-c', 'SELECT 1'], { env: vault.env }), /no database .*--write/)
  assert.equal(existsSync(file), false)
  await sql(file, '--write', '-c', "CREATE TABLE p AS SELECT tokenize('123-45-6789') AS ssn")
  assert.equal(await sql(file, '--csv', '-c', 'SELECT detokenize(ssn) AS ssn FROM p'), 'ssn\n123-45-6789')
  assert.match(await refused(1, ['sql', file, '-c', 'DELETE FROM p'], { env: vault.env }), /read-only/)
  assert.equal(readFileSync(file).includes('123-45-6789'), false)
})

test('a macro with the name of a function is refused, wherever and whenever it comes', async () => {
  const file = vault.folder.file('macro.duckdb')
  const out = vault.folder.file('macro.csv')
  const hidden = `CREATE MACRO duckdb_functions() AS TABLE SELECT '' AS function_name, '' AS database_name,
    '' AS schema_name, '' AS function_type, true AS internal`
  await sql(file, '--write', '-c', `${hidden}; CREATE SCHEMA s; CREATE MACRO s.Tokenize(x) AS x::VARCHAR`)
  const call = `COPY (SELECT tokenize('123-45-6789') AS ssn) TO '${out}'`
  const told = /the macro "macro"\."s"\."Tokenize" stands in place.*DROP MACRO/
  assert.match(await refused(1, ['sql', file, '-c', call], { env: vault.env }), told)
  for (const [before, macro] of [
    [`ATTACH '${file}'`, /"macro"\."s"\."Tokenize"/],
    [`ATTACH '${file}'; USE macro.s`, /"macro"\."s"\."Tokenize"/],
    ['CREATE MACRO tokenize(x) AS x', /"memory"\."main"\."tokenize"/],
    ['SELECT 1; CREATE TEMP MACRO token_epoch(x, y := 2) AS y; SELECT 1', /"temp"\."main"\."token_epoch"/],
    ['CREATE MACRO tokenize(x) AS x; BEGIN; DROP MACRO tokenize; SELECT 1; ROLLBACK', /"tokenize"/],
  ] as const)
    assert.match(await refused(1, ['sql', '-c', `${before}; ${call}`], { env: vault.env }), macro)
  assert.equal(existsSync(out), false)
  await sql(file, '--write', '-c', `DROP MACRO s.tokenize; ${call}`)
  assert.match(readFileSync(out, 'utf8'), /^ssn\ntok_/)
})

test('"An unreachable vault or a refused key is an error, never NULL."', async () => {
  const question = ['sql', '-c', "SELECT detokenize('tok_1_00000000000000000000000000000000')"]
  const began = performance.now()
  const away = await refused(1, question, { env: { ...vault.env, COFFER_URL: 'http://127.0.0.1:9' } })
  assert.match(away, /unreachable.*COFFER_URL/)
  assert.ok(performance.now() - began < 12_000, 'an unreachable vault is an error within 12 s')
  const told = await refused(1, question, { env: { ...vault.env, COFFER_KEY: 'cof_wrong' } })
  assert.match(told, /unauthorized.*COFFER_KEY/)
  assert.doesNotMatch(told, /cof_wrong/)
  assert.match(await refused(2, question, { env: { COFFER_URL: vault.node.url } }), /COFFER_KEY is not set/)
})

const WITH_VALUE: readonly string[] = [
  'SELECT CAST(detokenize(t) AS INTEGER) FROM v',
  "SELECT CAST(detokenize(tokenize('secret-' || chr(39) || '-value')) AS DATE)",
  "SELECT strptime(detokenize(t), '%Y') FROM v",
  'CREATE TABLE u (ssn VARCHAR UNIQUE); INSERT INTO u SELECT detokenize(t) FROM v, range(2)',
  'SELECT CAST(CAST(detokenize(n) AS BIGINT) AS INTEGER) FROM v',
  'CREATE TYPE e AS ENUM (SELECT detokenize(t) FROM v); SELECT tokenize(detokenize(t)::e) FROM v',
  'CREATE TYPE e AS ENUM (SELECT detokenize(t) FROM v); SELECT detokenize(t)::e + 1 FROM v',
  'SELECT error(detokenize(t)) FROM v',
]

test('errors have no value', async () => {
  for (const statement of WITH_VALUE) {
    const view =
      "CREATE TABLE v AS SELECT tokenize('secret' || '-value') AS t, tokenize('90071992' || '54740991') AS n"
    const { code, stderr } = await coffer(['sql'], { env: vault.env, input: `${view}; ${statement}` })
    assert.equal(code, 1, statement)
    assert.match(stderr, /Error: |tokenize takes/)
    assert.doesNotMatch(stderr.split('\n\nLINE ')[0], /secret|-value|9007/, stderr)
  }
})

test('"nothing is written to a spill directory": a query with too little memory fails instead', async () => {
  const names = ['work', 'tmp', 'home', 'db', 'out']
  const [cwd, tmp, home, db, out] = names.map((name) => vault.folder.file('spill', name))
  for (const dir of [cwd, tmp, home, db, out]) mkdirSync(dir, { recursive: true })
  const env = { ...vault.env, TMPDIR: tmp, HOME: home, XDG_CACHE_HOME: join(home, '.cache') }
  const database = join(db, 'clinic.duckdb')
  const tokens = `CREATE TABLE t AS SELECT tokenize('plain-text-' || (range % 1000)) AS t, range AS i
    FROM range(400000)`
  await fine(['sql', database, '--write', '-c', tokens], { env, cwd })
  const seen = new Set<string>()
  const watchers = names.map((name) =>
    watch(vault.folder.file('spill', name), { recursive: true }, (_event, file) =>
      seen.add(`${name}/${file}`),
    ),
  )
  const sorted = 'SELECT detokenize(t) || (i * 4 + r) AS x, i FROM t, range(4) q(r) ORDER BY x, i'
  for (const [mode, statement] of [
    [[], sorted],
    [['--write'], `CREATE TABLE u AS SELECT i, md5(x) AS m FROM (${sorted})`],
    [[], `COPY (${sorted}) TO '${join(out, 'x.parquet')}'`],
  ] as const) {
    const low = `SET memory_limit = '40MB'; ${statement}`
    const told = await refused(1, ['sql', database, ...mode, '-c', low], { env, cwd })
    assert.match(told, /Out of Memory/)
  }
  for (const watcher of watchers) watcher.close()
  const others = [...seen].filter((name) => !/^(?:db\/clinic\.duckdb(?:\.wal)?|out\/x\.parquet)$/.test(name))
  assert.deepEqual(others, [], 'no other file came and went')
  for (const dir of [cwd, tmp, home, db]) {
    for (const name of readdirSync(dir))
      assert.equal(readFileSync(join(dir, name)).includes('plain-text-'), false, name)
  }
})

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const ROWS = 'SELECT i, detokenize(tokenize((i % 5000)::VARCHAR)) AS v FROM range(200000) r(i)'

/** Runs `coffer sql --csv` with a redirection of the shell. */
function redirected(to: string): { status: number | null; stdout: string; stderr: string } {
  const script = `"$0" "$1" sql --csv -c "$2" ${to}`
  const env = { ...process.env, ...vault.env }
  const args = ['-o', 'pipefail', '-c', script, process.execPath, MAIN, ROWS]
  return spawnSync('bash', args, { env, encoding: 'utf8', timeout: 30_000, killSignal: 'SIGKILL' })
}

test('a reader of rows that stops reading ends a query whose functions run', () => {
  const { status, stdout, stderr } = redirected('| head -n 2')
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: 'i,v\n0,0\n', stderr: '' })
})

test('output on a full disk ends with a message', { skip: !existsSync('/dev/full') }, () => {
  const { status, stderr } = redirected('> /dev/full')
  assert.equal(status, 1)
  assert.match(stderr, /^coffer: .*no space left on device.*$/im)
  assert.doesNotMatch(stderr, /^ +at /m)
})
