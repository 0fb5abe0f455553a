// How a scenario of `coffer demo` tells what it does, and checks what it says.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { OperatorError } from '../../errors.ts'
import { bold, counted, print } from '../terminal/terminal.ts'

/** Throws OperatorError where what the demo says is not so. */
export function claim(holds: boolean, what: string): asserts holds {
  if (!holds) throw new OperatorError(`the demo says that ${what}, and that is not so: please report it`)
}

export function chapter(title: string): void {
  print(`\n${bold(title)}\n`)
}

/** Searches every file below `dir`. Throws OperatorError where one of the values stands in one. */
export function nowhereIn(dir: string, values: readonly string[]): void {
  // One that is found nowhere by mistake would prove nothing: the node's own files must be among those
  // searched.
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
