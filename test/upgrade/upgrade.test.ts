// Vaults written by earlier versions: of the present format everything is read back, another format is refused and
// left as found. test/cluster/upgrade.test.ts has the vaults of three nodes.
import assert from 'node:assert/strict'
import { cpSync, existsSync, globSync, readFileSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'
import { Folder, fine, NodeProcess, refused } from '../cli/cli.ts'
import { checkKept } from './check.ts'
import { expected, fixtureFile, unpack } from './fixture.ts'

/** How a format is refused, wherever it is met. */
const REFUSED =
  /^coffer: (?:\S+: )?the (ledger|backup) has format 1, written by an earlier version; this version reads format 2 only: go on with the version that wrote the (ledger|backup), or begin an empty vault/m

test('every format up to the present one has a fixture', () => {
  const found = globSync('format-*', { cwd: import.meta.dirname }).sort()
  const wanted = Array.from({ length: LEDGER_FORMAT }, (_, i) => `format-${i + 1}`)
  assert.deepEqual(found, wanted, 'node test/upgrade/make.ts makes the fixture of the present format')
})

test('a node that was stopped with the present format goes on: tokens, secrets, receipts, digest', async () => {
  using folder = new Folder()
  const { node: kept } = expected(LEDGER_FORMAT)
  unpack(LEDGER_FORMAT, 'node', folder.path)
  const config = folder.file('n1.yaml')
  const before = JSON.parse(await fine(['replica', 'verify', '--json', '--config', config]))
  assert.equal(before.digest, kept.digest)
  await using node = await NodeProcess.start(config)
  await checkKept([node.url], kept)
  assert.equal(node.told('is set aside and rebuilt'), 0, 'the replica of the present format is used')
  assert.equal(await node.stop(), 0)
})

test('a replica is built anew from a ledger of the present format, and holds the same', async () => {
  using folder = new Folder()
  unpack(LEDGER_FORMAT, 'node', folder.path)
  const config = folder.file('n1.yaml')
  await fine(['replica', 'reset', '--config', config])
  await using node = await NodeProcess.start(config)
  await checkKept([node.url], expected(LEDGER_FORMAT).node)
  assert.equal(await node.stop(), 0)
})

test('a backup of the present format is restored, and holds the same', async () => {
  using folder = new Folder()
  const { node: kept, backup } = expected(LEDGER_FORMAT)
  unpack(LEDGER_FORMAT, 'node', folder.path)
  rmSync(folder.file('n1'), { recursive: true })
  const config = folder.file('n1.yaml')
  const file = fixtureFile(LEDGER_FORMAT, 'node.backup')
  const restored = JSON.parse(await fine(['restore', file, '--json', '--config', config]))
  assert.equal(restored.digest, backup.digest)
  assert.equal(restored.mappings, backup.mappings)
  assert.notEqual(restored.identity, backup.identity)
  await using node = await NodeProcess.start(config)
  await checkKept([node.url], kept)
  assert.equal(await node.stop(), 0)
})

/** The bytes of all files below a directory, but for logs and locks. */
function bytesBelow(dir: string): Map<string, string> {
  const files = globSync('**/*', { cwd: dir, withFileTypes: true }).filter((file) => file.isFile())
  const paths = files.map(({ parentPath, name }) => `${parentPath}/${name}`)
  const kept = paths.filter((path) => !/events\.ndjson$|\/lock$|lock\.mdb$/.test(path)).sort()
  return new Map(kept.map((path) => [path, readFileSync(path).toString('base64')]))
}

test('a node of format 1 is refused by every command, and nothing in its ledger changes', async () => {
  using folder = new Folder()
  unpack(1, 'node', folder.path)
  const config = folder.file('n1.yaml')
  const before = bytesBelow(folder.file('n1', 'ledger'))
  assert.ok(before.size > 0)
  for (const args of [['start'], ['backup', '-o', folder.file('new.backup')], ['replica', 'verify']]) {
    assert.match(await refused(1, [...args, '--config', config]), REFUSED, args.join(' '))
    assert.deepEqual(bytesBelow(folder.file('n1', 'ledger')), before, args.join(' '))
  }
  assert.ok(!existsSync(folder.file('new.backup')))
})

test('a backup of format 1 is refused before anything is written', async () => {
  using folder = new Folder()
  const file = fixtureFile(1, 'node.backup')
  unpack(1, 'node', folder.path)
  await fine(['init', folder.file('new'), '--port', '0'])
  cpSync(folder.file('keyring.json'), folder.file('new', 'keyring.json'))
  const told = await refused(1, ['restore', file, '--config', folder.file('new', 'n1.yaml')])
  assert.match(told, REFUSED)
  assert.ok(!existsSync(folder.file('new', 'n1', 'ledger', 'data.mdb')))
})
