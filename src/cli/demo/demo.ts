// coffer demo: short scenarios on real nodes, with checks of every claim.
import type { Command } from 'commander'
import { UsageError } from '../../errors.ts'
import { print } from '../terminal/terminal.ts'
import { basics } from './basics.ts'
import { duckdb } from './duckdb.ts'
import { env } from './env.ts'
import { failure } from './failure.ts'
import { rotation } from './rotation.ts'
import type { Scenario } from './scenario.ts'
import { Stage } from './stage.ts'
import { checkTerminal, enter } from './step.ts'
import { heading, printVerdict } from './story.ts'
import { printTimeline } from './timeline.ts'

const SCENARIOS: ReadonlyMap<string, Scenario> = new Map([
  ['basics', basics],
  ['rotation', rotation],
  ['env', env],
  ['duckdb', duckdb],
  ['failure', failure],
])

const WIDTH = Math.max(...[...SCENARIOS.keys()].map(({ length }) => length))

export function registerDemo(program: Command): void {
  const list = [...SCENARIOS].map(([name, { about }]) => `  ${name.padEnd(WIDTH)}  ${about}`)
  program
    .command('demo')
    .description('run a scenario on real nodes, and explain each step')
    .argument('[scenario]', [...SCENARIOS.keys()].join(', '), 'basics')
    .option('--step', 'wait for Enter before every chapter')
    .addHelpText(
      'after',
      `
${list.join('\n')}

Runs nodes in a temporary directory, on free ports of 127.0.0.1, and removes everything at the end,
also after Ctrl-C. The demo checks its own claims: the exit code is 1 if a claim is not true.

Example:
  $ coffer demo env
  $ coffer demo basics --step`,
    )
    .action(demo)
}

async function demo(name: string, { step }: { readonly step?: boolean }): Promise<void> {
  const scenario = SCENARIOS.get(name)
  if (!scenario) {
    const known = [...SCENARIOS.keys()].map((each) => `\`coffer demo ${each}\``).join(' or ')
    throw new UsageError(`there is no scenario ${name} in this version`, { hint: `run ${known}` })
  }
  if (step) checkTerminal()
  const { nodes, owners, fields = [], play, next } = scenario
  {
    await using stage = await Stage.build({ nodes, owners, fields, pause: step ? enter : async () => {} })
    await play(stage)
    await stage.stop()
    await stage.chapter('The event logs tell the same story')
    printTimeline(stage.vaultDir)
  }
  heading('Your turn')
  print(next)
  printVerdict()
}
