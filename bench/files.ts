// The suite `files`: columns of files through the command line, against a node, each beside a bare copy.
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { machineSeconds } from './child.ts'
import {
  type Address,
  type CommandRun,
  copySeconds,
  requireEqual,
  startCommand,
  startScript,
} from './files-command.ts'
import { narrowTable, type Table, wideTable, writeTable } from './files-data.ts'
import { type Aim, format, type Row } from './table.ts'
import { Vault } from './vault.ts'

const MEGABYTE = 1e6
/** Each round has an owner of its own, to whom all values are new. */
const ROUNDS = 3
const OWNERS: readonly string[] = Array.from({ length: ROUNDS }, (_, i) => `bench-${i}`)
const MOST_MEMORY: Aim = { most: 400 }

type Case = {
  readonly name: string
  readonly file: string
  readonly rows: number
  readonly columns: readonly string[]
  /** Seconds of the least work with such a file. */
  readonly floor: () => Promise<number>
  readonly floorName: string
}

/** Parts of a core that the node and the rest of the machine took meanwhile. */
type Run = CommandRun & { readonly nodeCpu: number; readonly othersCpu: number }

type Rounds = { readonly there: Run[]; readonly back: Run[]; readonly floor: number[] }

export async function measureCsv(bench: Bench): Promise<void> {
  const rows = bench.quick ? 100_000 : 1_000_000
  await withVault(bench, 'csv', async (vault, dir) => {
    const made = await textCase(bench, {
      dir,
      name: 'CSV',
      table: narrowTable(rows, rows / 5),
      columns: ['ssn'],
    })
    const rounds = await convertInRounds(bench, vault, made)
    const what = `CSV, ${format(rows)} rows, ${format(megabytes(made))} MB, ${format(rows / 5)} values in a column`
    report(bench, made, [
      { what: `tokenize ${what}`, runs: rounds.there, floor: rounds.floor, aim: { most: 2 } },
      { what: 'the same, detokenize', runs: rounds.back, floor: rounds.floor, aim: { most: 2.5 } },
    ])
  })
}

export async function measureWide(bench: Bench): Promise<void> {
  const rows = bench.quick ? 50_000 : 1_000_000
  await withVault(bench, 'wide', async (vault, dir) => {
    const table = wideTable(rows, rows / 5)
    const made = await textCase(bench, { dir, name: 'wide CSV', table, columns: ['ssn', 'phone'] })
    const rounds = await convertInRounds(bench, vault, made)
    const what = `CSV, ${format(rows)} rows, ${format(megabytes(made))} MB, columns of ${format(rows / 5)} and ${format(rows)} values`
    report(bench, made, [
      { what: `tokenize ${what}`, runs: rounds.there, floor: rounds.floor, aim: { least: 250 } },
      { what: 'the same, detokenize', runs: rounds.back, floor: rounds.floor, aim: { least: 180 } },
    ])
    const peak = (runs: readonly CommandRun[]): number =>
      Math.max(...runs.map((run) => run.peak.bytes)) / MEGABYTE
    const memory = { unit: 'MB', aim: MOST_MEMORY }
    bench.rows.push(
      { what: 'tokenize: the most memory of the process', value: peak(rounds.there), ...memory },
      { what: 'detokenize: the most memory of the process', value: peak(rounds.back), ...memory },
    )
  })
}

const PARQUET_SCRIPT = new URL('./files-duckdb.ts', import.meta.url).pathname

export async function measureParquet(bench: Bench): Promise<void> {
  const rows = bench.quick ? 100_000 : 1_000_000
  await withVault(bench, 'parquet', async (vault, dir) => {
    const file = join(dir, 'in.parquet')
    const script = (...args: readonly string[]): Promise<CommandRun> =>
      startScript([PARQUET_SCRIPT, ...args], { address: addressOf(vault, 0), peakFile: join(dir, 'peak') })
        .done
    bench.say(`files: a Parquet file of ${format(rows)} rows`)
    await script('make-parquet', file, String(rows))
    const copy = join(dir, 'copy.parquet')
    const floor = async (): Promise<number> => {
      const { told } = await script('copy-parquet', file, copy)
      rmSync(copy)
      return JSON.parse(told).seconds
    }
    const made: Case = {
      name: 'Parquet',
      file,
      rows,
      columns: ['ssn'],
      floor,
      floorName: 'COPY by DuckDB, without functions',
    }
    const same = async (back: string): Promise<void> => void (await script('compare-parquet', file, back))
    const rounds = await convertInRounds(bench, vault, made, same)
    const what = `Parquet, ${format(rows)} rows, ${format(megabytes(made))} MB, ${format(rows / 5)} values in a column`
    report(bench, made, [
      { what: `tokenize ${what}`, runs: rounds.there, floor: rounds.floor, aim: { most: 5 } },
      { what: 'the same, detokenize', runs: rounds.back, floor: rounds.floor, aim: { most: 6 } },
    ])
  })
}

