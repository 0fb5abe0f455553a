import assert from 'node:assert/strict'
import { closeSync, existsSync, openSync, readdirSync, writeSync } from 'node:fs'
import { test } from 'node:test'
import { Coffer } from '../../src/client/index.ts'
import { LmdbStore } from '../../src/replica/lmdb-store.ts'
import type { Meta } from '../../src/state/stored.ts'
import { batchOf } from '../batch.ts'
import { coffer, Folder, fine, init, NodeProcess, refused } from './cli.ts'

const VALUES = Array.from({ length: 500 }, (_, i) => `value ${i}`)

/** Starts the node, tokenizes, and stops it again. */
async function tokenizeOnce(config: string, key: string): Promise<readonly (string | null)[]> {
  await using node = await NodeProcess.start(config)
  const client = new Coffer({ urls: node.url, key })
  const { tokens } = await client.tokenize(VALUES)
  client.close()
  assert.equal(await node.stop(), 0)
  return tokens
}

/** Changes the meta data of a replica, with correct checksums. */
async function rewriteMeta(path: string, change: (meta: Meta) => Partial<Meta>): Promise<void> {
  const store = new LmdbStore(path)
  const meta = store.meta()
  assert.ok(meta)
  await store.write(batchOf({ meta: { ...meta, ...change(meta) } }))
  await store.close()
}

test('verify: the same as its ledger; not while the node runs; reset: built again', async () => {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  const [config, data] = [folder.file('v', 'n1.yaml'), folder.file('v', 'n1')]
  const verify = ['replica', 'verify', '--config', config]
  const reset = ['replica', 'reset', '--config', config]
  assert.match(await refused(1, verify), /there is no ledger/)
  const tokens = await tokenizeOnce(config, key)
  const { digest, rebuilt, same, kind } = JSON.parse(await fine([...verify, '--json']))
  assert.deepEqual([kind, same], ['compared', true])
  assert.match(digest, /^[0-9a-f]{64}$/)
  assert.equal(rebuilt, digest)
  {
    await using node = await NodeProcess.start(config)
    for (const args of [verify, reset]) {
      assert.match(await refused(1, args), new RegExp(`in use by process ${node.pid}: stop node n1 first`))
    }
    await node.stop()
  }
  await fine(reset)
  assert.ok(!existsSync(folder.file('v', 'n1', 'replica')))
  assert.match(await fine(verify), /there is no replica/)
  assert.deepEqual(await tokenizeOnce(config, key), tokens)
  await fine(verify)
  assert.deepEqual(
    readdirSync(data).filter((name) => name.startsWith('verify')),
    [],
  )
})

test('verify finds a replica that has lost pages, one that is ahead, and a damaged one', async () => {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  const [config, replica] = [folder.file('v', 'n1.yaml'), folder.file('v', 'n1', 'replica')]
  const verify = ['replica', 'verify', '--config', config]
  await tokenizeOnce(config, key)
  const kinds: string[] = []
  const found = async (): Promise<void> => {
    const { code, stdout } = await coffer([...verify, '--json'])
    assert.equal(code, 1)
    const { kind, same } = JSON.parse(stdout)
    assert.equal(same, false)
    kinds.push(kind)
  }
  // The cursor is at the head, but the last pages are missing.
  let all: Meta | undefined
  await rewriteMeta(replica, (meta) => {
    all = meta
    return { pages: 0, checkpoint: '' }
  })
  await found()
  await rewriteMeta(replica, (meta) => ({ ...all, cursor: meta.cursor + 100 }))
  await found()
  const file = openSync(`${replica}/data.mdb`, 'r+')
  for (let at = 4096; at < 80_000; at += 512) writeSync(file, 'damage', at)
  closeSync(file)
  await found()
  assert.deepEqual(kinds, ['damaged', 'ahead', 'damaged'])
  assert.match((await coffer(verify)).stdout, /the replica is damaged/)
})

test('verify finds a replica that reads well and holds something else', async () => {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  const [config, replica] = [folder.file('v', 'n1.yaml'), folder.file('v', 'n1', 'replica')]
  await tokenizeOnce(config, key)
  // As if an entry had not been applied: another epoch is active.
  const store = new LmdbStore(replica)
  const meta = store.meta()
  const entries = [...store.entries()].filter((entry) => entry.key === 'epoch/default')
  assert.ok(meta && entries.length === 1)
  const [entry] = entries
  const value = Buffer.from(
    Buffer.from(entry.value).toString('latin1').replace('"active":1', '"active":2'),
    'latin1',
  )
  await store.write(batchOf({ meta, entries: [{ ...entry, value }] }))
  await store.close()
  const { code, stdout, stderr } = await coffer(['replica', 'verify', '--config', config])
  assert.equal(code, 1, stdout)
  assert.match(stderr, /they differ: `coffer replica reset`/)
})
