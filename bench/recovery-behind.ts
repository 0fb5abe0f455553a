// A node that missed gigabytes in revisions of 1 MiB: what its return takes of its own memory, of its
// member's, and of the time of writes at another node.
import { join } from 'node:path'
import type { EpochKey } from '../src/crypto/epoch-key.ts'
import type { EtcdEndpoint } from '../src/ledger/etcd-client.ts'
import { sleep } from '../src/waiting.ts'
import type { Bench } from './bench.ts'
import { memoryOf } from './child.ts'
import { NODES, writeClusterFiles, writeExtraNode } from './cluster-files.ts'
import { StartedNode } from './coffer.ts'
import { Boot, epochKeyOf, keyringOf, valuesOf } from './entries.ts'
import { quantile } from './load.ts'
import { Members } from './raw-etcd.ts'
import { format } from './table.ts'
import { apiKey } from './vault.ts'

const OWNER = 'bench'
const MISSED = 3 * 2 ** 30
const REVISION = 2 ** 20
/** Eight segments of 128 KiB, four mappings each: the largest values of which four fit. */
const OF_REVISION = 32
const OF_SEGMENT = 4
const VALUE_BYTES = 32_730
const WRITERS = 8
const READY_MS = 600_000
const SAMPLE_MS = 50
const MIB = 2 ** 20

export async function measureBehind(bench: Bench): Promise<void> {
  const dir = join(bench.dir, 'behind')
  const configs = await writeClusterFiles(dir, [OWNER])
  const [first, second, third] = configs
  const [steady, late] = [
    writeExtraNode(dir, { node: 'a', owners: [OWNER], members: [first, second, third] }),
    writeExtraNode(dir, { node: 'b', owners: [OWNER], members: [third, first, second] }),
  ]
  const members = new Members(dir, configs)
  const revisions = Math.round((MISSED * bench.size) / REVISION)
  try {
    await members.ready()
    const node = new StartedNode(steady)
    await node.ready(READY_MS)
    const before = new StartedNode(late)
    await before.ready(READY_MS)
    await before.stop()
    bench.say(`behind: ${format(revisions)} revisions of 1 MiB, one node down`)
    const [endpoint] = members.endpoints
    await fill(endpoint, await epochKeyOf(endpoint, keyringOf(steady), OWNER), revisions)
    const { ledger } = await node.status()
    await node.applied(Math.max(ledger.revision, revisions), READY_MS)
    const member = members.pid(NODES[2])
    const settled = memoryOf(member).anon
    bench.say(`behind: the node is started; its member has ${format(settled / MIB)} MiB`)
    const returned = new StartedNode(late, bench.flags)
    const memory = new Peaks(returned.pid, member)
    const writers = new Writers(node.url)
    const ready = await returned.ready(READY_MS)
    await writers.end()
    memory.end()
    await agree(node, returned)
    const { longestBlock, longestDelay, heapPeak } = returned.probed
    await returned.stop()
    await node.stop()
    const { latencies, failures } = writers
    const what = `back after ${format((revisions * REVISION) / 2 ** 30)} GiB missed`
    const sorted = Float64Array.from(latencies).sort()
    const ms = (part: number): string => `${format(quantile(sorted, part))} ms`
    const failed = [...failures].map(([why, count]) => `${count} × ${why}`).join(', ')
    bench.rows.push(
      { what: `${what}: ready`, value: ready, unit: 's' },
      { what: `${what}: memory (RssAnon)`, value: memory.node / MIB, unit: 'MiB', aim: { most: 600 } },
      { what: `${what}: heap`, value: heapPeak / MIB, unit: 'MiB' },
      {
        what: `${what}: longest block`,
        value: longestBlock,
        unit: 'ms',
        aim: { most: 50 },
        note: `${format(longestDelay)} ms with waits for a core`,
      },
      {
        what: `${what}: growth of its member`,
        value: (memory.member - settled) / MIB,
        unit: 'MiB',
        aim: { most: 1024 },
        note: `from ${format(settled / MIB)} MiB`,
      },
      {
        what: `single writes of ${WRITERS} clients at another node meanwhile: p99`,
        value: quantile(sorted, 0.99),
        unit: 'ms',
        aim: { most: 500 },
        note: `${format(latencies.length)} writes, median ${ms(0.5)}, slowest ${ms(1)}`,
      },
      {
        what: 'failed writes meanwhile',
        value: [...failures.values()].reduce((a, b) => a + b, 0),
        unit: '',
        aim: { most: 0 },
        note: failed,
      },
    )
  } finally {
    await members.stop()
  }
}

async function fill(endpoint: EtcdEndpoint, key: EpochKey, revisions: number): Promise<void> {
  const boot = new Boot(endpoint)
  await boot.begin('a')
  const textOf = (n: number): string => `${n} `.padEnd(VALUE_BYTES, '0123456789abcdef')
  let last: Promise<void> = Promise.resolve()
  for (let n = 0; n < revisions; n++) {
    const puts = boot.segments(key, valuesOf(n * OF_REVISION, OF_REVISION, textOf), OF_SEGMENT)
    await last
    last = boot.put(puts)
  }
  await last
}

/** Both must hold the same, at the same revision. */
async function agree(a: StartedNode, b: StartedNode): Promise<void> {
  const { revision } = (await a.status()).ledger
  await Promise.all([a.applied(revision, READY_MS), b.applied(revision, READY_MS)])
  const [one, other] = await Promise.all([a.status(), b.status()])
  if (one.replica.revision !== other.replica.revision || one.replica.digest !== other.replica.digest)
    throw new Error('the replicas differ')
}

/** The highest RssAnon of a node and of a member, in bytes, until `end`. */
class Peaks {
  node = 0
  member = 0
  readonly #timer: NodeJS.Timeout

  constructor(node: number, member: number) {
    this.#timer = setInterval(() => {
      this.node = Math.max(this.node, memoryOf(node).anon)
      this.member = Math.max(this.member, memoryOf(member).anon)
    }, SAMPLE_MS)
  }

  end(): void {
    clearInterval(this.#timer)
  }
}

/** Clients, each writing new values one by one, until the end. */
class Writers {
  readonly latencies: number[] = []
  /** By status or error. */
  readonly failures = new Map<string, number>()
  readonly #running: Promise<unknown>
  #ended = false

  constructor(url: string) {
    this.#running = Promise.all(Array.from({ length: WRITERS }, (_, i) => this.#write(url, i)))
  }

  async #write(url: string, client: number): Promise<void> {
    const headers = { authorization: `Bearer ${apiKey(OWNER)}`, 'content-type': 'application/json' }
    for (let n = 0; !this.#ended; n++) {
      const body = JSON.stringify({ values: [`client ${client}, ${n}`] })
      const sent = performance.now()
      const how = await fetch(`${url}/tokenize`, { method: 'POST', headers, body }).then(
        async (answer) => (answer.ok ? 'ok' : `${answer.status} ${(await answer.text()).slice(0, 80)}`),
        (error: Error) => error.message,
      )
      this.latencies.push(performance.now() - sent)
      if (how === 'ok') continue
      this.failures.set(how, (this.failures.get(how) ?? 0) + 1)
      await sleep(SAMPLE_MS)
    }
  }

  async end(): Promise<void> {
    this.#ended = true
    await this.#running
  }
}
