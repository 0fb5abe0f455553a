// recipes/proxy before three nodes: a node is killed, drained, restarted, and callers go on.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { freePort, until } from '../cli/cli.ts'
import { programPath, without } from '../programs.ts'
import { Cluster, type ClusterNode } from './cluster.ts'

const CALLERS = 16
const NAME = 'db/prod/password'
/** The parts of a call's answer that count. */
type Seen = { readonly status: number; readonly retryAfter: string | undefined; readonly body: string }
type Call = { readonly method: string; readonly path: string; readonly body?: unknown }

describe('proxies', { skip: without('haproxy') || without('nginx') }, () => {
  let cluster: Cluster
  let haproxy: ProxyProcess
  let nginx: ProxyProcess

  before(async () => {
    cluster = await Cluster.init()
    for (const config of cluster.configs) appendFileSync(config, 'limits: { drain_seconds: 3 }\n')
    await cluster.startAll()
    const created = await cluster.nodes[0].ask('/secrets', { name: NAME, value: 'swordfish' })
    assert.equal(created.status, 201)
    haproxy = await ProxyProcess.start(cluster, 'haproxy.cfg', (file) => ['haproxy', '-db', '-f', file])
    nginx = await ProxyProcess.start(cluster, 'nginx.conf', (file, dir) => [
      'nginx',
      ...['-p', dir, '-c', file, '-g', `daemon off; pid ${dir}/nginx.pid; error_log stderr;`],
    ])
  })
  after(async () => {
    await nginx?.stop()
    await haproxy?.stop()
    await cluster[Symbol.asyncDispose]()
  })

  test('names with slashes, raw and encoded, and bodies of 16 MiB pass both', async () => {
    const records = [{ note: 'x'.repeat(16 * 1024 * 1024 - 100) }]
    for (const proxy of [haproxy, nginx]) {
      for (const path of [`/secrets/${NAME}`, `/secrets/${encodeURIComponent(NAME)}`]) {
        const { status, body } = await proxy.ask({ method: 'GET', path })
        assert.deepEqual([status, JSON.parse(body).value], [200, 'swordfish'], path)
      }
      const large = await proxy.ask({ method: 'POST', path: '/tokenize', body: { records } })
      assert.equal(large.status, 200, large.body.slice(0, 300))
      const name = `of/${proxy === nginx ? 'nginx' : 'haproxy'}`
      const created = await proxy.ask({ method: 'POST', path: '/secrets', body: { name, value: 'v' } })
      assert.equal(created.status, 201, 'a write that is sent to one node only')
      const updated = await proxy.ask({ method: 'PUT', path: `/secrets/${name}`, body: { value: 'w' } })
      assert.deepEqual([updated.status, JSON.parse(updated.body).version], [200, 2])
      const absent = await proxy.ask({ method: 'GET', path: '/secrets/a//b' })
      assert.equal(absent.status, 400, 'the slashes have arrived as they are')
    }
    const written = readdirSync(nginx.temporary, { recursive: true, withFileTypes: true })
    assert.deepEqual(
      written.filter((entry) => !entry.isDirectory()),
      [],
    )
  })

  test('a node is killed and another one drained: no answer but 200, or 503 with Retry-After', async () => {
    const { nodes } = cluster
    const callers = [...haproxy.callers(), ...nginx.callers()]
    await until('all call', () => callers.every(({ seen }) => seen.length > 5))
    await nodes[0].kill()
    await untilAnswered(callers)
    await nodes[0].start()
    assert.equal(await nodes[1].process?.stop(), 0)
    await untilAnswered(callers)
    await nodes[1].start()
    await untilAnswered(callers)
    await Promise.all(callers.map((caller) => caller.end()))
    for (const { seen } of callers) for (const answer of seen) assertServed(answer)
  })

  test('a rolling restart behind HAProxy: no call fails', async () => {
    const callers = haproxy.callers()
    for (const node of cluster.nodes) {
      assert.equal(await node.process?.stop(), 0)
      await untilAnswered(callers)
      await node.start()
      await until('all members are ready', () => allReady(node))
      await until('HAProxy has seen the node', () => haproxy.uses(node))
    }
    await Promise.all(callers.map((caller) => caller.end()))
    const failed = callers.flatMap(({ seen }) => seen).filter(({ status }) => status !== 200)
    assert.deepEqual(failed, [])
  })
})

async function allReady(node: ClusterNode): Promise<boolean> {
  const { members } = await node.status()
  return members.length === 3 && members.every(({ ready }) => ready)
}

/** Each caller has three answers more. */
async function untilAnswered(callers: readonly Caller[]): Promise<void> {
  const before = callers.map(({ seen }) => seen.length)
  await until('answers go on', () => callers.every(({ seen }, i) => seen.length >= before[i] + 3), 30_000)
}

