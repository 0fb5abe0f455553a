// A damaged LMDB file kills the process that reads the file, by a signal that cannot be caught. So a child
// process reads the file first:
//   node check.ts ledger|replica <path>
// The child reports READING on stderr before the file is opened, and then a reason, and how it ends: the
// parent kills the child at once: Node can stand still in `process.exit` (nodejs/node#54918). End 0: whole.
// After READING, end 3 with the reason, or death by the signal of a memory fault: damaged. Any other end says
// nothing about the file: the child was killed, lacked memory or descriptors, or did not run.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FAILED, OperatorError } from '../errors.ts'
import { DamagedLedger } from '../ledger/lmdb-records.ts'
import { verifyLedger } from '../ledger/lmdb-verify.ts'
import { DamagedReplica } from '../state/stored.ts'
import { LmdbStore } from './lmdb-store.ts'

const PROGRAM = fileURLToPath(import.meta.url)
const READING = 'reading'
/** The last line of what the child says. */
const ENDS = /(?:^|\n)ends with (\d)\n$/
const DAMAGED = 3
/** Of a process that reads where a damaged page points, or fails an assertion of LMDB. */
const DAMAGE_SIGNALS: readonly (string | null)[] = ['SIGSEGV', 'SIGBUS', 'SIGABRT']
/** A process without memory also ends by SIGABRT, with a message of V8 or of C++. */
const NO_MEMORY = /out of memory|bad_alloc|allocation failed/i
/**
 * Errors of lmdb.h about the content of a file: PAGE_NOTFOUND, CORRUPTED, VERSION_MISMATCH, INVALID,
 * CURSOR_FULL, PAGE_FULL, INCOMPATIBLE, BAD_TXN, BAD_VALSIZE, BAD_DBI, PROBLEM, BAD_CHECKSUM.
 */
const LMDB_DAMAGE: readonly unknown[] = [
  -30797, -30796, -30794, -30793, -30787, -30786, -30784, -30782, -30781, -30780, -30779, -30778,
]
/** Of lmdb itself, an error without a code. */
const LMDB_KEY_DAMAGE = 'Invalid key size'
const SAID_CHARACTERS = 8000

export const WHOLE = { whole: true } as const

export type FileCheck = typeof WHOLE | { readonly whole: false; readonly reason: string }

type CheckOptions = {
  /** Ends the check; its reason is thrown. */
  readonly signal?: AbortSignal
  /** The command of the child, with its first arguments; tests have others. */
  readonly program?: readonly [command: string, ...args: string[]]
}

/** A file could not be read through: whether the file is whole is not known. */
export class NotChecked extends OperatorError {
  override readonly name = 'NotChecked'

  constructor(what: string, path: string, why: string) {
    super(`the ${what} in ${path} could not be checked (${why}); nothing was touched`, {
      hint: /denied/i.test(why)
        ? `let the user of the node own ${path} and all files in it`
        : 'free memory and file descriptors, then try again',
    })
  }
}

/** Reads the file through in a child process. An absent file is whole. Throws NotChecked. */
export async function checkFile(
  what: 'ledger' | 'replica',
  path: string,
  {
    signal,
    program = [process.execPath, '--disable-sigusr1', ...process.execArgv, PROGRAM],
  }: CheckOptions = {},
): Promise<FileCheck> {
  const size = statSync(join(path, 'data.mdb'), { throwIfNoEntry: false })?.size
  if (size === undefined) return WHOLE
  if (size === 0) return { whole: false, reason: 'the file is empty' }
  const end = await runToEnd([...program, what, path], signal)
  signal?.throwIfAborted()
  if (end.code === 0) return WHOLE
  const { reading, said } = end
  if (reading && end.code === DAMAGED) return { whole: false, reason: lastLine(said) }
  if (reading && DAMAGE_SIGNALS.includes(end.signal) && !NO_MEMORY.test(said))
    return { whole: false, reason: `reading the file ended by ${end.signal}` }
  const why = end.signal ? `the check was ended by ${end.signal}` : lastLine(said)
  throw new NotChecked(what, path, why || `the check ended with ${end.code}`)
}

type End = {
  readonly code: number | null
  readonly signal: string | null
  /** Whether the child had begun to read the file. */
  readonly reading: boolean
  /** The end of what the child wrote, or why the child could not run. */
  readonly said: string
}

async function runToEnd(
  [command, ...args]: readonly string[],
  signal: AbortSignal | undefined,
): Promise<End> {
  let said = ''
  let reading = false
  let told: number | undefined
  let child: ChildProcess | undefined
  const kill = (): void => void child?.kill('SIGKILL')
  process.once('exit', kill)
  try {
    // In a session of its own: an interrupt from the terminal is for the parent.
    const options = { detached: true, killSignal: 'SIGKILL', ...(signal && { signal }) } as const
    child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options })
    // Without descriptors left there is no stderr.
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk
      reading ||= said.startsWith(READING)
      said = said.slice(-SAID_CHARACTERS)
      const [, code] = ENDS.exec(said) ?? []
      if (code === undefined) return
      told = Number(code)
      said = said.replace(ENDS, '\n')
      kill()
    })
    const [code, by] = await once(child, 'close')
    return told === undefined
      ? { code, signal: by, reading, said }
      : { code: told, signal: null, reading, said }
  } catch (error) {
    return { code: null, signal: null, reading: false, said: error instanceof Error ? error.message : '' }
  } finally {
    process.off('exit', kill)
  }
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? ''
}

function isDamage(error: unknown): boolean {
  if (error instanceof DamagedLedger || error instanceof DamagedReplica) return true
  if (!(error instanceof Error)) return false
  return 'code' in error ? LMDB_DAMAGE.includes(error.code) : error.message.startsWith(LMDB_KEY_DAMAGE)
}

function tell(line: string): void {
  writeSync(process.stderr.fd, `${line}\n`)
}

/** Reads the file. Returns how the process ends. */
function read(what: string, path: string): number {
  try {
    tell(READING)
    if (what === 'ledger') verifyLedger(path)
    else new LmdbStore(path, true).verify()
    return 0
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error))
    return isDamage(error) ? DAMAGED : FAILED
  }
}

if (process.argv[1] === PROGRAM) {
  const [what, path] = process.argv.slice(2)
  const code = read(what, path)
  tell(`ends with ${code}`)
  process.exit(code)
}
