// The machine of one node of three: a restore works over the member that `coffer member run` has started there.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Folder, init, refused, spawnCoffer, until } from '../cli/cli.ts'
import { freeCluster } from './cluster.ts'

test('a restore goes on where `coffer member run` has the data of the node', async () => {
  using folder = new Folder()
  const vault = folder.file('v')
  await init(vault, '--nodes', '3', '--port', String(await freeCluster()))
  for (const other of ['n2.yaml', 'n3.yaml']) rmSync(folder.file('v', other))
  const config = folder.file('v', 'n1.yaml')
  const member = spawnCoffer(['member', 'run', '--config', config])
  const ended = once(member, 'exit')
  try {
    await until('the member runs', () => existsSync(folder.file('v', 'run', 'n1.etcd.pid')))
    writeFileSync(folder.file('none.backup'), 'this is no backup')
    const told = await refused(1, ['restore', folder.file('none.backup'), '--config', config])
    assert.match(told, /none\.backup: the file is not a backup/)
  } finally {
    member.kill('SIGINT')
    const [code] = await ended
    assert.equal(code, 0)
  }
})
