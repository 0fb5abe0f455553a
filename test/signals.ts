// Signals of tests. process.kill(0, …) signals the whole group of the caller, up to npm: an empty file of a
// process id, read as a number, is 0.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'

/** The process must be one other process: 0, a group and NaN are refused. After SIGSTOP no thread of it runs. */
export function sendSignal(pid: number | undefined, signal: NodeJS.Signals): void {
  const checkedPid = checked(pid)
  process.kill(checkedPid, signal)
  const deadline = performance.now() + 1000
  // The call returns before the threads on other cores have stopped: they could answer once more.
  while (signal === 'SIGSTOP' && !isStopped(checkedPid) && performance.now() < deadline);
}

/** True where the system has no /proc, and for a process that has ended. */
function isStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((task) =>
      /\) [TZX] /.test(readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8')),
    )
  } catch {
    return true
  }
}

/** Signals the process group that the process leads. */
export function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  process.kill(-checked(pid), signal)
}

function checked(pid: number | undefined): number {
  assert.ok(pid !== undefined && Number.isSafeInteger(pid) && pid > 1, `a process id: ${pid}`)
  return pid
}

/** undefined while the file is not there, or not whole: Coffer writes a line into its files of process ids. */
export function pidIn(file: string): number | undefined {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  return /^[1-9]\d*\n$/.test(text) ? Number(text) : undefined
}
