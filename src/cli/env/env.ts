// coffer env: .env files whose values are in the vault, and references to the values in the file.
import type { Command } from 'commander'
import { ENVIRONMENT } from '../terminal/connect.ts'
import { encryptFile } from './encrypt.ts'
import { expandFile } from './expand.ts'
import { runCommand } from './run.ts'

const ENV_HELP = `
A reference is coffer://NAME, the latest version of a secret, or coffer://NAME@3, always version 3.
A file of references can be committed, shown and sent: without an API key it reveals no value.

A file that Node and dotenv read differently is refused, with the lines to correct.

Example:
  $ coffer env encrypt .env --prefix app/prod/
  $ cat .env
  DATABASE_URL="coffer://app/prod/DATABASE_URL"   # the comment was there before
  $ coffer env run .env -- node server.js`

const ENCRYPT_HELP = `
The value of KEY becomes the secret PREFIX + KEY, empty values too; a value that is a reference stays.
The rest of the file does not change: comments, quotes, blanks, line ends. All secrets are created, or
none; the file is replaced in one step. After an interruption run the same command again: it completes
the work.

Copies of the file still hold the values: backups, the history of a repository.

Example:
  $ coffer env encrypt .env --prefix app/prod/
  .env: 12 values encrypted
  $ coffer env encrypt .env -o .env.references
${ENVIRONMENT}`

const EXPAND_HELP = `
Every reference is replaced, or nothing is written: references that are not found are listed with
their lines. Values are quoted so that both Node and dotenv read exactly them. Where \`coffer env run\`
can start the program, no file with values is needed.

Example:
  $ coffer env expand .env | grep DATABASE_URL
  $ coffer env expand .env -o .env.plain
  $ coffer env expand .env --at 2026-01-31T12:00:00Z
${ENVIRONMENT}`

const RUN_HELP = `
The values are only in the environment of the command: in no argument, in no file. The file wins over
the environment; COFFER_KEY is not passed on. Signals reach the command. The exit code is the
command's: 128 + N if signal N ended the command, 127 if it is not found, 126 if it cannot be executed.

Example:
  $ coffer env run .env -- node server.js --port 3000
  $ coffer env run .env --at 2026-01-31T12:00:00Z -- ./report.sh
${ENVIRONMENT}`

const FILE = ['<file>', 'a .env file'] as const
const AT = [
  '--at <instant>',
  'use the values as of that instant; references with a version keep their version',
] as const

export function registerEnv(program: Command): void {
  const env = program
    .command('env')
    .description('.env files: store values in the vault, write references in their place, and back')
    .addHelpText('after', ENV_HELP)
  env
    .command('encrypt')
    .description('turn the values of a file into secrets, and write references in their place')
    .argument(...FILE)
    .option('--prefix <prefix>', 'what the names of the secrets begin with, before the key', '')
    .option('-o, --out <file>', 'write this file, and leave the first file unchanged')
    .option('--json', 'print {"file","encrypted","secrets":[names]}')
    .addHelpText('after', ENCRYPT_HELP)
    .action(encryptFile)
  env
    .command('expand')
    .description('print a file with the values in place of the references')
    .argument(...FILE)
    .option('-o, --out <file>', 'write this file, with mode 0600')
    .option(...AT)
    .addHelpText('after', EXPAND_HELP)
    .action(expandFile)
  env
    .command('run')
    .description('run a command with the values of a file in its environment')
    .usage('[options] <file> -- <command> [args...]')
    .argument(...FILE)
    .argument('<command...>', 'the command and its arguments, after --')
    .option(...AT)
    .addHelpText('after', RUN_HELP)
    .action(runCommand)
}
