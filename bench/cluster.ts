// Three nodes on this machine, each with its own etcd member, run as child processes: a member ends with its
// node.
import { readFileSync, rmSync } from 'node:fs'
import { EtcdEndpoint, type StatusResponse } from '../src/ledger/etcd-client.ts'
import type { Config } from '../src/node/config.ts'
import { memberPidFile } from '../src/node/member-directory.ts'
import { readLedgerTls } from '../src/node/tls-files.ts'
import { sleep } from '../src/waiting.ts'
import { type Child, cpuSeconds, memoryOf, startChild } from './child.ts'
import { writeClusterFiles } from './cluster-files.ts'
import { Client, type Target } from './load.ts'
import { inOrder } from './values.ts'
import { apiKey, getJson } from './vault.ts'
import { knownTokens, knownValues, newValues, runOf, TokenTexts } from './work.ts'

const POLL_MS = 20
const ASK_MS = 5000
const WARM = 'warm'

export type NodeStatus = {
  readonly node: string
  readonly ledger: { readonly revision: number }
  readonly replica: { readonly revision: number; readonly digest: string }
  readonly leader: string | null
}

type Node = { readonly config: Config; readonly url: string; child: Child | undefined }

/** A cluster warmed up by some of every call on every node: V8 has compiled the code. */
export async function warmCluster(
  dir: string,
  owners: readonly string[],
  flags: readonly string[] = [],
): Promise<Cluster> {
  const cluster = await Cluster.create(dir, [...owners, WARM], flags)
  await cluster.start()
  const client = new Client(cluster, 6)
  const texts = new TokenTexts(160_000)
  for (const [batch, first, count] of [
    [5000, 0, 150_000],
    [100, 150_000, 6000],
  ]) {
    const run = runOf(WARM, batch, count, inOrder(first))
    for (const work of [newValues(run, texts), knownValues(run, texts), knownTokens(run, texts)])
      await client.run(work)
  }
  client.close()
  await cluster.settle()
  return cluster
}

/** As the target of a Client: connections are spread over the nodes. */
export class Cluster {
  readonly #dir: string
  readonly #flags: readonly string[]
  readonly #key: string
  readonly #nodes: readonly Node[]

