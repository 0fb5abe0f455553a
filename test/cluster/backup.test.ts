// Backup and restore of a vault of three nodes: from one node and back to one, and what interrupts it. And the replica
// of a node beside others that go on writing.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { copyFileSync, cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Coffer } from '../../src/client/index.ts'
import { SEAL_BYTES } from '../../src/crypto/aead.ts'
import { EtcdLedger } from '../../src/ledger/etcd.ts'
import { backupOf, entriesOf, epoch, keyring, mixed, put, restored, version } from '../backup/backups.ts'
import { coffer, Folder, fine, init, isAlive, NodeProcess, refused, spawnCoffer, until } from '../cli/cli.ts'
import { pidIn } from '../signals.ts'
import { Cluster } from './cluster.ts'
import { Etcd } from './etcd.ts'

const LONG = { ms: 120_000 }
const VALUES = Array.from({ length: 20_000 }, (_, i) => `value ${i}`)

/** What a command that must succeed prints as JSON. */
async function json(...args: string[]): Promise<Record<string, unknown>> {
  return JSON.parse(await fine([...args, '--json'], LONG))
}

describe('a vault moves from one node to three', () => {
  const folder = new Folder()
  const one = folder.file('one', 'n1.yaml')
  const backup = folder.file('one.backup')
  let cluster: Cluster
  let told: Record<string, unknown> = {}
  let tokens: string[] = []

  before(async () => {
    const { a: key } = await init(folder.file('one'), '--owner', 'a', '--owner', 'b', '--port', '0')
    await using node = await NodeProcess.start(one)
    const client = new Coffer({ urls: node.url, key })
    tokens = (await client.tokenize(VALUES)).tokens.map(String)
    client.close()
    told = await json('backup', '-o', backup, '--config', one)
    await node.stop()
    cluster = await Cluster.init()
    copyFileSync(folder.file('one', 'keyring.json'), cluster.folder.file('v', 'keyring.json'))
  })
  after(async () => {
    await cluster?.[Symbol.asyncDispose]()
    folder[Symbol.dispose]()
  })

  /** Of the members, as far as they run. */
  const pids = (): number[] => {
    const run = cluster.folder.file('v', 'run')
    const files = existsSync(run) ? readdirSync(run).filter((name) => name.endsWith('.etcd.pid')) : []
    return files.map((name) => pidIn(join(run, name)) ?? 0).filter((pid) => pid > 0 && isAlive(pid))
  }

  test('a restore that is interrupted takes its members with it', async () => {
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const child = spawnCoffer(['restore', backup, '--config', cluster.configs[1]])
      const ended = once(child, 'exit')
      try {
        // With one member there is no quorum yet, so nothing of the restore can be done.
        const look = (): boolean => {
          assert.equal(child.exitCode, null)
          return pids().length > 0
        }
        await until('a member', look, 30_000)
        child.kill(signal)
        const [code] = await ended
        assert.equal(code, signal === 'SIGINT' ? 130 : null)
        await until('the members are gone', () => pids().length === 0)
      } finally {
        child.kill('SIGKILL')
      }
    }
  })

  test('the same restore again; then all three nodes have the tokens', async () => {
    const restored = await json('restore', backup, '--config', cluster.configs[1])
    assert.deepEqual([restored.digest, restored.entries], [told.digest, told.entries])
    assert.notEqual(restored.identity, told.identity)
    assert.deepEqual(pids(), [])
    assert.match(
      await refused(1, ['restore', backup, '--config', ...cluster.configs], LONG),
      /not empty.*new cluster/,
    )
    await cluster.startAll()
    assert.deepEqual([...(await cluster.digests())], [told.digest])
    for (const node of cluster.nodes) {
      assert.equal((await node.status()).ledger.identity, restored.identity)
      assert.deepEqual(await node.detokenize(tokens), { values: VALUES, not_found: [] })
      assert.deepEqual((await node.tokenize(VALUES.slice(0, 100))).tokens, tokens.slice(0, 100))
    }
  })

  test('while nodes run, nothing is restored; a backup is made, and one node has it all', async () => {
    assert.match(await refused(1, ['restore', backup, '--config', cluster.configs[0]]), /stop node n1 first/)
    const [first, second] = cluster.nodes
    const { tokens: newer } = await first.tokenize(['newer'])
    let done = false
    const load = (async () => {
      for (let i = 0; !done; i++) await second.tokenize([`load ${i}`])
    })()
    const made = await json('backup', '-o', folder.file('three.backup'), '--config', cluster.configs[2])
    done = true
    await load
    await init(folder.file('again'), '--owner', 'a', '--owner', 'b', '--port', '0')
    copyFileSync(folder.file('one', 'keyring.json'), folder.file('again', 'keyring.json'))
    const again = folder.file('again', 'n1.yaml')
    const restored = await json('restore', folder.file('three.backup'), '--config', again)
    assert.equal(restored.digest, made.digest)
    const { key } = JSON.parse(await fine(['keys', 'add', '--config', again, '--owner', 'a', '--json']))
    await using node = await NodeProcess.start(again)
    const client = new Coffer({ urls: node.url, key })
    assert.deepEqual((await client.detokenize([...tokens, ...newer])).values, [...VALUES, 'newer'])
    assert.deepEqual((await client.ready()).reasons, [])
    client.close()
    await node.stop()
  })

  test('replica verify, while the others write; reset, and it is built again', async () => {
    const [first, , third] = cluster.nodes
    const verify = ['replica', 'verify', '--config', third.config]
    assert.match(await refused(1, verify), /stop node n3 first/)
    const last = await third.tokenize(['before n3 stops'])
    await third.process?.stop()
    let done = false
    const load = (async () => {
      for (let i = 0; !done; i++) await first.tokenize([`while n3 is away ${i}`])
    })()
    const verified = await json(...verify)
    assert.deepEqual([verified.kind, verified.same, verified.rebuilt], ['compared', true, verified.digest])
    await fine(['replica', 'reset', '--config', third.config])
    assert.ok(!existsSync(third.config.replace('.yaml', '/replica')))
    assert.match(await fine(verify), /there is no replica/)
    done = true
    await load
    await third.start()
    assert.equal((await cluster.digests()).size, 1)
    assert.deepEqual(await third.detokenize(last.tokens), { values: ['before n3 stops'], not_found: [] })
    assert.deepEqual(
      readdirSync(third.config.replace('.yaml', '')).filter((name) => name.startsWith('verify')),
      [],
    )
  })

  test('verify finds a replica that is not of this ledger', async () => {
    const [, , third] = cluster.nodes
    await third.process?.stop()
    const replica = third.config.replace('.yaml', '/replica')
    await fine(['replica', 'reset', '--config', third.config])
    cpSync(folder.file('one', 'n1', 'replica'), replica, { recursive: true })
    const { code, stdout } = await coffer(['replica', 'verify', '--config', third.config])
    assert.equal(code, 1)
    assert.match(stdout, /the replica is damaged: the ledger is [0-9a-f]{32}, and the replica follows/)
    await fine(['replica', 'reset', '--config', third.config])
    await third.start()
    assert.equal((await cluster.digests()).size, 1)
  })
})

