// The quota of etcd is used up: new tokens are refused first, then all writes (alarm NOSPACE), and what is known is served.
// With a larger quota, and the alarm disarmed, all goes on.
import assert from 'node:assert/strict'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { until } from '../cli/cli.ts'
import type { Stage } from './stage.ts'

const MEBIBYTE = 1024 * 1024
const LEAST_QUOTA = 64 * MEBIBYTE
const ROOM = 24 * MEBIBYTE
const VALUE_BYTES = 60 * 1024
const WRITERS = 6
const FULL_MS = 120_000
const NOSPACE = 1

export async function quota(stage: Stage): Promise<void> {
  const { cluster, clients, nodes, wires } = stage
  const used = Math.max(
    ...nodes.map(({ name }) => statSync(join(cluster.dir, name, 'etcd/member/snap/db')).size),
  )
  await stop(stage)
  writeFileSync(wires.flags, `--quota-backend-bytes=${Math.max(LEAST_QUOTA, used + ROOM)}`)
  await cluster.startAll()
  const known = await nodes[0].tokenize(['known before'])
  const filled = new AbortController()
  const writers = Array.from({ length: WRITERS }, (_, i) => fill(stage, i, filled.signal))
  try {
    await until('new tokens are refused', () => isRefused(stage, 'ledger-full'), FULL_MS)
    await until('nothing can be written', () => isRefused(stage, 'no-quorum'), FULL_MS)
  } finally {
    filled.abort()
    await Promise.all(writers)
  }
  assert.deepEqual((await nodes[0].detokenize(known.tokens)).values, ['known before'])
  await stop(stage)
  writeFileSync(wires.flags, '')
  await Promise.all(nodes.map((node) => node.begin()))
  for (const i of nodes.keys()) await until(`alarms of ${nodes[i].name}`, () => disarm(stage, i), FULL_MS)
  await cluster.startAll()
  assert.ok(clients.done > 0)
}

const stop = ({ nodes }: Stage): Promise<unknown> => Promise.all(nodes.map((node) => node.process?.stop()))

/** Versions of the clients' secrets, as large as they may be, one after the other. */
async function fill({ clients, nodes, marker }: Stage, i: number, signal: AbortSignal): Promise<void> {
  const [owner] = clients.owners
  const name = clients.names[i % clients.names.length]
  const write = { kind: 'write', owner, names: [name] } as const
  await clients.ask(nodes[0], { ...write, value: `${marker} first`, create: true })
  for (let n = 0; !signal.aborted; n++) {
    const value = `${marker} full ${i} ${n} `.padEnd(VALUE_BYTES, 'secret ')
    await clients.ask(nodes[i % nodes.length], { ...write, value, create: false })
  }
}

/** A new value, or a rotation where values are refused already. */
async function isRefused({ nodes, random }: Stage, slug: string): Promise<boolean> {
  const path = slug === 'no-quorum' ? '/secrets' : '/tokenize'
  const name = `new/${random.below(2 ** 31)}`
  const body = slug === 'no-quorum' ? { name, value: 'new' } : { values: [name] }
  const { status, json } = await nodes[1].ask(path, body)
  return status === 503 && json.type === `/problems/${slug}`
}

/** As `etcdctl alarm disarm`. Returns false while the member does not answer. */
async function disarm(stage: Stage, i: number): Promise<boolean> {
  const listed = await alarm(stage, i, { action: 'GET' }).catch(() => undefined)
  if (!listed) return false
  for (const { memberID } of listed.alarms ?? [])
    await alarm(stage, i, { action: 'DEACTIVATE', memberID, alarm: NOSPACE })
  return true
}

type Alarms = { readonly alarms?: readonly { readonly memberID: string }[] }

async function alarm({ cluster, wires }: Stage, i: number, body: object): Promise<Alarms> {
  const file = (name: string): Buffer => readFileSync(join(cluster.dir, 'tls', name))
  const tls = { ca: file('ca.crt'), cert: file('n1.crt'), key: file('n1.key') }
  const { promise, resolve, reject } = Promise.withResolvers<Alarms>()
  const sent = request(
    `${wires.members[i]}/v3/maintenance/alarm`,
    { method: 'POST', ...tls, timeout: 5000 },
    (answer) => {
      text(answer).then((told) => resolve(JSON.parse(told)), reject)
    },
  )
  sent.on('timeout', () => sent.destroy(new Error('no answer')))
  sent.on('error', reject)
  sent.end(JSON.stringify(body))
  return promise
}
