// The gap in writes after the node of the leading member is killed, as seen by clients with fail-over.
import { join } from 'node:path'
import { Coffer } from '../src/client/index.ts'
import { sleep } from '../src/waiting.ts'
import type { Bench } from './bench.ts'
import { type Cluster, warmCluster } from './cluster.ts'
import { quantile } from './load.ts'
import { format } from './table.ts'
import { apiKey } from './vault.ts'

const OWNER = 'bench'
const CLIENTS = 16
/** Written before the kill, and watched after the first new write. */
const BEFORE_MS = 2000
const AFTER_MS = 4000
const GIVE_UP_MS = 60_000

/** When a write was sent and acknowledged. */
type Write = { readonly sent: number; readonly done: number }

/** Clients, each writing new values one by one, until stopped. */
class Writers {
  readonly writes: Write[] = []
  readonly tokens = new Map<string, string>()
  /** Calls given up by the SDK, by error. */
  readonly failures = new Map<string, number>()
  readonly #clients: readonly Coffer[]
  readonly #running: Promise<void>
  readonly #round: number
  #ended = false

  /** Each client begins with another node, and goes on to the next node after a failure. */
  constructor(cluster: Cluster, round: number) {
    const urls = cluster.url
    this.#round = round
    this.#clients = Array.from({ length: CLIENTS }, (_, i) => {
      const rotated = urls.map((_, j) => urls[(i + j) % urls.length])
      return new Coffer({ urls: rotated, key: apiKey(OWNER) })
    })
    this.#running = Promise.all(this.#clients.map((client, i) => this.#write(client, i))).then(
      () => undefined,
    )
  }

  async #write(client: Coffer, i: number): Promise<void> {
    for (let n = 0; !this.#ended; n++) {
      const value = `round ${this.#round}, client ${i}, ${n}`
      const sent = performance.now()
      try {
        const { tokens } = await client.tokenize([value])
        this.writes.push({ sent, done: performance.now() })
        this.tokens.set(String(tokens[0]), value)
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        this.failures.set(why, (this.failures.get(why) ?? 0) + 1)
      }
    }
  }

  /** Resolves when a write sent after `time` has been acknowledged. */
  async wroteAfter(time: number): Promise<void> {
    while (!this.writes.some(({ sent }) => sent >= time)) {
      if (performance.now() - time > GIVE_UP_MS) throw new Error('nothing was written any more')
      await sleep(20)
    }
  }

  async end(): Promise<void> {
    this.#ended = true
    await this.#running
    for (const client of this.#clients) client.close()
  }
}

/** Milliseconds. */
type Round = {
  /** The longest time without an acknowledgement of a write sent after the kill, from the kill on. */
  readonly gap: number
  /** The longest call. */
  readonly slowest: number
  readonly writesBefore: number
  readonly failures: ReadonlyMap<string, number>
  /** Until the killed node was ready again. */
  readonly ready: number
}

async function measureRound(cluster: Cluster, round: number, all: Map<string, string>): Promise<Round> {
  const leader = await cluster.leader()
  const writers = new Writers(cluster, round)
  let killed = 0
  try {
    await sleep(BEFORE_MS)
    const gone = cluster.killNode(leader)
    killed = performance.now()
    await gone
    await writers.wroteAfter(killed)
    await sleep(AFTER_MS)
  } finally {
    await writers.end()
  }
  for (const [token, value] of writers.tokens) all.set(token, value)
  const ready = await cluster.startNode(leader)
  await cluster.settle()
  const { writes, failures } = writers
  const before = writes.filter(({ done }) => done < killed).length
  const after = writes.filter(({ sent }) => sent >= killed).map(({ done }) => done)
  const times = [killed, ...after.sort((a, b) => a - b)]
  const gap = Math.max(...times.slice(1).map((time, i) => time - times[i]))
  const late = writes.filter(({ done }) => done >= killed).map(({ sent, done }) => done - sent)
  const slowest = late.reduce((most, each) => Math.max(most, each), 0)
  return { gap, slowest, writesBefore: (before * 1000) / BEFORE_MS, failures, ready }
}

/** Kills the leader's node again and again, and checks at the end that every acknowledged token is there. */
export async function measureFailOver(bench: Bench): Promise<void> {
  const cluster = await warmCluster(join(bench.dir, 'fail-over'), [OWNER])
  const acknowledged = new Map<string, string>()
  const rounds: Round[] = []
  try {
    for (let round = 1; round <= (bench.quick ? 2 : 5); round++) {
      bench.say(`fail-over: round ${round}`)
      const measured = await measureRound(cluster, round, acknowledged)
      rounds.push(measured)
      const { gap, slowest, writesBefore, failures, ready } = measured
      const failed = [...failures].map(([why, count]) => `, ${count} × ${why}`).join('')
      bench.say(
        `fail-over: ${format(writesBefore)} writes/s, then none for ${Math.round(gap)} ms; slowest call ` +
          `${Math.round(slowest)} ms${failed}; the node ready again after ${Math.round(ready)} ms`,
      )
    }
    await checkAll(cluster, acknowledged)
  } finally {
    await cluster.remove()
  }
  const seconds = (of: (round: Round) => number): Float64Array =>
    Float64Array.from(rounds.map((round) => of(round) / 1000)).sort()
  const gaps = seconds((round) => round.gap)
  const slowest = quantile(
    seconds((round) => round.slowest),
    1,
  )
  const lists = [...gaps].map(format).join(', ')
  const failures = rounds.reduce(
    (sum, { failures }) => sum + [...failures.values()].reduce((a, b) => a + b, 0),
    0,
  )
  const what = 'kill -9 of the leader to the next write'
  bench.rows.push(
    { what: `${what}: median`, value: quantile(gaps, 0.5), unit: 's', aim: { most: 3 }, note: lists },
    { what: `${what}: worst`, value: quantile(gaps, 1), unit: 's', aim: { most: 6 } },
    {
      what: 'slowest call of any client meanwhile',
      value: slowest,
      unit: 's',
      note: `${failures} calls failed, ${format(acknowledged.size)} acknowledged: all there on every node`,
    },
  )
}

/** Every node must know every acknowledged token. Throws where a token is missing. */
async function checkAll(cluster: Cluster, acknowledged: ReadonlyMap<string, string>): Promise<void> {
  const tokens = [...acknowledged.keys()]
  for (const url of cluster.url) {
    const client = new Coffer({ urls: url, key: apiKey(OWNER) })
    try {
      for (let from = 0; from < tokens.length; from += 5000) {
        const some = tokens.slice(from, from + 5000)
        const { values } = await client.detokenize(some)
        for (const [i, token] of some.entries())
          if (values[i] !== acknowledged.get(token))
            throw new Error(`an acknowledged write is lost at ${url}`)
      }
    } finally {
      client.close()
    }
  }
}
