// README.md is followed to the letter by a shell in an empty directory: each command, each output. Only ports and
// what differs from run to run are put in: the address and the key that were printed, and tokens.
import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Folder } from '../cli/cli.ts'
import { blocks, examples, Names } from '../console.ts'
import { Shell } from '../shell.ts'
import { freeCluster } from './cluster.ts'

const ROOT = join(import.meta.dirname, '..', '..')

/** Lines without blanks at their ends, columns two blanks apart. */
const plain = (text: string): string => text.trim().replace(/ +$/gm, '').replace(/ {2,}/g, '  ')

test('README.md: the first token, then three nodes, a file, SQL and kill -9, as they stand there', async () => {
  using folder = new Folder()
  symlinkSync(join(ROOT, 'bin'), folder.file('bin'))
  const first = await freeCluster()
  const names = new Names()
  let seen = { url: '', key: '' }
  const look = (text: string): void => {
    const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(text) ?? [seen.url]
    const [key] = /cof_[0-9a-z]{20,}/.exec(text) ?? [seen.key]
    seen = { url, key }
  }
  const ported = (text: string): string =>
    text
      .replace(/127\.0\.0\.1:82([012])0/g, (_, i) => `127.0.0.1:${first + 10 * Number(i)}`)
      .replace('--nodes 3', `--nodes 3 --port ${first}`)
  const [begin, ...rest] = blocks('README.md', 'console').map(examples)
  assert.ok(rest.length === 2 && rest.flat().length >= 10)
  await using terminal = new Shell(folder.path)
  const [dev] = begin
  const printed = await terminal.until(`${dev.command} & PID=$!`, /^API key +cof_.*\n/m)
  names.match(plain(dev.output), plain(printed), dev.command)
  look(printed)
  await using other = new Shell(folder.path)
  try {
    for (const { command, output } of rest.flat()) {
      const filled = ported(command).replace('http://127.0.0.1:…', seen.url).replace('cof_…', seen.key)
      const answer = await other.run(names.fill(filled))
      names.match(plain(ported(output)), plain(answer), command)
      look(answer)
    }
  } finally {
    await other.run('bin/coffer cluster stop ./vault || true')
  }
})
