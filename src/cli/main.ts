#!/usr/bin/env node
// The command line. Exit 0: fine; 1: failed; 2: used wrongly.
import { Command, CommanderError } from 'commander'
import { errorCode, FAILED, USED_WRONGLY } from '../errors.ts'
import { VERSION } from '../server/version.ts'
import { harden } from './hardened.ts'
import { endProcess } from './local/process-end.ts'
import { explain } from './terminal/failure.ts'
import { note } from './terminal/terminal.ts'

type Register = (program: Command) => void

/** The names of the commands that a module registers, and the module. */
type CommandModule = { readonly names: readonly string[]; readonly load: () => Promise<Register> }

/** In the order of the help. */
const COMMANDS: readonly CommandModule[] = [
  { names: ['init'], load: async () => (await import('./init.ts')).registerInit },
  { names: ['start'], load: async () => (await import('./start.ts')).registerStart },
  { names: ['dev'], load: async () => (await import('./dev.ts')).registerDev },
  { names: ['cluster'], load: async () => (await import('./cluster/cluster.ts')).registerCluster },
  { names: ['keys'], load: async () => (await import('./keys.ts')).registerKeys },
  { names: ['keyring'], load: async () => (await import('./keyring.ts')).registerKeyring },
  { names: ['epoch'], load: async () => (await import('./epoch.ts')).registerEpoch },
  {
    names: ['tokenize', 'detokenize', 'retokenize'],
    load: async () => (await import('./table/table.ts')).registerTables,
  },
  { names: ['secret'], load: async () => (await import('./secret.ts')).registerSecret },
  { names: ['env'], load: async () => (await import('./env/env.ts')).registerEnv },
  { names: ['sql'], load: async () => (await import('./sql/sql.ts')).registerSql },
  { names: ['status'], load: async () => (await import('./status.ts')).registerStatus },
  { names: ['log'], load: async () => (await import('./log/log.ts')).registerLog },
  { names: ['ledger'], load: async () => (await import('./ledger/show.ts')).registerLedger },
  { names: ['backup'], load: async () => (await import('./backup.ts')).registerBackup },
  { names: ['restore'], load: async () => (await import('./restore.ts')).registerRestore },
  { names: ['replica'], load: async () => (await import('./replica.ts')).registerReplica },
  { names: ['member'], load: async () => (await import('./member.ts')).registerMember },
  { names: ['demo'], load: async () => (await import('./demo/demo.ts')).registerDemo },
]

/** Of the command in the first argument alone, since modules take time to load; else of all. */
function registrations(): Promise<Register[]> {
  const named = COMMANDS.filter(({ names }) => names.includes(process.argv[2] ?? ''))
  return Promise.all((named.length > 0 ? named : COMMANDS).map(({ load }) => load()))
}

async function build(): Promise<Command> {
  const program = new Command('coffer')
    .description('A vault for tokens that stand for sensitive values, and for secrets with a history.')
    .version(VERSION, '-V, --version', 'print the version')
    .exitOverride() // inherited by subcommands, as are the next two settings
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'coffer: ')) })
    .showHelpAfterError('Add --help to see how the command is used.')
    .addHelpText(
      'after',
      `
Example:
  $ coffer demo                                              see Coffer work, in ten seconds
  $ coffer init ./vault --owner clinic-a --field patient.ssn
  $ coffer start --config ./vault/n1.yaml
  $ COFFER_KEY=cof_… coffer status

\`coffer COMMAND --help\` shows an example of the command.`,
    )
  for (const register of await registrations()) register(program)
  // Options after a command belong to the command: `secret get --version 2`. Set last, so not inherited.
  return program.enablePositionalOptions()
}

/** Returns the exit code. */
async function main(): Promise<number> {
  try {
    await (await build()).parseAsync()
    return Number(process.exitCode ?? 0)
  } catch (error) {
    // Commander has printed the message already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USED_WRONGLY
    const { text, exitCode } = explain(error)
    note(`coffer: ${text}`)
    return exitCode
  }
}

harden(process.argv.slice(2))
// node:sqlite warns of being experimental; the warning does not help users of the command line.
process.removeAllListeners('warning')
process.on('warning', (warning) => {
  if (warning.name !== 'ExperimentalWarning') note(`${warning.name}: ${warning.message}`)
})
// The reader of the output may stop reading, as `head` does; or the disk is full.
process.stdout.on('error', (error) => {
  if (errorCode(error) === 'EPIPE') endProcess(0)
  note(`coffer: ${explain(error).text}`)
  endProcess(FAILED)
})
// Without messages the exit code tells the result.
process.stderr.on('error', () => undefined)
process.exitCode = await main()
