// The prompt of `coffer sql`, on a terminal.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { isComplete } from '../../src/cli/sql/prompt.ts'
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

test('a statement is complete behind a semicolon outside of quotes and comments', () => {
  for (const text of [
    'SELECT 1;',
    "SELECT ';' ; ",
    "SELECT 1 -- it's one\n;",
    'SELECT 1; -- done\n',
    `SELECT "it's";`,
    "SELECT $$it's$$;",
    "SELECT $a$ $$ ' $a$;",
    "SELECT E'it\\'s', 'it''s';",
    "/* it's */ SELECT 1; /* ; */",
  ])
    assert.ok(isComplete(text), text)
  for (const text of [
    'SELECT 1',
    "SELECT ';",
    "SELECT 'it''s;",
    'SELECT ";',
    'SELECT $$;',
    'SELECT 1 -- ;',
    'SELECT 1 /* ;',
    'SELECT $a$ ; $$;',
  ])
    assert.ok(!isComplete(text), text)
})

test('a prompt leaves its own texts out of a file with the results', { skip: !hasTerminals }, async () => {
  const file = vault.folder.file('out.csv')
  using terminal = new Terminal(['sql', '--csv'], { env: vault.env, cwd: vault.folder.path, output: file })
  await terminal.shows('coffer> ')
  terminal.type('SELECT 6 * 7 AS answer;\r')
  await terminal.shows('coffer> ')
  terminal.type('\x04')
  assert.equal(await terminal.ended(), 0)
  assert.equal(readFileSync(file, 'utf8'), 'answer\n42\n')
})
