// Parquet files: tokenized, and back.
import assert from 'node:assert/strict'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { explain } from '../../src/cli/terminal/failure.ts'
import { convertParquet, type ParquetOptions } from '../../src/duckdb/parquet.ts'
import type { Report } from '../../src/table/report.ts'
import { rotateBlocking, type SqlVault, startSqlVault } from './vault.ts'

const SYNTHEA = join(import.meta.dirname, '../../../shared/data/synthea')

let vault: SqlVault
let connection: DuckDBConnection
let files = 0

before(async () => {
  vault = await startSqlVault()
  connection = await (await DuckDBInstance.create(':memory:')).connect()
})

after(async () => {
  connection?.closeSync()
  await vault?.[Symbol.asyncDispose]()
})

const fresh = (name = 'parquet'): string => vault.folder.file(`${++files}.${name}`)

async function ask(sql: string): Promise<string[][]> {
  const rows = (await connection.runAndReadAll(sql)).getRows()
  return rows.map((row) => row.map((value) => (value === null ? 'NULL' : String(value))))
}

/** A file of the rows of a query. */
async function written(query: string, options = ''): Promise<string> {
  const file = fresh()
  await connection.run(`COPY (${query}) TO '${file}' (FORMAT parquet${options})`)
  return file
}

type Converted = { readonly out: string; readonly report: Report; readonly warnings: readonly string[] }

async function convert(
  operation: ParquetOptions['operation'],
  file: string,
  columns: readonly string[],
  more: Partial<ParquetOptions> = {},
): Promise<Converted> {
  const warnings: string[] = []
  const out = fresh('out')
  const report = await convertParquet({
    operation,
    file,
    out,
    columns,
    asText: false,
    allowTokens: false,
    mixedEpochs: false,
    vault: vault.address,
    warn: (text) => warnings.push(text),
    ...more,
  })
  return { out, report, warnings }
}

/** Fails unless both files have the same columns, types and rows, in order. */
async function assertEqualFiles(file: string, other: string): Promise<void> {
  const all = (path: string): string => `SELECT * FROM read_parquet('${path}', hive_partitioning = false)`
  assert.deepEqual(await ask(`DESCRIBE ${all(other)}`), await ask(`DESCRIBE ${all(file)}`))
  const text = (path: string): Promise<string[][]> =>
    ask(`SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (${all(path)})`)
  assert.deepEqual(await text(other), await text(file))
}

const EVERY_TYPE = `SELECT i AS id,
  (i % 7)::TINYINT AS tiny, (i * 3)::SMALLINT AS small, i::INTEGER AS int, (i * 1000000007)::BIGINT AS big,
  (i % 9)::UTINYINT AS utiny, i::USMALLINT AS usmall, i::UINTEGER AS uint, (i * 12345678901)::UBIGINT AS ubig,
  (i * 1000000007)::HUGEINT AS huge, (i / 3)::DOUBLE AS dbl, (i % 2 = 0) AS flag, (i / 7)::DECIMAL(18, 4) AS dec,
  'name ' || (i % 50) AS text, DATE '2024-01-01' + i::INTEGER AS day, TIME '00:00:01' + to_seconds(i) AS clock,
  TIMESTAMP '2024-01-01 00:00:00.123456' + to_hours(i) AS ts,
  (TIMESTAMP '2024-01-01 00:00:00' + to_hours(i))::TIMESTAMPTZ AS tstz,
  ('2024-01-01 00:00:00.123456' || lpad((i % 1000)::VARCHAR, 3, '0'))::TIMESTAMP_NS AS tsns,
  uuid AS uuid, ('\\x00\\xff' || i)::BLOB AS bytes, [i, i + 1] AS list, {'a': i, 'b': 'x''y'} AS struct,
  CASE WHEN i % 5 = 0 THEN NULL ELSE i * 2 END AS holes
  FROM (SELECT i, ('00000000-0000-0000-0000-' || lpad(i::VARCHAR, 12, '0'))::UUID AS uuid FROM range(3000) r(i))`

