// The text of a scenario of `coffer demo`, and the checks of its claims.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { errorCode, OperatorError } from '../../errors.ts'
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
  const files: string[] = []
  const found: string[] = []
  for (const { path, bytes } of filesIn(dir)) {
    files.push(path)
    if (values.some((value) => bytes.includes(value))) found.push(path)
  }
  // A search of the wrong files would prove nothing: the node's data files must be among the files.
  check(
    files.some((path) => path.endsWith('data.mdb')),
    "the vault's files are there",
  )
  claim(
    found.length === 0,
    `${counted(files.length, 'file')} searched for ${counted(values.length, 'value')}: no value is found`,
  )
}

/** Every file below `dir`, but for files removed meanwhile by a running node or its member. */
export function* filesIn(dir: string): Iterable<{ readonly path: string; readonly bytes: Buffer }> {
  for (const entry of unlessGone(() => readdirSync(dir, { withFileTypes: true })) ?? []) {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) yield* filesIn(path)
    const bytes = entry.isFile() ? unlessGone(() => readFileSync(path)) : undefined
    if (bytes !== undefined) yield { path, bytes }
  }
}

function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
}
