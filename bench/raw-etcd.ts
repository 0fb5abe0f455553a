// Floors of a cluster: its etcd members alone, started as a node starts its own, asked by the node's own
// client.
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { cpuUsage } from 'node:process'
import type { EtcdEndpoint } from '../src/ledger/etcd-client.ts'
import { SILENT } from '../src/log.ts'
import type { Config } from '../src/node/config.ts'
import { findEtcd } from '../src/node/etcd-binary.ts'
import { startMember } from '../src/node/member.ts'
import { sleep } from '../src/waiting.ts'
import type { Bench } from './bench.ts'
import { cpuSeconds, machineSeconds } from './child.ts'
import { endpointOf } from './cluster.ts'
import { writeClusterFiles } from './cluster-files.ts'
import { type Measured, quantile } from './load.ts'

const CALL_MS = 10_000
const START_MS = 30_000
/** About the size of a segment with a single mapping. */
export const SMALL_BYTES = 250
/** Version and receipt of a secret of 32 bytes. */
const SECRET_BYTES = [235, 82]
const LARGE_BYTES = 128 * 1024
export const IN_FLIGHT = 64

/** Members without nodes. */
export class Members {
  readonly endpoints: readonly EtcdEndpoint[]
  readonly #pids = new Map<string, number>()
  readonly #members: readonly { stop(): Promise<void> }[]
  readonly #dir: string

  constructor(dir: string, configs: readonly Config[]) {
    const etcd = findEtcd()
    this.#dir = dir
    this.#members = configs.map((config) => {
      const changed = (pid: number | undefined): void => {
        if (pid !== undefined) this.#pids.set(config.node, pid)
        else this.#pids.delete(config.node)
      }
      return startMember({ config, etcd, log: SILENT, changed })
    })
    this.endpoints = configs.map(endpointOf)
  }

  async ready(): Promise<void> {
    const until = performance.now() + START_MS
    for (const endpoint of this.endpoints) {
      for (;;) {
        try {
          await endpoint.ready(1000)
          await endpoint.range({ key: Buffer.from('a') }, 1000)
          break
        } catch (error) {
          if (performance.now() > until) throw error
          await sleep(50)
        }
      }
    }
  }

  /** The process of the member of a node. */
  pid(node: string): number {
    const pid = this.#pids.get(node)
    if (pid === undefined) throw new Error(`the member of ${node} does not run`)
    return pid
  }

  cpuSeconds(): number {
    return [...this.#pids.values()].reduce((sum, pid) => sum + cpuSeconds(pid), 0)
  }

  async stop(): Promise<void> {
    for (const endpoint of this.endpoints) endpoint.close()
    for (const member of this.#members) await member.stop()
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 20 })
  }
}

/** `bytes`: of the values in each write. */
type Puts = { readonly bytes: readonly number[]; readonly inFlight: number; readonly seconds: number }
type Put = Pick<Measured, 'perSecond' | 'p50' | 'p99' | 'clientCpu' | 'othersCpu'> & {
  readonly etcdCpu: number
}

/** Transactions, the members in turn. */
async function puts(members: Members, { bytes, inFlight, seconds }: Puts): Promise<Put> {
  const values = bytes.map((size) => randomBytes(size))
  const latencies: number[] = []
  let next = 0
  const before = { etcd: members.cpuSeconds(), machine: machineSeconds(), client: cpuUsage() }
  const started = performance.now()
  const worker = async (endpoint: EtcdEndpoint): Promise<void> => {
    while (performance.now() - started < seconds * 1000) {
      const number = String(++next).padStart(10, '0')
      const keys = values.map((_, i) => Buffer.from(`seg/${inFlight}-${started}/${number}/${i}`))
      const success = keys.map((key, i) => ({ request_put: { key, value: values[i] } }))
      const sent = performance.now()
      const { succeeded } = await endpoint.txn({ success }, CALL_MS)
      if (!succeeded) throw new Error('a put of the floor was refused')
      latencies.push(performance.now() - sent)
    }
  }
  const { endpoints } = members
  await Promise.all(Array.from({ length: inFlight }, (_, i) => worker(endpoints[i % endpoints.length])))
  const took = (performance.now() - started) / 1000
  const etcdCpu = (members.cpuSeconds() - before.etcd) / took
  const used = cpuUsage(before.client)
  const clientCpu = (used.user + used.system) / 1e6 / took
  const othersCpu = Math.max(0, (machineSeconds() - before.machine) / took - etcdCpu - clientCpu)
  const sorted = Float64Array.from(latencies).sort()
  return {
    perSecond: next / took,
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    etcdCpu,
    clientCpu,
    othersCpu,
  }
}

/** Small and large puts: the floors of a cluster. */
export async function measureEtcd(bench: Bench): Promise<void> {
  const { rows, floors, quick } = bench
  const dir = join(bench.dir, 'etcd')
  const members = new Members(dir, await writeClusterFiles(dir, ['nobody']))
  const seconds = quick ? 2 : 10
  try {
    await members.ready()
    await puts(members, { bytes: [SMALL_BYTES], inFlight: IN_FLIGHT, seconds: seconds / 4 })
    for (const inFlight of [1, IN_FLIGHT]) {
      bench.say(`floor: etcd alone, ${SMALL_BYTES} bytes, ${inFlight} in flight`)
      const { perSecond: value, ...more } = await puts(members, { bytes: [SMALL_BYTES], inFlight, seconds })
      const what = `floor: etcd × 3, puts of ${SMALL_BYTES} B, ${inFlight} in flight`
      rows.push({ what, value, unit: '/s', ...more })
      floors.etcdPuts.set(inFlight, value)
    }
    bench.say('floor: etcd alone, what a secret puts, 64 in flight')
    const secret = await puts(members, { bytes: SECRET_BYTES, inFlight: IN_FLIGHT, seconds })
    const { perSecond: writes, ...about } = secret
    const what = `floor: etcd × 3, ${SECRET_BYTES.join(' + ')} B, ${IN_FLIGHT} in flight`
    rows.push({ what, value: writes, unit: '/s', ...about })
    floors.etcdSecrets = writes
    bench.say(`floor: etcd alone, ${LARGE_BYTES} bytes, 4 in flight`)
    const { perSecond, ...more } = await puts(members, { bytes: [LARGE_BYTES], inFlight: 4, seconds })
    floors.etcdBytes = perSecond * LARGE_BYTES
    const value = floors.etcdBytes / 1e6
    rows.push({ what: 'floor: etcd × 3, puts of 128 KiB, 4 in flight', value, unit: 'MB/s', ...more })
  } finally {
    await members.stop()
  }
}
