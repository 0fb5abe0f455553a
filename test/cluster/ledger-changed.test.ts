// A ledger that is not the one that was followed: wiped, older, or another one. Every node refuses, deletes nothing, and
// goes on as before when the right one is back. A foreign key in the right one does no harm.
import assert from 'node:assert/strict'
import { cpSync, rmSync } from 'node:fs'
import { after, before, beforeEach, describe, test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { EtcdEndpoint } from '../../src/ledger/etcd-client.ts'
import { freePort, until } from '../cli/cli.ts'
import { Vault } from '../node/child.ts'
import { Etcd } from './etcd.ts'

const NAMES = ['n1', 'n2', 'n3']

describe('a ledger that is not the one that was followed', () => {
  let etcd: Etcd
  const nodes: Vault[] = []
  const keyring = Keyring.create(systemClock).serialize()
  let tokens: string[] = []
  /** What the etcd was at first, and at last. */
  let older = ''
  let newest = ''

  before(async () => {
    etcd = await Etcd.start()
    older = `${etcd.dir}-older`
    newest = `${etcd.dir}-newest`
    const ledger = `{ kind: etcd, endpoints: ['${etcd.url}'] }`
    for (const node of NAMES)
      nodes.push(new Vault(undefined, { keyring, node, ledger, port: await freePort() }))
    for (const node of nodes) await node.start()
    tokens = (await nodes[0].tokenize(['old'])).tokens
    await etcd.kill()
    cpSync(etcd.dir, older, { recursive: true })
    await etcd.start()
    await until(
      'writes again',
      async () => (await nodes[0].call('/tokenize', { values: ['new'] })).status === 200,
    )
    tokens = (await nodes[0].tokenize(['old', 'new'])).tokens
    // Each of them holds all: a lag of 0 would only say that it knows of nothing more.
    for (const node of nodes) assert.deepEqual((await node.detokenize(tokens)).not_found, [])
  })
  after(async () => {
    for (const node of nodes) await node.remove()
    await etcd.remove()
    for (const dir of [older, newest]) rmSync(dir, { recursive: true, force: true })
  })
  beforeEach(async () => {
    await etcd.kill()
    cpSync(etcd.dir, newest, { recursive: true })
  })

  const swap = (dir?: string): void => {
    rmSync(etcd.dir, { recursive: true })
    if (dir) cpSync(dir, etcd.dir, { recursive: true })
  }

  /** What each node answers while the ledger is not its own. */
  async function refused(): Promise<void> {
    for (const node of nodes) {
      await until('the node has seen it', async () => {
        const { json } = await node.call('/ready')
        return /follows|ends at revision|does not hold|is empty/.test(String(json.reasons))
      })
      const { status, json } = await node.call('/tokenize', { values: ['newer'] })
      assert.deepEqual([status, json.type], [503, '/problems/ledger-changed'])
      assert.equal((await node.call('/tokenize', { values: ['old'] })).status, 503)
      assert.deepEqual(await node.detokenize(tokens), { values: ['old', 'new'], not_found: [] })
    }
  }

  /** The right one comes back, and all goes on. */
  async function restored(): Promise<void> {
    await etcd.kill()
    swap(newest)
    await etcd.start()
    for (const node of nodes) {
      await until('ready again', async () => (await node.call('/ready')).status === 200, 20_000)
      assert.deepEqual((await node.tokenize(['old', 'new'])).tokens, tokens)
    }
    rmSync(newest, { recursive: true })
    assert.equal(new Set(await Promise.all(nodes.map((node) => node.digest()))).size, 1)
  }

  test('wiped', async () => {
    swap()
    await etcd.start()
    await refused()
    const endpoint = new EtcdEndpoint(etcd.url)
    assert.equal((await endpoint.range({ key: Buffer.of(0), range_end: Buffer.of(0) }, 2000)).count, '0')
    endpoint.close()
    await restored()
  })

  test('older', async () => {
    swap(older)
    await etcd.start()
    await refused()
    await restored()
  })

  test('another one, and longer', async () => {
    swap()
    await etcd.start()
    const other = new Vault(undefined, { node: 'n9', ledger: `{ kind: etcd, endpoints: ['${etcd.url}'] }` })
    try {
      await other.start()
      for (let i = 0; i < 60; i++) await other.tokenize([`another ${i}`])
      await refused()
    } finally {
      await other.remove()
    }
    await restored()
  })

  test('a node that is started on another one refuses too, and serves what it knows', async () => {
    await nodes[2].end()
    swap()
    await etcd.start()
    await nodes[2].begin()
    await until('not ready', async () =>
      /is empty/.test(String((await nodes[2].call('/ready')).json.reasons)),
    )
    assert.equal((await nodes[2].call('/ready?for=reads')).status, 200)
    assert.deepEqual(await nodes[2].detokenize(tokens), { values: ['old', 'new'], not_found: [] })
    await refused()
    await restored()
  })

  test('a foreign key harms nothing, and is counted', async () => {
    await etcd.start()
    const endpoint = new EtcdEndpoint(etcd.url)
    const put = { request_put: { key: Buffer.from('somebody/else'), value: Buffer.from('x') } }
    await endpoint.txn({ compare: [], success: [put], failure: [] }, 2000)
    endpoint.close()
    for (const node of nodes) {
      await until('writes', async () => (await node.call('/tokenize', { values: ['newest'] })).status === 200)
      assert.deepEqual(await node.detokenize(tokens), { values: ['old', 'new'], not_found: [] })
      await until('counted', async () => /coffer_replica_foreign_keys 1$/m.test(await node.text('/metrics')))
    }
    rmSync(newest, { recursive: true })
  })
})
