// coffer env: .env files whose values are in the vault, and references to the values in the file.
import { type Command, Option } from 'commander'
import { READERS } from '../../env/expand.ts'
import { ENVIRONMENT } from '../terminal/connect.ts'
import { atOf } from '../terminal/instant.ts'
import { encryptFile } from './encrypt.ts'
import { expandFile } from './expand.ts'
import { runCommand } from './run.ts'

const ENV_HELP = `
A reference is coffer://NAME, the latest version of a secret, or coffer://NAME@3, always version 3.
A file of references can be committed, shown and sent: without an API key it reveals no value.

A file that Node and dotenv read differently is refused, with the lines to correct. COFFER_URL, COFFER_CA
and COFFER_KEY in a file stay as they are; coffer reads them from its environment only.

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

What stays in clear, or means something else to other readers, is told with its lines: entries in
comments, values with $NAME, names without a value. With --strict nothing is done then.

Copies of the file still hold the values: backups, the history of a repository.

Example:
  $ coffer env encrypt .env --prefix app/prod/
  .env: 12 values encrypted
  $ coffer env encrypt .env -o .env.references
${ENVIRONMENT}`

const EXPAND_HELP = `
Every reference is replaced, or nothing is written: references that are not found are listed with
their lines. Values are quoted so that Node and dotenv read exactly them, and sh and compose as well
where quotes can do that; the other keys are told. Where \`coffer env run\` can start the program, no
file with values is needed.

Example:
  $ coffer env expand .env | grep DATABASE_URL
  $ coffer env expand .env -o .env.plain
  $ coffer env expand .env --for compose -o .env.compose
  $ coffer env expand .env --at 2026-01-31T12:00:00Z
${ENVIRONMENT}`

const RUN_HELP = `
The values are only in the environment of the command: in no argument, in no file. A later file wins
over an earlier one, and all files over the environment; COFFER_KEY is not passed on. The command takes
the place of coffer: its process id, its signals, its exit code. 127: it is not found, 126: it cannot be
executed. Where the system cannot do that, the command is a child, and signal N gives 128 + N.

Example:
  $ coffer env run .env .env.local -- npm start
  $ coffer env run .env -- node server.js --port 3000
  $ coffer env run .env --at 2026-01-31T12:00:00Z -- ./report.sh
${ENVIRONMENT}`

const FILE = ['<file>', 'a .env file'] as const
const INPUT = ['<file>', 'a .env file; - is stdin'] as const
const AT = [
  '--at <instant>',
  'use the values as of that instant; references with a version keep their version',
  atOf,
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
    .option('-o, --out <file>', 'write this file, and leave the first file unchanged; - is stdout')
    .option('--strict', 'do nothing if something stays in clear, or other readers take it for something else')
    .option('--force', 'overwrite an existing file')
    .option('--json', 'print {"file","encrypted","secrets":[names]}')
    .addHelpText('after', ENCRYPT_HELP)
    .action(encryptFile)
  env
    .command('expand')
    .description('print a file with the values in place of the references')
    .argument(...INPUT)
    .option('-o, --out <file>', 'write this file, with mode 0600; - is stdout')
    .option(...AT)
    .addOption(new Option('--for <reader>', 'quote for this reader').choices(READERS).default(READERS[0]))
    .option('--strict', 'write nothing if sh or compose would read other values')
    .option('--force', 'overwrite an existing file')
    .addHelpText('after', EXPAND_HELP)
    .action(expandFile)
  env
    .command('run')
    .description('run a command with the values of a file in its environment')
    .usage('[options] <file...> -- <command> [args...]')
    .argument('<file...>', '.env files')
    .option(...AT)
    .option('--keep', 'variables of the environment win over the files')
    .addHelpText('after', RUN_HELP)
    .action(runCommand)
}
