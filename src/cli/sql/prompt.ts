// The prompt of `coffer sql` on a terminal. The history is in memory only: statements may hold values.
import { createInterface } from 'node:readline'
import { OperatorError } from '../../errors.ts'
import { explain } from '../terminal/failure.ts'
import { note } from '../terminal/terminal.ts'

const PROMPT = 'coffer> '
const MORE = '   ...> '
const HISTORY_LINES = 1_000

const HELP = `A statement ends with ; and may have several lines.
  tokenize(value), detokenize(token), retokenize(token), token_epoch(token) ask the vault
  .tables  list the tables and views
  .help    show this text
  .quit    leave, as does Ctrl-D; Ctrl-C ends a query`

type Terminal = {
  readonly input: NodeJS.ReadableStream
  readonly output: NodeJS.WritableStream
  /** Runs statements and prints the result. */
  readonly run: (sql: string) => Promise<void>
  readonly interrupt: () => void
}

/** Reads statements and runs them, until the input ends. Errors for people are printed. */
export async function prompt({ input, output, run, interrupt }: Terminal): Promise<void> {
  const lines = createInterface({ input, output, terminal: true, historySize: HISTORY_LINES, prompt: PROMPT })
  let statement = ''
  let running = false
  const ready = (): void => {
    lines.setPrompt(statement === '' ? PROMPT : MORE)
    lines.prompt()
  }
  lines.on('SIGINT', () => {
    if (running) return interrupt()
    statement = ''
    output.write('\n')
    ready()
  })
  note('SQL of DuckDB with the functions of the vault; .help for help')
  ready()
  for await (const line of lines) {
    const word = statement === '' ? line.trim() : ''
    if (word === '.quit' || word === '.exit') break
    if (word === '.help') note(HELP)
    else statement += word === '.tables' ? 'SHOW TABLES;' : `${line}\n`
    if (statement.trim() === '') statement = ''
    if (isComplete(statement)) {
      running = true
      await runAndExplain(run, statement)
      running = false
      statement = ''
    }
    ready()
  }
  lines.close()
}

async function runAndExplain(run: (sql: string) => Promise<void>, sql: string): Promise<void> {
  try {
    await run(sql)
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error
    note(explain(error).text)
  }
}

/** Texts, names in quotes, and comments. */
const QUOTED =
  /[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$(?:[A-Za-z_]\w*)?\$).*?\1|--[^\n]*|\/\*.*?\*\//gs
const OPEN = /['"]|\$(?:[A-Za-z_]\w*)?\$|\/\*/

/** Whether the text ends with a semicolon outside of quotes and comments. */
export function isComplete(text: string): boolean {
  const rest = text.replace(QUOTED, ' ')
  return !OPEN.test(rest) && rest.trimEnd().endsWith(';')
}