test('every type: tokens in every column, and the original types and values back', async () => {
  const file = await written(EVERY_TYPE)
  const columns = (await ask(`DESCRIBE FROM '${file}'`)).map(([name]) => name)
  const away = await convert('tokenize', file, columns)
  const forms = columns.map((name) => `count(*) FILTER (regexp_full_match("${name}", 'tok_1_[0-9a-z]{32}'))`)
  const [counts] = await ask(`SELECT ${forms.join(', ')} FROM read_parquet('${away.out}')`)
  assert.deepEqual(
    counts,
    columns.map((name) => (name === 'holes' ? '2400' : '3000')),
  )
  assert.equal(away.report.rows, 3000)
  assert.equal(away.report.values, 3000 * columns.length - 600)
  assert.equal(away.report.replaced, away.report.values)
  assert.deepEqual(away.report.epochs, [1])
  const back = await convert('detokenize', away.out, columns)
  await assertEqualFiles(file, back.out)
  assert.deepEqual([back.report.replaced, back.report.notFound], [away.report.values, 0])
  assert.equal(await metadataOf(back.out, 'coffer'), undefined)
  assert.equal(statSync(away.out).mode & 0o777, 0o600)
})

test('--as text: numbers and FLOAT by their text, and back', async () => {
  const query =
    "SELECT i AS n, (i / 8)::FLOAT AS f, 'nan'::DOUBLE AS nan, 9007199254740993 + i AS big FROM range(100) r(i)"
  const file = await written(query)
  const away = await convert('tokenize', file, ['n', 'f', 'nan', 'big'], { asText: true })
  const [[token]] = await ask(`SELECT n FROM read_parquet('${away.out}') LIMIT 1 OFFSET 17`)
  assert.deepEqual((await vault.client.detokenize([token])).values, ['17'])
  assert.deepEqual(away.warnings, [])
  const back = await convert('detokenize', away.out, ['n', 'f', 'nan', 'big'])
  await assertEqualFiles(file, back.out)
})

test('numbers are told; those that have no exact token are refused, naming --as text', async () => {
  const file = await written(
    'SELECT 17 AS n, 0.5::FLOAT AS f, 9007199254740993 AS big, 18446744073709551615::UBIGINT AS u',
  )
  const { warnings } = await convert('tokenize', file, ['n'])
  assert.match(warnings.join(), /column n has numbers \(INTEGER\): 17 and "17" have two tokens.*--as text/)
  for (const column of ['f', 'big', 'u'])
    await assert.rejects(convert('tokenize', file, [column]), (error: unknown) => {
      assert.match(explain(error).text, new RegExp(`column ${column}.*--as text`, 's'))
      return true
    })
})

test('places are counted, also where the file has a dictionary', async () => {
  const file = await written(
    "SELECT CASE WHEN i % 4 = 0 THEN NULL ELSE 'd' || (i % 3) END AS x FROM range(50000) r(i)",
  )
  const away = await convert('tokenize', file, ['x'])
  assert.deepEqual([away.report.values, away.report.replaced], [37_500, 37_500])
  const { key, urls } = { ...vault.address, key: vault.otherEnv.COFFER_KEY }
  const back = await convert('detokenize', away.out, ['x'], { vault: { urls, key } })
  assert.deepEqual([back.report.notFound, back.report.replaced], [37_500, 0])
  assert.deepEqual(await ask(`SELECT count(*), count(x) FROM read_parquet('${back.out}')`), [['50000', '0']])
})

test('text that is no token stays, and is not counted as a token', async () => {
  const file = await written("SELECT unnest(['hello', NULL, 'tok_1_00000000000000000000000000000000']) AS x")
  const { report, out } = await convert('detokenize', file, ['x'])
  assert.deepEqual([report.values, report.replaced, report.notFound], [2, 0, 1])
  assert.deepEqual(await ask(`SELECT x FROM read_parquet('${out}')`), [['hello'], ['NULL'], ['NULL']])
})

