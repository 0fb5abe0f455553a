// The prompt of `coffer sql`, on a terminal.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { until } from '../cli/cli.ts'
import { hasTerminals, Terminal } from './terminal.ts'
import { type SqlVault, startSqlVault } from './vault.ts'

let vault: SqlVault

before(async () => {
  if (hasTerminals) vault = await startSqlVault()
})

after(() => vault?.[Symbol.asyncDispose]())

test('a prompt: statements over several lines, help, errors, history, Ctrl-C and Ctrl-D', {
  skip: !hasTerminals,
}, async () => {
  using terminal = new Terminal(['sql'], { env: vault.env, cwd: vault.folder.path })
  await terminal.shows('.help for help')
  await terminal.shows('coffer> ')
  terminal.type('SELECT detokenize(\r')
  await terminal.shows('...> ')
  terminal.type("tokenize('; not the end')) AS v\r")
  await terminal.shows('...> ')
  terminal.type(';\r')
  assert.match(await terminal.shows('coffer> '), /v\n; not the end\n/)
  terminal.type('.help\r')
  assert.match(await terminal.shows('coffer> '), /Ctrl-D/)
  terminal.type('SELECT * FROM nowhere;\r')
  assert.match(await terminal.shows('coffer> '), /nowhere does not exist/)
  terminal.type("SELECT detokenize('hello') AS v;\r")
  assert.match(await terminal.shows('coffer> '), /NULL[\s\S]*1 token not found/)
  terminal.type('SELECT never AS\r')
  await terminal.shows('...> ')
  terminal.type('\x03')
  await terminal.shows('coffer> ')
  terminal.type('SELECT 6 * 7 AS answer;\r')
  assert.match(await terminal.shows('coffer> '), /answer\n +42\n/)
  terminal.type('\x1b[A')
  await terminal.shows('6 * 7 AS answer;')
  terminal.type('\r')
  assert.match(await terminal.shows('coffer> '), /answer\n +42\n/)
  terminal.type('\x04')
  assert.equal(await terminal.ended(), 0)
})

test('Ctrl-C ends a query that runs, and the prompt stays', { skip: !hasTerminals }, async () => {
  using terminal = new Terminal(['sql'], { env: vault.env, cwd: vault.folder.path })
  await terminal.shows('coffer> ')
  terminal.type(
    'SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = -1;\r',
  )
  await terminal.shows('= -1;')
  await terminal.shows('\n')
  await until('the end of the query', () => {
    terminal.type('\x03')
    return /interrupt/i.test(terminal.text)
  })
  terminal.type('.tables\r')
  await terminal.shows('coffer> ')
  terminal.type('.quit\r')
  assert.equal(await terminal.ended(), 0)
})
