// coffer env run: a command with the values of files in its environment. No argument and no file has the
// values.
import { throwFaults } from '../../env/file.ts'
import { UsageError } from '../../errors.ts'
import { become } from './become.ts'
import { type ResolveOptions, resolveFiles } from './expand.ts'

type Options = ResolveOptions & { readonly keep?: boolean }

export async function runCommand(operands: readonly string[], options: Options): Promise<void> {
  const { files, command } = split(operands)
  const values = await valuesIn(files, options)
  const { COFFER_KEY: _key, ...env } = options.keep
    ? { ...values, ...process.env }
    : { ...process.env, ...values }
  process.exitCode = await become(command, env)
}

/** FILE… and COMMAND…; commander gives one list, without the `--` in between. Throws UsageError. */
function split(operands: readonly string[]): { files: readonly string[]; command: readonly string[] } {
  const mark = process.argv.indexOf('--')
  const command = mark < 0 ? [] : process.argv.slice(mark + 1)
  const files = operands.slice(0, operands.length - command.length)
  if (command.length === 0)
    throw new UsageError('there is no command', {
      hint: 'name the command after --, as in: env run .env -- printenv',
    })
  if (files.length === 0) throw new UsageError('there is no file', { hint: 'name a .env file before --' })
  return { files, command }
}

/** Of several files the later wins. Throws OperatorError. */
async function valuesIn(
  files: readonly string[],
  options: ResolveOptions,
): Promise<Readonly<Record<string, string>>> {
  const resolved = await resolveFiles(files, options)
  const values = resolved.flatMap(({ env, resolved: byReference }) =>
    env.entries.map(({ key, line, value }) => ({ env, key, line, value: byReference.get(value) ?? value })),
  )
  for (const { env, key, line, value } of values) {
    if (value.includes('\0'))
      env.faults.add(
        line,
        `the value of ${key} has a NUL character, which an environment cannot hold: change the secret`,
      )
  }
  throwFaults(resolved.map(({ env }) => env.faults))
  return Object.fromEntries(values.map(({ key, value }) => [key, value]))
}