test('retokenize: tokens of the active epoch; what is not found stays', async () => {
  const query =
    "SELECT 'r' || i AS x FROM range(100) r(i) UNION ALL SELECT 'tok_1_00000000000000000000000000000000'"
  const file = await written(query)
  const away = await convert('tokenize', file, ['x'])
  const { active } = await vault.client.epochs()
  await vault.client.rotateEpoch(active + 1)
  const moved = await convert('retokenize', away.out, ['x'])
  assert.deepEqual(moved.report.epochs, [active + 1])
  assert.deepEqual([moved.report.replaced, moved.report.notFound], [101, 0])
  const epochs = await ask(`SELECT DISTINCT split_part(x, '_', 2) FROM read_parquet('${moved.out}')`)
  assert.deepEqual(epochs, [[String(active + 1)]])
  const foreign = await convert('retokenize', file, ['x'])
  assert.deepEqual([foreign.report.replaced, foreign.report.notFound], [0, 1])
  await assertEqualFiles(file, foreign.out)
  assert.deepEqual(foreign.report.epochs, [])
  const again = await convert('retokenize', moved.out, ['x'])
  assert.deepEqual([again.report.replaced, again.report.epochs], [0, [active + 1]])
})

test('a token already: refused with the column, unless it is allowed', async () => {
  const { tokens } = await vault.client.tokenize(['x'])
  const file = await written(`SELECT '${tokens[0]}' AS ssn`)
  await assert.rejects(convert('tokenize', file, ['ssn']), (error: unknown) => {
    assert.match(explain(error).text, /column ssn: .*already-a-token.*--allow-tokens/s)
    return true
  })
  const away = await convert('tokenize', file, ['ssn'], { allowTokens: true })
  const back = await convert('detokenize', away.out, ['ssn'])
  await assertEqualFiles(file, back.out)
})

test('tokens of tokens come back a layer at a time', async () => {
  const file = await written('SELECT i AS n FROM range(10) r(i)')
  const once = await convert('tokenize', file, ['n'])
  const twice = await convert('tokenize', once.out, ['n'], { allowTokens: true })
  const back = await convert('detokenize', twice.out, ['n'])
  await assertEqualFiles(once.out, back.out)
  const values = await convert('detokenize', back.out, ['n'])
  assert.deepEqual(await ask(`SELECT n FROM read_parquet('${values.out}')`), await ask(`FROM '${file}'`))
})

test('metadata: all but the outdated stays, the compression too', async () => {
  const options = `, COMPRESSION zstd, KV_METADATA {"my key": 'it''s', "ARROW:schema": 'old', pandas: 'old', Other: 'kept'}`
  const file = await written("SELECT 17 AS n, 'x' AS x", options)
  const { out } = await convert('tokenize', file, ['n'])
  assert.equal(await metadataOf(out, 'my key'), "it's")
  assert.equal(await metadataOf(out, 'Other'), 'kept')
  assert.equal(await metadataOf(out, 'ARROW:schema'), undefined)
  assert.equal(await metadataOf(out, 'pandas'), undefined)
  assert.equal(await metadataOf(out, 'coffer'), '{"n":"INTEGER"}')
  assert.deepEqual(await ask(`SELECT DISTINCT compression FROM parquet_metadata('${out}')`), [['ZSTD']])
})

test('metadata: schemas of Spark and Avro stay while every column keeps its type', async () => {
  const [spark, avro] = ['org.apache.spark.sql.parquet.row.metadata', 'parquet.avro.schema']
  const file = await written(
    "SELECT 17 AS n, 'x' AS x",
    `, KV_METADATA {"${spark}": 'old', "${avro}": 'old'}`,
  )
  const text = await convert('tokenize', file, ['x'])
  assert.deepEqual([await metadataOf(text.out, spark), await metadataOf(text.out, avro)], ['old', 'old'])
  const number = await convert('tokenize', file, ['n', 'x'])
  assert.deepEqual(
    [await metadataOf(number.out, spark), await metadataOf(number.out, avro)],
    [undefined, undefined],
  )
})

