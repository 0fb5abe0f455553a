import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import * as duckdb from '@duckdb/node-api'
import { seeded } from '../../test/sim/seed.ts'
import { textsOf } from './texts.ts'
import { writeTexts } from './written-texts.ts'

const random = seeded()
console.log(`COFFER_SEED=${random.seed}`)

const PARTS = [
  '',
  'a',
  'twelve bytes',
  'thirteen byte',
  '\ufeff',
  '\0',
  'Zoë',
  '😀',
  '\x1f',
  'x'.repeat(5_000),
]

let connection: duckdb.DuckDBConnection

before(async () => {
  connection = await (await duckdb.DuckDBInstance.create(':memory:')).connect()
})

after(() => connection?.closeSync())

function someText(): string | null {
  if (random.chance(0.2)) return null
  return Array.from({ length: random.below(4) }, () => random.pick(PARTS)).join('')
}

/** The texts of a query, in the order of `i`. */
async function read(sql: string): Promise<(string | null)[]> {
  const result = await connection.run(sql)
  const texts: (string | null)[] = []
  for (;;) {
    const chunk = await result.fetchChunk()
    if (!chunk || chunk.rowCount === 0) return texts
    texts.push(...textsOf(duckdb, chunk.getColumnVector(0), chunk.rowCount))
  }
}

test('texts of all lengths come whole, wherever they lie in memory', async () => {
  const texts = Array.from({ length: 5_000 }, someText)
  await connection.run('CREATE TABLE t (i INTEGER, x VARCHAR)')
  const appender = await connection.createAppender('t')
  for (const [i, text] of texts.entries()) {
    appender.appendInteger(i)
    if (text === null) appender.appendNull()
    else appender.appendBlob(Buffer.from(text))
    appender.endRow()
  }
  appender.closeSync()
  const blobs = await read('SELECT hex(encode(x)) FROM t ORDER BY i')
  assert.deepEqual(blobs.length, 5_000)
  const expected = blobs.map((hex) => (hex === null ? null : Buffer.from(hex, 'hex').toString('utf8')))
  for (const sql of [
    'SELECT x FROM t ORDER BY i',
    'SELECT x FROM (SELECT i, x FROM t ORDER BY hash(i)) ORDER BY i',
    'SELECT u.x FROM t JOIN (SELECT DISTINCT x FROM t) u ON u.x IS NOT DISTINCT FROM t.x ORDER BY i',
    'SELECT x::VARCHAR FROM (SELECT i, x FROM t) ORDER BY i',
  ])
    assert.deepEqual(await read(sql), expected, sql)
  assert.deepEqual(await read('SELECT x FROM t WHERE false'), [])
  const repeated =
    "SELECT CASE WHEN i % 3 = 0 THEN NULL ELSE 'one text of all rows' END AS x FROM t ORDER BY i"
  assert.deepEqual(
    await read(repeated),
    texts.map((_, i) => (i % 3 === 0 ? null : 'one text of all rows')),
  )
})

test('texts of all lengths are written whole, and stay while DuckDB has the column', async () => {
  const texts = Array.from({ length: 5_000 }, (_, i) => (i < 100 ? 'short' : someText()))
  const made = duckdb.DuckDBScalarFunction.create({
    name: 'text_of',
    parameterTypes: [duckdb.INTEGER],
    returnType: duckdb.VARCHAR,
    mainFunction: (_info, input, output) => {
      const rows = input.getColumnVector(0)
      const own = Array.from({ length: input.rowCount }, (_, i) => texts[Number(rows.getItem(i))])
      writeTexts(duckdb, output, own)
    },
  })
  connection.registerScalarFunction(made)
  await connection.run(
    'CREATE TABLE written AS SELECT i::INTEGER AS i, text_of(i::INTEGER) AS x FROM range(5000) r(i)',
  )
  const hex = (text: string | null): string | null =>
    text === null ? null : Buffer.from(text).toString('hex').toUpperCase()
  for (const [sql, expected] of [
    ['SELECT hex(encode(x)) FROM written ORDER BY i', texts.map(hex)],
    ['SELECT hex(encode(text_of(i))) FROM written ORDER BY hash(i), i LIMIT 0', []],
    [
      "SELECT hex(encode(concat(text_of(i), '.'))) FROM written WHERE i < 50 ORDER BY i",
      new Array(50).fill(hex('short.')),
    ],
    ['SELECT hex(encode(text_of(4000)))', [hex(texts[4000])]],
    [
      'SELECT hex(encode(y)) FROM (SELECT i, max(text_of(i)) AS y FROM written GROUP BY i) ORDER BY i',
      texts.map(hex),
    ],
  ] as const)
    assert.deepEqual(await read(sql), expected, sql)
})
