// The commands of docs/cli.md run in a shell as they stand there, one after the other, beside a node. Only the port and
// the files that the commands need are put in.
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { blocks, examples } from '../console.ts'
import { Shell } from '../shell.ts'
import { Folder, freePort, NodeProcess } from './cli.ts'

const BIN = join(import.meta.dirname, '../../bin')
const DB_URL = 'postgres://u:p@db/app'

/** The files and programs that the commands name. */
function prepare(folder: Folder): void {
  writeFileSync(folder.file('patients.csv'), 'SSN,PASSPORT,city\n999-12-3456,X1,Bern\n')
  const visit = '{"patient":{"ssn":"999-12-3456"},"contacts":[{"phone":"555-0100"}]}\n'
  writeFileSync(folder.file('visits.ndjson.gz'), gzipSync(visit))
  writeFileSync(folder.file('tokens.csv'), 'old\nno token\n')
  writeFileSync(folder.file('key.pem'), 'a key\n')
  writeFileSync(folder.file('.env'), 'MAIL_KEY=k-123\n')
  writeFileSync(
    folder.file('server.js'),
    'console.log(process.env.MAIL_KEY, process.argv.slice(2).join(" "))\n',
  )
  mkdirSync(folder.file('tools'))
  writeFileSync(folder.file('tools/psql'), '#!/bin/sh\nprintf "ssn,name\\n999-12-3456,Zoë\\n"\n')
  chmodSync(folder.file('tools/psql'), 0o755)
}

test('docs/cli.md: every command of an example ends with 0, and does what the page says', async () => {
  using folder = new Folder()
  prepare(folder)
  const port = await freePort()
  const [first, ...commands] = blocks('docs/cli.md', 'console')
    .flatMap(examples)
    .map(({ command }) => command)
    // Three nodes, for minutes: test/cluster/demo.test.ts runs the scenario.
    .filter((command) => !command.startsWith('coffer demo cluster'))
  assert.ok(commands.length >= 15, `${commands.length} commands`)
  await using shell = new Shell(folder.path)
  const path = [BIN, folder.file('tools'), '$PATH'].join(delimiter)
  await shell.run(`export PATH="${path}" DB_URL=${DB_URL}`)
  const keys = await shell.run(first.replace('init ./vault', `init ./vault --port ${port}`))
  const key = /^clinic-a +(cof_\w+)$/m.exec(keys)?.[1] ?? assert.fail(keys)
  await using node = await NodeProcess.start(folder.file('vault/n1.yaml'))
  await shell.run(`export COFFER_URL=${node.url} COFFER_KEY=${key}`)
  const printed = new Map<string, string>()
  for (const command of commands) printed.set(command, await shell.run(command))

  const output = (beginning: string): string =>
    [...printed].find(([command]) => command.startsWith(beginning))?.[1].trim() ?? assert.fail(beginning)
  assert.equal(output('coffer secret get'), DB_URL)
  assert.equal(output('coffer env run'), 'k-123 --port 3000')
  assert.match(readFileSync(folder.file('.env'), 'utf8'), /^MAIL_KEY=coffer:\/\/app\/prod\/MAIL_KEY\n$/)
  assert.match(readFileSync(folder.file('patients.tokens.csv'), 'utf8'), /^SSN.*\n(tok_1_\w{32},){2}Bern\n$/)
  assert.match(readFileSync(folder.file('people.csv'), 'utf8'), /^ssn,name\ntok_1_\w{32},Zoë\n$/)
  assert.match(readFileSync(folder.file('map.csv'), 'utf8'), /^old,new\n/)
  for (const made of [
    'out.ndjson.gz',
    'patients.new.csv',
    'timeline.html',
    'vault.backup',
    'cluster/n3.yaml',
  ])
    assert.ok(existsSync(folder.file(made)), made)
})
