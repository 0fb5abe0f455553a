// The cases of cases.json, by `coffer sql`'s session and one node. The file is for every client of DuckDB.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Session } from '../../src/duckdb/session.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

type Case = {
  readonly name: string
  readonly sql: string
  readonly rows?: readonly (readonly (string | null)[])[]
  readonly error?: string
}

const { cases }: { cases: readonly Case[] } = JSON.parse(
  readFileSync(join(import.meta.dirname, 'cases.json'), 'utf8'),
)

let vault: SqlVault
let session: Session
let tokens: Readonly<Record<string, string>>

before(async () => {
  vault = await startSqlVault()
  const token = async (client: SqlVault['client'], value: string | number | boolean): Promise<string> =>
    (await client.tokenize([value])).tokens[0] ?? assert.fail('a value has a token')
  const foreign = await token(vault.other, 'Zoë')
  const old = await token(vault.client, 'old')
  await vault.client.rotateEpoch(2)
  tokens = {
    foreign,
    old,
    token: await token(vault.client, 'Zoë'),
    number: await token(vault.client, 17),
    flag: await token(vault.client, true),
    forged: `tok_1_${'0'.repeat(32)}`,
  }
  session = await Session.open({ database: undefined, write: false, vault: vault.address })
})

after(async () => {
  await session?.close()
  await vault?.[Symbol.asyncDispose]()
})

for (const { name, sql, rows, error } of cases) {
  test(name, async () => {
    const statement = sql.replace(/\{(token|number|flag|old|foreign|forged)\}/g, (_, key) => tokens[key])
    const got: (string | null)[][] = []
    const run = session.run(statement, async (result) => {
      for await (const part of result.rows)
        got.push(...part.map((row) => row.map((value) => (value === null ? null : String(value)))))
    })
    if (error === undefined) {
      await run
      assert.deepEqual(got, rows)
    } else {
      await assert.rejects(run, (thrown: Error) => {
        assert.match(thrown.message, new RegExp(error))
        for (const value of sql.matchAll(/\d{6,}|'[^'{]{3,}'/g))
          assert.ok(!thrown.message.split('\n\nLINE ')[0].includes(value[0]), thrown.message)
        return true
      })
    }
  })
}
