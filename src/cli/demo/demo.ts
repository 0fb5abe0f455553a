// coffer demo: short scenarios on a real node, with checks of every claim.
import type { Command } from 'commander'
import { UsageError } from '../../errors.ts'
import { basics } from './basics.ts'
import { duckdb } from './duckdb.ts'
import { env } from './env.ts'
import { rotation } from './rotation.ts'

const SCENARIOS: ReadonlyMap<string, () => Promise<void>> = new Map([
  ['basics', basics],
  ['env', env],
  ['duckdb', duckdb],
  ['rotation', rotation],
])

export function registerDemo(program: Command): void {
  program
    .command('demo')
    .description('run a scenario on a real node, and explain each step')
    .argument('[scenario]', [...SCENARIOS.keys()].join(', '), 'basics')
    .addHelpText(
      'after',
      `
  basics  two files of a clinic: tokenized, joined, read back, rotated, restarted
  env     the .env file of a project: values stored in the vault, references in their place
  duckdb  tables of a clinic, CSV and Parquet: tokenized, joined by SQL, migrated after a rotation, read back
  rotation  an epoch ends by the API: old tokens resolve, and become new tokens

Runs a node in a temporary directory, on a free port, and removes everything at the end.
The demo checks its own claims: the exit code is 1 if one of them is not true.

Example:
  $ coffer demo env`,
    )
    .action(async (name: string) => {
      const scenario = SCENARIOS.get(name)
      if (!scenario) {
        const known = [...SCENARIOS.keys()].map((each) => `\`coffer demo ${each}\``).join(' or ')
        throw new UsageError(`there is no scenario ${name} in this version`, { hint: `run ${known}` })
      }
      await scenario()
    })
}
