// coffer ledger show: the live entries of a ledger by revision, without any value.
import { type Command, InvalidArgumentError } from 'commander'
import { FAILED, OperatorError } from '../../errors.ts'
import { Compacted } from '../../ledger/ledger.ts'
import { readConfig } from '../../node/config.ts'
import { checkEndpoints } from '../local/endpoints.ts'
import { giveBackAtExit } from '../local/give-back.ts'
import { runningNode } from '../local/node-process.ts'
import { note, print, printJson, table } from '../terminal/terminal.ts'
import type { EntryRow } from './rows.ts'

type Options = {
  readonly config: string
  readonly since?: number
  readonly owner?: string
  readonly json?: boolean
}

export function registerLedger(program: Command): void {
  program
    .command('ledger')
    .description('look at the entries of a ledger')
    .addHelpText('after', '\nExample:\n  $ coffer ledger show --config ./vault/n1.yaml')
    .command('show')
    .description('print the live entries by revision, without values')
    .requiredOption('--config <file>', "a node's configuration; the node may run")
    .option('--since <revision>', 'only entries of this revision and later ones', revision)
    .option('--owner <owner>', 'only entries of this owner')
    .option('--json', 'print a line {"revision","kind",…,"bytes"} for each entry')
    .addHelpText(
      'after',
      `
Names of secrets are shown; of tokens only how many mappings an entry has. The exit code is 1 if an
entry is damaged.

Example:
  $ coffer ledger show --config ./vault/n1.yaml
  $ coffer ledger show --config ./vault/n1.yaml --since 1000 --owner clinic-a --json`,
    )
    .action(show)
}

function revision(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Use a revision such as 1000.')
  return Number(text)
}

async function show({ config: file, since = 0, owner, json }: Options): Promise<void> {
  const config = readConfig(file)
  const [{ openLedgerToRead }, { rowPages }] = await Promise.all([
    import('../../server/open.ts'),
    import('./rows.ts'),
  ])
  giveBackAtExit(config)
  await checkEndpoints(config)
  const ledger = await openLedgerToRead(config, runningNode(config) !== undefined)
  let damaged = 0
  try {
    for await (const rows of rowPages({ ledger, since, owner })) {
      if (!json) print(table([HEADINGS, ...rows.map(cellsOf)]))
      else for (const row of rows) printJson(row)
      damaged += rows.filter(({ kind }) => kind === 'damaged').length
    }
  } catch (error) {
    if (!(error instanceof Compacted)) throw error
    throw new OperatorError('reading took longer than the ledger keeps its history', {
      cause: error,
      hint: 'repeat the command, with a later --since or while less is written',
    })
  } finally {
    await ledger.close()
  }
  if (damaged === 0) return
  note(`${damaged} of the entries damaged: restore a backup`)
  process.exitCode = FAILED
}

const HEADINGS = ['revision', 'kind', 'owner', 'name or epoch', 'node', 'bytes', 'mappings']

function cellsOf({ revision: at, kind, owner, node, bytes, mappings, ...rest }: EntryRow): string[] {
  return [
    String(at),
    kind,
    owner ?? '-',
    nameOf(rest),
    node ?? '-',
    String(bytes),
    mappings === undefined ? '' : String(mappings),
  ]
}

/** A foreign key may have any characters: those that could move a cursor are escaped. */
function nameOf({ name, version, epoch }: Pick<EntryRow, 'name' | 'version' | 'epoch'>): string {
  if (epoch !== undefined) return `epoch ${epoch}`
  if (name === undefined) return '-'
  const text = name.replace(/[^\x21-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return version === undefined ? text : `${text}@${version}`
}
