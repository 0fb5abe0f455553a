// A node and its own member: each can fail alone. And what three nodes must agree on.
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { EtcdEndpoint } from '../../src/ledger/etcd-client.ts'
import { readConfig } from '../../src/node/config.ts'
import { readLedgerTls } from '../../src/node/tls-files.ts'
import { coffer, Folder, fine, isAlive, refused, until } from '../cli/cli.ts'
import { Cluster, type ClusterNode } from './cluster.ts'

describe('members and nodes', () => {
  let cluster: Cluster
  let nodes: readonly ClusterNode[]

  before(async () => {
    cluster = await Cluster.start()
    nodes = cluster.nodes
  })
  after(() => cluster[Symbol.asyncDispose]())

  test('a member has half of the machine, and of the environment only what a program needs', () => {
    const variables = readFileSync(`/proc/${nodes[0].memberPid}/environ`, 'utf8').split('\0').filter(Boolean)
    const env = Object.fromEntries(variables.map((text) => text.split(/=(.*)/s)))
    const byShell = ['PWD', 'OLDPWD', 'SHLVL', '_']
    const others = Object.keys(env).filter((name) => !byShell.includes(name))
    assert.deepEqual(others.sort(), ['GOGC', 'GOMAXPROCS', 'GOMEMLIMIT', 'HOME', 'PATH'])
    assert.equal(env.GOGC, '200')
    assert.equal(Number(env.GOMAXPROCS), Math.max(1, Math.floor(availableParallelism() / 2)))
    assert.ok(Number(env.GOMEMLIMIT) > 0 && Number(env.GOMEMLIMIT) <= totalmem() / 2, env.GOMEMLIMIT)
  })

  test('a member that dies alone is started again by its node', async () => {
    const [, node] = nodes
    const { memberPid } = node
    node.signalMember('SIGKILL')
    await until(
      'another one runs',
      () => node.memberPid > 0 && node.memberPid !== memberPid && isAlive(node.memberPid),
      5000,
    )
    await until('it is a member again', async () => {
      const { members } = await node.status()
      return members.length === 3 && members.every(({ ready }) => ready)
    })
    assert.match(node.process?.log.join('\n') ?? '', /the member has ended with/)
  })

  test('a node whose own member stands still goes on over the others', async () => {
    const [one, two] = nodes
    const leader = await cluster.leader()
    const node = leader === one ? two : one
    node.signalMember('SIGSTOP')
    try {
      const { tokens } = await until('writes go on', async () => {
        const { status, json } = await node.ask('/tokenize', { values: ['without its own member'] })
        return status === 200 ? (json as { tokens: string[] }) : undefined
      })
      for (const each of nodes) assert.deepEqual((await each.detokenize(tokens)).not_found, [])
      await until('it is told', async () => {
        const { members } = await node.status()
        return members.some((member) => member.node === node.name && !member.ready)
      })
    } finally {
      node.signalMember('SIGCONT')
    }
    await until('all are ready', async () => (await node.status()).members.every(({ ready }) => ready))
  })

  test('a node that missed much, and history compacted: it catches up by pages', async () => {
    const [, , node] = nodes
    const { tokens: first } = await node.tokenize(['before'])
    await node.kill()
    const values = Array.from({ length: 20_000 }, (_, i) => `missed ${i}`)
    const { tokens } = await nodes[0].tokenize(values)
    await nodes[0].ask('/rotate-epoch', { to: 2 })
    const { ledger } = readConfig(nodes[0].config)
    assert.ok(ledger.tls)
    const endpoint = new EtcdEndpoint(ledger.endpoints[0], readLedgerTls(ledger.tls))
    await endpoint.ready(3000)
    await endpoint.compact((await nodes[0].status()).ledger.revision + 1, 5000)
    endpoint.close()
    await node.start()
    assert.deepEqual(await node.detokenize([...first, ...tokens]), {
      values: ['before', ...values],
      not_found: [],
    })
    assert.equal((await node.tokenize(['x'])).epoch, 2)
    assert.equal((await cluster.digests()).size, 1)
    // Nothing came twice: what the node had before was left out.
    assert.equal(await node.metric('coffer_replica_ignored_duplicates'), 0)
    const caught = node.events().findLast(({ event }) => event === 'replica.caught-up')
    assert.ok(Number(caught?.to) > Number(caught?.from))
  })

  test('a copied configuration does not take a member that is ready out of the cluster, but by --force', async () => {
    const [, node] = nodes
    using other = new Folder()
    for (const name of ['n2.yaml', 'keyring.json', 'tls'])
      cpSync(join(cluster.dir, name), other.file(name), { recursive: true })
    mkdirSync(other.file('n2'))
    const replace = ['member', 'replace', 'n2', '--config', other.file('n2.yaml')]
    const list = ['member', 'list', '--config', node.config, '--json']
    const before = JSON.parse(await fine(list))
    const told = await refused(1, replace)
    assert.match(
      told,
      /member n2 answers at https:\S+ and is ready.*stop node n2 on its own machine.*--force/,
    )
    assert.deepEqual(JSON.parse(await fine(list)), before)
    await fine([...replace, '--force'])
    const ids = (members: { id: string }[]): string[] => members.map(({ id }) => id).sort()
    const { members } = JSON.parse(await fine(list))
    assert.equal(members.length, 3)
    assert.notDeepEqual(ids(members), ids(before.members))
  })

  test('a member whose data is gone is not started empty, but replaced', async () => {
    const [, node] = nodes
    const { tokens } = await node.tokenize(['kept by the others'])
    assert.match(await refused(1, ['member', 'replace', 'n2', '--config', node.config]), /stop node n2 first/)
    await node.kill()
    rmSync(join(cluster.dir, 'n2'), { recursive: true })
    await node.start()
    assert.match(node.process?.log.join('\n') ?? '', /data of member n2 is gone.*must not be started empty/)
    assert.deepEqual((await node.detokenize(tokens)).values, ['kept by the others'])
    await node.process?.stop()
    rmSync(join(cluster.dir, 'n2'), { recursive: true }) // as on a new disk
    await fine(['member', 'replace', 'n2', '--config', nodes[0].config])
    await node.start()
    await until('it is a member again', async () => {
      const { members } = await node.status()
      return members.length === 3 && members.every(({ ready }) => ready)
    })
    const { members } = JSON.parse(await fine(['member', 'list', '--config', node.config, '--json']))
    assert.deepEqual(
      members.map((member: { node: string; learner: boolean }) => [member.node, member.learner]).sort(),
      [
        ['n1', false],
        ['n2', false],
        ['n3', false],
      ],
    )
    // It counts again: without another one, it is half of a majority.
    await nodes[2].kill()
    await until(
      'writes',
      async () => (await node.ask('/tokenize', { values: ['two of three'] })).status === 200,
    )
    await nodes[2].start()
    assert.equal((await cluster.digests()).size, 1)
  })

  test('the root key is changed on three running nodes', async () => {
    const configs = ['--config', ...cluster.configs]
    const step = (...args: string[]): Promise<string> => fine(['keyring', ...args, ...configs, '--json'])
    const { root_keys: before } = JSON.parse(await step('list'))
    const { tokens } = await nodes[0].tokenize(['under the old root key'])
    const { added } = JSON.parse(await step('add'))
    await step('activate', added)
    await step('rewrap')
    await step('remove', before[0].id)
    const { root_keys: now } = JSON.parse(await step('list'))
    assert.deepEqual(
      now.map(({ id, active }: { id: string; active: boolean }) => [id, active]),
      [[added, true]],
    )
    assert.doesNotMatch(readFileSync(join(cluster.dir, 'keyring.json'), 'utf8'), new RegExp(before[0].id))
    for (const node of nodes) {
      assert.deepEqual((await node.detokenize(tokens)).values, ['under the old root key'])
      assert.deepEqual(await node.reasons(), [])
    }
    await nodes[0].kill()
    await nodes[0].start()
    assert.deepEqual((await nodes[0].detokenize(tokens)).values, ['under the old root key'])
  })

  test('a node with other fields is named by /ready and by status', async () => {
    const [one, , three] = nodes
    await three.process?.stop()
    const text = readFileSync(three.config, 'utf8')
    writeFileSync(three.config, text.replace('- patient.ssn', '- patient.ssm'))
    await three.begin()
    const [reason] = await until('it is told', async () => {
      const reasons = await three.reasons()
      return /fields/.test(reasons.join()) ? reasons : undefined
    })
    assert.equal(reason, 'the configured fields are not those of nodes n1, n2')
    assert.deepEqual(await one.reasons(), [])
    const env = { COFFER_KEY: cluster.keys.a, COFFER_URL: nodes.map(({ url }) => url).join() }
    const { code, stdout, stderr } = await coffer(['status'], { env })
    assert.equal(code, 1)
    assert.match(stdout, /^fields .*<- differ$/m)
    assert.match(stderr, new RegExp(`${three.url}: the configured fields are not those of nodes n1, n2`))
    await three.process?.stop()
    writeFileSync(three.config, text)
    await three.start()
    assert.deepEqual(await three.reasons(), [])
  })
})
