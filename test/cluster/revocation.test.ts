// Owners and keyring are in force at once, also where the ledger has no quorum.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fine, until } from '../cli/cli.ts'
import { Cluster } from './cluster.ts'

test('without quorum: a removed key is 401 within 2 s, an added owner is served once there is quorum', async () => {
  await using cluster = await Cluster.start()
  const [one, two, three] = cluster.nodes
  const { tokens } = await one.tokenize(['known'])
  for (const node of [two, three]) await node.kill()
  await until('quorum is gone', async () => (await one.reasons()).length > 0)
  const keys = (...args: string[]): Promise<string> => fine(['keys', ...args, '--config', one.config])
  // A reload that waits for the ledger comes first.
  const added = JSON.parse(await keys('add', '--owner', 'new', '--json'))
  const victim = JSON.parse(await keys('add', '--owner', 'a', '--json'))
  assert.equal((await one.ask('/whoami', undefined, victim.key)).status, 200)
  const began = performance.now()
  await keys('remove', '--owner', 'a', '--id', victim.id)
  const took = performance.now() - began
  assert.equal((await one.ask('/whoami', undefined, victim.key)).status, 401)
  assert.ok(took < 2000, `keys remove took ${Math.round(took)} ms`)
  assert.deepEqual((await one.detokenize(tokens)).values, ['known'])
  // Root keys, too: the node has read the new one, though not ready.
  await fine(['keyring', 'add', '--config', one.config])
  await Promise.all([two.start(), three.start()])
  await until(
    'the new owner is served',
    async () => (await one.ask('/tokenize', { values: ['x'] }, added.key)).status === 200,
    20_000,
  )
})

test('a key removed while a node waits for quorum at its start is 401, an owner added then is served', async () => {
  await using cluster = await Cluster.init()
  const [one, two, three] = cluster.nodes
  const keys = (...args: string[]): Promise<string> => fine(['keys', ...args, '--config', one.config])
  const victim = JSON.parse(await keys('add', '--owner', 'a', '--json'))
  await one.begin()
  assert.equal((await one.ask('/whoami', undefined, victim.key)).status, 200)
  await keys('remove', '--owner', 'a', '--id', victim.id)
  assert.equal((await one.ask('/whoami', undefined, victim.key)).status, 401)
  const added = JSON.parse(await keys('add', '--owner', 'new', '--json'))
  await Promise.all([two.start(), three.start()])
  await until(
    'the new owner is served',
    async () => (await one.ask('/tokenize', { values: ['x'] }, added.key)).status === 200,
    20_000,
  )
})