test('metadata: every byte of a value stays; keys that DuckDB cannot write are named', async () => {
  const { tokens } = await vault.client.tokenize([17])
  const pairs = `aaaaa: 'first', bbbbb: 'x', cccccc: 'x', ddddd: 'x', bytes: '\\x00\\xFF'::BLOB, coffer: '{"n":"BIGINT"}'`
  const file = await written(`SELECT '${tokens[0]}' AS n`, `, KV_METADATA {${pairs}}`)
  let bytes = readFileSync(file).toString('latin1')
  // DuckDB itself cannot write such keys.
  for (const [key, other] of [
    ['bbbbb', 'AAAAA'],
    ['cccccc', 'Coffer'],
    ['ddddd', '\xff\xff\xff\xff\xff'],
  ])
    bytes = bytes.replace(key, other)
  writeFileSync(file, bytes, 'latin1')
  const { out, warnings } = await convert('retokenize', file, ['n'])
  assert.equal(warnings.length, 1)
  assert.match(warnings[0], /metadata left out: "AAAAA", "Coffer", "": /)
  const kept = await ask(`SELECT decode(key), value FROM parquet_kv_metadata('${out}') ORDER BY key`)
  assert.deepEqual(kept, [
    ['aaaaa', 'first'],
    ['bytes', '\\x00\\xFF'],
    ['coffer', '{\\x22n\\x22:\\x22BIGINT\\x22}'],
  ])
})

async function metadataOf(file: string, key: string): Promise<string | undefined> {
  const rows = await ask(
    `SELECT decode(value) FROM parquet_kv_metadata('${file}') WHERE decode(key) = '${key}'`,
  )
  return rows[0]?.[0]
}

