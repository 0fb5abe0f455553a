// Commands of a demo: shown as in a shell, executed, and their output shown below.
import { print } from '../terminal/terminal.ts'
import type { Stage } from './stage.ts'
import { check } from './story.ts'

type Shown = {
  readonly stage: Stage
  readonly cwd: string
  /** The owner whose key the command has. */
  readonly owner: string
  /** Printed behind the command. */
  readonly comment?: string
  /** The expected exit code. */
  readonly code?: number
  readonly input?: string
}

/** Returns the output: of stdout, then of stderr. Throws OperatorError at another exit code. */
export async function shown(args: readonly string[], options: Shown): Promise<string> {
  const { stage, cwd, owner, comment = '', code = 0, input = '' } = options
  const from = input === '' ? '' : `echo -n '${input}' | `
  const command = `coffer ${args.map(inShell).join(' ')}`
  print(`  ${from}${command}${comment === '' ? '' : `     # ${comment}`}`)
  const ended = await stage.coffer(owner, args, { cwd, input })
  for (const line of ended.output.trimEnd().split('\n')) print(`    ${line}`)
  check(ended.code === code, `\`${command}\` ends with ${code}`)
  return ended.output
}

/** In double quotes where a shell would split the argument: SQL has single quotes. */
function inShell(argument: string): string {
  return /[\s'()*]/.test(argument) ? `"${argument}"` : argument
}
