// Rights of a key on three nodes: the same at each, also without quorum; a removed key is 401 at each.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fine, until } from '../cli/cli.ts'
import { Cluster } from './cluster.ts'

test('a limited key is limited at each node, also without quorum; a removed one is 401 at each at once', async () => {
  await using cluster = await Cluster.start()
  const [one, two, three] = cluster.nodes
  const keys = (...args: string[]): Promise<string> =>
    fine(['keys', ...args, '--owner', 'a', '--json', '--config', ...cluster.configs])
  const reader = JSON.parse(await keys('add', '--may', 'secrets:read', '--prefix', 'app/'))
  const victim = JSON.parse(await keys('add'))
  const told = async (node: typeof one, path: string, body?: unknown): Promise<unknown[]> => {
    const { status, json } = await node.ask(path, body, reader.key)
    return [status, json.needs ?? json.prefix ?? json.type]
  }
  for (const node of cluster.nodes) {
    assert.deepEqual(await told(node, '/secrets/app/x'), [404, '/problems/not-found'])
    assert.deepEqual(await told(node, '/secrets/other'), [403, 'app/'])
    assert.deepEqual(await told(node, '/secrets/resolve', { refs: ['coffer://app/x', 'coffer://b'] }), [
      403,
      'app/',
    ])
    assert.deepEqual(await told(node, '/tokenize', { values: ['v'] }), [403, 'tokenize'])
    assert.equal((await node.ask('/whoami', undefined, victim.key)).status, 200)
  }

  await keys('remove', '--id', victim.id)
  for (const node of cluster.nodes)
    assert.equal((await node.ask('/whoami', undefined, victim.key)).status, 401, node.name)

  for (const node of [two, three]) await node.kill()
  await until('quorum is gone', async () => (await one.reasons()).length > 0)
  assert.deepEqual(await told(one, '/secrets/other'), [403, 'app/'])
  assert.deepEqual(await told(one, '/secrets/resolve', { refs: ['coffer://app/x', 'coffer://b'] }), [
    403,
    'app/',
  ])
  assert.deepEqual(await told(one, '/tokenize', { values: ['v'] }), [403, 'tokenize'])
  assert.deepEqual(await told(one, '/secrets/app/x'), [503, '/problems/no-quorum'])
})
