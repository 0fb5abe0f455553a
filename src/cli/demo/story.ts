// The text of a scenario of `coffer demo`, and the checks of its claims.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { OperatorError } from '../../errors.ts'
import { bold, counted, green, print } from '../terminal/terminal.ts'

/** The claims printed so far. */
let claims = 0

/** Throws OperatorError if a statement of the demo is not true. */
export function check(holds: boolean, statement: string): asserts holds {
  if (!holds)
    throw new OperatorError(`the demo says that ${statement}, and that is not true`, {
      hint: 'please report it',
    })
}

/** Checks a statement, and prints the statement with a tick. Throws OperatorError. */
export function claim(holds: boolean, statement: string): asserts holds {
  check(holds, statement)
  claims++
  print(`  ${green('✓')} ${statement}`)
}

/** The last line of a demo, after a good end. `page`: the file of --html. */
export function printVerdict(page?: string): void {
  const left = page === undefined ? 'Nothing is left behind.' : `${page} is left, and nothing else.`
  print(`\n${green('✓')} ${bold(`${counted(claims, 'claim')} checked, all true.`)} ${left}`)
}

export function heading(title: string): void {
  print(`\n${bold(title)}\n`)
}

/** Searches every file below `dir`. Throws OperatorError if a file has one of the values. */
export function nowhereIn(dir: string, values: readonly string[]): void {
  // A search of the wrong files would prove nothing: the node's data files must be among the files.
  const files = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(dir, name)).isFile(),
  )
  const found = files.filter((name) => {
    const bytes = readFileSync(join(dir, name))
    return values.some((value) => bytes.includes(value))
  })
  check(
    files.some((name) => name.endsWith('data.mdb')),
    "the vault's files are there",
  )
  claim(
    found.length === 0,
    `${counted(files.length, 'file')} searched for ${counted(values.length, 'value')}: no value is found`,
  )
}
