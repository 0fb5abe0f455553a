// Three nodes with their own members, as `coffer init --nodes 3` sets them up, each a child of the test: they are
// killed, stopped in mid-air, restarted. Every call is one request to one node: nothing is tried again.
import assert from 'node:assert/strict'
import { readFileSync, rmSync } from 'node:fs'
import { isFree } from '../../src/cli/demo/ports.ts'
import { coffer, Folder, fine, init, isAlive, NodeProcess, until } from '../cli/cli.ts'
import { pidIn, sendSignal } from '../signals.ts'

export type Answer = { readonly status: number; readonly json: Record<string, unknown> }
export type Status = {
  readonly node: string
  readonly ledger: { readonly revision: number; readonly identity: string }
  readonly replica: { readonly revision: number; readonly lag: number; readonly digest: string }
  readonly quorum: boolean
  readonly leader: string | null
  readonly members: readonly { readonly node: string; readonly ready: boolean }[]
}

type Setting = { readonly folder?: Folder; readonly nodes?: 1 | 3 }

const LONG_MS = 40_000

/**
 * The first of the nine ports of `init --nodes 3`, of which none is in use; below those that the system gives to
 * connections, which come and go.
 */
export async function freeCluster(): Promise<number> {
  const ports = (first: number): number[] => [0, 10, 20].flatMap((i) => [0, 1, 2].map((j) => first + i + j))
  return until('nine free ports', async () => {
    const first = 11_000 + Math.floor(Math.random() * 19_000) // fetch refuses 10,080
    return (await Promise.all(ports(first).map(isFree))).every(Boolean) ? first : undefined
  })
}

export class ClusterNode {
  readonly name: string
  readonly config: string
  readonly url: string
  readonly #run: string
  readonly #key: string
  process: NodeProcess | undefined

  constructor(folder: Folder, name: string, { port, key }: { port: number; key: string }) {
    this.name = name
    this.config = folder.file('v', `${name}.yaml`)
    this.#run = folder.file('v', 'run')
    this.url = `http://127.0.0.1:${port}`
    this.#key = key
  }

  /** Resolves when it is ready. */
  async start(): Promise<void> {
    this.process = await NodeProcess.start(this.config, LONG_MS)
  }

  /** Resolves when it has begun, whatever it waits for. */
  async begin(): Promise<void> {
    this.process = NodeProcess.begin(this.config)
    await until(`${this.name} lives`, () => this.health(), LONG_MS)
  }

  async health(): Promise<boolean> {
    return fetch(`${this.url}/health`).then(
      (answer) => answer.ok,
      () => false,
    )
  }

  /** 0 while it has none. */
  get memberPid(): number {
    return pidIn(`${this.#run}/${this.name}.etcd.pid`) ?? 0
  }

  signalMember(signal: NodeJS.Signals): void {
    sendSignal(this.memberPid, signal)
  }

  /** kill -9 of the vault's process alone; resolves when it and its member are gone. */
  async kill(): Promise<void> {
    const node = this.process
    if (!node || node.child.exitCode !== null || node.child.signalCode !== null) return
    const member = this.memberPid
    node.signal('SIGKILL')
    await node.ended()
    await until(`the member of ${this.name} goes with it`, () => !isAlive(member), 2000)
  }

