// coffer env: .env files whose values are in the vault, and references to them in the file.
import type { Command } from 'commander'
import { ENVIRONMENT } from '../terminal/connect.ts'
import { encryptFile } from './encrypt.ts'
import { expandFile } from './expand.ts'
import { runCommand } from './run.ts'

export function registerEnv(program: Command): void {
  const env = program
    .command('env')
    .description('.env files: values into the vault, references in their place; and back')
    .addHelpText(
      'after',
      `
A reference is coffer://NAME, the latest version of a secret, or coffer://NAME@3, always that one.
A file of references can be committed, shown and sent: who has no API key reads nothing in it.

A file that Node and dotenv read differently is refused, with the lines to correct.

Example:
  $ coffer env encrypt .env --prefix app/prod/
  $ cat .env
  DATABASE_URL="coffer://app/prod/DATABASE_URL"   # the comment was there before
  $ coffer env run .env -- node server.js`,
    )
  env
    .command('encrypt')
    .description('make secrets of the values of a file, and write references in their place')
    .argument('<file>', 'a .env file')
    .option('--prefix <prefix>', 'what the names of its secrets begin with, before the key', '')
    .option('-o, --out <file>', 'write that file, and leave the first one as it is')
    .option('--json', 'print {"file","encrypted","secrets":[names]}')
    .addHelpText(
      'after',
      `
The value of KEY becomes the secret PREFIX + KEY, empty ones too; what is a reference stays. All else in
the file stays as it is: comments, quotes, blanks, line ends. All secrets are created, or none; the file
is replaced in one step. If anything interrupts it, run the same command again: it finishes the work.

The values are still where the file was copied to: backups, the history of a repository.

Example:
  $ coffer env encrypt .env --prefix app/prod/
  .env: 12 values encrypted
  $ coffer env encrypt .env -o .env.references
${ENVIRONMENT}`,
    )
    .action(encryptFile)
  env
    .command('expand')
    .description('print a file with the values in place of the references')
    .argument('<file>', 'a .env file')
    .option('-o, --out <file>', 'write that file, with mode 0600')
    .option('--at <instant>', 'the values as they were then; references with a version stay at it')
    .addHelpText(
      'after',
      `
Every reference is replaced, or nothing is written: one that is not found is told with its line.
Values are put in quotes in which both Node and dotenv read exactly them. Where a program can be
started by \`coffer env run\`, no file with values is needed.

Example:
  $ coffer env expand .env | grep DATABASE_URL
  $ coffer env expand .env -o .env.plain
  $ coffer env expand .env --at 2026-01-31T12:00:00Z
${ENVIRONMENT}`,
    )
    .action(expandFile)
  env
    .command('run')
    .description('run a command with the values of a file in its environment')
    .usage('[options] <file> -- <command> [args...]')
    .argument('<file>', 'a .env file')
    .argument('<command...>', 'the command and its arguments, after --')
    .option('--at <instant>', 'the values as they were then; references with a version stay at it')
    .addHelpText(
      'after',
      `
The values are in the environment of the command, and nowhere else: in no argument, in no file. What
the file sets wins over the environment; COFFER_KEY is not passed on. Signals reach the command, and
its exit code is this one's: 128 + N where signal N ended it, 127 where there is no such command, 126
where it cannot be executed.

Example:
  $ coffer env run .env -- node server.js --port 3000
  $ coffer env run .env --at 2026-01-31T12:00:00Z -- ./report.sh
${ENVIRONMENT}`,
    )
    .action(runCommand)
}
