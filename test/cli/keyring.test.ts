import assert from 'node:assert/strict'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { openKeyringNode } from '../../src/cli/local/keyring-node.ts'
import { Coffer } from '../../src/client/index.ts'
import { Deadline, systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { OperatorError } from '../../src/errors.ts'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import { readConfig } from '../../src/node/config.ts'
import { lockDirectory } from '../../src/node/lock.ts'
import { Folder, fine, freePort, init, NodeProcess, refused } from './cli.ts'

function ringOf(file: string): Keyring {
  assert.equal(statSync(file).mode & 0o777, 0o600)
  return Keyring.parse(readFileSync(file, 'utf8'))
}

async function withClient<T>(url: string, key: string, work: (coffer: Coffer) => Promise<T>): Promise<T> {
  const coffer = new Coffer({ urls: url, key, timeoutMs: 5_000 })
  try {
    return await work(coffer)
  } finally {
    coffer.close()
  }
}

const VALUES = ['a', 'b', 17, true]

test('the root key of a running node is changed: every step, no step before the one it needs', async () => {
  using folder = new Folder()
  const keys = await init(
    folder.file('v'),
    '--port',
    String(await freePort()),
    '--owner',
    'a',
    '--owner',
    'b',
  )
  const [config, file] = [folder.file('v', 'n1.yaml'), folder.file('v', 'keyring.json')]
  const keyring = (...args: string[]): string[] => ['keyring', ...args, '--config', config]
  const old = ringOf(file).active
  let tokens: readonly (string | null)[] = []
  {
    await using node = await NodeProcess.start(config)
    const before = await withClient(node.url, keys.a, async (coffer) => {
      tokens = (await coffer.tokenize(VALUES)).tokens
      await coffer.rotateEpoch(2)
      await coffer.epochs() // the replica has now applied the rotation
      return coffer.status()
    })
    assert.match(await refused(1, keyring('activate', 'rk-unknown')), /has no root key rk-unknown/)
    assert.match(await refused(1, keyring('remove', old)), /active/)
    const fresh = await fine(keyring('add'))
    assert.match(fresh, /^rk-[0-9a-f]{12}$/)
    assert.deepEqual([ringOf(file).active, ringOf(file).ids.length], [old, 2])
    await fine(keyring('activate', fresh))
    assert.match(await refused(1, keyring('remove', old)), /still wraps 4 keys/)
    assert.deepEqual(JSON.parse(await fine([...keyring('rewrap'), '--json'])), {
      active: fresh,
      rewrapped: 4,
    })
    assert.match(await fine(keyring('rewrap')), /^0 keys rewrapped/)
    assert.equal(ringOf(file).rewrap, false)
    await fine(keyring('remove', old))
    assert.deepEqual(ringOf(file).ids, [fresh])
    const list = JSON.parse(await fine([...keyring('list'), '--json']))
    const [{ id, active, wrapped, missing }, ...more] = list.root_keys
    assert.deepEqual(
      { id, active, wrapped, missing, more },
      { id: fresh, active: true, wrapped: 4, missing: [], more: [] },
    )
    await withClient(node.url, keys.a, async (coffer) => {
      assert.deepEqual((await coffer.detokenize(tokens)).values, VALUES)
      await coffer.epochs()
      const after = await coffer.status()
      assert.ok(after.replica.revision > before.replica.revision)
      assert.deepEqual([after.replica.digest, after.root_keys], [before.replica.digest, [fresh]])
      await coffer.rotateEpoch(3)
    })
    assert.equal(node.told('"level":50'), 0)
    assert.equal(await node.stop(), 0)
  }
  // After the restart nothing is in memory: the new root key alone opens all keys.
  await using node = await NodeProcess.start(config)
  await withClient(node.url, keys.a, async (coffer) => {
    assert.deepEqual((await coffer.detokenize(tokens)).values, VALUES)
    assert.equal((await coffer.epochs()).active, 3)
  })
  await withClient(node.url, keys.b, (coffer) => coffer.tokenize(VALUES))
})

test('with a node that is stopped: it is started for a moment; the old keyring opens nothing after', async () => {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  const [config, file] = [folder.file('v', 'n1.yaml'), folder.file('v', 'keyring.json')]
  const keyring = (...args: string[]): string[] => ['keyring', ...args, '--config', config]
  const before = readFileSync(file)
  const old = ringOf(file).active
  let tokens: readonly (string | null)[] = []
  {
    await using node = await NodeProcess.start(config)
    tokens = (await withClient(node.url, key, (coffer) => coffer.tokenize(VALUES))).tokens
    assert.equal(await node.stop(), 0)
  }
  const fresh = await fine(keyring('add'))
  await fine(keyring('activate', fresh))
  assert.match(await refused(1, keyring('remove', old)), /still wraps 2 keys/)
  assert.match(await fine(keyring('rewrap')), /^2 keys rewrapped/)
  await fine(keyring('remove', old))
  {
    await using node = await NodeProcess.start(config)
    assert.deepEqual((await withClient(node.url, key, (coffer) => coffer.detokenize(tokens))).values, VALUES)
    await node.stop()
  }
  writeFileSync(file, before)
  assert.match(await refused(1, ['start', '--config', config]), /not the keyring of this ledger/)
})

test('a stopped node that cannot serve its ledger ends the command, and its data is free again', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  await init(folder.file('other'))
  const [config, file] = [folder.file('v', 'n1.yaml'), folder.file('v', 'keyring.json')]
  {
    await using node = await NodeProcess.start(config)
    assert.equal(await node.stop(), 0)
  }
  const rewrap = ['keyring', 'rewrap', '--config', config]
  const right = readFileSync(file)
  writeFileSync(file, readFileSync(folder.file('other', 'keyring.json')))
  assert.match(await refused(1, rewrap), /not the keyring of this ledger/)

  writeFileSync(file, right)
  await ofLaterFormat(folder.file('v', 'n1', 'ledger'))
  assert.match(await refused(1, rewrap), /format/)
  lockDirectory(folder.file('v', 'n1'), 0).release()
})