  async ask(path: string, body?: unknown, key = this.#key): Promise<Answer> {
    const answer = await fetch(`${this.url}${path}`, {
      headers: {
        authorization: `Bearer ${key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    })
    return { status: answer.status, json: (await answer.json()) as Record<string, unknown> } // JSON, always
  }

  async tokenize(values: readonly unknown[]): Promise<{ epoch: number; tokens: string[] }> {
    const { status, json } = await this.ask('/tokenize', { values })
    assert.equal(status, 200, `${this.name}: ${JSON.stringify(json)}`)
    return json as { epoch: number; tokens: string[] } // the contract's answer
  }

  async detokenize(tokens: readonly string[]): Promise<{ values: unknown[]; not_found: number[] }> {
    const { status, json } = await this.ask('/detokenize', { tokens })
    assert.equal(status, 200, `${this.name}: ${JSON.stringify(json)}`)
    return json as { values: unknown[]; not_found: number[] } // the contract's answer
  }

  async status(): Promise<Status> {
    const { status, json } = await this.ask('/status')
    assert.equal(status, 200)
    return json as Status // the contract's answer
  }

  /** The reasons of /ready; empty when it is. */
  async reasons(): Promise<readonly string[]> {
    const { status, json } = await this.ask('/ready')
    return status === 200 ? [] : (json.reasons as string[]) // the contract's answer
  }

  async metric(name: string): Promise<number | undefined> {
    const text = await (await fetch(`${this.url}/metrics`)).text()
    const found = new RegExp(`^${name.replaceAll(/[{}"]/g, '\\$&')} (\\S+)$`, 'm').exec(text)
    return found ? Number(found[1]) : undefined
  }

  /** Lines of its event log. */
  events(): Record<string, unknown>[] {
    const text = readFileSync(this.config.replace(/\.yaml$/, '/events.ndjson'), 'utf8')
    return text
      .split('\n')
      .filter((line) => line.endsWith('}'))
      .map((line): Record<string, unknown> => JSON.parse(line))
  }
}

export class Cluster implements AsyncDisposable {
  readonly folder: Folder
  readonly nodes: readonly ClusterNode[]
  readonly keys: Readonly<Record<string, string>>

  private constructor(
    folder: Folder,
    keys: Readonly<Record<string, string>>,
    { port, nodes }: { readonly port: number; readonly nodes: number },
  ) {
    this.folder = folder
    this.keys = keys
    this.nodes = Array.from(
      { length: nodes },
      (_, i) => new ClusterNode(folder, `n${i + 1}`, { port: port + 10 * i, key: keys.a }),
    )
  }

  /** Owners a and b; the field patient.ssn. `nodes`: 1 for a node with an embedded ledger. */
  static async init({ folder = new Folder(), nodes = 3 }: Setting = {}): Promise<Cluster> {
    const port = await freeCluster()
    const args = [
      '--nodes',
      String(nodes),
      '--owner',
      'a',
      '--owner',
      'b',
      '--field',
      'patient.ssn',
      '--port',
      `${port}`,
    ]
    return new Cluster(folder, await init(folder.file('v'), ...args), { port, nodes })
  }

  static async start(): Promise<Cluster> {
    const cluster = await Cluster.init()
    try {
      await cluster.startAll()
      return cluster
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
  }

  get dir(): string {
    return this.folder.file('v')
  }

  get configs(): string[] {
    return this.nodes.map((node) => node.config)
  }

  /** What does not run. */
  async startAll(): Promise<void> {
    const down = this.nodes.filter(
      ({ process: node }) => !node || node.child.exitCode !== null || node.child.signalCode !== null,
    )
    await Promise.all(down.map((node) => node.start()))
  }

  async leader(): Promise<ClusterNode> {
    return until('a leader', async () => {
      for (const node of this.nodes) {
        const { leader } = await node.status().catch(() => ({ leader: null }))
        const found = this.nodes.find(({ name }) => name === leader)
        if (found) return found
      }
      return undefined
    })
  }

  /** All digests at one revision, when nobody writes. */
  async digests(): Promise<ReadonlySet<string>> {
    return until(
      'all nodes at one revision',
      async () => {
        const all = await Promise.all(this.nodes.map((node) => node.status()))
        const revisions = new Set(all.flatMap(({ ledger, replica }) => [ledger.revision, replica.revision]))
        return revisions.size === 1 ? new Set(all.map(({ replica }) => replica.digest)) : undefined
      },
      20_000,
    )
  }

  coffer(...args: string[]): ReturnType<typeof coffer> {
    return coffer(args)
  }

  fine(...args: string[]): Promise<string> {
    return fine(args)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes) await node.process?.[Symbol.asyncDispose]() // SIGKILL ends a stopped one too
    rmSync(this.folder.path, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}
