// npm run sim -- [--minutes M] [--seeds N] [--seed S]: worlds of whole nodes, one seed after the other; what was done, by
// kind, and what held. Exit 1 with the seed where a law was broken.
import { parseArgs } from 'node:util'
import { seeded } from './seed.ts'
import { runWorld } from './whole-world.ts'

const options = { minutes: { type: 'string' }, seeds: { type: 'string' }, seed: { type: 'string' } } as const
const { values } = parseArgs({ options })
const minutes = Number(values.minutes ?? (values.seeds === undefined ? 1 : Number.POSITIVE_INFINITY))
const seeds = Number(values.seeds ?? Number.POSITIVE_INFINITY)
const first = seeded(values.seed === undefined ? undefined : Number(values.seed)).seed
if ([minutes, seeds, first].some(Number.isNaN)) throw new Error('--minutes, --seeds and --seed take numbers')

const began = performance.now()
const calls = new Map<string, number>()
const faults = new Map<string, number>()
let worlds = 0
let events = 0
let revisions = 0

function add(counts: Map<string, number>, more: ReadonlyMap<string, number>): void {
  for (const [kind, count] of more) counts.set(kind, (counts.get(kind) ?? 0) + count)
}

function table(title: string, counts: ReadonlyMap<string, number>): void {
  const sum = [...counts.values()].reduce((a, b) => a + b, 0)
  console.log(`\n${title}: ${sum} (${Math.round(sum / worlds)} a world)`)
  for (const [kind, count] of [...counts].sort(([, a], [, b]) => b - a))
    console.log(`${String(count).padStart(10)}  ${kind}`)
}

try {
  while (worlds < seeds && performance.now() - began < minutes * 60_000) {
    const report = await runWorld(first + worlds)
    worlds++
    events += report.events
    revisions += report.revisions
    add(calls, report.calls)
    add(faults, report.faults)
  }
  table('calls and answers', calls)
  table('faults', faults)
  const seconds = (performance.now() - began) / 1000
  console.log(
    `\n${worlds} worlds from seed ${first} in ${seconds.toFixed(1)} s: ${events} events, ${revisions} revisions`,
  )
  console.log(
    'held: laws 1 to 7 and 9; after all was mended every node was ready, with one digest, and answered everything',
  )
} catch (error) {
  console.error(error)
  console.error(`after ${worlds} worlds; again: npm run sim -- --seeds 1 --seed ${first + worlds}`)
  process.exitCode = 1
}
