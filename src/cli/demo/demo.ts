// coffer demo: short scenarios on real nodes, with checks of every claim.
import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { OperatorError, UsageError } from '../../errors.ts'
import { writeTimeline } from '../log/html.ts'
import { isStandardOutput, openOutput, WITH_VALUES } from '../terminal/output.ts'
import { print } from '../terminal/terminal.ts'
import { basics } from './basics.ts'
import { cluster } from './cluster.ts'
import { duckdb } from './duckdb.ts'
import { env } from './env.ts'
import { failure } from './failure.ts'
import { rotation } from './rotation.ts'
import type { Scenario } from './scenario.ts'
import { Stage } from './stage.ts'
import { checkTerminal, enter } from './step.ts'
import { heading, printVerdict } from './story.ts'
import { printTimeline, printTimelineUntilNow } from './timeline.ts'

const SCENARIOS: ReadonlyMap<string, Scenario> = new Map([
  ['basics', basics],
  ['rotation', rotation],
  ['env', env],
  ['duckdb', duckdb],
  ['cluster', cluster],
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
    .option('--html <out>', 'write the timeline of the event logs as a page, for a browser')
    .option('--force', 'overwrite an existing file')
    .addHelpText(
      'after',
      `
${list.join('\n')}

Runs nodes in a temporary directory, on free ports of 127.0.0.1, and removes everything at the end,
also after Ctrl-C. The demo checks its own claims: the exit code is 1 if a claim is not true.

Example:
  $ coffer demo env --step
  $ coffer demo cluster --html timeline.html`,
    )
    .action(demo)
}

type Options = { readonly step?: boolean; readonly html?: string; readonly force?: boolean }

async function demo(name: string, { step, html, force = false }: Options): Promise<void> {
  const scenario = SCENARIOS.get(name)
  if (!scenario) {
    const known = [...SCENARIOS.keys()].map((each) => `\`coffer demo ${each}\``).join(' or ')
    throw new UsageError(`there is no scenario ${name} in this version`, { hint: `run ${known}` })
  }
  if (step) checkTerminal()
  if (html !== undefined) checkPage(html, force)
  const { nodes, owners, fields = [], play, next } = scenario
  {
    await using stage = await Stage.build({ nodes, owners, fields, pause: step ? enter : async () => {} })
    await playOrTell(stage, play)
    await stage.stop()
    await stage.chapter('The event logs tell the same story')
    printTimeline(stage.vaultDir)
    if (html !== undefined) await writeTimeline({ paths: [stage.vaultDir], out: html, force })
  }
  heading('Your turn')
  print(next)
  printVerdict(html)
}

/** After a failure the event logs are shown, before all is removed. */
async function playOrTell(stage: Stage, play: Scenario['play']): Promise<void> {
  try {
    await play(stage)
  } catch (error) {
    printTimelineUntilNow(stage.vaultDir)
    throw error
  }
}

/** A demo takes a minute: the file of --html is tried before. Throws OperatorError, UsageError. */
function checkPage(out: string, force: boolean): void {
  if (isStandardOutput(out))
    throw new UsageError('--html needs a file: the story is on stdout', { hint: 'name a file' })
  if (existsSync(out) && !force)
    throw new OperatorError(`${out} exists already`, {
      hint: 'name another file, or overwrite the file with --force',
    })
  openOutput(out, WITH_VALUES).discard()
}