describe('names', () => {
  test('columns by name or place; not there or twice is refused with the names', async () => {
    const file = await written(`SELECT 'a' AS "A.b""c", 'b' AS other`)
    const { out } = await convert('tokenize', file, ['A.b"c', '#2'])
    assert.deepEqual(
      (await ask(`DESCRIBE FROM read_parquet('${out}')`)).map(([name]) => name),
      ['A.b"c', 'other'],
    )
    await assert.rejects(convert('tokenize', file, ['a.b"c']), { name: 'UsageError', hint: /A\.b"c, other/ })
    await assert.rejects(convert('tokenize', file, ['other', '#2']), /named twice/)
    await assert.rejects(convert('tokenize', file, ['#3']), /no column #3/)
  })

  test('literal paths: patterns, quotes, blanks, directories that look like partitions', async () => {
    for (const name of [
      'data[1].parquet',
      'a*b.parquet',
      "it's here.parquet",
      'what?.parquet',
      'year=2024/x.parquet',
    ]) {
      const file = vault.folder.file('paths', name)
      mkdirSync(join(file, '..'), { recursive: true })
      const source = await written(`SELECT 'of ' || $$${name}$$ AS x`)
      copyFileSync(source, file)
      writeFileSync(vault.folder.file('paths', 'data1.parquet'), 'another file')
      const { out } = await convert('tokenize', file, ['x'])
      const rows = await ask(`SELECT * FROM read_parquet('${out}')`)
      assert.equal(rows[0].length, 1, 'no column of the path')
      assert.deepEqual((await vault.client.detokenize([rows[0][0]])).values, [`of ${name}`])
    }
  })
})

test('faults of the file are errors, and OUT has nothing readable by others', async () => {
  const text = fresh()
  writeFileSync(text, 'id,ssn\n1,2\n')
  await assert.rejects(convert('tokenize', text, ['ssn']), { name: 'OperatorError' })
  await assert.rejects(convert('tokenize', vault.folder.file('not-there.parquet'), ['x']), {
    name: 'OperatorError',
  })
  const numbers = await written('SELECT 17 AS n')
  await assert.rejects(convert('detokenize', numbers, ['n']), /column n is INTEGER, and tokens are text/)
  const dir = readdirSync(vault.folder.path)
  assert.deepEqual(
    dir.filter((name) => name.startsWith('tmp_')),
    [],
  )
})

test('a type in the metadata of a file of somebody else cannot become SQL', async () => {
  const { tokens } = await vault.client.tokenize([17])
  const evil = `{"n":"BIGINT) AS n, (SELECT 1"}`
  const file = await written(`SELECT '${tokens[0]}' AS n`, `, KV_METADATA {coffer: '${evil}'}`)
  const { out } = await convert('detokenize', file, ['n'])
  assert.deepEqual(await ask(`SELECT typeof(n), n FROM read_parquet('${out}')`), [['VARCHAR', '17']])
})

test('a value that does not fit its original type is an error without the value', async () => {
  const { tokens } = await vault.client.tokenize(['plain-text'])
  const file = await written(`SELECT '${tokens[0]}' AS n`, `, KV_METADATA {coffer: '{"n":"BIGINT"}'}`)
  await assert.rejects(convert('detokenize', file, ['n']), (error: Error) => {
    assert.equal(error.name, 'OperatorError')
    assert.doesNotMatch(error.message, /plain-text/)
    return true
  })
})

test('a rotation on the way is an error, unless mixed epochs are allowed', async () => {
  // More values than are asked for before the first call.
  const file = await written("SELECT 'm' || i AS x FROM range(260000) r(i)")
  const { active } = await vault.client.epochs()
  // The conversion blocks this process: the rotation is by a child that the first chunk starts.
  const rotateOnce = rotator(active + 1)
  await assert.rejects(
    convert('tokenize', file, ['x'], { begin: async () => rotateOnce }),
    /epoch changed.*--mixed-epochs/s,
  )
  const mixed = await convert('tokenize', file, ['x'], {
    begin: async () => rotator(active + 2),
    mixedEpochs: true,
  })
  assert.deepEqual(mixed.report.epochs, [active + 1, active + 2])
  const back = await convert('detokenize', mixed.out, ['x'])
  await assertEqualFiles(file, back.out)
})

/** Opens an epoch at the first call, by a command. */
function rotator(to: number): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    rotateBlocking(vault, to)
  }
}

test('wide rows: groups by bytes, and memory is enough', async () => {
  const file = await written(
    "SELECT i AS id, repeat(md5(i::VARCHAR), 900) AS note, 'w' || i AS x FROM range(12000) r(i)",
    ', ROW_GROUP_SIZE 2048',
  )
  const { out } = await convert('tokenize', file, ['x'])
  const [[most]] = await ask(`SELECT max(row_group_num_rows) FROM parquet_metadata('${out}')`)
  assert.ok(Number(most) <= 4096, `${most} rows in a group`)
  const back = await convert('detokenize', out, ['x'])
  await assertEqualFiles(file, back.out)
})

test('Synthea: patients, encounters, conditions and medications', {
  skip: !existsSync(SYNTHEA),
}, async () => {
  const columns = {
    patients: ['Id', 'SSN', 'LAST'],
    encounters: ['PATIENT'],
    conditions: ['PATIENT'],
    medications: ['PATIENT'],
  }
  for (const [name, names] of Object.entries(columns)) {
    const csv = join(SYNTHEA, `${name}.csv`)
    const file = await written(`SELECT * FROM read_csv('${csv}', sample_size = -1)`)
    const away = await convert('tokenize', file, names)
    const back = await convert('detokenize', away.out, names)
    await assertEqualFiles(file, back.out)
    await connection.run(`CREATE OR REPLACE VIEW ${name} AS FROM read_parquet('${file}')`)
    await connection.run(`CREATE OR REPLACE VIEW ${name}_t AS FROM read_parquet('${away.out}')`)
  }
  const question = (suffix: string): string =>
    `SELECT p.GENDER, e.ENCOUNTERCLASS, count(*), count(DISTINCT c.CODE), count(DISTINCT m.CODE)
     FROM patients${suffix} p JOIN encounters${suffix} e ON e.PATIENT = p.Id
     LEFT JOIN conditions${suffix} c ON c.PATIENT = p.Id LEFT JOIN medications${suffix} m ON m.PATIENT = p.Id
     GROUP BY ALL ORDER BY ALL`
  const expected = await ask(question(''))
  assert.ok(expected.length > 5)
  assert.deepEqual(await ask(question('_t')), expected)
})
