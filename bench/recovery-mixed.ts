// A ledger of small entries and large ones in one snapshot, on three nodes: a backup, and a replica built
// again after the history is gone.
import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { withDeadline } from '../src/waiting.ts'
import type { Bench } from './bench.ts'
import { forgetHistory } from './catch-up.ts'
import { Cluster } from './cluster.ts'
import { coffer } from './coffer.ts'
import { Boot, epochKeyOf, keyringOf, valuesOf } from './entries.ts'
import { Client, type Work } from './load.ts'
import { format, type Row } from './table.ts'
import { inOrder } from './values.ts'
import { apiKey } from './vault.ts'
import { knownTokens, newValues, type Run, TokenTexts } from './work.ts'

/** Two figures: the order of their keys is the order of their numbers. */
const OWNERS = Array.from({ length: 40 }, (_, i) => `o${10 + i}`)
/** Of each owner: epochs, versions with receipts, segments of one mapping; and as many boots in all. */
const SMALL = 1000
const MAPPINGS = 2_500_000
/** Values of a request: its segments are full, but the last one. */
const BATCH = 50_000
/** More than a message of gRPC holds, under keys that follow each other. */
const LARGE_SECRETS = 1200
const SECRET_BYTES = 64 * 1024
const OF_REVISION = 4000
const DOWN = 2
const READY_MS = 60_000
const BACKUP_MS = 300_000
const SETTLE_MS = 180_000

export async function measureMixed(bench: Bench): Promise<void> {
  const full = await Cluster.create(join(bench.dir, 'mixed-1'), OWNERS, bench.flags)
  await measure(bench, full, 'small entries, then full segments', async () => {
    const epochs = Math.round(SMALL * bench.size)
    bench.say('mixed: small entries of every kind')
    await putSmall(full, epochs)
    await createSecrets(full, OWNERS.length * epochs)
    const count = Math.round((MAPPINGS * bench.size) / BATCH) * BATCH
    bench.say(`mixed: ${format(count)} mappings in full segments`)
    const texts = new TokenTexts(count, epochs + 1)
    const owner = (n: number): string => OWNERS[n % OWNERS.length]
    const run = { batch: BATCH, requests: count / BATCH, order: inOrder(0), owner }
    await withClient(full, 6, newValues(run, texts))
    return () => check(full, run, texts)
  })
  const secrets = await Cluster.create(join(bench.dir, 'mixed-2'), OWNERS, bench.flags)
  await measure(bench, secrets, 'small secrets, then secrets of 64 KiB', async () => {
    bench.say('mixed: small secrets, then large ones')
    await createSecrets(secrets, OWNERS.length * Math.round(SMALL * bench.size))
    await withClient(secrets, 16, largeSecrets())
    return async () => undefined
  })
}

type Fill = () => Promise<() => Promise<void>>

/** `fill` returns the check of the node whose replica was built again. */
async function measure(bench: Bench, cluster: Cluster, what: string, fill: Fill): Promise<void> {
  try {
    await cluster.start()
    const checked = await fill()
    await settle(cluster)
    bench.say('mixed: backup')
    bench.rows.push(...(await backup(bench, cluster, what)))
    await cluster.withMember(0, forgetHistory)
    await cluster.stopNode(DOWN)
    const { file } = cluster.configOf(DOWN)
    const reset = await coffer(['replica', 'reset', '--config', file], BACKUP_MS)
    if (reset.code !== 0) throw new Error(`coffer replica reset: ${reset.code}\n${reset.said}`)
    bench.say('mixed: the replica is built again')
    const ready = await cluster.startNode(DOWN, 1.5 * READY_MS)
    await settle(cluster)
    await checked()
    bench.rows.push({
      what: `${what}: reset replica ready, digests equal`,
      value: ready / 1000,
      unit: 's',
      aim: { most: READY_MS / 1000 },
    })
  } finally {
    await cluster.remove()
  }
}

