// The library `coffer/duckdb`.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { recover, registerVault } from '../../src/duckdb/index.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

let vault: SqlVault
let connection: DuckDBConnection

before(async () => {
  vault = await startSqlVault()
  connection = await (await DuckDBInstance.create(':memory:')).connect()
})

after(async () => {
  connection?.closeSync()
  await vault?.[Symbol.asyncDispose]()
})

async function ask(sql: string): Promise<(string | null)[][]> {
  const rows = (await connection.runAndReadAll(sql)).getRows()
  return rows.map((row) => row.map((value) => (value === null ? null : String(value))))
}

test('registerVault: the functions, a count of values not found, and an end', async () => {
  const registered = await registerVault(connection, vault.address)
  assert.deepEqual(await ask("SELECT detokenize(tokenize('x')), detokenize('hello')"), [['x', null]])
  assert.equal(registered.notFound, 1)
  await registered.close()
  assert.deepEqual(await ask('SELECT detokenize(tokenize(17)) AS again'), [['17']])
  await registered.close()
  await assert.rejects(registerVault(connection, { urls: 'nowhere', key: 'k' }), TypeError)
})

test('"in a prepared statement pass the value as a parameter": a function of a literal is computed once', async () => {
  const registered = await registerVault(connection, vault.address)
  const counted = async (statement: string, ...values: readonly string[]): Promise<number[]> => {
    const prepared = await connection.prepare(statement)
    const counts: number[] = []
    for (const _run of [1, 2, 3]) {
      prepared.bind([...values])
      await prepared.run()
      counts.push(registered.notFound)
    }
    prepared.destroySync()
    return counts
  }
  const [first, ...literal] = await counted("SELECT detokenize('hello')")
  assert.deepEqual(literal, [first, first])
  assert.deepEqual(await counted('SELECT detokenize($1)', 'hello'), [first + 1, first + 2, first + 3])
  await registered.close()
})

test('registerVault: a macro with the name of a function is refused', async () => {
  const other = await (await DuckDBInstance.create(':memory:')).connect()
  await other.run('CREATE MACRO detokenize(x) AS x')
  await assert.rejects(registerVault(other, vault.address), /the macro "memory"\."main"\."detokenize"/)
  other.closeSync()
})

test('recover: a view with the values of several columns, while the process goes on', async () => {
  const people = Array.from({ length: 3000 }, (_, i) => [`ssn ${i}`, `phone ${i % 100}`])
  const tokens = async (column: number): Promise<readonly (string | null)[]> =>
    (await vault.client.tokenize(people.map((each) => each[column]))).tokens
  const [ssns, phones] = [await tokens(0), await tokens(1)]
  await connection.run('CREATE TABLE "the people" (id INTEGER, "S S N" VARCHAR, phone VARCHAR)')
  const appender = await connection.createAppender('the people')
  for (const [i, ssn] of ssns.entries()) {
    appender.appendInteger(i)
    appender.appendVarchar(ssn ?? '')
    appender.appendVarchar(phones[i] ?? '')
    appender.endRow()
  }
  appender.closeSync()
  await connection.run(
    `INSERT INTO "the people" VALUES (3000, NULL, 'tok_1_00000000000000000000000000000000')`,
  )
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  for (const _again of [1, 2]) {
    const options = { table: 'the people', columns: ['S S N', 'phone'], client: vault.client }
    const recovered = await recover(connection, options)
    assert.deepEqual(recovered, {
      view: 'the people_recovered',
      values: 'the people_recovered_values',
      distinct: 3101,
      notFound: 1,
    })
    const rows = await ask('SELECT id, "S S N", phone FROM "the people_recovered" ORDER BY id')
    const expected = people.map(([ssn, phone], i) => [String(i), ssn, phone])
    assert.deepEqual(rows, [...expected, ['3000', null, null]])
  }
  clearInterval(timer)
  assert.ok(turns > 0, 'the event loop turns')
})

test('recover: values of all types as text, and faults that name the column', async () => {
  const { tokens } = await vault.client.tokenize([17, 1.5, true, '17'])
  await connection.run(`CREATE TABLE mixed AS SELECT unnest(['${tokens.join("','")}']) AS t, 1 AS n`)
  await recover(connection, { table: 'mixed', columns: ['t'], client: vault.client, view: 'clear' })
  assert.deepEqual((await ask('SELECT t FROM clear ORDER BY t')).flat(), ['1.5', '17', '17', 'true'])
  const refused = (columns: string[]): Promise<unknown> =>
    recover(connection, { table: 'mixed', columns, client: vault.client })
  await assert.rejects(refused(['x']), /mixed has no column x/)
  await assert.rejects(refused(['n']), /INTEGER in column n, not tokens/)
  await assert.rejects(refused([]), /no columns/)
})

