// coffer sql: DuckDB with the functions of the vault.
import { text } from 'node:stream/consumers'
import { type Command, Option } from 'commander'
import { Session } from '../../duckdb/session.ts'
import { UsageError } from '../../errors.ts'
import { address, ENVIRONMENT } from '../terminal/connect.ts'
import { writeStandardOutput } from '../terminal/output.ts'
import { counted, note } from '../terminal/terminal.ts'
import { type Form, printerOf } from './output.ts'
import { prompt } from './prompt.ts'

type Options = {
  readonly command?: string
  readonly write?: boolean
  readonly json?: boolean
  readonly csv?: boolean
}

export function registerSql(program: Command): void {
  program
    .command('sql')
    .description('run SQL in DuckDB, with functions that ask the vault')
    .argument('[database]', 'a file of DuckDB; in memory without it')
    .option('-c, --command <sql>', 'the statements; without it they are read from stdin')
    .option('--write', 'let statements change the database, and make it where there is none')
    .option('--json', 'print the rows of the last statement as a list of objects')
    .addOption(new Option('--csv', 'print them as CSV: nothing is NULL, "" the empty text').conflicts('json'))
    .addHelpText(
      'after',
      `
Functions:
  tokenize(value)     the token of a VARCHAR, a BOOLEAN, a DOUBLE or an integer; makes tokens, in a WHERE too
  detokenize(token)   the value as VARCHAR
  retokenize(token)   the token of the same value under the active epoch
  token_epoch(token)  the epoch of a token
NULL gives NULL. A token that is not found gives NULL, and is counted on stderr.

Nothing is written to disk but what statements write: a query that needs more memory than there is fails.

Example:
  $ coffer sql -c "SELECT detokenize(ssn) AS ssn, city FROM 'patients.parquet' LIMIT 3"
  $ coffer sql clinic.duckdb --write < load.sql
${ENVIRONMENT}`,
    )
    .action(sql)
}

async function sql(database: string | undefined, options: Options): Promise<void> {
  const form: Form = options.json ? 'json' : options.csv ? 'csv' : 'table'
  const session = await Session.open({ database, write: options.write ?? false, vault: address() })
  try {
    if (options.command === undefined && process.stdin.isTTY) {
      await prompt({
        input: process.stdin,
        output: process.stdout.isTTY ? process.stdout : process.stderr,
        run: (statements) => run(session, statements, form),
        interrupt: () => session.interrupt(),
      })
      return
    }
    const statements = options.command ?? (await text(process.stdin))
    if (statements.trim() === '')
      throw new UsageError('there is no SQL', { hint: 'give it by -c, or on stdin' })
    await run(session, statements, form)
  } finally {
    await session.close()
  }
}

/** Runs statements, prints the rows of the last, and reports tokens not found. */
async function run(session: Session, statements: string, form: Form): Promise<void> {
  try {
    await session.run(statements, async ({ columns, rows }) => {
      const printer = printerOf(form, columns, session.duckdb)
      // No rows are made while others are written: a query under way can keep the process from its end.
      for await (const part of rows) await writeStandardOutput(printer.rows(part))
      await writeStandardOutput(printer.end())
    })
  } finally {
    const notFound = session.takeNotFound()
    if (notFound > 0) note(`coffer: ${counted(notFound, 'token')} not found: NULL stands in their place`)
  }
}
