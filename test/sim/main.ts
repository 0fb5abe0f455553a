// npm run sim -- [--minutes M] [--seeds N] [--seed S] [--calls C] [--processes P]: worlds of whole nodes, one seed after the
// other; what was done, by kind, and what held. Exit 1 with the seed where a law was broken. --calls: before all is mended.
// --shrink --seed S: a smaller broken world.
import { parseArgs } from 'node:util'
import { seeded } from './seed.ts'
import { shrink } from './shrink.ts'
import { runWorlds } from './worlds.ts'

const option = { type: 'string' } as const
const smaller = { type: 'boolean' } as const
const options = {
  minutes: option,
  seeds: option,
  seed: option,
  calls: option,
  processes: option,
  shrink: smaller,
}
const { values } = parseArgs({ options })
const minutes = Number(values.minutes ?? (values.seeds === undefined ? 1 : Number.POSITIVE_INFINITY))
const seeds = Number(values.seeds ?? Number.POSITIVE_INFINITY)
const first = seeded(values.seed === undefined ? undefined : Number(values.seed)).seed
const processes = Number(values.processes ?? 2)
const callsAWorld = values.calls === undefined ? undefined : Number(values.calls)
if ([minutes, seeds, first, processes, callsAWorld ?? 0].some(Number.isNaN))
  throw new Error('--minutes, --seeds, --seed, --calls and --processes take numbers')

const began = performance.now()
const calls = new Map<string, number>()
const faults = new Map<string, number>()
const sizes = new Map<string, number>()
let worlds = 0
let events = 0
let revisions = 0

/** Adds to the counts. Returns the sum of what was added. */
function add(counts: Map<string, number>, more: ReadonlyMap<string, number>): number {
  let sum = 0
  for (const [kind, count] of more) {
    counts.set(kind, (counts.get(kind) ?? 0) + count)
    sum += count
  }
  return sum
}

const least = { calls: Number.POSITIVE_INFINITY, faults: Number.POSITIVE_INFINITY }

function table(title: string, counts: ReadonlyMap<string, number>, fewest: number): void {
  const sum = [...counts.values()].reduce((a, b) => a + b, 0)
  console.log(`\n${title}: ${sum} (${Math.round(sum / worlds)} a world, at least ${fewest})`)
  for (const [kind, count] of [...counts].sort(([, a], [, b]) => b - a))
    console.log(`${String(count).padStart(10)}  ${kind}`)
}

/** Prints the smaller world of the first seed. */
async function tellSmaller(): Promise<void> {
  const found = await shrink(first, callsAWorld === undefined ? {} : { calls: callsAWorld })
  if (!found) return console.log(`the world of seed ${first} keeps all laws`)
  process.exitCode = 1
  console.log(found.trace.join('\n'))
  console.log(`\n${found.law}\ncalls: ${found.calls}\nfaults: ${found.kinds.join('; ') || 'none'}`)
}

const PROGRESS_MS = 60_000

async function tellAll(): Promise<void> {
  const progress = setInterval(() => {
    const passed = Math.round((performance.now() - began) / PROGRESS_MS)
    console.error(`after ${passed} min: ${worlds} worlds`)
  }, PROGRESS_MS)
  try {
    await runWorlds({
      first,
      seeds,
      ms: minutes * 60_000,
      calls: callsAWorld,
      processes,
      report: (report) => {
        worlds++
        events += report.events
        revisions += report.revisions
        add(sizes, report.sizes)
        least.calls = Math.min(least.calls, add(calls, report.calls))
        least.faults = Math.min(least.faults, add(faults, report.faults))
      },
    })
    table('calls and answers', calls, least.calls)
    table('faults', faults, least.faults)
    table('calls by values, tokens or names', sizes, least.calls)
    const seconds = (performance.now() - began) / 1000
    console.log(
      `\n${worlds} worlds from seed ${first} in ${seconds.toFixed(1)} s: ${events} events, ${revisions} revisions`,
    )
    console.log(
      'held: laws 1 to 7 and 9; after all was mended every node was ready, with one digest, and answered everything',
    )
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    console.error(`after ${worlds} worlds; again, smaller: npm run sim -- --shrink --seed SEED`)
    process.exitCode = 1
  } finally {
    clearInterval(progress)
  }
}

await (values.shrink ? tellSmaller() : tellAll())
