// Parts of the suite `embedded` with a single vault or none: floors, bulk over HTTP, single values.
import type { Bench } from './bench.ts'
import { cpuSeconds, startChild } from './child.ts'
import { type Bare, bareFunctions } from './floor.ts'
import { ledgerCommits, parsing } from './floor-ledger.ts'
import { Client, type Measured } from './load.ts'
import { type Row, rowOf } from './table.ts'
import { atRandom, inOrder } from './values.ts'
import { Vault } from './vault.ts'
import {
  echoes,
  knownTokens,
  knownValues,
  newValues,
  oldTokens,
  rotations,
  runOf,
  TokenTexts,
} from './work.ts'

const OWNER = 'bench'
export const BULK = 5000
export const BULK_CONNECTIONS = 4
const BATCHES = [BULK, 100, 1]

export async function measureFloors(bench: Bench): Promise<void> {
  const { rows, floors, dir, quick } = bench
  const seconds = quick ? 1 : 3
  for (const batch of [BULK, 100]) {
    bench.say(`floor: the bare functions, batches of ${batch}`)
    const bare = await bareFunctions(dir, batch, quick ? 200_000 : 1_000_000, (size) => atRandom(size))
    floors.bare.set(batch, bare)
    rows.push(...bareRows(bare, batch))
  }
  for (const [bytes, inFlight] of [
    [128 * 1024, 4],
    [250, 1],
    [250, 64],
  ]) {
    bench.say(`floor: the ledger alone, ${bytes} bytes, ${inFlight} in flight`)
    const value = await ledgerCommits(dir, bytes, inFlight, seconds)
    const note = `${((value * bytes) / 1e6).toFixed(bytes > 1000 ? 0 : 2)} MB/s`
    rows.push({
      what: `floor: LMDB ledger, commits of ${bytes} B, ${inFlight} in flight`,
      value,
      unit: '/s',
      note,
    })
    if (bytes < 1000) floors.smallCommits.set(inFlight, value)
  }
  bench.say('floor: parsing')
  const { json, scan } = parsing(BULK, seconds / 2)
  rows.push({ what: 'floor: JSON.parse of the body', batch: BULK, value: json, unit: '/s' })
  rows.push({ what: "floor: the project's scan of the body", batch: BULK, value: scan, unit: '/s' })
  for (const connections of [1, 64]) {
    bench.say(`floor: a bare Fastify echo, ${connections} connections`)
    const measured = await echo(connections, seconds)
    floors.echo.set(connections, measured.perSecond)
    rows.push(rowOf(`floor: bare Fastify echo, ${connections} connections`, measured, {}, 1))
  }
}

function bareRows(bare: Bare, batch: number): Row[] {
  const steps = Object.entries(bare.steps).map(([step, us]) => `${step} ${us.toFixed(2)}`)
  return [
    {
      what: 'floor: bare pipeline, new',
      batch,
      value: bare.issue,
      unit: '/s',
      note: `µs: ${steps.join(', ')}`,
    },
    { what: 'floor: bare pipeline, known', batch, value: bare.recognise, unit: '/s' },
    { what: 'floor: bare opening, in order', batch, value: bare.openInOrder, unit: '/s' },
    { what: 'floor: bare opening, at random', batch, value: bare.openAtRandom, unit: '/s' },
  ]
}

async function echo(connections: number, seconds: number): Promise<Measured> {
  const child = await startChild('./echo.ts')
  const client = new Client({ url: child.url, cpuSeconds: () => cpuSeconds(child.pid) }, connections)
  try {
    await client.run(echoes(1), seconds / 2)
    return await client.run(echoes(1), seconds)
  } finally {
    client.close()
    await child.stop()
  }
}

/** A vault warmed up by some of every call: V8 has compiled the code. */
async function warmVault(bench: Bench, name: string): Promise<Vault> {
  const vault = new Vault(`${bench.dir}/${name}`, [OWNER, 'warm'], bench.flags)
  await vault.start()
  const client = new Client(vault, BULK_CONNECTIONS)
  const texts = new TokenTexts(100_000)
  for (const batch of [BULK, 100]) {
    const run = runOf('warm', batch, batch === BULK ? 95_000 : 5000, inOrder(batch === BULK ? 0 : 95_000))
    await client.run(newValues(run, texts))
    for (const work of [knownValues(run, texts), knownTokens(run, texts)]) {
      await client.run(work)
    }
  }
  client.close()
  await vault.settle()
  return vault
}

type Bulk = {
  readonly bench: Bench
  readonly vault: Vault
  readonly texts: TokenTexts
  /**
   * Where this batch size's own values begin, and how many there are: at first the most, then the measured.
   */
  readonly first: number
  count: number
}

/** Tokenize, detokenize and retokenize in batches of 5,000, 100 and 1. */
export async function measureBulk(bench: Bench): Promise<void> {
  const vault = await warmVault(bench, 'bulk')
  try {
    const counts = bench.quick ? [300_000, 30_000, 1500] : [2_000_000, 200_000, 5000]
    const total = counts.reduce((sum, count) => sum + count, 0)
    const texts = new TokenTexts(total)
    const bulks: Bulk[] = []
    let first = 0
    for (const [i, batch] of BATCHES.entries()) {
      const bulk = { bench, vault, texts, first, count: counts[i] }
      await measureBatch(bulk, batch)
      bulks.push(bulk)
      first += bulk.count
    }
    const client = new Client(vault, 1)
    await client.run(rotations([OWNER], 2))
    client.close()
    const fresh = new TokenTexts(total, 2)
    for (const [i, batch] of BATCHES.entries()) await measureRetokenize(bulks[i], batch, fresh)
  } finally {
    await vault.remove()
  }
}

