// coffer epoch: lists the epochs of the caller's owner, and opens the next epoch.
import type { Command } from 'commander'
import { UsageError } from '../errors.ts'
import { ENVIRONMENT, withClient } from './terminal/connect.ts'
import { print, printJson, table } from './terminal/terminal.ts'

type Options = { readonly json?: boolean }

export function registerEpoch(program: Command): void {
  const epoch = program
    .command('epoch')
    .description('list the epochs of your tokens; `epoch rotate` opens the next epoch')
    .option('--json', 'print the answer of GET /epochs, or of POST /rotate-epoch')
    .addHelpText(
      'after',
      `
After a rotation the same value gets another token; tokens of earlier epochs still resolve.

Example:
  $ coffer epoch
  $ coffer epoch rotate --to 2
${ENVIRONMENT}`,
    )
    .action(show)
  epoch
    .command('rotate')
    .description('open the next epoch')
    .requiredOption('--to <n>', 'the epoch to open: the active epoch + 1')
    .addHelpText(
      'after',
      `
With the number of the active epoch nothing happens: if the answer was lost, run the command again.

Example:
  $ coffer epoch rotate --to 2
${ENVIRONMENT}`,
    )
    .action(rotate)
}

async function show({ json }: Options): Promise<void> {
  const answer = await withClient((coffer) => coffer.epochs())
  if (json) return printJson(answer)
  const rows = answer.epochs.map(({ epoch, opened_at, closed_at, tokens }) => [
    String(epoch),
    opened_at,
    closed_at ?? 'active',
    String(tokens),
  ])
  print(table([['epoch', 'opened', 'closed', 'tokens'], ...rows]))
}

async function rotate({ to }: { readonly to: string }, command: Command): Promise<void> {
  const number = Number(to)
  if (!/^[1-9]\d{0,9}$/.test(to)) throw new UsageError('--to must be the number of an epoch, such as 2')
  const answer = await withClient((coffer) => coffer.rotateEpoch(number))
  // Commander assigns --json to the parent command.
  if (command.optsWithGlobals<Options>().json) printJson(answer)
  else print(answer.rotated ? `epoch ${answer.epoch} is open` : `epoch ${answer.epoch} was open already`)
}
