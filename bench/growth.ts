// A vault as it grows: rates, memory, disk, and the time of a start.
import type { Bench, GrowthPoint } from './bench.ts'
import { Client, type Measured } from './load.ts'
import { BULK, BULK_CONNECTIONS } from './parts.ts'
import type { Panel } from './plot.ts'
import { format, type Row, table } from './table.ts'
import { atRandom, inOrder, type Order } from './values.ts'
import { Vault } from './vault.ts'
import { knownTokens, newValues, runOf, TokenTexts } from './work.ts'

const OWNER = 'growing'
/** The new values at the end of a size's load that its rate is measured over. */
const STRETCH = 1_000_000
const AIMED_SIZE = 20_000_000
export const SIZES = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, AIMED_SIZE]
const REBUILT_AT = 1_000_000

export async function measureGrowth(bench: Bench): Promise<void> {
  const sizes = SIZES.filter((size) => size <= bench.largest)
  const largest = sizes[sizes.length - 1]
  const vault = new Vault(`${bench.dir}/growth`, [OWNER], bench.flags)
  const texts = new TokenTexts(largest)
  try {
    await vault.start()
    let from = 0
    for (const size of sizes) {
      if (performance.now() > bench.until) {
        bench.say(`growth: no time left for ${format(size)}`)
        break
      }
      const rates = await load(bench, vault, texts, from, size)
      const rebuilt = size === REBUILT_AT || size === largest
      bench.growth.push({ mappings: size, ...rates, ...(await restart(bench, vault, texts, size, rebuilt)) })
      from = size
    }
  } finally {
    await vault.remove()
  }
  bench.rows.push(...growthRows(bench.growth))
}

type Rates = Omit<GrowthPoint, 'mappings' | keyof Starts>

async function load(bench: Bench, vault: Vault, texts: TokenTexts, from: number, to: number): Promise<Rates> {
  const client = new Client(vault, BULK_CONNECTIONS)
  const stretch = Math.min(STRETCH, (to - from) / 2)
  const fresh = (first: number, count: number): Promise<Measured> =>
    client.run(newValues(runOf(OWNER, BULK, count, inOrder(first)), texts))
  try {
    bench.say(`growth: to ${format(to)} mappings`)
    await fresh(from, to - from - stretch)
    const tokenize = await fresh(to - stretch, stretch)
    await vault.settle()
    const { rss, anon } = vault.memory()
    bench.say(`growth: detokenize over ${format(to)}`)
    const known = async (order: Order, count: number): Promise<number> => {
      await client.run(knownTokens(runOf(OWNER, BULK, 50_000, order), texts))
      return (await client.run(knownTokens(runOf(OWNER, BULK, count, order), texts), 60)).perSecond
    }
    // Few mappings are read several times, for a measurable duration.
    const least = bench.quick ? 300_000 : 1_000_000
    const ordered = await known((i) => i % to, Math.max(to, least))
    const random = await known(atRandom(to, 1), Math.max(Math.min(to, 5_000_000), least))
    const { perSecond, othersCpu } = tokenize
    return { tokenize: perSecond, othersCpu, inOrder: ordered, atRandom: random, rss, anon, ...vault.disk() }
  } finally {
    client.close()
  }
}

type Starts = Pick<GrowthPoint, 'stop' | 'start' | 'startWithoutCheckpoint' | 'rebuild' | 'anonAfterStart'>

/** Leaves the vault running. */
async function restart(
  bench: Bench,
  vault: Vault,
  texts: TokenTexts,
  size: number,
  rebuilt: boolean,
): Promise<Starts> {
  bench.say(`growth: starts with ${format(size)}`)
  const stopping = performance.now()
  await vault.stop()
  const stop = (performance.now() - stopping) / 1000
  const start = (await vault.start()) / 1000
  const anonAfterStart = vault.memory().anon
  await spotCheck(vault, texts, size)
  await vault.stop()
  vault.deleteCheckpoint()
  const startWithoutCheckpoint = (await vault.start()) / 1000
  await spotCheck(vault, texts, size)
  const starts = { stop, start, startWithoutCheckpoint, anonAfterStart }
  if (!rebuilt) return starts
  await vault.stop()
  vault.deleteReplica()
  const rebuild = (await vault.start()) / 1000
  await spotCheck(vault, texts, size)
  return { ...starts, rebuild }
}

