// coffer backup: the live entries of a ledger at a single revision, still sealed, in a file. The node may
// run.
import { constants as system } from 'node:os'
import { resolve } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import type { Command } from 'commander'
import { systemClock } from '../clock.ts'
import { Replacement } from '../files.ts'
import { readConfig } from '../node/config.ts'
import { checkEndpoints } from './local/endpoints.ts'
import { giveBackAtExit } from './local/give-back.ts'
import { runningNode } from './local/node-process.ts'
import { endProcess } from './local/process-end.ts'
import { DEFAULT_CONFIG } from './start.ts'
import { checkOutput, isStandardOutput, isStream, openOutput, WITH_VALUES } from './terminal/output.ts'
import { startProgress } from './terminal/progress.ts'
import { counted, note, print, table } from './terminal/terminal.ts'

type Options = {
  readonly out: string
  readonly config: string
  readonly force?: boolean
  readonly json?: boolean
}

export function registerBackup(program: Command): void {
  program
    .command('backup')
    .description('write the entries of the ledger, still sealed, into one file')
    .requiredOption('-o, --out <file>', 'the file to write')
    .option('--config <file>', "a node's configuration", DEFAULT_CONFIG)
    .option('--force', 'overwrite an existing file')
    .option('--json', 'print {"file","revision","entries","mappings","bytes","digest","identity"}')
    .addHelpText(
      'after',
      `
The node may run or not: the backup is of one revision in both cases. The command takes memory for
the index of all tokens, as a node does. It reads keyring.json, under which the backup is
authenticated: who lacks the keyring cannot change the backup unseen. No key is in the backup in
clear: also keep keyring.json, in another place, since the backup cannot be read without it.

The file has mode 0600, and gets its name once it is complete and on the disk. With -o - the backup
goes to stdout, and all else to stderr; a pipe is written into.

Example:
  $ coffer backup -o vault.backup --config ./vault/n1.yaml
  $ coffer restore vault.backup --config ./other/n1.yaml`,
    )
    .action(backup)
}

async function backup({ out, config: file, force, json }: Options): Promise<void> {
  const config = readConfig(file)
  const isStdout = isStandardOutput(out)
  const path = isStdout ? out : resolve(out)
  checkOutput(out, { file: config.keyring, force: force ?? false })
  giveBackAtExit(config)
  const [{ openLedgerToRead, readKeyring }, { writeBackup }] = await Promise.all([
    import('../server/open.ts'),
    import('../backup/backup.ts'),
  ])
  const keyring = readKeyring(config)
  await checkEndpoints(config)
  const ledger = await openLedgerToRead(config, runningNode(config) !== undefined)
  const progress = await startProgress({ label: 'backing up', unit: 'entries' })
  try {
    const { foreign, revision, entries, mappings, bytes, digest, identity } = await writeWhole(path, (sink) =>
      writeBackup({ ledger, keyring, sink, clock: systemClock, progress: (done) => progress.show(done) }),
    )
    progress.end()
    if (foreign > 0) note(`left out: ${counted(foreign, 'key')} of another program in etcd`)
    const result = { revision, entries, mappings, bytes, digest, identity }
    const say = isStdout ? note : print
    if (json) return say(JSON.stringify({ file: path, ...result }))
    say(table([['backup', path], ...Object.entries(result).map(([name, value]) => [name, String(value)])]))
    note(
      'Keep the backup, and keyring.json in another place: without keyring.json the backup cannot be read.',
    )
  } finally {
    progress.end()
    await ledger.close()
  }
}

/** The file takes its name when the backup is whole and durable; a signal or an error leaves no file. */
async function writeWhole<T>(
  path: string,
  write: (sink: (bytes: Uint8Array) => Promise<void>) => Promise<T>,
): Promise<T> {
  if (isStandardOutput(path) || isStream(path)) {
    const output = openOutput(path, WITH_VALUES)
    const result = await write((bytes) => output.write(bytes))
    await output.commit()
    return result
  }
  const replacement = Replacement.open(path, { mode: 0o600 })
  const interrupted = (signal: NodeJS.Signals): never => {
    replacement.discard()
    endProcess(128 + system.signals[signal])
  }
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted)
  try {
    const result = await write(async (bytes) => {
      replacement.write(bytes)
      await setImmediate() // signals and progress get their turn
    })
    replacement.commit()
    return result
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
    replacement.discard()
  }
}
