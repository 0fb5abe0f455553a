// Where faults happen: three real nodes, each with a disk of its own where the machine has some; relays between each node
// and each member, and between the clients and each node.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { randomHex, systemClock } from '../../src/clock.ts'
import { Folder, until } from '../cli/cli.ts'
import { Cluster, type ClusterNode } from '../cluster/cluster.ts'
import type { Random } from '../sim/seed.ts'
import { Book } from './book.ts'
import { Clients } from './clients.ts'
import { Disk } from './disk.ts'
import { endProcesses, ifInterrupted } from './interrupted.ts'
import type { Site } from './last-checks.ts'
import { Operator } from './operator.ts'
import { type Wires, wire } from './wires.ts'

const DISK_MEBIBYTES = 1536
const GO_ON_MS = 60_000

/**
 * Under load; mended when `run` resolves. `needs`: what not every machine has. `once`: stores much, and comes first, so
 * that memory is compared with what there is afterwards.
 */
export type Fault = {
  readonly name: string
  readonly needs?: 'disks'
  readonly once?: boolean
  readonly run: (stage: Stage) => Promise<unknown>
}

export class Stage implements Site, AsyncDisposable {
  readonly cluster: Cluster
  readonly clients: Clients
  readonly operator: Operator
  readonly book = new Book()
  readonly random: Random
  readonly marker = `plain${randomHex(systemClock, 6)}`
  /** One a node, or none, and why there is none. */
  readonly disks: readonly Disk[]
  readonly noDisk: string | undefined
  readonly wires: Wires

  readonly #interrupted = ifInterrupted(() => endProcesses(this.cluster))

  private constructor(cluster: Cluster, parts: Pick<Stage, 'random' | 'disks' | 'noDisk' | 'wires'>) {
    this.cluster = cluster
    this.random = parts.random
    this.disks = parts.disks
    this.noDisk = parts.noDisk
    this.wires = parts.wires
    const doors = parts.wires.clients.map(({ url }, i) => ({ name: cluster.nodes[i].name, url }))
    const { random, marker } = this
    this.clients = new Clients({ random, keys: cluster.keys, doors, marker })
    this.operator = new Operator(cluster, random)
  }

  /** All nodes are ready. */
  static async set(random: Random): Promise<Stage> {
    const folder = new Folder()
    const cluster = await Cluster.init({ folder })
    const disks: Disk[] = []
    let noDisk: string | undefined
    mkdirSync(folder.file('disks'))
    for (const { name } of cluster.nodes) {
      mkdirSync(join(cluster.dir, name), { mode: 0o700 })
      const disk = Disk.make(join(cluster.dir, name), folder.file('disks', name), DISK_MEBIBYTES)
      if (typeof disk === 'string') noDisk = disk
      else disks.push(disk)
    }
    const wires = await wire(cluster)
    const stage = new Stage(cluster, { random, disks, noDisk, wires })
    try {
      await cluster.startAll()
      return stage
    } catch (error) {
      await stage[Symbol.asyncDispose]()
      throw error
    }
  }

  get nodes(): readonly ClusterNode[] {
    return this.cluster.nodes
  }

  anyNode(): ClusterNode {
    return this.random.pick(this.nodes)
  }

  /** Resolves when the clients have got so many more answers. */
  async goOn(calls: number): Promise<void> {
    const before = this.clients.done
    await until(`${calls} calls are answered`, () => this.clients.done >= before + calls, GO_ON_MS)
  }

  /** Resolves when one of the nodes has acknowledged a new token. */
  async newToken(nodes: readonly ClusterNode[]): Promise<void> {
    const { clients, marker, random } = this
    const [owner] = clients.owners
    const values = [`${marker} new ${random.below(2 ** 31)}`]
    const look = async (): Promise<boolean> =>
      (await clients.ask(random.pick(nodes), { kind: 'tokenize', owner, values })).kind === 'tokens'
    await until('the other nodes acknowledge a new token', look, GO_ON_MS)
  }

  /** Each owner has one more epoch, where the ledger can be written. */
  async rotate(nodes: readonly ClusterNode[]): Promise<void> {
    const { clients, random } = this
    for (const owner of clients.owners) {
      const epochs = await clients.ask(random.pick(nodes), { kind: 'epochs', owner })
      if (epochs.kind === 'active')
        await clients.ask(random.pick(nodes), { kind: 'rotate', owner, to: epochs.epoch + 1 })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#interrupted.end()
    for (const node of this.nodes) await node.process?.[Symbol.asyncDispose]()
    const { clients, peers, ledger } = this.wires
    for (const relay of [...clients, ...peers, ...ledger.flat()]) relay.close()
    for (const disk of this.disks) disk.remove()
    await this.cluster[Symbol.asyncDispose]()
  }
}