/** Writes the genesis with a format that no node knows. */
async function ofLaterFormat(path: string): Promise<void> {
  const ledger = new LmdbLedger(path)
  const { value, revision } = await ledger.read('genesis')
  assert.ok(value)
  const later = Uint8Array.from(value)
  later[0]++
  const commit = { if: [{ key: 'genesis', revision }], put: [{ key: 'genesis', value: later }] }
  assert.ok((await ledger.commit(commit, new Deadline(systemClock, 3_000))).ok)
  await ledger.close()
}

test('a stopped node without a majority is given up where nothing moves, with the reasons', async () => {
  using folder = new Folder()
  await init(folder.file('v'))
  const file = folder.file('v', 'n1.yaml')
  const etcd = `ledger: { kind: etcd, endpoints: ['http://127.0.0.1:${await freePort()}'] }`
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^ledger:.*(\n +.*)*/m, etcd))
  const config = readConfig(file)
  assert.equal(config.ledger.kind, 'etcd')
  await assert.rejects(
    openKeyringNode(config, 0),
    (error) => error instanceof OperatorError && /^node n1 is not ready after .*: \S/.test(error.message),
  )
  lockDirectory(config.data, 0).release()
})

test('an interrupted add is brought to its end; a node without the key holds up the next step', async () => {
  using folder = new Folder()
  await init(folder.file('v'))
  const [one, two] = [folder.file('v', 'n1.yaml'), folder.file('v', 'n2.yaml')]
  const [ring, other] = [folder.file('v', 'keyring.json'), folder.file('v', 'other.json')]
  const text = readFileSync(one, 'utf8').replace('node: n1', 'node: n2').replace('data: ./n1', 'data: ./n2')
  writeFileSync(two, text.replace('./keyring.json', './other.json'))
  writeFileSync(other, readFileSync(ring), { mode: 0o600 })
  const fresh = await fine(['keyring', 'add', '--config', one])
  const both = ['--config', one, two]
  assert.match(
    await refused(1, ['keyring', 'activate', fresh, ...both]),
    /other\.json \(node n2\) has no root key/,
  )
  assert.equal(await fine(['keyring', 'add', ...both]), fresh)
  assert.equal(readFileSync(ring, 'utf8'), readFileSync(other, 'utf8'))
  await fine(['keyring', 'activate', fresh, ...both])
  assert.deepEqual([ringOf(ring).active, ringOf(other).active], [fresh, fresh])
})

test('the keyring file is read strictly', async () => {
  using folder = new Folder()
  await init(folder.file('v'))
  const file = folder.file('v', 'keyring.json')
  const good = readFileSync(file, 'utf8')
  const wrong = [
    good.replace('"format": 1', '"format": 1, "rewrap": 1'),
    good.replace('"format": 1', '"format": 1, "rewarp": true'),
    good.replace('=",', '",'),
    good.replace('"created_at": "2', '"created_at": "x'),
    good.slice(0, -3),
  ]
  for (const text of wrong) {
    assert.notEqual(text, good)
    writeFileSync(file, text)
    const told = await refused(1, ['keyring', 'list', '--config', folder.file('v', 'n1.yaml')])
    assert.doesNotMatch(told, /[A-Za-z0-9+/]{40}/, 'no key is repeated')
  }
})
