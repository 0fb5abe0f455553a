// The commands that are clients of the API: epoch and status.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { coffer, Folder, fine, freePort, init, NodeProcess, refused } from './cli.ts'

test('epoch: shown and rotated; what is refused ends with 1', async () => {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const env = { COFFER_URL: node.url, COFFER_KEY: key }
  assert.match(await fine(['epoch'], { env }), /^epoch +opened +closed +tokens\n1 +\S+ +active +0$/)
  assert.deepEqual(JSON.parse(await fine(['epoch', 'rotate', '--to', '2', '--json'], { env })), {
    epoch: 2,
    rotated: true,
  })
  assert.match(await fine(['epoch', 'rotate', '--to', '2'], { env }), /open already/)
  assert.match(await refused(1, ['epoch', 'rotate', '--to', '9'], { env }), /epoch-conflict/)
  const { active, epochs } = JSON.parse(await fine(['epoch', '--json'], { env }))
  assert.deepEqual([active, epochs.length, epochs[0].closed_at], [2, 2, epochs[1].opened_at])
  const wrong = { ...env, COFFER_KEY: `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}` }
  const told = await refused(1, ['epoch'], { env: wrong })
  assert.match(told, /unauthorized/)
  assert.ok(!told.includes(wrong.COFFER_KEY))
})

test('status: nodes side by side, where they differ, and 1 where one is missing', async () => {
  using folder = new Folder()
  // Two vaults: what must be the same in one vault differs.
  const key = await init(folder.file('v'), '--port', '0', '--owner', 'a')
  await using one = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const env = { COFFER_URL: one.url, COFFER_KEY: key.a }
  const alone = await coffer(['status'], { env })
  assert.equal(alone.code, 0)
  assert.match(alone.stdout, /^ready +yes$/m)
  assert.doesNotMatch(alone.stdout, /differ/)
  assert.match(alone.stdout, /^quota +none$/m)
  assert.match(alone.stdout, /^used +\d+$/m)
  const dead = `http://127.0.0.1:${await freePort()}`
  const both = { ...env, COFFER_URL: `${one.url}, ${dead}` }
  const missing = await coffer(['status'], { env: both })
  assert.equal(missing.code, 1)
  assert.match(missing.stdout, /^ready +yes +no answer$/m)
  assert.ok(missing.stderr.includes(`${dead}: `))
  const json = await coffer(['status', '--json'], { env: both })
  const { nodes, differ } = JSON.parse(json.stdout)
  assert.deepEqual([json.code, differ], [1, []])
  assert.deepEqual(
    [nodes[0].ready, nodes[0].status.node, nodes[1].ready, nodes[1].status],
    [true, 'n1', false, null],
  )
  assert.ok(nodes[0].used > 0)
  assert.deepEqual([nodes[0].quota, nodes[1].quota, nodes[1].used], [null, null, null])
})

test('nodes that are of two vaults differ', async () => {
  using folder = new Folder()
  const shared = ['--port', '0', '--owner', 'a']
  const { a } = await init(folder.file('v'), ...shared)
  await init(folder.file('w'), ...shared, '--field', 'x')
  // Both vaults accept the key of the first vault.
  const hash = (await import('node:crypto')).createHash('sha256').update(a).digest('hex')
  const { readFileSync, writeFileSync } = await import('node:fs')
  const config = folder.file('w', 'n1.yaml')
  writeFileSync(config, readFileSync(config, 'utf8').replace(/sha256: .*/, `sha256: "${hash}"`))
  await using one = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  await using two = await NodeProcess.start(config)
  const env = { COFFER_URL: `${one.url},${two.url}`, COFFER_KEY: a }
  const { differ } = JSON.parse(await fine(['status', '--json'], { env }))
  assert.deepEqual(
    differ.filter((name: string) => name !== 'digest'),
    ['identity', 'fields', 'root keys'],
  )
  assert.match(await fine(['status'], { env }), /^identity .*<- differ$/m)
})

test('without a key, without a node', async () => {
  assert.match(await refused(2, ['epoch']), /COFFER_KEY is not set/)
  const env = { COFFER_KEY: 'cof_x', COFFER_URL: 'http://user:secret@127.0.0.1' }
  const told = await refused(2, ['status'], { env })
  assert.doesNotMatch(told, /secret/)
})