  private constructor(dir: string, configs: readonly Config[], key: string, flags: readonly string[]) {
    this.#dir = dir
    this.#flags = flags
    this.#key = key
    this.#nodes = configs.map((config) => ({
      config,
      url: `http://${config.listen.host}:${config.listen.port}`,
      child: undefined,
    }))
  }

  /** `flags` are options of Node, as `--cpu-prof`. */
  static async create(
    dir: string,
    owners: readonly string[],
    flags: readonly string[] = [],
  ): Promise<Cluster> {
    return new Cluster(dir, await writeClusterFiles(dir, owners), apiKey(owners[0]), flags)
  }

  /** Of all nodes, also nodes that are down. */
  get url(): readonly string[] {
    return this.#nodes.map((node) => node.url)
  }

  /** A target of the given nodes alone; CPU and memory are those of the whole cluster. */
  only(...at: readonly number[]): Required<Target> {
    const url = at.map((each) => this.#nodes[each].url)
    return { url, cpuSeconds: () => this.cpuSeconds(), etcdSeconds: () => this.etcdSeconds() }
  }

  configOf(at: number): Config {
    return this.#nodes[at].config
  }

  get #up(): readonly Node[] {
    return this.#nodes.filter((node) => node.child)
  }

  /** Starts all at once: no node is ready before a majority runs. */
  async start(): Promise<void> {
    await Promise.all(this.#nodes.map((_, at) => this.startNode(at)))
  }

  /**
   * Resolves when the node is ready. Returns the time taken, in milliseconds. Throws where the node is not
   * ready `within` so many milliseconds.
   */
  async startNode(at: number, within?: number): Promise<number> {
    const node = this.#nodes[at]
    const limit = within === undefined ? {} : { within }
    node.child = await startChild('./node.ts', [node.config.file], { flags: this.#flags, ...limit })
    return node.child.readyMs
  }

  async stopNode(at: number): Promise<void> {
    const node = this.#nodes[at]
    const { child } = node
    node.child = undefined
    await child?.stop()
  }

  /** kill -9; the promise is for its end. */
  killNode(at: number): Promise<void> {
    const node = this.#nodes[at]
    const { child } = node
    node.child = undefined
    return child?.kill() ?? Promise.resolve()
  }

  /**
   * Stops what runs, ends all that it holds. In turn: a leader that stops with all others waits 7 s for a
   * successor.
   */
  async remove(): Promise<void> {
    for (const at of this.#nodes.keys()) await this.stopNode(at)
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 20 })
  }

  cpuSeconds(): number {
    return this.#up.reduce((sum, { child }) => sum + cpuSeconds(child?.pid ?? 0), 0)
  }

  etcdSeconds(): number {
    return this.#memberPids().reduce((sum, pid) => sum + cpuSeconds(pid), 0)
  }

  /** Bytes of each member in memory. */
  memberMemory(): readonly { readonly rss: number; readonly anon: number }[] {
    return this.#memberPids().map(memoryOf)
  }

  #memberPids(): number[] {
    return this.#up.map(({ config }) => Number(readFileSync(memberPidFile(config), 'utf8')))
  }

  status(at: number): Promise<NodeStatus> {
    return getJson(`${this.#nodes[at].url}/status`, this.#key)
  }

  /** Whether the node is ready. */
  async isReady(at: number): Promise<boolean> {
    return getJson(`${this.#nodes[at].url}/ready`, this.#key).then(
      () => true,
      () => false,
    )
  }

  async #statuses(): Promise<readonly NodeStatus[]> {
    const up = this.#nodes.flatMap((node, at) => (node.child ? [at] : []))
    return Promise.all(up.map((at) => this.status(at)))
  }

  /**
   * Waits until every running node has applied the highest head of all running nodes. Returns the time taken,
   * in milliseconds. Throws where the digests differ then.
   */
  async settle(): Promise<number> {
    const started = performance.now()
    for (;;) {
      const all = await this.#statuses()
      const head = Math.max(...all.map(({ ledger }) => ledger.revision))
      if (all.every(({ replica }) => replica.revision >= head)) {
        const digests = new Set(all.map(({ replica }) => replica.digest))
        const same = all.every(({ replica }) => replica.revision === all[0].replica.revision)
        if (same && digests.size > 1) throw new Error('the replicas of one revision differ')
        if (same) return performance.now() - started
      }
      await sleep(POLL_MS)
    }
  }

  /** The node whose member leads, as soon as all agree. */
  async leader(): Promise<number> {
    for (;;) {
      const leaders = new Set((await this.#statuses()).map(({ leader }) => leader))
      const [leader] = leaders
      const at = this.#nodes.findIndex(({ config }) => config.node === leader)
      if (leaders.size === 1 && at >= 0) return at
      await sleep(POLL_MS)
    }
  }

  /** Asks the node's member, over a connection as the node's own. */
  async withMember<T>(at: number, ask: (endpoint: EtcdEndpoint) => Promise<T>): Promise<T> {
    const endpoint = endpointOf(this.#nodes[at].config)
    try {
      await endpoint.ready(ASK_MS)
      return await ask(endpoint)
    } finally {
      endpoint.close()
    }
  }

  /** Used bytes of etcd's database, the median of nine reads: every write takes and frees pages. */
  async databaseBytes(): Promise<number> {
    const bytes: number[] = []
    await this.withMember(0, async (endpoint) => {
      for (let i = 0; i < 9; i++) {
        await sleep(150)
        const status = (await endpoint.status(ASK_MS)) as StatusResponse & { readonly dbSizeInUse: string }
        bytes.push(Number(status.dbSizeInUse))
      }
    })
    return bytes.sort((a, b) => a - b)[4]
  }
}

/** A client of the member of a node. */
export function endpointOf({ ledger }: Config): EtcdEndpoint {
  if (!ledger.tls || !ledger.member) throw new Error('the node has no member')
  return new EtcdEndpoint(ledger.member.client, readLedgerTls(ledger.tls))
}