/** Throws where a node lags for too long, and where digests differ. */
async function settle(cluster: Cluster): Promise<void> {
  await withDeadline(cluster.settle(), SETTLE_MS, () => new Error('a node does not catch up'))
}

async function backup(bench: Bench, cluster: Cluster, what: string): Promise<Row[]> {
  const file = join(bench.dir, 'mixed.backup')
  const { code, said, seconds } = await coffer(
    ['backup', '--force', '-o', file, '--config', cluster.configOf(0).file],
    BACKUP_MS,
  )
  if (code !== 0) bench.say(`mixed: coffer backup has ended with ${code}: ${said}`)
  const size = code === 0 ? statSync(file).size / 1e6 : Number.NaN
  rmSync(file, { force: true })
  const failed = code === 0 ? {} : { note: `coffer backup has ended with ${code}` }
  return [
    {
      what: `${what}: backup`,
      value: code === 0 ? seconds : Number.NaN,
      unit: 's',
      aim: { most: BACKUP_MS / 1000 },
      ...failed,
    },
    { what: `${what}: size of the backup`, value: size, unit: 'MB' },
  ]
}

/** Boots, segments of one mapping, epochs with their keys: straight into etcd. */
async function putSmall(cluster: Cluster, count: number): Promise<void> {
  const keyring = keyringOf(cluster.configOf(0))
  await cluster.withMember(0, async (endpoint) => {
    const boots = Array.from({ length: count }, () => new Boot(endpoint))
    for (const [i, boot] of boots.entries()) await boot.begin(`n${1 + (i % 3)}`)
    for (const [i, owner] of OWNERS.entries()) {
      const key = await epochKeyOf(endpoint, keyring, owner)
      const values = valuesOf(0, count, (n) => `small ${n}`)
      const boot = boots[i % count]
      const puts = boot.segments(key, values, 1)
      for (let from = 0; from < puts.length; from += OF_REVISION)
        await boot.put(puts.slice(from, from + OF_REVISION))
    }
    for (let epoch = 2; epoch <= count + 1; epoch++)
      await boots[epoch % count].put(boots[epoch % count].epochs(keyring, OWNERS, epoch))
  })
}

async function withClient(cluster: Cluster, connections: number, work: Work): Promise<void> {
  const client = new Client(cluster, connections)
  try {
    await client.run(work)
  } finally {
    client.close()
  }
}

/** Each with a receipt. */
function createSecrets(cluster: Cluster, requests: number): Promise<void> {
  return withClient(
    cluster,
    64,
    creates(requests, (n) => [OWNERS[n % OWNERS.length], `app/SECRET_${n}`, 32]),
  )
}

/** Of the last owner, after all others by name. */
function largeSecrets(): Work {
  return creates(LARGE_SECRETS, (n) => [OWNERS[OWNERS.length - 1], `large/SECRET_${n}`, SECRET_BYTES])
}

type Secret = readonly [owner: string, name: string, bytes: number]

function creates(requests: number, secretOf: (n: number) => Secret): Work {
  return {
    path: '/secrets',
    status: 201,
    requests,
    batch: 1,
    headers: (n) => `Idempotency-Key: ${secretOf(n)[1]}\r\n`,
    key: (n) => apiKey(secretOf(n)[0]),
    write: (n, body) => {
      const [, name, bytes] = secretOf(n)
      body.text(JSON.stringify({ name, value: `${n}-`.padEnd(bytes, 'x') }))
    },
    check: () => undefined, // by status
  }
}

/** The node opens the tokens of every owner. */
async function check(cluster: Cluster, run: Run, texts: TokenTexts): Promise<void> {
  const client = new Client(cluster.only(DOWN), 1)
  try {
    await client.run(knownTokens({ ...run, requests: Math.min(run.requests, OWNERS.length) }, texts))
  } finally {
    client.close()
  }
}
