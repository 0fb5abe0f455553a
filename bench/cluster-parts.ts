// Parts of the suite `cluster` over HTTP on three nodes: bulk, single values, and the bytes of a mapping.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { type Cluster, warmCluster } from './cluster.ts'
import { Client, type Measured } from './load.ts'
import { IN_FLIGHT } from './raw-etcd.ts'
import { format, type Row, rowOf } from './table.ts'
import { atRandom, inOrder, type Order } from './values.ts'
import { knownTokens, knownValues, newValues, oldTokens, rotations, runOf, TokenTexts } from './work.ts'

const OWNER = 'bench'
export const BULK = 5000
/** Spread over the nodes. */
export const BULK_CONNECTIONS = 6
const CONNECTIONS = 64
/** Of a value of 11 to 13 bytes in a segment: token, length, sealed value. */
const MAPPING_BYTES = 33

const beside = (value: number | undefined, name: string): Partial<Row> =>
  value === undefined ? {} : { floor: { name, value } }

/** Batches of 5,000: tokenize over all nodes, detokenize from one. */
export async function measureClusterBulk(bench: Bench): Promise<void> {
  const cluster = await warmCluster(join(bench.dir, 'bulk'), [OWNER], bench.flags)
  try {
    const most = bench.quick ? 300_000 : 2_000_000
    const texts = new TokenTexts(most)
    const count = await tokenizeBulk(bench, cluster, texts, most)
    await detokenizeBulk(bench, cluster, texts, count)
    await retokenizeBulk(bench, cluster, texts, count)
  } finally {
    await cluster.remove()
  }
}

const secondsOf = (bench: Bench): number => (bench.quick ? 3 : 15)

/** Returns how many mappings there are then. */
async function tokenizeBulk(
  bench: Bench,
  cluster: Cluster,
  texts: TokenTexts,
  most: number,
): Promise<number> {
  bench.say('bulk: tokenize over three nodes')
  const client = new Client(cluster, BULK_CONNECTIONS)
  try {
    const fresh = await client.run(newValues(runOf(OWNER, BULK, most, inOrder(0)), texts), secondsOf(bench))
    const late = await cluster.settle()
    const { etcdBytes, etcdPuts } = bench.floors
    const floor = beside(etcdBytes && etcdBytes / MAPPING_BYTES, 'etcd, 128 KiB puts, at 33 B a mapping')
    const aim = { aim: { least: 60_000 } }
    bench.rows.push(rowOf('tokenize new values, 3 nodes', fresh, { ...floor, ...aim }, BULK), {
      what: 'the same, until every replica has them',
      batch: BULK,
      value: fresh.values / (fresh.seconds + late / 1000),
      unit: '/s',
      ...aim,
      note: `${format(late / 1000)} s after the last answer`,
    })
    const small = etcdPuts.get(IN_FLIGHT)
    if (small !== undefined) {
      const times = { value: fresh.perSecond / small, unit: 'x', aim: { least: 20 } }
      bench.rows.push({ what: 'tokenize new values, against small puts of etcd', batch: BULK, ...times })
    }
    const again = knownValues(runOf(OWNER, BULK, fresh.values, inOrder(0)), texts)
    const known = await client.run(again, secondsOf(bench))
    bench.rows.push(rowOf('tokenize known values, 3 nodes', known, {}, BULK))
    return fresh.values
  } finally {
    client.close()
  }
}

async function detokenizeBulk(
  bench: Bench,
  cluster: Cluster,
  texts: TokenTexts,
  count: number,
): Promise<void> {
  bench.say('bulk: detokenize from one node')
  const client = new Client(cluster.only(0), 4)
  const known = (order: Order): Promise<Measured> =>
    client.run(knownTokens(runOf(OWNER, BULK, count, order), texts), secondsOf(bench))
  const aim = { aim: { least: 150_000 } }
  try {
    bench.rows.push(rowOf('detokenize in order, 1 node', await known(inOrder(0)), aim, BULK))
    bench.rows.push(rowOf('detokenize at random, 1 node', await known(atRandom(count)), aim, BULK))
  } finally {
    client.close()
  }
}

async function retokenizeBulk(
  bench: Bench,
  cluster: Cluster,
  texts: TokenTexts,
  count: number,
): Promise<void> {
  bench.say('bulk: retokenize over three nodes')
  const client = new Client(cluster, BULK_CONNECTIONS)
  try {
    await client.run(rotations([OWNER], 2))
    const fresh = new TokenTexts(count, 2)
    const run = runOf(OWNER, BULK, count, inOrder(0))
    const measured = await client.run(oldTokens(run, texts, fresh), secondsOf(bench))
    await cluster.settle()
    bench.rows.push(rowOf('retokenize after a rotation, 3 nodes', measured, {}, BULK))
    // What was just issued must open again as the same values.
    await client.run(knownTokens({ ...run, requests: Math.min(20, measured.requests) }, fresh))
  } finally {
    client.close()
  }
}

/** One value a request, 64 connections over the nodes. */
export async function measureClusterSingle(bench: Bench): Promise<void> {
  const cluster = await warmCluster(join(bench.dir, 'single'), [OWNER], bench.flags)
  const client = new Client(cluster, CONNECTIONS)
  try {
    bench.say('single values, 64 connections over three nodes')
    const most = 1_000_000
    const texts = new TokenTexts(most)
    const warm = await client.run(newValues(runOf(OWNER, 1, most, inOrder(0)), texts), bench.quick ? 1 : 3)
    const work = newValues(runOf(OWNER, 1, most - warm.values, inOrder(warm.values)), texts)
    const measured = await client.run(work, secondsOf(bench))
    const small = beside(bench.floors.etcdPuts.get(IN_FLIGHT), 'etcd, 250 B, 64 in flight')
    const aim = { aim: { least: 2000 } }
    bench.rows.push(rowOf('tokenize new, 64 connections, 3 nodes', measured, { ...small, ...aim }, 1))
    await cluster.settle()
    const all = warm.values + measured.values
    const known = knownValues(runOf(OWNER, 1, most, atRandom(all)), texts)
    const recognised = await client.run(known, bench.quick ? 2 : 5)
    bench.rows.push(rowOf('tokenize known, 64 connections, 3 nodes', recognised, {}, 1))
    const tokens = knownTokens(runOf(OWNER, 1, most, atRandom(all)), texts)
    const opened = await client.run(tokens, bench.quick ? 2 : 5)
    bench.rows.push(rowOf('detokenize at random, 64 connections, 3 nodes', opened, {}, 1))
  } finally {
    client.close()
    await cluster.remove()
  }
}
