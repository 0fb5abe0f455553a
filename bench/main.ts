// npm run bench: the speed of a vault on the machine at hand, each number beside its floor.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Bench } from './bench.ts'
import { measureCatchUp } from './catch-up.ts'
import { killChildren } from './child.ts'
import { measureClusterBulk, measureClusterSingle } from './cluster-parts.ts'
import { measureSize } from './cluster-size.ts'
import { measureFailOver } from './fail-over.ts'
import { measureFairness } from './fairness.ts'
import { measureCsv, measureParquet, measureWide } from './files.ts'
import { measureNdjson } from './files-ndjson.ts'
import { measureSql } from './files-sql.ts'
import { growthPanels, growthTable, measureGrowth, SIZES } from './growth.ts'
import { describeMachine, type Machine, machineLines } from './machine.ts'
import { measureOwners } from './owners.ts'
import { measureBulk, measureFloors, measureSingle } from './parts.ts'
import { plot } from './plot.ts'
import { measureEtcd } from './raw-etcd.ts'
import { measureBehind } from './recovery-behind.ts'
import { measureMixed } from './recovery-mixed.ts'
import { measureRebuild } from './recovery-rebuild.ts'
import { measureSegments } from './recovery-segments.ts'
import { measureStart } from './recovery-start.ts'
import { measureSecrets } from './secrets.ts'
import { isMet, resultTable } from './table.ts'

type Suite = {
  readonly parts: Readonly<Record<string, (bench: Bench) => Promise<void>>>
  /** Parts that run only where they are named. */
  readonly onlyNamed?: readonly string[]
  /** Numbers of others, for a person. */
  readonly comparison: string
  /** A missed target ends the run with 1. */
  readonly strict?: true
}

const SUITES: Readonly<Record<string, Suite>> = {
  embedded: {
    parts: {
      floors: measureFloors,
      bulk: measureBulk,
      single: measureSingle,
      growth: measureGrowth,
      owners: measureOwners,
    },
    comparison: `For comparison, what others reached on such a machine, measured elsewhere: PostgreSQL 15 with pgcrypto, in the
database and without HTTP, 70,000 new tokens/s and 263,000 look-ups/s; OpenBao transit over HTTP 75,000 encryptions/s
in batches of 100, 4,700/s single; a bare Fastify echo 30,000 requests/s (wrk).`,
  },
  cluster: {
    parts: {
      etcd: measureEtcd,
      bulk: measureClusterBulk,
      single: measureClusterSingle,
      size: measureSize,
      failover: measureFailOver,
      catchup: measureCatchUp,
    },
    comparison: `For comparison, measured elsewhere: OpenBao with three nodes, on such a machine: 1,500 writes/s; 13.7 s from kill -9
of its leader to the next write.`,
  },
  secrets: {
    parts: { etcd: measureEtcd, secrets: measureSecrets },
    comparison: `For comparison, measured elsewhere: OpenBao with three nodes, on such a machine: 1,500 writes/s, 5,700 reads/s.`,
  },
  recovery: {
    parts: {
      mixed: measureMixed,
      segments: measureSegments,
      behind: measureBehind,
      rebuild: measureRebuild,
      start: measureStart,
    },
    comparison: 'The targets hold for --size 1; a smaller size meets them more easily.',
    strict: true,
  },
  fairness: {
    parts: { fairness: measureFairness },
    comparison: 'An owner who attacks runs in a process of its own; the targets are for two cores.',
    strict: true,
  },
  files: {
    parts: {
      csv: measureCsv,
      wide: measureWide,
      parquet: measureParquet,
      sql: measureSql,
      ndjson: measureNdjson,
    },
    onlyNamed: ['ndjson'],
    comparison: `Seconds are from the start of a command to its end, as a user waits for it; of SQL, of the query alone. Of a time,
"of floor" says how many times the floor. Targets hold without --quick.`,
  },
}

const partsOf = (suite: string): string => Object.keys(SUITES[suite].parts).join(', ')

const USAGE = `npm run bench -- [suite] [options]     suites: ${Object.keys(SUITES).join(', ')}
  --quick        small sizes: a minute or two
  --only PARTS   with commas between; of embedded: ${partsOf('embedded')};
                 of cluster: ${partsOf('cluster')};
                 of secrets: ${partsOf('secrets')};
                 of recovery: ${partsOf('recovery')};
                 of files: ${partsOf('files')} (ndjson only where it is named);
                 of fairness: ${partsOf('fairness')}
  --size N       recovery, ndjson: this part of the full amounts, above 0, at most 1 (1; 0.02 with --quick)
  --json FILE    where the results go (bench/out/<suite>.json)
  --dir DIR      where the vaults lie meanwhile (a new directory in it; by default in ${tmpdir()})
  --largest N    end the growth there: ${SIZES.join(', ')}
  --minutes N    begin nothing new after that long (60)
  --profile      a CPU profile of every vault, in bench/out/`

