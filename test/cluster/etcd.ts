// One etcd member in a process of its own, on free ports, for tests.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EtcdEndpoint } from '../../src/ledger/etcd-client.ts'
import { etcdBinary } from '../../tools/etcd.ts'
import { freePort } from '../node/child.ts'

export class Etcd {
  readonly url: string
  readonly #dir = mkdtempSync(join(tmpdir(), 'coffer-etcd-'))
  readonly #peer: string
  #child: ChildProcess | undefined

  private constructor(client: number, peer: number) {
    this.url = `http://127.0.0.1:${client}`
    this.#peer = `http://127.0.0.1:${peer}`
  }

  static async start(): Promise<Etcd> {
    const etcd = new Etcd(await freePort(), await freePort())
    await etcd.start()
    return etcd
  }

  async start(): Promise<void> {
    const flags = {
      name: 'm1',
      'data-dir': this.#dir,
      'listen-client-urls': this.url,
      'advertise-client-urls': this.url,
      'listen-peer-urls': this.#peer,
      'initial-advertise-peer-urls': this.#peer,
      'initial-cluster': `m1=${this.#peer}`,
      'max-txn-ops': '4096',
      'log-level': 'error',
    }
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
    this.#child = spawn(etcdBinary(), args, { stdio: ['ignore', 'ignore', 'inherit'] })
    const endpoint = new EtcdEndpoint(this.url)
    try {
      await endpoint.ready(20_000)
      await endpoint.range({ key: Buffer.from('a') }, 20_000)
    } finally {
      endpoint.close()
    }
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
    rmSync(this.#dir, { recursive: true, force: true })
  }
}
