import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../clock.ts'
import { Keyring } from '../crypto/keyring.ts'
import { replaceFile } from '../files.ts'
import { hashKey } from '../http/auth.ts'
import { LedgerUnavailable } from '../ledger/ledger.ts'
import { LmdbLedger } from '../ledger/lmdb.ts'
import { SILENT } from '../log.ts'
import { readConfig } from '../node/config.ts'
import { LmdbStore } from '../replica/lmdb-store.ts'
import { WriteFailed } from '../replica/store.ts'
import { until } from '../waiting.ts'
import { startNode } from './start.ts'

const KEY = 'cof_of-the-owner-added-by-a-reload'

function configText(owners: readonly string[]): string {
  return [
    'node: n1',
    'listen: 127.0.0.1:0',
    'data: ./n1',
    'keyring: ./keyring.json',
    'owners:',
    ...owners.map((id) => `  - { id: ${id}, keys: [{ id: k1, sha256: ${hashKey(`${KEY}-${id}`)} }] }`),
    'ledger: { kind: embedded }',
    '',
  ].join('\n')
}

test('an owner added by a reload during the start has epoch 1 once the node is ready', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-start-'))
  const file = join(dir, 'n1.yaml')
  replaceFile(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize())
  writeFileSync(file, configText(['a']))
  const node = await startNode(readConfig(file), { log: SILENT })
  try {
    writeFileSync(file, configText(['a', 'b']))
    node.reload()
    await node.ready
    const headers = { authorization: `Bearer ${KEY}-b` }
    const answer = await fetch(new URL('/epochs', node.url), { headers })
    assert.equal(answer.status, 200)
    assert.match(await answer.text(), /"active":1/)
  } finally {
    await node.stop()
    rmSync(dir, { recursive: true })
  }
})

test('a change between the reading of the configuration and the lock is in force', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-start-'))
  const file = join(dir, 'n1.yaml')
  replaceFile(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize())
  writeFileSync(file, configText(['a', 'b']))
  const config = readConfig(file)
  writeFileSync(file, configText(['a']))
  const node = await startNode(config, { log: SILENT })
  try {
    const statuses = ['a', 'b'].map(async (owner) => {
      const headers = { authorization: `Bearer ${KEY}-${owner}` }
      return (await fetch(new URL('/whoami', node.url), { headers })).status
    })
    assert.deepEqual(await Promise.all(statuses), [200, 401])
  } finally {
    await node.stop()
    rmSync(dir, { recursive: true })
  }
})

test('a start that fails closes what it has opened: the same directory can be started again', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-start-'))
  const file = join(dir, 'n1.yaml')
  replaceFile(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize())
  writeFileSync(file, configText(['a']))
  const first = await startNode(readConfig(file), { log: SILENT })
  const { port } = new URL(first.url)
  const taken = {
    ...readConfig(file),
    data: join(dir, 'n2'),
    listen: { host: '127.0.0.1', port: Number(port) },
  }
  try {
    await assert
      .rejects(startNode(taken, { log: SILENT }), { code: 'EADDRINUSE' })
      .finally(() => first.stop())
    const second = await startNode(taken, { log: SILENT })
    await second.ready.finally(() => second.stop())
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('a node that stops is not ready at once, and serves requests until the drain has ended', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-start-'))
  const file = join(dir, 'n1.yaml')
  replaceFile(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize())
  writeFileSync(file, `${configText(['a'])}limits: { drain_seconds: 2 }\n`)
  const node = await startNode(readConfig(file), { log: SILENT })
  let ended = false
  const headers = { authorization: `Bearer ${KEY}-a`, connection: 'close' }
  const statusOf = async (path: string) => (await fetch(new URL(path, node.url), { headers })).status
  try {
    await node.ready
    assert.equal(await statusOf('/ready'), 200)
    const stopped = node.stop().then(() => {
      ended = true
    })
    assert.deepEqual([await statusOf('/ready'), await statusOf('/epochs')], [503, 200])
    assert.equal(ended, false)
    await stopped
    await assert.rejects(statusOf('/epochs'))
  } finally {
    if (!ended) await node.stop()
    rmSync(dir, { recursive: true })
  }
})

test('a full disk during a start is no other ledger: the node waits, and advises nothing', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-start-'))
  const file = join(dir, 'n1.yaml')
  replaceFile(join(dir, 'keyring.json'), Keyring.create(systemClock).serialize())
  writeFileSync(file, configText(['a']))
  const full = t.mock.method(LmdbStore.prototype, 'write', () => Promise.reject(new WriteFailed('no room')))
  const { head } = LmdbLedger.prototype
  let calls = 0
  // The first calls are of the genesis and of the recognition. Then the follower and the start are refused, and both
  // try again: the follower sooner, so that its write has failed by then.
  t.mock.method(LmdbLedger.prototype, 'head', function (this: LmdbLedger) {
    calls++
    if (calls === 3 || calls === 4) return Promise.reject(new LedgerUnavailable('no-quorum', 'no answer'))
    return head.call(this)
  })
  const errors: string[] = []
  const log = { ...SILENT, error: (_: object, message: string) => void errors.push(message) }
  const node = await startNode(readConfig(file), { log })
  try {
    const reasons = async (): Promise<string> => (await fetch(new URL('/ready', node.url))).text()
    const catchesUp = async (): Promise<boolean> =>
      full.mock.callCount() > 0 && /is catching up/.test(await reasons())
    assert.ok(await until(catchesUp, { every: 20, within: 5000 }), `${await reasons()} ${errors}`)
    full.mock.restore()
    await node.ready
    assert.deepEqual(errors, [])
  } finally {
    await node.stop()
    rmSync(dir, { recursive: true })
  }
})
