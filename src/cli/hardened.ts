// A process with keys shows nothing of its memory: no debugger opens at a signal, no core file is written.
import { readFileSync } from 'node:fs'
import inspector from 'node:inspector'

/** Of Node: SIGUSR1 opens no debugger, from the first instant of the process on. */
export const NO_DEBUGGER = '--disable-sigusr1'

/** `sh` with Node's program and arguments as its own. */
const WITHOUT_CORE = 'ulimit -c 0 && exec "$0" "$@"'

/**
 * Call before any key is read. `args`: of the command line. Where the system would write core files, the
 * process begins anew without; `env` does not, since its command keeps the limits that were given.
 */
export function harden(args: readonly string[]): void {
  // Node's own handler would open a debugger for every user of the machine.
  process.on('SIGUSR1', () => undefined)
  if (inspector.url() !== undefined && !isDebuggerWanted()) inspector.close()
  if (args[0] === 'env' || !writesCore() || process.execve === undefined) return
  const program = [process.execPath, NO_DEBUGGER, ...process.execArgv, ...process.argv.slice(1)]
  process.execve('/bin/sh', ['sh', '-c', WITHOUT_CORE, ...program], process.env)
}

function isDebuggerWanted(): boolean {
  return /--inspect/.test(`${process.execArgv.join(' ')} ${process.env.NODE_OPTIONS ?? ''}`)
}

/** By the soft limit of the process. False where the system does not tell. */
function writesCore(): boolean {
  try {
    return !/^Max core file size +0 /m.test(readFileSync('/proc/self/limits', 'utf8'))
  } catch {
    return false
  }
}
