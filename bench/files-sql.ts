// The part `sql` of the suite `files`: values of many tokens in DuckDB, beside a join with a local table.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { addressOf, median, withVault } from './files.ts'
import { type CommandRun, startScript } from './files-command.ts'
import { type Aim, format } from './table.ts'

const SCRIPT = new URL('./files-duckdb.ts', import.meta.url).pathname
const ROUNDS = 3
const MEGABYTE = 1e6
const FEW = 1_000

type Way = {
  /** Of files-duckdb.ts. */
  readonly name: string
  readonly what: string
  readonly floor: string
  readonly aim?: Aim
}

export async function measureSql(bench: Bench): Promise<void> {
  const rows = bench.quick ? 100_000 : 1_000_000
  const many = `${format(rows)} rows, as many tokens`
  const few = `${format(rows)} rows of ${format(FEW)} tokens`
  const ways: readonly Way[] = [
    { name: 'recover', what: `SQL: ${many}: by recover`, floor: 'join-many', aim: { most: 2.5 } },
    { name: 'function', what: `SQL: ${many}: by detokenize()`, floor: 'join-many', aim: { most: 4 } },
    { name: 'shuffled', what: 'the same, tokens in another order than they were made', floor: 'join-many' },
    {
      name: 'join',
      what: `SQL: ${few}: by the join of docs/duckdb.md`,
      floor: 'join-few',
      aim: { most: 0.2 },
    },
    { name: 'first-join', what: 'the same, the first call of a function in its process', floor: 'join-few' },
  ]
  await withVault(bench, 'sql', async (vault, dir) => {
    const database = join(dir, 'tokens.duckdb')
    const script = async (name: string): Promise<CommandRun & { readonly took: number }> => {
      const args = [SCRIPT, name, database, String(rows), String(FEW)]
      const run = await startScript(args, { address: addressOf(vault, 0), peakFile: join(dir, 'peak') }).done
      return { ...run, took: JSON.parse(run.told).seconds }
    }
    bench.say(`files: a table of ${format(rows)} tokens`)
    await script('make-tokens')
    await vault.settle()
    for (const { name, what, floor, aim } of ways) {
      const runs: Awaited<ReturnType<typeof script>>[] = []
      const floors: number[] = []
      for (let round = 0; round < ROUNDS; round++) {
        floors.push((await script(floor)).took)
        runs.push(await script(name))
        bench.say(`files: ${what}, round ${round + 1}: ${format(runs[round].took)} s`)
      }
      const seconds = median(runs.map((run) => run.took))
      bench.rows.push({
        what,
        value: seconds,
        unit: 's',
        rowsPerSecond: rows / seconds,
        peakMegabytes: Math.max(...runs.map((run) => run.peak.bytes)) / MEGABYTE,
        floor: { name: 'hash join with a local table of values', value: median(floors) },
        ...(aim && { aim }),
        note: `of ${runs.map((run) => format(run.took)).join(', ')} s`,
      })
    }
  })
}
