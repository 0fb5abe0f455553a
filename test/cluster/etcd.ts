// One etcd member in a process of its own, on free ports, for tests.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EtcdEndpoint, EtcdError } from '../../src/ledger/etcd-client.ts'
import { findEtcd } from '../../src/node/etcd-binary.ts'
import { until } from '../cli/cli.ts'
import { freePort } from '../node/child.ts'
import { sendSignal } from '../signals.ts'

async function answers(endpoint: EtcdEndpoint): Promise<boolean> {
  try {
    await endpoint.ready(1000)
    await endpoint.range({ key: Buffer.from('a') }, 1000)
    return true
  } catch (error) {
    if (error instanceof EtcdError) return false
    throw error
  }
}

export class Etcd {
  readonly url: string
  readonly dir = mkdtempSync(join(tmpdir(), 'coffer-etcd-'))
  readonly #peer: string
  #child: ChildProcess | undefined
  readonly #more: Record<string, string>

  private constructor(client: number, peer: number, more: Readonly<Record<string, string>>) {
    this.#more = { ...more }
    this.url = `http://127.0.0.1:${client}`
    this.#peer = `http://127.0.0.1:${peer}`
  }

  /** `more`: flags beside the usual ones. */
  static async start(more: Readonly<Record<string, string>> = {}): Promise<Etcd> {
    const etcd = new Etcd(await freePort(), await freePort(), more)
    await etcd.start()
    return etcd
  }

  /** The three members of a cluster. */
  static async three(): Promise<readonly Etcd[]> {
    const etcds: Etcd[] = []
    for (const name of ['m1', 'm2', 'm3']) etcds.push(new Etcd(await freePort(), await freePort(), { name }))
    const cluster = etcds.map((etcd) => `${etcd.#more.name}=${etcd.#peer}`).join(',')
    const token = `coffer-${process.pid}-${etcds[0].url}`
    for (const etcd of etcds)
      Object.assign(etcd.#more, { 'initial-cluster': cluster, 'initial-cluster-token': token })
    await Promise.all(etcds.map((etcd) => etcd.start()))
    return etcds
  }

  async start(): Promise<void> {
    const flags = {
      name: 'm1',
      'data-dir': this.dir,
      'listen-client-urls': this.url,
      'advertise-client-urls': this.url,
      'listen-peer-urls': this.#peer,
      'initial-advertise-peer-urls': this.#peer,
      'initial-cluster': `m1=${this.#peer}`,
      'max-txn-ops': '4096',
      'log-level': 'error',
      ...this.#more,
    }
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
    this.#child = spawn(findEtcd().path, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    const endpoint = new EtcdEndpoint(this.url)
    try {
      await until('etcd answers', () => answers(endpoint), 20_000)
    } catch (error) {
      await this.kill()
      throw error
    } finally {
      endpoint.close()
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#child) sendSignal(this.#child.pid, signal)
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  async remove(): Promise<void> {
    await this.kill()
    rmSync(this.dir, { recursive: true, force: true })
  }
}
