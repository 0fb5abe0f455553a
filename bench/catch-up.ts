// The time of a restarted node until the node is ready, and until its replica has caught up.
import { join } from 'node:path'
import { type EtcdEndpoint, isCompacted } from '../src/ledger/etcd-client.ts'
import { sleep } from '../src/waiting.ts'
import type { Bench } from './bench.ts'
import { type Cluster, warmCluster } from './cluster.ts'
import { BULK, BULK_CONNECTIONS } from './cluster-parts.ts'
import { Client, type Target } from './load.ts'
import { format } from './table.ts'
import { atRandom, inOrder } from './values.ts'
import { knownTokens, newValues, runOf, TokenTexts } from './work.ts'

const OWNER = 'bench'
const DOWN = 2
const POLL_MS = 20
const ASK_MS = 30_000

/** The node is stopped with its member; the missed history is compacted before the node starts again. */
export async function measureCatchUp(bench: Bench): Promise<void> {
  const [there, missed] = bench.quick ? [500_000, 100_000] : [5_000_000, 1_000_000]
  const cluster = await warmCluster(join(bench.dir, 'catch-up'), [OWNER], bench.flags)
  const texts = new TokenTexts(there + missed)
  try {
    bench.say(`catch-up: ${format(there)} mappings`)
    await load(cluster.only(0, 1, 2), texts, { first: 0, count: there })
    await cluster.settle()
    await cluster.stopNode(DOWN)
    bench.say(`catch-up: ${format(missed)} more, one node down`)
    await load(cluster.only(0, 1), texts, { first: there, count: missed })
    await cluster.withMember(0, forgetHistory)
    bench.say('catch-up: the node is started')
    const took = await measureStart(cluster)
    await check(cluster, texts)
    const what = `catch-up of ${format(missed)} after ${format(there)}, history gone`
    bench.rows.push(
      { what: `${what}: ready`, value: took.ready / 1000, unit: 's', aim: { most: 15 } },
      { what: `${what}: lag 0`, value: took.level / 1000, unit: 's', aim: { most: 15 } },
    )
  } finally {
    await cluster.remove()
  }
}

/** Compacts all there is; throws where an older revision can still be read. */
export async function forgetHistory(endpoint: EtcdEndpoint): Promise<void> {
  const { header } = await endpoint.status(ASK_MS)
  await endpoint.compact(Number(header.revision), ASK_MS)
  const before = { key: Buffer.from('a'), revision: String(Number(header.revision) - 1) }
  const there = await endpoint.range(before, ASK_MS).then(
    () => true,
    (error: unknown) => !isCompacted(error),
  )
  if (there) throw new Error('the history is still there')
}

type Stretch = { readonly first: number; readonly count: number }

async function load(target: Target, texts: TokenTexts, { first, count }: Stretch): Promise<void> {
  const client = new Client(target, BULK_CONNECTIONS)
  try {
    await client.run(newValues(runOf(OWNER, BULK, count, inOrder(first)), texts))
  } finally {
    client.close()
  }
}

/** Milliseconds from the start of the process until the node is ready, and until the node has caught up. */
async function measureStart(cluster: Cluster): Promise<{ ready: number; level: number }> {
  const { revision: head } = (await cluster.status(0)).ledger
  const started = performance.now()
  await cluster.startNode(DOWN)
  while (!(await cluster.isReady(DOWN))) await sleep(POLL_MS)
  const ready = performance.now() - started
  while ((await cluster.status(DOWN)).replica.revision < head) await sleep(POLL_MS)
  return { ready, level: performance.now() - started }
}

/** The node must detokenize its tokens, and have the same digest as the others. */
async function check(cluster: Cluster, texts: TokenTexts): Promise<void> {
  await cluster.settle()
  const client = new Client(cluster.only(DOWN), 1)
  const count = texts.bytes.length / 32
  try {
    await client.run(knownTokens(runOf(OWNER, BULK, 50_000, atRandom(count)), texts))
    await client.run(knownTokens(runOf(OWNER, BULK, 50_000, inOrder(count - 50_000)), texts))
  } finally {
    client.close()
  }
}