test('recover: a table of the caller is never replaced, nor read through itself', async () => {
  const { tokens } = await vault.client.tokenize(['mine'])
  const rows = `AS SELECT '${tokens[0]}' AS token, 'v' AS value`
  await connection.run(`CREATE TEMP TABLE taken_values ${rows}; CREATE TEMP VIEW seen ${rows}`)
  await connection.run(`CREATE TEMP TABLE "Other_values" ${rows}, 3 AS n`)
  for (const [table, view] of [
    ['taken_values', 'taken'],
    ['taken_values', 'Taken'],
    ['seen', 'Seen'],
    ['seen', 'other'],
  ]) {
    const options = { table, columns: ['token'], client: vault.client, view }
    await assert.rejects(recover(connection, options), { name: 'OperatorError', hint: 'name another view' })
  }
  for (const table of ['taken_values', 'seen', '"Other_values"'])
    assert.deepEqual(await ask(`SELECT token FROM ${table}`), [tokens])
})

test('recover: values with every character come whole, and texts that are no tokens are NULL', async () => {
  const values = ['\ufeffx', 'x', '\x1f', 'a\x1fb', 'a\0b', '\0', '', ' ', 'two\nlines', '😀', 'null', '[]']
  const { tokens } = await vault.client.tokenize(values)
  const known = tokens.map((token, i) => `(${i}, '${token}')`)
  const others = [`\ufeff${tokens[1]}`, `${tokens[1]} `, 'tok_1_ 000000000000000000000000000000', 'hello', '']
  await connection.run(`CREATE TABLE odd AS SELECT * FROM (VALUES ${known.join(',')}) v(i, t)`)
  await connection.run(
    `INSERT INTO odd VALUES ${others.map((text, i) => `(${100 + i}, '${text}')`).join(',')}, (200, NULL)`,
  )
  const recovered = await recover(connection, { table: 'odd', columns: ['t'], client: vault.client })
  assert.deepEqual([recovered.distinct, recovered.notFound], [values.length + others.length, others.length])
  const rows = await ask('SELECT hex(encode(t)) FROM odd_recovered ORDER BY i')
  assert.deepEqual(rows.flat(), [
    ...values.map((value) => Buffer.from(value).toString('hex').toUpperCase()),
    ...new Array(others.length + 1).fill(null),
  ])
  const many = await vault.client.tokenize(Array.from({ length: 25_000 }, (_, i) => `many ${i}`))
  await connection.run(`CREATE TABLE many AS SELECT unnest(['${many.tokens.join("','")}']) AS t`)
  const { distinct } = await recover(connection, { table: 'many', columns: ['t'], client: vault.client })
  assert.equal(distinct, 25_000)
  assert.deepEqual(await ask('SELECT count(DISTINCT t) FROM many_recovered'), [['25000']])
})

test('recover: answers that would be too large are asked for in parts', async () => {
  const sizes: number[] = []
  const client = {
    ...vault.client,
    detokenize: async (asked: readonly (string | null)[]) => {
      sizes.push(asked.length)
      if (asked.length > 8) throw Object.assign(new Error('too large'), { slug: 'answer-too-large' })
      return vault.client.detokenize(asked)
    },
    tokenize: vault.client.tokenize.bind(vault.client),
    retokenize: vault.client.retokenize.bind(vault.client),
  }
  const { tokens } = await vault.client.tokenize(Array.from({ length: 30 }, (_, i) => `v${i}`))
  await connection.run(`CREATE TABLE thirty AS SELECT unnest(['${tokens.join("','")}']) AS t`)
  const { distinct, notFound } = await recover(connection, { table: 'thirty', columns: ['t'], client })
  assert.deepEqual([distinct, notFound], [30, 0])
  assert.deepEqual(sizes, [30, 15, 8, 7, 15, 8, 7])
  assert.deepEqual(await ask('SELECT count(DISTINCT t) FROM thirty_recovered'), [['30']])
})

test('recover: after a failed request, the others end before recover does', async () => {
  await connection.run(
    "CREATE TABLE long AS SELECT 'tok_1_' || lpad(i::VARCHAR, 32, '0') AS t FROM range(120000) r(i)",
  )
  let calls = 0
  let open = 0
  const client = {
    detokenize: async (tokens: readonly (string | null)[]) => {
      if (++calls === 1) throw new Error('the vault is away')
      open++
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
      open--
      return { values: tokens.map(() => null), notFound: tokens.map((_, i) => i) }
    },
    tokenize: vault.client.tokenize.bind(vault.client),
    retokenize: vault.client.retokenize.bind(vault.client),
  }
  await assert.rejects(recover(connection, { table: 'long', columns: ['t'], client }), /the vault is away/)
  assert.equal(open, 0)
  assert.ok(calls <= 3, 'no further requests')
})
