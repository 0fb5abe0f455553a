// The events that only several nodes have: two nodes in this process on one etcd, which is lost and comes back.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { hashKey } from '../../src/http/auth.ts'
import { readConfig } from '../../src/node/config.ts'
import { type Node, startNode } from '../../src/server/start.ts'
import { type Event, eventsOf } from '../http/trail.ts'
import { bearer, KEY_A, until } from '../http/vault.ts'
import { Etcd } from './etcd.ts'

const quiet = { error: () => {}, warn: () => {}, info: () => {} }

async function ready(dir: string, name: string): Promise<Node> {
  const node = await startNode(readConfig(join(dir, `${name}.yaml`)), { log: quiet })
  await node.ready
  return node
}

function writeConfigs(dir: string, endpoint: string): void {
  writeFileSync(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize(), { mode: 0o600 })
  for (const node of ['n1', 'n2']) {
    const owners = [{ id: 'clinic-a', keys: [{ id: 'k1', sha256: hashKey(KEY_A) }] }]
    const places = { listen: '127.0.0.1:0', data: `./${node}`, keyring: './keyring.json' }
    const config = { node, ...places, owners, ledger: { kind: 'etcd', endpoints: [endpoint] } }
    writeFileSync(join(dir, `${node}.yaml`), JSON.stringify(config))
  }
}

/** Members of the last event of a name, beside time, node and seq; undefined where there is none. */
function lastOf(dir: string, name: string): Event | undefined {
  const found = eventsOf(dir).findLast(({ event }) => event === name)
  if (found === undefined) return undefined
  const { time: _time, node: _node, seq: _seq, event: _event, ...members } = found
  return members
}

test('commits and epochs of another node, the leader, a catch-up, the ledger lost and back', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-events-'))
  const etcd = await Etcd.start()
  const nodes = new Map<string, Node>()
  const data = (name: string): string => join(dir, name)
  const post = async (path: string, body: object): Promise<number> => {
    const headers = { ...bearer(KEY_A), 'content-type': 'application/json' }
    const url = `${nodes.get('n1')?.url}${path}`
    return (await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })).status
  }
  const told = async (node: string, name: string): Promise<Event> => {
    await until(`${name} of ${node}`, () => lastOf(data(node), name) !== undefined, 20_000)
    return lastOf(data(node), name) ?? {}
  }
  try {
    writeConfigs(dir, etcd.url)
    for (const name of ['n1', 'n2']) nodes.set(name, await ready(dir, name))
    assert.deepEqual(await told('n1', 'ledger.connected'), { reason: 'etcd' })
    assert.deepEqual(await told('n2', 'ledger.leader'), { to: 'm1' })
    assert.equal(await post('/secrets', { name: 'a', value: 'v' }), 201)
    const { revision } = await told('n1', 'secret.created')
    const isApplied = (): boolean => lastOf(data('n2'), 'replica.applied')?.revision === revision
    await until('the commit is applied by the other node', isApplied)
    assert.deepEqual(lastOf(data('n2'), 'replica.applied'), { revision, from: 'n1' })
    assert.equal(await post('/rotate-epoch', { to: 2 }), 200)
    const { revision: rotated } = await told('n1', 'epoch.rotated')
    const isObserved = (): boolean => lastOf(data('n2'), 'epoch.observed')?.epoch === 2
    await until('the epoch is observed by the other node', isObserved)
    const observed = { owner: 'clinic-a', epoch: 2, revision: rotated }
    assert.deepEqual(lastOf(data('n2'), 'epoch.observed'), observed)

    await nodes.get('n2')?.stop()
    nodes.delete('n2')
    const before = Number(rotated)
    for (let i = 0; i < 3; i++) assert.equal(await post('/secrets', { name: `b${i}`, value: 'v' }), 201)
    nodes.set('n2', await ready(dir, 'n2'))
    const { from, to, ms } = await told('n2', 'replica.caught-up')
    assert.ok(Number(from) >= before && Number(to) >= Number(from) + 3 && Number.isSafeInteger(ms))

    await etcd.kill()
    const { reason } = await told('n1', 'ledger.lost')
    assert.ok(typeof reason === 'string' && reason.length > 0)
    await etcd.start()
    assert.deepEqual(await told('n1', 'ledger.recovered'), {})
  } finally {
    for (const node of nodes.values()) await node.stop()
    await etcd.remove()
    rmSync(dir, { recursive: true, force: true })
  }
})
