// One owner at its worst, attack after attack, and meanwhile another owner who tokenizes: how long that owner
// waits, what is refused, and how much memory the node takes.
import { type ChildProcess, spawn } from 'node:child_process'
import { Agent, request } from 'node:http'
import { fileURLToPath } from 'node:url'
import { sleep } from '../src/waiting.ts'
import type { Bench } from './bench.ts'
import { track } from './child.ts'
import { quantile } from './load.ts'
import { apiKey, Vault } from './vault.ts'

const ATTACKS = [
  'gzip of arrays to /secrets',
  'answers never read',
  'bodies one byte short',
  'tiny gzip',
  'a fault at the end',
  'empty records',
  'slow writers',
  'slow readers',
  '1,000 connections',
]
const SECONDS = 60
const CONNECTIONS = 4
const BATCH = 100
/** Of the other owner: bounded, so that the memory of tokens does not count as left behind. */
const VALUES = 200_000
const SAMPLE_MS = 100
/** Before the first attack, and after the last one for the memory to come back: a new process still grows by itself. */
const REST_SECONDS = 20

/** Milliseconds of each answer; answers that are not 200. */
type Seen = { readonly tokenize: number[]; readonly health: number[]; refused: number; anon: number }

export async function measureFairness(bench: Bench): Promise<void> {
  const vault = new Vault(`${bench.dir}/fairness`, ['worst', 'other'], bench.flags)
  const agent = new Agent({ keepAlive: true })
  try {
    await vault.start()
    const seconds = (bench.quick ? 20 : SECONDS) / ATTACKS.length
    const rest = bench.quick ? 5 : REST_SECONDS
    const calm = await watched(vault, agent, rest)
    bench.rows.push({ what: 'tokenize alone: p99', value: p99(calm.tokenize), unit: 'ms', batch: BATCH })
    let [health, anon, refused] = [0, 0, 0]
    for (const name of ATTACKS) {
      bench.say(`fairness: ${name}`)
      const attacker = attack(vault.url, name)
      const seen = await watched(vault, agent, seconds)
      await end(attacker)
      const what = `tokenize beside ${name}: p99`
      const most = Math.max(...seen.health)
      const note = `/health ${most.toFixed(0)} ms, ${(seen.anon / 2 ** 20).toFixed(0)} MiB, ${seen.refused} refused`
      bench.rows.push({ what, value: p99(seen.tokenize), unit: 'ms', batch: BATCH, aim: { most: 500 }, note })
      health = Math.max(health, most)
      anon = Math.max(anon, seen.anon)
      refused += seen.refused
    }
    bench.rows.push({
      what: 'answers of the other owner but 200',
      value: refused,
      unit: '',
      aim: { most: 0 },
    })
    bench.rows.push({ what: '/health: longest', value: health, unit: 'ms', aim: { most: 250 } })
    bench.rows.push({ what: 'memory: most', value: anon / 2 ** 20, unit: 'MiB', aim: { most: 900 } })
    await watched(vault, agent, rest)
    const more = (vault.memory().anon - calm.anon) / 2 ** 20
    bench.rows.push({ what: 'memory: more than before', value: more, unit: 'MiB', aim: { most: 150 } })
  } finally {
    agent.destroy()
    await vault.remove()
  }
}

/** The other owner tokenizes values, new and known, on a few connections; `/health` and memory are looked at meanwhile. */
async function watched(vault: Vault, agent: Agent, seconds: number): Promise<Seen> {
  const seen: Seen = { tokenize: [], health: [], refused: 0, anon: 0 }
  const until = performance.now() + seconds * 1000
  const tokenize = async (): Promise<void> => {
    while (performance.now() < until) {
      const values = Array.from({ length: BATCH }, () => Math.floor(Math.random() * VALUES))
      const { ms, status } = await call(vault.url, agent, JSON.stringify({ values }))
      seen.tokenize.push(ms)
      if (status !== 200) seen.refused++
    }
  }
  const health = async (): Promise<void> => {
    while (performance.now() < until) {
      seen.health.push((await call(vault.url, agent)).ms)
      seen.anon = Math.max(seen.anon, vault.memory().anon)
      await sleep(SAMPLE_MS)
    }
  }
  await Promise.all([health(), ...Array.from({ length: CONNECTIONS }, tokenize)])
  return seen
}

/** `POST /tokenize` with a body, else `GET /health`. Returns the time until the answer is there. */
function call(url: string, agent: Agent, body?: string): Promise<{ ms: number; status: number }> {
  const started = performance.now()
  const headers = { authorization: `Bearer ${apiKey('other')}`, 'content-type': 'application/json' }
  const [path, method] = body === undefined ? ['/health', 'GET'] : ['/tokenize', 'POST']
  return new Promise((resolve, reject) => {
    const asked = request(`${url}${path}`, { agent, method, headers }, (answer) => {
      const { statusCode: status = 0 } = answer
      answer.on('error', reject).on('end', () => resolve({ ms: performance.now() - started, status }))
      answer.resume()
    })
    asked.on('error', reject).end(body)
  })
}

function attack(url: string, name: string): ChildProcess {
  const script = fileURLToPath(new URL('./attacks.ts', import.meta.url))
  const child = spawn(process.execPath, [script, url, apiKey('worst'), name], { stdio: 'inherit' })
  track(child)
  return child
}

async function end(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

function p99(times: readonly number[]): number {
  return quantile(Float64Array.from(times).sort(), 0.99)
}
