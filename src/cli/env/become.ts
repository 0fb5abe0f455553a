// A process becomes a command, as with a shell's `exec`: the command has the process id, so signals, terminal
// and exit code are the command's own, and nothing of coffer stays. Where the platform has no such call, the
// command is a child, and signals are passed on.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import {
  accessSync,
  closeSync,
  existsSync,
  constants as files,
  openSync,
  readFileSync,
  readSync,
  statSync,
} from 'node:fs'
import { constants } from 'node:os'
import { delimiter, join } from 'node:path'
import { errorCode, OperatorError } from '../../errors.ts'

/** Exit codes of shells. */
const NOT_EXECUTABLE = 126
const NOT_FOUND = 127

/** As Linux reads of a script's first line. */
const INTERPRETER_BYTES = 256
const NO_INTERPRETER = 'no interpreter'

const TRUE = '/bin/true'
const ENV = '/usr/bin/env'
/** Node ignores SIGPIPE and SIGXFSZ, and an ignored signal stays ignored in the next program of a process. */
const RESET = ['--default-signal=PIPE,XFSZ', '--']

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Becomes the command; returns an exit code only where the command was a child. Throws OperatorError, exit
 * code 126 or 127, where the command cannot be executed.
 */
export async function become([name, ...args]: readonly string[], env: Environment): Promise<number> {
  const path = findExecutable(name, env)
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined))
  // The program `env` would take a name with = for a variable.
  if (process.execve && !path.includes('=') && canBecome([path, ...args], given))
    process.execve(ENV, [ENV, ...RESET, path, ...args], given)
  return runChild(path, args, given)
}

/**
 * Whether the program `env` executes another program with the arguments and the environment: a failed execve
 * aborts the process of Node. The trial has the streams of the command, since the start of a child with a
 * stream also makes the stream block again, as before Node had the stream.
 */
function canBecome(command: readonly string[], env: NodeJS.ProcessEnv): boolean {
  const { status, error } = spawnSync(ENV, [...RESET, TRUE, ...command], { env, stdio: 'inherit' })
  if (errorCode(error) === 'E2BIG') throw tooLarge(command, env)
  return status === 0
}

/** The path of the command, as execvp finds it. Throws OperatorError. */
function findExecutable(name: string, { PATH = '/usr/local/bin:/usr/bin:/bin' }: Environment): string {
  const places = name.includes('/') ? [name] : PATH.split(delimiter).map((each) => join(each || '.', name))
  const faults = name === '' ? [] : places.map((place) => ({ place, fault: faultOf(place) }))
  const found = faults.find(({ fault }) => fault === undefined)
  // A path without a slash would be looked for in PATH.
  if (found) return found.place.includes('/') ? found.place : `./${found.place}`
  const [refused] = faults.filter(({ fault }) => fault !== 'ENOENT' && fault !== 'ENOTDIR')
  if (refused?.fault === NO_INTERPRETER)
    throw new OperatorError(`${refused.place} cannot be executed: its first line names no program`, {
      hint: 'correct the path after #!',
      exitCode: NOT_EXECUTABLE,
    })
  if (!refused)
    throw new OperatorError(`the command ${name} is not found`, {
      hint: name.includes('/') ? 'correct the path' : 'install it, or name its path',
      exitCode: NOT_FOUND,
    })
  throw new OperatorError(`${refused.place} cannot be executed (${refused.fault})`, {
    hint: refused.fault === 'EISDIR' ? 'name a program' : `as its owner: chmod +x ${refused.place}`,
    exitCode: NOT_EXECUTABLE,
  })
}

/** False for a script whose first line names a program that does not exist. */
function hasInterpreter(path: string): boolean {
  const first = Buffer.alloc(INTERPRETER_BYTES)
  try {
    const file = openSync(path, 'r')
    try {
      readSync(file, first)
    } finally {
      closeSync(file)
    }
  } catch {
    return true // some programs may be executed, and not be read
  }
  const interpreter = /^#![ \t]*(\/[^\s\0]*)[\s\0]/.exec(first.toString('latin1'))?.[1]
  return interpreter === undefined || existsSync(interpreter)
}

/** undefined: a file that may be executed. */
function faultOf(path: string): string | undefined {
  try {
    if (statSync(path).isDirectory()) return 'EISDIR'
    accessSync(path, files.X_OK)
    return hasInterpreter(path) ? undefined : NO_INTERPRETER
  } catch (error) {
    return errorCode(error) ?? 'failed'
  }
}

const PASSED_ON = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const

/** Runs the command as a child. Returns its exit code. Throws OperatorError. */
async function runChild(path: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  let child: ChildProcess | undefined
  const own = signalsOfTerminal()
  const passOn = (signal: NodeJS.Signals): void => {
    if (!own.has(signal)) child?.kill(signal)
  }
  // Before the child starts: from now on the command ends only after the child.
  for (const signal of PASSED_ON) process.on(signal, passOn)
  try {
    return await new Promise((resolve, reject) => {
      child = spawn(path, args, { stdio: 'inherit', env })
      // A child without a process id has not started; a running child can report a failed signal.
      child.on('error', (error) => child?.pid === undefined && reject(error))
      child.once('exit', (code, signal) =>
        resolve(signal === null ? (code ?? 0) : 128 + constants.signals[signal]),
      )
    })
  } catch (error) {
    // Only the code: some of Node's messages repeat the environment.
    const code = errorCode(error) ?? 'failed'
    if (code === 'E2BIG') throw tooLarge([path, ...args], env)
    throw new OperatorError(`${path} cannot be executed (${code})`, { exitCode: NOT_EXECUTABLE })
  } finally {
    for (const signal of PASSED_ON) process.off(signal, passOn)
  }
}

/**
 * Signals of a terminal to all its processes: the child gets its own. The loss of a terminal reaches the
 * leader of its session alone.
 */
function signalsOfTerminal(): ReadonlySet<string> {
  if (!isOnTerminal()) return new Set()
  return new Set(['SIGINT', 'SIGQUIT', 'SIGWINCH', ...(leadsSession() ? [] : ['SIGHUP'])])
}

/** Whether a terminal controls the process, whatever its streams are. */
function isOnTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', files.O_RDWR | files.O_NOCTTY))
    return true
  } catch {
    return false
  }
}

/** False where the system has no /proc. */
function leadsSession(): boolean {
  try {
    // Behind the name in parentheses: state, parent, group, session.
    const [, , , session] = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return Number(session) === process.pid
  } catch {
    return false
  }
}

function tooLarge([path, ...args]: readonly string[], env: NodeJS.ProcessEnv): OperatorError {
  const size = (texts: readonly string[]): number =>
    texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0)
  const values = size(Object.entries(env).map(([key, value]) => `${key}=${value}`))
  return new OperatorError(
    `${path} cannot be executed: ${size(args)} bytes of arguments and ${values} bytes of environment are ` +
      'more than the system takes (E2BIG)',
    { hint: 'a single value of at most 128 KiB, and fewer of them', exitCode: NOT_EXECUTABLE },
  )
}