async function textCase(
  bench: Bench,
  {
    dir,
    name,
    table,
    columns,
  }: {
    readonly dir: string
    readonly name: string
    readonly table: Table
    readonly columns: readonly string[]
  },
): Promise<Case> {
  const file = join(dir, 'in.csv')
  bench.say(`files: a ${name} of ${format(table.rows)} rows`)
  await writeTable(file, table)
  const floor = (): Promise<number> => copySeconds(file, join(dir, 'copy.csv'))
  return { name, file, rows: table.rows, columns, floor, floorName: 'copy by streams, flushed' }
}

/** Runs `work` with a vault and a directory for files. */
export async function withVault(
  bench: Bench,
  name: string,
  work: (vault: Vault, dir: string) => Promise<void>,
): Promise<void> {
  const dir = join(bench.dir, name)
  mkdirSync(dir)
  const vault = new Vault(join(dir, 'vault'), OWNERS, bench.flags)
  await vault.start()
  try {
    await work(vault, dir)
  } finally {
    await vault.remove()
    rmSync(dir, { recursive: true })
  }
}

export function addressOf({ url }: Vault, round: number): Address {
  return { url, owner: OWNERS[round] }
}

/** Tokenizes, detokenizes and copies the file in each round, and compares the file with the way back. */
async function convertInRounds(
  bench: Bench,
  vault: Vault,
  { name, file, columns, floor }: Case,
  compare = (back: string): Promise<void> => requireEqual(file, back),
): Promise<Rounds> {
  const rounds: Rounds = { there: [], back: [], floor: [] }
  const named = columns.flatMap((column) => ['--column', column])
  const dir = join(file, '..')
  const extension = file.slice(file.lastIndexOf('.'))
  const out = join(dir, `tokens${extension}`)
  const back = join(dir, `values${extension}`)
  for (let round = 0; round < ROUNDS; round++) {
    const starting = { address: addressOf(vault, round), peakFile: join(dir, 'peak') }
    const run = async (operation: string, from: string, to: string): Promise<Run> => {
      // Before each command: a virtual machine gets memory from its host at the first touch, and the command
      // uses the memory of the copy again.
      rounds.floor.push(await floor())
      const before = { node: vault.cpuSeconds(), machine: machineSeconds() }
      const ended = await startCommand([operation, from, ...named, '-o', to, '--json'], starting).done
      const node = vault.cpuSeconds() - before.node
      const others = machineSeconds() - before.machine - node - ended.peak.cpuSeconds
      return { ...ended, nodeCpu: node / ended.seconds, othersCpu: Math.max(others, 0) / ended.seconds }
    }
    const there = await run('tokenize', file, out)
    await vault.settle()
    const again = await run('detokenize', out, back)
    await compare(back)
    rounds.there.push(there)
    rounds.back.push(again)
    bench.say(
      `files: ${name}, round ${round + 1}: ${format(there.seconds)} s, back ${format(again.seconds)} s`,
    )
    rmSync(out)
    rmSync(back)
    const strangers = readdirSync(dir).filter((each) => each.startsWith('.'))
    if (strangers.length > 0) throw new Error(`commands left ${strangers.join(', ')}`)
  }
  return rounds
}

type Result = {
  readonly what: string
  readonly runs: readonly Run[]
  readonly floor: readonly number[]
  /** `most` in seconds, `least` in megabytes a second. */
  readonly aim: Aim
}

/** A row of medians for each result; megabytes are those of the file before the first command. */
function report(bench: Bench, made: Case, results: readonly Result[]): void {
  const size = megabytes(made)
  for (const { what, runs, floor, aim } of results) {
    const seconds = median(runs.map((run) => run.seconds))
    const least = median(floor)
    const floorOf = (value: number): NonNullable<Row['floor']> => ({ name: made.floorName, value })
    const result =
      'least' in aim
        ? { value: size / seconds, unit: 'MB/s', floor: floorOf(size / least), note: `${format(seconds)} s` }
        : { value: seconds, unit: 's', floor: floorOf(least), note: `${format(size / seconds)} MB/s` }
    const row = {
      what,
      ...result,
      rowsPerSecond: made.rows / seconds,
      peakMegabytes: Math.max(...runs.map((run) => run.peak.bytes)) / MEGABYTE,
      nodeCpu: median(runs.map((run) => run.nodeCpu)),
      othersCpu: median(runs.map((run) => run.othersCpu)),
      clientCpu: median(runs.map((run) => run.peak.cpuSeconds / run.seconds)),
      aim,
    }
    bench.rows.push({
      ...row,
      note: `${result.note}, of ${runs.map((run) => format(run.seconds)).join(', ')} s`,
    })
  }
}

function megabytes({ file }: Case): number {
  return statSync(file).size / MEGABYTE
}

export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1]
}
