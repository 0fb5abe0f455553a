// Power loss: a vault on a disk of its own, under load, loses what was not synced, comes back, and must hold everything
// that was acknowledged: tokens, secrets, epochs, API keys and root keys.
import { AssertionError } from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { randomHex, systemClock } from '../../src/clock.ts'
import { sleep } from '../../src/waiting.ts'
import { Folder, until } from '../cli/cli.ts'
import { Cluster } from '../cluster/cluster.ts'
import { Violation } from '../sim/judge.ts'
import type { Random } from '../sim/seed.ts'
import { Book } from './book.ts'
import { Clients } from './clients.ts'
import { Disk } from './disk.ts'
import { endProcesses, ifInterrupted } from './interrupted.ts'
import { lastChecks } from './last-checks.ts'
import { Operator } from './operator.ts'

const FEW_CALLS = 20
const MOST_MS = 1200

export type Losses = {
  readonly rounds: number
  readonly nodes: 1 | 3
  readonly random: Random
  /** Syncs of the nodes return at once and do nothing: a fault that must be found. */
  readonly skipSync?: boolean
  readonly report?: (line: string) => void
}
export type Lost = { readonly rounds: number; readonly counts: ReadonlyMap<string, number> }

/** Why this machine has no disk that loses power; undefined where it has. */
export function noPowerLoss(): string | undefined {
  const folder = new Folder()
  const disk = Disk.make(folder.path, `${folder.path}.ext4`, 64)
  if (typeof disk !== 'string') disk.remove()
  folder[Symbol.dispose]()
  return typeof disk === 'string' ? disk : undefined
}

/** Throws Violation, with the round, where something acknowledged is lost; another error where the run itself fails. */
export async function losePower(losses: Losses): Promise<Lost> {
  const folder = new Folder()
  const disk = Disk.make(folder.path)
  if (typeof disk === 'string') throw new Error(disk)
  const tracers: ChildProcess[] = []
  let cluster: Cluster | undefined
  let interrupted: ReturnType<typeof ifInterrupted> | undefined
  try {
    const made = await Cluster.init({ folder, nodes: losses.nodes })
    cluster = made
    interrupted = ifInterrupted(() => endProcesses(made))
    return await new Run(cluster, disk, { ...losses, tracers }).all()
  } finally {
    for (const tracer of tracers) tracer.kill('SIGKILL')
    for (const node of cluster?.nodes ?? []) await node.process?.[Symbol.asyncDispose]()
    interrupted?.end()
    disk.remove()
    folder[Symbol.dispose]()
  }
}

class Run {
  readonly #cluster: Cluster
  readonly #disk: Disk
  readonly #losses: Losses & { readonly tracers: ChildProcess[] }
  readonly #clients: Clients
  readonly #operator: Operator
  readonly #book = new Book()
  readonly #marker = `plain${randomHex(systemClock, 6)}`

  constructor(cluster: Cluster, disk: Disk, losses: Losses & { readonly tracers: ChildProcess[] }) {
    const { random } = losses
    this.#cluster = cluster
    this.#disk = disk
    this.#losses = losses
    const { nodes: doors, keys } = cluster
    this.#clients = new Clients({ random, keys, doors, marker: this.#marker, fresh: true })
    this.#operator = new Operator(cluster, random)
  }

  async all(): Promise<Lost> {
    const { rounds, report } = this.#losses
    for (let round = 1; round <= rounds; round++) {
      try {
        await this.#start(round > 1)
        await this.#check()
        await this.#load()
        if (round === rounds) await this.#start(true)
        if (round === rounds) await this.#check()
      } catch (error) {
        const told = `round ${round}: ${error instanceof Error ? error.message : error}`
        throw error instanceof Violation
          ? new Violation(told, { cause: error })
          : new Error(told, { cause: error })
      }
      report?.(`round ${round}: ${this.#clients.judge.calls.length} calls before the loss`)
    }
    return { rounds, counts: new Map([...this.#clients.counts, ...this.#operator.counts]) }
  }

  /** After a loss a node that ends, or is not ready, is a Violation; before, and of anything else, an error of the run. */
  async #start(afterLoss: boolean): Promise<void> {
    const { skipSync = false, tracers } = this.#losses
    await this.#cluster.startAll().catch((error: Error) => {
      if (!afterLoss || !(error instanceof AssertionError)) throw error
      throw new Violation(`law 1: a node does not start after the loss: ${error.message}`, { cause: error })
    })
    if (!skipSync) return
    for (const node of this.#cluster.nodes)
      for (const pid of [node.process?.pid ?? 0, node.memberPid]) if (pid > 0) tracers.push(await skip(pid))
  }

  async #check(): Promise<void> {
    const { random } = this.#losses
    const [clients, book, cluster] = [this.#clients, this.#book, this.#cluster]
    if (clients.judge.calls.length > 0)
      await lastChecks({ cluster, clients, book, random, marker: this.#marker })
    await this.#operator.check()
  }

  /** Clients and the operator work until the power goes, at a random moment. */
  async #load(): Promise<void> {
    const { random } = this.#losses
    const clients = this.#clients
    const names = clients.namesOf(random.below(10))
    clients.begin(this.#book.judge(names), names, 2)
    const before = clients.done
    clients.start()
    await until('calls are answered', () => clients.done > before + FEW_CALLS, 30_000)
    const work = this.#operator.work()
    await sleep(random.below(MOST_MS))
    const release = clients.hold(this.#cluster.nodes.map(({ name }) => name))
    this.#disk.lose()
    this.#operator.interrupt()
    for (const node of this.#cluster.nodes) await node.process?.[Symbol.asyncDispose]()
    await clients.stop()
    await work
    await this.#disk.comeBack()
    release()
  }
}

/** Attaches to a process: from then on its syncs do nothing, and succeed. */
async function skip(pid: number): Promise<ChildProcess> {
  const calls = 'fsync,fdatasync,msync,sync_file_range'
  const args = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', `inject=${calls}:retval=0`]
  const tracer = spawn('strace', [...args, '-p', String(pid)], { stdio: 'ignore' })
  const failed = once(tracer, 'error').then(([error]) => Promise.reject(error))
  const attached = until('strace is attached', () => isTraced(pid), 10_000)
  await Promise.race([attached, failed])
  failed.catch(() => undefined)
  return tracer
}

function isTraced(pid: number): boolean {
  return !readFileSync(`/proc/${pid}/status`, 'utf8').includes('TracerPid:\t0')
}