const LEGEND = `node, client, others: the part of one core that the server, the load and the rest of the machine took meanwhile; of a
cluster, all nodes together, and etcd: all members together.
A floor is the same work done by less, in the same run: its name stands at the end of the row.
Starts find their files in the page cache. Memory is the process's own; the pages of its files come on top.`

const out = fileURLToPath(new URL('./out/', import.meta.url))

function readOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      json: { type: 'string' },
      dir: { type: 'string', default: tmpdir() },
      largest: { type: 'string' },
      size: { type: 'string' },
      minutes: { type: 'string', default: '60' },
    },
  })
  const suite = positionals[0] ?? 'embedded'
  const only = values.only.flatMap((names) => names.split(','))
  const parts = SUITES[suite]?.parts
  if (!parts || positionals.length > 1) throw new Error(`there is no suite ${positionals.join(' ')}`)
  for (const name of only) if (!parts[name]) throw new Error(`the suite ${suite} has no part ${name}`)
  const minutes = Number(values.minutes)
  if (!(minutes > 0)) throw new Error('--minutes takes a number above 0')
  const largest = Number(values.largest ?? (values.quick ? SIZES[1] : SIZES[SIZES.length - 1]))
  if (!(largest >= SIZES[0])) throw new Error(`--largest takes a number from ${SIZES[0]} on`)
  const size = Number(values.size ?? (values.quick ? 0.02 : 1))
  if (!(size > 0 && size <= 1)) throw new Error('--size takes a number above 0, at most 1')
  const { onlyNamed = [] } = SUITES[suite]
  const chosen = Object.keys(parts).filter((name) =>
    only.length === 0 ? !onlyNamed.includes(name) : only.includes(name),
  )
  return {
    ...values,
    suite,
    minutes,
    largest,
    size,
    parts: chosen,
    json: values.json ?? join(out, `${suite}.json`),
  }
}

type Options = ReturnType<typeof readOptions>

async function runSuite(options: Options, bench: Bench): Promise<void> {
  for (const name of options.parts) {
    if (performance.now() > bench.until) {
      bench.say(`no time left for ${name}`)
      continue
    }
    try {
      await SUITES[options.suite].parts[name](bench)
      if (SUITES[options.suite].strict && bench.rows.some((row) => isMet(row) === false)) process.exitCode = 1
    } catch (error) {
      console.error(error)
      killChildren() // what it has left behind would disturb the next part
      bench.rows.push({ what: `${name} FAILED`, value: Number.NaN, unit: '', note: 'see above' })
      process.exitCode = 1
    }
  }
}

function report(options: Options, bench: Bench, machine: Machine): void {
  const { rows, growth } = bench
  console.log(machineLines(machine).join('\n'))
  console.log(`\n${resultTable(rows)}`)
  if (growth.length > 0) console.log(`\n${growthTable(growth)}`)
  console.log(`\n${LEGEND}\n\n${SUITES[options.suite].comparison}`)
  mkdirSync(dirname(resolve(options.json)), { recursive: true })
  const results = rows.map((row) => ({ ...row, met: isMet(row) }))
  const { suite, quick } = options
  writeFileSync(options.json, `${JSON.stringify({ suite, quick, machine, results, growth }, null, 2)}\n`)
  console.error(`results: ${options.json}`)
  if (growth.length === 0) return
  const file = join(out, `${suite}.svg`)
  writeFileSync(file, plot(`Coffer, ${suite}, ${machine.cpu}, ${machine.cores} cores`, growthPanels(growth)))
  console.error(`plot: ${file}`)
}

async function main(options: Options): Promise<void> {
  mkdirSync(out, { recursive: true })
  const dir = mkdtempSync(join(options.dir, 'coffer-bench-'))
  const clean = (): void => {
    killChildren()
    // A member writes until its node's end reaches the member.
    rmSync(dir, { recursive: true, force: true, maxRetries: 20 })
  }
  process.once('exit', clean)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const bench: Bench = {
    dir,
    quick: options.quick,
    size: options.size,
    largest: options.largest,
    flags: options.profile ? ['--cpu-prof', `--cpu-prof-dir=${out}`] : [],
    until: performance.now() + options.minutes * 60_000,
    rows: [],
    growth: [],
    floors: { bare: new Map(), echo: new Map(), smallCommits: new Map(), etcdPuts: new Map() },
    say: (text) => console.error(`${(performance.now() / 1000).toFixed(1).padStart(7)} s  ${text}`),
  }
  const machine = describeMachine(dir)
  await runSuite(options, bench)
  report(options, bench, machine)
}

let options: Options
try {
  options = readOptions()
} catch (error) {
  console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`)
  process.exit(2)
}
if (options.help) console.log(USAGE)
else await main(options)
