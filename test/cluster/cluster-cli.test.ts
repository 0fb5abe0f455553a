// Three nodes with their members, run by `coffer cluster`, through the death of one of them and a restart of all.
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { NodeState } from '../../src/cli/cluster/status.ts'
import { stopNodes } from '../../src/cli/cluster/stop.ts'
import { Coffer } from '../../src/client/index.ts'
import { readConfig } from '../../src/node/config.ts'
import { coffer, Folder, fine, init, isAlive, until } from '../cli/cli.ts'
import { sendSignal } from '../signals.ts'
import { freeCluster } from './cluster.ts'

const NODES = ['n1', 'n2', 'n3']
const LONG = { ms: 150_000 }

class Cluster implements AsyncDisposable {
  readonly #folder = new Folder()
  readonly dir = this.#folder.file('v')
  readonly #clients: Coffer[] = []

  pid(file: string): number {
    return Number(readFileSync(this.#folder.file('v', 'run', `${file}.pid`), 'utf8'))
  }

  /** Of nodes and members, by the names of their files. */
  get pids(): ReadonlyMap<string, number> {
    return new Map(NODES.flatMap((node) => [node, `${node}.etcd`]).map((name) => [name, this.pid(name)]))
  }

  /** Of one node alone: it knows no other. */
  client(port: number, key: string): Coffer {
    const client = new Coffer({ urls: `http://127.0.0.1:${port}`, key, timeoutMs: 10_000 })
    this.#clients.push(client)
    return client
  }

  async status(code: 0 | 1): Promise<readonly NodeState[]> {
    const result = await coffer(['cluster', 'status', this.dir, '--json'])
    assert.equal(result.code, code, result.stdout + result.stderr + this.logs())
    return JSON.parse(result.stdout).nodes
  }

  /** For a test that fails. */
  logs(): string {
    const files = globSync('run/*.log', { cwd: this.dir })
    return files
      .map((name) => `\n--- ${name}\n${readFileSync(`${this.dir}/${name}`, 'utf8').slice(-4000)}`)
      .join('')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close()
    if (existsSync(this.dir))
      await stopNodes(
        NODES.map((node) => readConfig(`${this.dir}/${node}.yaml`)),
        10_000,
      )
    this.#folder[Symbol.dispose]()
  }
}

test('cluster start, status, a node killed and started again, stop, start: nothing is lost', async () => {
  await using cluster = new Cluster()
  const { dir } = cluster
  const port = await freeCluster()
  const { default: key } = await init(dir, '--nodes', '3', '--port', String(port))
  const start = async (): Promise<void> => {
    const { code, stdout, stderr } = await coffer(['cluster', 'start', dir], LONG)
    assert.equal(code, 0, stdout + stderr + cluster.logs())
  }
  await start()
  const first = cluster.pids
  assert.equal(new Set(first.values()).size, 6)
  for (const [name, pid] of first) assert.ok(isAlive(pid), name)

  const nodes = await cluster.status(0)
  for (const [i, now] of nodes.entries()) {
    const name = NODES[i]
    assert.deepEqual([now.node, now.url], [name, `http://127.0.0.1:${port + 10 * i}`])
    assert.deepEqual([now.pid, now.member_pid], [first.get(name), first.get(`${name}.etcd`)])
    assert.deepEqual([now.ready, now.reasons, now.quorum], [true, [], true])
    assert.ok(NODES.includes(now.leader ?? ''), `${now.leader}`)
    assert.ok(now.revision !== null && now.revision > 0 && now.lag !== null)
  }

  const [a, b, c] = [0, 10, 20].map((above) => cluster.client(port + above, key))
  const { tokens } = await a.tokenize(['a value', 17, true])
  for (const other of [b, c]) assert.deepEqual((await other.detokenize(tokens)).values, ['a value', 17, true])

  await start()
  assert.deepEqual(cluster.pids, first, 'nodes that run are left alone')

  const [victim, itsMember] = [cluster.pid('n2'), cluster.pid('n2.etcd')]
  sendSignal(victim, 'SIGKILL')
  await until('the node is gone, and its member with it', () => !isAlive(victim) && !isAlive(itsMember))
  const without = await cluster.status(1)
  assert.deepEqual(
    without.map(({ pid, member_pid }) => [pid, member_pid]),
    [
      [first.get('n1'), first.get('n1.etcd')],
      [null, null],
      [first.get('n3'), first.get('n3.etcd')],
    ],
  )
  assert.deepEqual(without[1].reasons, ['does not run'])
  const more = await a.tokenize(['while one is down'])
  await start()
  const second = cluster.pids
  for (const node of ['n1', 'n3']) assert.equal(second.get(node), first.get(node))
  assert.ok(isAlive(second.get('n2') ?? 0) && second.get('n2') !== victim)
  assert.deepEqual((await b.detokenize(more.tokens)).values, ['while one is down'])

  await fine(['cluster', 'stop', dir], LONG)
  for (const [name, pid] of second) assert.ok(!isAlive(pid), name)
  assert.deepEqual(globSync('run/*.pid', { cwd: dir }), [])
  await start()
  const all = await c.detokenize([...tokens, ...more.tokens])
  assert.deepEqual(all.values, ['a value', 17, true, 'while one is down'])
  await fine(['cluster', 'stop', dir], LONG)
})
