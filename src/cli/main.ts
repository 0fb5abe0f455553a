#!/usr/bin/env node
// The command line. Exit 0: fine; 1: failed; 2: used wrongly.
import { Command, CommanderError } from 'commander'
import { USED_WRONGLY } from '../errors.ts'
import { VERSION } from '../server/version.ts'
import { registerBackup } from './backup.ts'
import { registerCluster } from './cluster/cluster.ts'
import { registerDemo } from './demo/demo.ts'
import { registerDev } from './dev.ts'
import { registerEnv } from './env/env.ts'
import { registerEpoch } from './epoch.ts'
import { registerInit } from './init.ts'
import { registerKeyring } from './keyring.ts'
import { registerKeys } from './keys.ts'
import { registerLedger } from './ledger/show.ts'
import { registerLog } from './log/log.ts'
import { registerMember } from './member.ts'
import { registerReplica } from './replica.ts'
import { registerRestore } from './restore.ts'
import { registerSecret } from './secret.ts'
import { registerSql } from './sql/sql.ts'
import { registerStart } from './start.ts'
import { registerStatus } from './status.ts'
import { registerTables } from './table/table.ts'
import { explain } from './terminal/failure.ts'
import { note } from './terminal/terminal.ts'

function build(): Command {
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
  registerInit(program)
  registerStart(program)
  registerDev(program)
  registerCluster(program)
  registerKeys(program)
  registerKeyring(program)
  registerEpoch(program)
  registerTables(program)
  registerSecret(program)
  registerEnv(program)
  registerSql(program)
  registerStatus(program)
  registerLog(program)
  registerLedger(program)
  registerBackup(program)
  registerRestore(program)
  registerReplica(program)
  registerMember(program)
  registerDemo(program)
  // Options after a command belong to the command: `secret get --version 2`. Set last, so not inherited.
  return program.enablePositionalOptions()
}

/** Returns the exit code. */
async function main(): Promise<number> {
  try {
    await build().parseAsync()
    return Number(process.exitCode ?? 0)
  } catch (error) {
    // Commander has printed the message already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USED_WRONGLY
    const { text, exitCode } = explain(error)
    note(`coffer: ${text}`)
    return exitCode
  }
}

// node:sqlite warns of being experimental; the warning does not help users of the command line.
process.removeAllListeners('warning')
process.on('warning', (warning) => {
  if (warning.name !== 'ExperimentalWarning') note(`${warning.name}: ${warning.message}`)
})
// The reader of the output may stop reading, as `head` does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})
process.exitCode = await main()
