// coffer env run: a command with the values of a file in its environment. No argument and no file has the
// values.
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { isatty } from 'node:tty'
import { errorCode, OperatorError } from '../../errors.ts'
import { type ExpandOptions, resolveFile } from './expand.ts'

const PASSED_ON = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
/** Signals of a terminal to its whole foreground process group: the child gets its own. */
const OF_TERMINAL: ReadonlySet<string> = new Set(['SIGINT', 'SIGQUIT'])

/** Exit codes of shells. */
const NOT_EXECUTABLE = 126
const NOT_FOUND = 127

export async function runCommand(
  file: string,
  command: readonly string[],
  options: ExpandOptions,
): Promise<void> {
  const values = await valuesIn(file, options)
  const { COFFER_KEY: _key, ...inherited } = process.env
  process.exitCode = await run(command, { ...inherited, ...values })
}

/** Throws OperatorError. */
async function valuesIn(file: string, options: ExpandOptions): Promise<Readonly<Record<string, string>>> {
  const { env, resolved } = await resolveFile(file, options)
  const values = env.entries.map(({ key, line, value }) => ({
    key,
    line,
    value: resolved.get(value) ?? value,
  }))
  for (const { key, line, value } of values) {
    if (value.includes('\0'))
      env.faults.add(
        line,
        `the value of ${key} has a NUL character, which an environment cannot hold: change the secret`,
      )
  }
  env.faults.throwIfAny()
  return Object.fromEntries(values.map(({ key, value }) => [key, value]))
}

/** Runs the command. Returns its exit code. Throws OperatorError if the command cannot be started. */
async function run([name, ...args]: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  let child: ChildProcess | undefined
  const passOn = (signal: NodeJS.Signals): void => {
    if (!OF_TERMINAL.has(signal) || !isatty(0)) child?.kill(signal)
  }
  // Before the child starts: from now on the command ends only after the child.
  for (const signal of PASSED_ON) process.on(signal, passOn)
  try {
    return await new Promise((resolve, reject) => {
      child = spawn(name, args, { stdio: 'inherit', env })
      // A child without a process id has not started; a running child can report a failed signal.
      child.on('error', (error) => child?.pid === undefined && reject(error))
      child.once('exit', (code, signal) =>
        resolve(signal === null ? (code ?? 0) : 128 + constants.signals[signal]),
      )
    })
  } catch (error) {
    throw cannotStart(name, error)
  } finally {
    for (const signal of PASSED_ON) process.off(signal, passOn)
  }
}

/** Reports only the code of the error: some of Node's messages repeat the environment. */
function cannotStart(name: string, error: unknown): OperatorError {
  const code = errorCode(error) ?? 'failed'
  if (code === 'ENOENT' || name === '')
    return new OperatorError(`the command ${name} is not found`, { exitCode: NOT_FOUND })
  if (code === 'EACCES') return new OperatorError(`${name} cannot be executed`, { exitCode: NOT_EXECUTABLE })
  return new OperatorError(`${name} cannot be started (${code})`)
}