const connectionsOf = (batch: number): number => (batch === 1 ? 1 : BULK_CONNECTIONS)

async function measureBatch(bulk: Bulk, batch: number): Promise<void> {
  const { bench, vault, texts, first } = bulk
  const seconds = bench.quick ? 3 : 15
  const client = new Client(vault, connectionsOf(batch))
  const { bare, echo, smallCommits } = bench.floors
  const aimed = (aim: number): Partial<Row> => (batch === BULK ? { aim: { least: aim } } : {})
  const beside = (value: number | undefined, name: string): Partial<Row> =>
    value === undefined ? {} : { floor: { name, value } }
  const echoed = beside(echo.get(1), 'echo, 1 connection')
  const floor = (of: keyof Omit<Bare, 'steps'>, name: string): Partial<Row> =>
    batch === 1 ? echoed : beside(bare.get(batch)?.[of], name)
  const show = (what: string, measured: Measured, more: Partial<Row>): void => {
    bench.rows.push(rowOf(what, measured, more, batch))
  }
  try {
    bench.say(`bulk: batches of ${batch}`)
    const fresh = await client.run(newValues(runOf(OWNER, batch, bulk.count, inOrder(first)), texts), seconds)
    bulk.count = fresh.values
    const late = await vault.settle()
    const small = beside(smallCommits.get(1), 'LMDB ledger, 250 B, 1 in flight')
    show('tokenize new values', fresh, {
      ...(batch === 1 ? small : floor('issue', 'bare pipeline')),
      ...aimed(150_000),
      ...(late > 50 ? { note: `replica ${Math.round(late)} ms behind at the end` } : {}),
    })
    const again = runOf(OWNER, batch, bulk.count, inOrder(first))
    const known = await client.run(knownValues(again, texts), seconds)
    show('tokenize known values', known, { ...floor('recognise', 'bare pipeline, known'), ...aimed(200_000) })
    const ordered = await client.run(knownTokens(again, texts), seconds)
    show('detokenize in order', ordered, {
      ...floor('openInOrder', 'bare opening, in order'),
      ...aimed(200_000),
    })
    const shuffled = runOf(OWNER, batch, bulk.count, atRandom(first + bulk.count))
    const random = await client.run(knownTokens(shuffled, texts), seconds)
    show('detokenize at random', random, floor('openAtRandom', 'bare opening, at random'))
  } finally {
    client.close()
  }
}

async function measureRetokenize(bulk: Bulk, batch: number, fresh: TokenTexts): Promise<void> {
  const { bench, vault, texts, first, count } = bulk
  const client = new Client(vault, connectionsOf(batch))
  try {
    bench.say(`bulk: retokenize in batches of ${batch}`)
    const run = runOf(OWNER, batch, count, inOrder(first))
    const measured = await client.run(oldTokens(run, texts, fresh), bench.quick ? 3 : 15)
    await vault.settle()
    const bare = bench.floors.bare.get(batch)
    const small = bench.floors.smallCommits.get(1)
    const whole = bare && 1 / (1 / bare.issue + 1 / bare.openInOrder)
    const floor = batch === 1 ? small : whole
    const name = batch === 1 ? 'LMDB ledger, 250 B, 1 in flight' : 'bare opening, then bare pipeline'
    const more = floor === undefined ? {} : { floor: { name, value: floor } }
    bench.rows.push(rowOf('retokenize after a rotation', measured, more, batch))
    // What was just issued must open again as the same values.
    await client.run(knownTokens({ ...run, requests: Math.min(20, measured.requests) }, fresh))
  } finally {
    client.close()
  }
}

/** One value a request, 64 connections. */
export async function measureSingle(bench: Bench): Promise<void> {
  const vault = await warmVault(bench, 'single')
  const client = new Client(vault, 64)
  try {
    bench.say('single values, 64 connections')
    const most = 2_000_000
    const texts = new TokenTexts(most)
    const warm = await client.run(newValues(runOf(OWNER, 1, most, inOrder(0)), texts), bench.quick ? 1 : 3)
    const left = most - warm.values
    const work = newValues(runOf(OWNER, 1, left, inOrder(warm.values)), texts)
    const measured = await client.run(work, bench.quick ? 3 : 15)
    const echo = bench.floors.echo.get(64)
    const floor =
      echo === undefined ? {} : { floor: { name: 'bare Fastify echo, 64 connections', value: echo } }
    bench.rows.push(rowOf('tokenize new, 64 connections', measured, { ...floor, aim: { least: 6000 } }, 1))
    const p99 = { value: measured.p99, unit: 'ms', aim: { most: 40 } }
    bench.rows.push({ what: 'tokenize new, 64 connections: p99', batch: 1, ...p99 })
    const all = warm.values + measured.values
    const known = await client.run(
      knownTokens(runOf(OWNER, 1, most, atRandom(all)), texts),
      bench.quick ? 2 : 5,
    )
    bench.rows.push(rowOf('detokenize at random, 64 connections', known, floor, 1))
  } finally {
    client.close()
    await vault.remove()
  }
}