function assertServed({ status, retryAfter, body }: Seen): void {
  if (status !== 200) assert.deepEqual([status, retryAfter], [503, '1'], body)
}

/** A caller that asks until told to end. */
class Caller {
  readonly seen: Seen[] = []
  readonly #running: Promise<void>
  #ending = false

  constructor(ask: (call: Call) => Promise<Seen>, number: number) {
    this.#running = this.#run(ask, number)
  }

  async end(): Promise<void> {
    this.#ending = true
    await this.#running
  }

  async #run(ask: (call: Call) => Promise<Seen>, number: number): Promise<void> {
    for (let i = 0; !this.#ending; i++) {
      const values = [`value ${number} ${i}`, 'a value of all']
      const calls: readonly Call[] = [
        { method: 'POST', path: '/tokenize', body: { values } },
        { method: 'GET', path: `/secrets/${NAME}` },
      ]
      this.seen.push(await ask(calls[i % calls.length]))
      // The callers' pace: sixteen of them leave processor time for three nodes.
      await new Promise((resolve) => setTimeout(resolve, 40))
    }
  }
}

class ProxyProcess {
  readonly #child: ChildProcess
  readonly #port: number
  readonly #key: string
  readonly #agent = new Agent({ keepAlive: true })
  /** Where nginx writes what does not fit into memory. */
  readonly temporary: string
  #log = ''

  private constructor(child: ChildProcess, { port, key, dir }: { port: number; key: string; dir: string }) {
    this.#child = child
    this.#port = port
    this.#key = key
    this.temporary = `${dir}/temporary`
    child.stderr?.on('data', (part) => {
      this.#log += part
    })
  }

  /** The recipe, with the ports of the cluster. */
  static async start(
    cluster: Cluster,
    recipe: string,
    command: (file: string, dir: string) => readonly string[],
  ): Promise<ProxyProcess> {
    const port = await freePort()
    const dir = cluster.folder.file(recipe.replace('.', '-'))
    mkdirSync(dir)
    let text = readFileSync(new URL(`../../recipes/proxy/${recipe}`, import.meta.url), 'utf8')
    const ports = [port, ...cluster.nodes.map(({ url }) => new URL(url).port)]
    for (const [i, from] of [8300, 8200, 8210, 8220].entries()) {
      assert.ok(text.includes(`127.0.0.1:${from}`))
      text = text.replaceAll(`127.0.0.1:${from}`, `127.0.0.1:${ports[i]}`)
    }
    // nginx makes these directories at its start, elsewhere only root may.
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (name) => `${name}_temp_path ${dir}/temporary/${name};`,
    )
    mkdirSync(`${dir}/temporary`)
    text = text.replace('http {', `http { ${temporary.join(' ')}`)
    const file = `${dir}/${recipe}`
    writeFileSync(file, text)
    const [name, ...args] = command(file, dir)
    const child = spawn(programPath(name) ?? name, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    const proxy = new ProxyProcess(child, { port, key: cluster.keys.a, dir })
    await until(
      `${name} answers`,
      async () => {
        assert.equal(child.exitCode, null, proxy.#log)
        return (await proxy.ask({ method: 'GET', path: '/epochs' }).catch(() => undefined))?.status === 200
      },
      10_000,
    )
    return proxy
  }

  callers(): Caller[] {
    return Array.from({ length: CALLERS }, (_, i) => new Caller((call) => this.ask(call), i))
  }

  /** One request. */
  ask({ method, path, body }: Call): Promise<Seen> {
    const { promise, resolve, reject } = Promise.withResolvers<Seen>()
    const headers = {
      authorization: `Bearer ${this.#key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    }
    const options = { host: '127.0.0.1', port: this.#port, method, path, headers, agent: this.#agent }
    const sent = request(options, async (answer) => {
      const parts: Buffer[] = []
      for await (const part of answer) parts.push(part)
      const { statusCode = 0, headers } = answer
      const text = Buffer.concat(parts).toString('utf8')
      resolve({ status: statusCode, retryAfter: headers['retry-after'], body: text })
    })
    sent.on('error', reject)
    sent.end(body === undefined ? undefined : JSON.stringify(body))
    return promise
  }

  /** Whether requests reach the node. */
  async uses(node: ClusterNode): Promise<boolean> {
    const { body } = await this.ask({ method: 'GET', path: '/status' })
    return JSON.parse(body).node === node.name
  }

  async stop(): Promise<void> {
    this.#agent.destroy()
    this.#child.kill('SIGTERM') // nginx ends its workers; killed, the workers would stay
    await until(
      'the end of the proxy',
      () => this.#child.exitCode !== null || this.#child.signalCode !== null,
    )
  }
}
