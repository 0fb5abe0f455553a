// coffer demo: short stories that run for real, and check everything that they say.
import type { Command } from 'commander'
import { UsageError } from '../../errors.ts'
import { basics } from './basics.ts'
import { env } from './env.ts'

const SCENARIOS: ReadonlyMap<string, () => Promise<void>> = new Map([
  ['basics', basics],
  ['env', env],
])

export function registerDemo(program: Command): void {
  program
    .command('demo')
    .description('a scenario that runs for real and tells what it does')
    .argument('[scenario]', [...SCENARIOS.keys()].join(' or '), 'basics')
    .addHelpText(
      'after',
      `
  basics  two files of a clinic: tokenized, joined, read back, rotated, restarted
  env     the .env file of a project: its values into the vault, references in their place

Runs a node in a temporary directory, on a port that is free, and leaves nothing behind.
It checks what it says: ends with 1 where anything is not as told.

Example:
  $ coffer demo env`,
    )
    .action(async (name: string) => {
      const scenario = SCENARIOS.get(name)
      if (!scenario) {
        const known = [...SCENARIOS.keys()].map((each) => `\`coffer demo ${each}\``).join(' or ')
        throw new UsageError(`there is no scenario ${name} in this version: ${known}`)
      }
      await scenario()
    })
}
