// What a mapping takes in etcd: of its database, and of its members' memory, by the values in a request.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { type Cluster, warmCluster } from './cluster.ts'
import { Client } from './load.ts'
import { format, type Row } from './table.ts'
import { inOrder } from './values.ts'
import { newValues, runOf, TokenTexts } from './work.ts'

const OWNER = 'bench'
const AIMED = { batch: 5000, bytes: 50 }

/** The shape of a load: many users with single values, or few users with many values. */
type Load = { readonly batch: number; readonly connections: number; readonly count: number }

const loadsOf = (quick: boolean): readonly Load[] => [
  { batch: 1, connections: 64, count: quick ? 6000 : 50_000 },
  { batch: 100, connections: 6, count: quick ? 30_000 : 300_000 },
  { batch: AIMED.batch, connections: 6, count: quick ? 300_000 : 2_000_000 },
]

/** Each load has a cluster of its own: pages freed by another load would distort the size. */
export async function measureSize(bench: Bench): Promise<void> {
  for (const load of loadsOf(bench.quick)) {
    bench.say(`size: ${format(load.count)} mappings, ${format(load.batch)} a request`)
    const cluster = await warmCluster(join(bench.dir, `size-${load.batch}`), [OWNER], bench.flags)
    try {
      bench.rows.push(...(await measureLoad(cluster, load)))
    } finally {
      await cluster.remove()
    }
  }
}

async function measureLoad(cluster: Cluster, { batch, connections, count }: Load): Promise<Row[]> {
  const mean = (of: 'rss' | 'anon'): number => {
    const all = cluster.memberMemory().map((memory) => memory[of])
    return all.reduce((sum, bytes) => sum + bytes, 0) / all.length
  }
  const before = { database: await cluster.databaseBytes(), rss: mean('rss') }
  const client = new Client(cluster, connections)
  try {
    await client.run(newValues(runOf(OWNER, batch, count, inOrder(0)), new TokenTexts(count)))
  } finally {
    client.close()
  }
  await cluster.settle()
  const database = (await cluster.databaseBytes()) - before.database
  const after = mean('rss')
  const mappings = format(count)
  const mb = (bytes: number): string => `${format(bytes / 1e6)} MB`
  return [
    {
      what: `etcd's database, a mapping`,
      batch,
      value: database / count,
      unit: 'B',
      ...(batch === AIMED.batch ? { aim: { most: AIMED.bytes } } : {}),
      note: `${mappings} mappings over ${connections} connections`,
    },
    {
      what: `a member's memory (RSS), a mapping`,
      batch,
      value: (after - before.rss) / count,
      unit: 'B',
      note: `${mb(before.rss)} before, then ${mb(after)} in the mean, ${mb(mean('anon'))} of it not its file`,
    },
  ]
}
