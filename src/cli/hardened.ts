// A process with keys shows nothing of its memory: no debugger opens at a signal, no core file is written. A
// node gives memory back.
import { existsSync, readFileSync } from 'node:fs'
import inspector from 'node:inspector'

/** Of Node: SIGUSR1 opens no debugger, from the first instant of the process on. */
export const NO_DEBUGGER = '--disable-sigusr1'

/**
 * Of V8, for a node. Memory of short-lived objects in MiB: by itself V8 takes 64, twice, and keeps it. And
 * the percentage by which memory grows until V8 looks for unused old objects: by itself V8 looks after some
 * 20 MB of new buffers, and takes up to a third of the CPU time of large bodies.
 */
const YOUNG = '--max-semi-space-size'
export const NODE_FLAGS = [`${YOUNG}=16`, '--heap-growing-percent=300']

/**
 * Of malloc (glibc), for a node: blocks from 1 MiB on are mappings of their own, and go back to the system at
 * once. By itself malloc puts such blocks into its heap when some have been freed, and keeps them.
 */
export const NODE_MALLOC = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '1048576',
  MALLOC_TRIM_THRESHOLD_: '1048576',
}

/** Commands whose process is a node. */
const NODES = ['start', 'dev']

const SHELL = '/bin/sh'
/** `sh` with Node's program and arguments as its own. */
const WITHOUT_CORE = 'ulimit -c 0 && exec "$0" "$@"'

/**
 * Call before any key is read. `args`: of the command line. Where the system would write core files, and
 * where a node lacks its settings for memory, the process begins anew with the same id; `env run` does not,
 * since its command keeps the limits that were given.
 */
export function harden(args: readonly string[]): void {
  // Node's own handler would open a debugger for every user of the machine.
  process.on('SIGUSR1', () => undefined)
  if (inspector.url() !== undefined && !isDebuggerWanted()) inspector.close()
  if ((args[0] === 'env' && args[1] === 'run') || process.execve === undefined) return
  const [core, node] = [
    writesCore() && existsSync(SHELL),
    NODES.includes(args[0]) && !optionsOf().includes(YOUNG),
  ]
  if (!core && !node) return
  const flags = [NO_DEBUGGER, ...(node ? NODE_FLAGS : [])]
  const program = [process.execPath, ...flags, ...process.execArgv, ...process.argv.slice(1)]
  const environment = { ...(node ? NODE_MALLOC : {}), ...process.env }
  if (core) process.execve(SHELL, ['sh', '-c', WITHOUT_CORE, ...program], environment)
  else process.execve(process.execPath, program, environment)
}

function isDebuggerWanted(): boolean {
  return optionsOf().includes('--inspect')
}

/** All options of Node in a text. */
function optionsOf(): string {
  return `${process.execArgv.join(' ')} ${process.env.NODE_OPTIONS ?? ''}`
}

/** By the soft limit of the process. False where the system does not tell. */
function writesCore(): boolean {
  try {
    return !/^Max core file size +0 /m.test(readFileSync('/proc/self/limits', 'utf8'))
  } catch {
    return false
  }
}