test('entries of every size, read from etcd while more are written; into etcd, interrupted, and again', async () => {
  const [from, to] = await Promise.all([Etcd.start(), Etcd.start()])
  const ledgers = [new EtcdLedger([from.url]), new EtcdLedger([to.url]), new EtcdLedger([to.url])]
  const [source, dying, target] = ledgers
  try {
    await mixed(source, { small: 200, large: 60 })
    const before = await entriesOf(source)
    let writes = 0
    const meanwhile = async (): Promise<void> => {
      const name = `new-${writes++}`
      await put(source, epoch('owner-0', 2 + writes), version(name, 1, 64 * 1024 + SEAL_BYTES))
    }
    const { bytes, written } = await backupOf(source, { meanwhile })
    assert.ok(writes >= 10, 'the file is written in parts')
    assert.equal(written.entries, before.size)
    const { commit } = dying
    let commits = 0
    dying.commit = (one, deadline) => {
      if (++commits > 12) throw new Error('the process has ended')
      return commit.call(dying, one, deadline)
    }
    await assert.rejects(restored(bytes, dying), /the process has ended/)
    await restored(bytes, target)
    const after = await entriesOf(target)
    assert.notEqual(after.get('genesis'), before.get('genesis'))
    for (const entries of [before, after]) entries.delete('genesis')
    assert.deepEqual(after, before)
    assert.equal((await backupOf(target)).written.digest, written.digest)
  } finally {
    for (const ledger of ledgers) await ledger.close()
    await Promise.all([from.remove(), to.remove()])
  }
})

