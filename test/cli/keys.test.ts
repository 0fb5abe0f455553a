import assert from 'node:assert/strict'
import { chmodSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Coffer, CofferError } from '../../src/client/index.ts'
import { readConfig } from '../../src/node/config.ts'
import { Folder, fine, freePort, init, NodeProcess, refused } from './cli.ts'

/** Whether the node accepts the key. */
async function known(url: string, key: string): Promise<boolean> {
  const coffer = new Coffer({ urls: url, key })
  try {
    await coffer.epochs()
    return true
  } catch (error) {
    if (error instanceof CofferError && error.slug === 'unauthorized') return false
    throw error
  } finally {
    coffer.close()
  }
}

test('keys of a running node: added, listed and removed without a pause', async () => {
  using folder = new Folder()
  const { default: first } = await init(folder.file('v'), '--port', String(await freePort()))
  const config = folder.file('v', 'n1.yaml')
  await using node = await NodeProcess.start(config)
  const added = JSON.parse(await fine(['keys', 'add', '--config', config, '--owner', 'default', '--json']))
  assert.deepEqual([added.owner, added.id], ['default', 'k2'])
  assert.ok(await known(node.url, added.key))
  const other = await fine(['keys', 'add', '--config', config, '--owner', 'new', '--id', 'laptop'])
  assert.ok(await known(node.url, other))
  const client = new Coffer({ urls: node.url, key: other })
  assert.equal((await client.tokenize(['x'])).epoch, 1)
  client.close()

  const list = JSON.parse(await fine(['keys', 'list', '--config', config, '--json']))
  const ids = list.owners.map(({ id, keys }: { id: string; keys: { id: string }[] }) => [
    id,
    keys.map((key) => key.id),
  ])
  assert.deepEqual(ids, [
    ['default', ['k1', 'k2']],
    ['new', ['laptop']],
  ])
  const shown = await fine(['keys', 'list', '--config', config, '--owner', 'new'])
  assert.match(shown, /laptop/)
  assert.doesNotMatch(shown, /default|cof_/)

  await fine(['keys', 'remove', '--config', config, '--owner', 'default', '--id', 'k1'])
  assert.ok(!(await known(node.url, first)))
  assert.ok(await known(node.url, added.key))
  assert.equal(node.told('"level":50'), 0)
})

test('the file keeps its comments, its mode and its place; nothing wrong is written', async () => {
  using folder = new Folder()
  await init(folder.file('v'))
  const config = folder.file('v', 'n1.yaml')
  const before = `${readFileSync(config, 'utf8')}# the last line\n`
  writeFileSync(config, before)
  chmodSync(config, 0o640)
  symlinkSync(config, folder.file('link.yaml'))
  const comments = (text: string): string[] => text.split('\n').filter((line) => line.startsWith('#'))
  await fine(['keys', 'add', '--config', folder.file('link.yaml'), '--owner', 'default'])
  const after = readFileSync(config, 'utf8')
  assert.deepEqual(comments(after), comments(before))
  assert.ok(after.startsWith(before.slice(0, before.indexOf('    keys:'))), 'what stands before is as it was')
  assert.equal(statSync(config).mode & 0o777, 0o640)
  const add = ['keys', 'add', '--config', config]
  assert.match(await refused(2, [...add, '--owner', 'Not An Owner']), /owners\[1\]\.id/)
  assert.match(await refused(1, [...add, '--owner', 'default', '--id', 'k1']), /has a key k1 already/)
  const remove = ['keys', 'remove', '--config', config, '--owner', 'default']
  assert.match(await refused(2, remove), /--id/)
  assert.match(await refused(1, [...remove, '--id', 'k9']), /has no key k9/)
  assert.match(await refused(1, ['keys', 'list', '--config', config, '--owner', 'nobody']), /no owner nobody/)
  assert.equal(readFileSync(config, 'utf8'), after)
  // After the removal of the last key a key can be added again.
  for (const id of ['k1', 'k2']) await fine([...remove, '--id', id])
  const [{ keys, removed }] = readConfig(config).owners
  assert.deepEqual([keys, removed.map(({ id }) => id)], [[], ['k1', 'k2']])
  await fine([...add, '--owner', 'default'])
  assert.equal(readConfig(config).owners[0].keys.length, 1)
})

test('several files get the same key, or none gets one', async () => {
  using folder = new Folder()
  await init(folder.file('v'))
  const [one, two] = [folder.file('v', 'n1.yaml'), folder.file('v', 'n2.yaml')]
  writeFileSync(
    two,
    readFileSync(one, 'utf8').replace('node: n1', 'node: n2').replace('data: ./n1', 'data: ./n2'),
  )
  const both = ['--config', one, two]
  await fine(['keys', 'add', ...both, '--owner', 'shared'])
  const [left, right] = [one, two].map((file) => readConfig(file).owners)
  assert.deepEqual(left, right)
  assert.equal(left.length, 2)
  await fine(['keys', 'add', '--config', two, '--owner', 'shared'])
  const list = await fine(['keys', 'list', ...both])
  assert.match(list, /k2 .*missing in n1/)
  assert.match(await fine(['keys', 'add', ...both, '--owner', 'shared', '--json']), /"id":"k3"/)
  writeFileSync(two, 'node: broken\n')
  const before = readFileSync(one, 'utf8')
  await refused(1, ['keys', 'add', ...both, '--owner', 'shared'])
  assert.equal(readFileSync(one, 'utf8'), before)
})
