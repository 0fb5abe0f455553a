// The text of a scenario of `coffer demo`, and the checks of its claims.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { OperatorError } from '../../errors.ts'
import { bold, counted, print } from '../terminal/terminal.ts'

/** Throws OperatorError if a statement of the demo is not true. */
export function claim(holds: boolean, statement: string): asserts holds {
  if (!holds)
    throw new OperatorError(`the demo says that ${statement}, and that is not true`, {
      hint: 'please report it',
    })
}

export function chapter(title: string): void {
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
  claim(
    files.some((name) => name.endsWith('data.mdb')),
    "the vault's files are there",
  )
  claim(found.length === 0, 'no value stands in any file')
  print(`${counted(files.length, 'file')} searched for ${counted(values.length, 'value')}: none found.`)
}