test('one of two endpoints leads to another ledger: nothing of two ledgers gets into a backup, or of a backup into two', async () => {
  const [one, other] = await Promise.all([Etcd.start(), Etcd.start()])
  const [left, right] = [new EtcdLedger([one.url]), new EtcdLedger([other.url])]
  const both = [new EtcdLedger([one.url, other.url]), new EtcdLedger([other.url, one.url])]
  try {
    await mixed(left, { small: 10, large: 60 })
    const { bytes } = await backupOf(left)
    await restored(bytes, right) // as like as can be, of another identity
    let parts = 0
    const meanwhile = async (): Promise<void> => {
      if (++parts === 2) await one.kill()
    }
    await assert.rejects(backupOf(both[0], { meanwhile }), /leads to another ledger than the others/)
    await one.start()
    const { written } = await backupOf(both[1])
    assert.equal(written.identity, (await backupOf(right)).written.identity)
    await assert.rejects(restored(bytes, both[1]), /the ledger is not empty/)
    await checkCommand([one.url, other.url])
  } finally {
    for (const ledger of [left, right, ...both]) await ledger.close()
    await Promise.all([one.remove(), other.remove()])
  }
})

/** `coffer backup` with the endpoints of two ledgers, then with one endpoint and another that does not answer. */
async function checkCommand([one, other]: readonly string[]): Promise<void> {
  using folder = new Folder()
  const config = folder.file('vault', 'n1.yaml')
  await init(folder.file('vault'), '--owner', 'a', '--port', '0')
  writeFileSync(folder.file('vault', 'keyring.json'), keyring.serialize())
  const text = readFileSync(config, 'utf8')
  const withEndpoints = (...endpoints: readonly string[]): void =>
    writeFileSync(config, text.replace('kind: embedded', `kind: etcd\n  endpoints: [${endpoints}]`))
  const backup = ['backup', '-o', folder.file('vault.backup'), '--config', config]
  withEndpoints(one, other)
  const told = await refused(1, backup, LONG)
  assert.match(
    told,
    /n1\.yaml lead to different ledgers \((http:\S+: cluster [0-9a-f]+, ledger [0-9a-f]{32}(, )?){2}\): correct/,
  )
  assert.ok(!existsSync(folder.file('vault.backup')))
  withEndpoints('http://127.0.0.1:1', one)
  await fine(backup, LONG)
  const empty = await Promise.all([Etcd.start(), Etcd.start()])
  const heads = empty.map(({ url }) => new EtcdLedger([url]))
  try {
    const restore = ['restore', folder.file('vault.backup'), '--config', config]
    const [first, second] = empty.map(({ url }) => url)
    for (const endpoints of [
      [first, second],
      [second, other],
      [other, first],
    ]) {
      withEndpoints(...endpoints)
      assert.match(await refused(1, restore, LONG), /lead to different ledgers/)
      assert.deepEqual(await Promise.all(heads.map((ledger) => ledger.head())), [0, 0])
    }
    withEndpoints('http://127.0.0.1:1', second)
    await fine(restore, LONG)
    assert.equal(await heads[0].head(), 0)
    assert.ok((await heads[1].head()) > 0)
  } finally {
    for (const ledger of heads) await ledger.close()
    for (const etcd of empty) await etcd.remove()
  }
}