/** A start counts only if the vault then knows its tokens. */
async function spotCheck(vault: Vault, texts: TokenTexts, size: number): Promise<void> {
  const client = new Client(vault, 1)
  try {
    await client.run(knownTokens(runOf(OWNER, BULK, 20_000, atRandom(size, 2)), texts))
  } finally {
    client.close()
  }
}

function growthRows(points: readonly GrowthPoint[]): Row[] {
  const first = points[0]
  const last = points[points.length - 1]
  if (!first) return []
  const whole = last.mappings >= AIMED_SIZE
  const aimed = (aim: Row['aim']): Partial<Row> => (whole && aim ? { aim } : {})
  const at = `at ${format(last.mappings)}`
  const between = `${format(first.mappings)} to ${format(last.mappings)}`
  const spread = (of: 'tokenize' | 'inOrder'): number => {
    const rates = points.map((point) => point[of])
    return Math.max(...rates) / Math.min(...rates)
  }
  const factor = { unit: 'x', ...aimed({ most: 1.5 }) }
  return [
    {
      what: `detokenize at random ${at}`,
      batch: BULK,
      value: last.atRandom,
      unit: '/s',
      ...aimed({ least: 120_000 }),
    },
    { what: `tokenize new, best to worst, ${between}`, batch: BULK, value: spread('tokenize'), ...factor },
    {
      what: `detokenize in order, best to worst, ${between}`,
      batch: BULK,
      value: spread('inOrder'),
      ...factor,
    },
    { what: `start with checkpoint ${at}`, value: last.start, unit: 's', ...aimed({ most: 20 }) },
    { what: `start without ${at}`, value: last.startWithoutCheckpoint, unit: 's', ...aimed({ most: 180 }) },
  ]
}

export function growthTable(points: readonly GrowthPoint[]): string {
  const head = [
    'mappings',
    'tokenize',
    'in order',
    'at random',
    'others',
    'memory',
    'with files',
    'after start',
    'ledger',
  ]
  head.push('replica', 'stop', 'start', 'no checkpoint', 'rebuild')
  const mb = (bytes: number): string => `${format(bytes / 1e6)} MB`
  const s = (seconds: number | undefined): string => (seconds === undefined ? '' : `${format(seconds)} s`)
  const rows = points.map((point) => [
    format(point.mappings),
    `${format(point.tokenize)}/s`,
    `${format(point.inOrder)}/s`,
    `${format(point.atRandom)}/s`,
    `${Math.round(point.othersCpu * 100)}%`,
    mb(point.anon),
    mb(point.rss),
    mb(point.anonAfterStart),
    mb(point.ledger),
    mb(point.replica),
    s(point.stop),
    s(point.start),
    s(point.startWithoutCheckpoint),
    s(point.rebuild),
  ])
  return table([head, ...rows], 'r'.repeat(head.length))
}

export function growthPanels(points: readonly GrowthPoint[]): Panel[] {
  const series = (name: string, of: (point: GrowthPoint) => number | undefined) => ({
    name,
    points: points.flatMap((point): [number, number][] => {
      const value = of(point)
      return value === undefined ? [] : [[point.mappings, value]]
    }),
  })
  return [
    {
      title: 'Rates, batches of 5,000',
      unit: 'per second',
      series: [
        series('tokenize new', (point) => point.tokenize),
        series('detokenize in order', (point) => point.inOrder),
        series('detokenize at random', (point) => point.atRandom),
      ],
    },
    {
      title: 'Memory and disk',
      unit: 'MB',
      series: [
        series('memory', (point) => point.anon / 1e6),
        series('memory after a start', (point) => point.anonAfterStart / 1e6),
        series('ledger on disk', (point) => point.ledger / 1e6),
        series('replica on disk', (point) => point.replica / 1e6),
      ],
    },
    {
      title: 'Time until ready',
      unit: 's',
      series: [
        series('with checkpoint', (point) => point.start),
        series('without', (point) => point.startWithoutCheckpoint),
        series('replica rebuilt', (point) => point.rebuild),
      ],
    },
  ]
}
