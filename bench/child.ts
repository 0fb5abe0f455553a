// Processes of the benchmark: each prints a line of JSON with its URL when ready, ends by SIGTERM, and ends
// with its stdin, so that no process outlives the benchmark.
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { NODE_FLAGS, NODE_MALLOC } from '../src/cli/hardened.ts'
import { withDeadline } from '../src/waiting.ts'

const START_MS = 600_000
const STOP_MS = 300_000
const TICKS_PER_SECOND = 100

const running = new Set<ChildProcess>()

export type Child = {
  readonly pid: number
  readonly url: string
  /** Milliseconds from the start until ready. */
  readonly readyMs: number
  /** SIGTERM, and waits. Throws where the exit code is not 0. */
  stop(): Promise<void>
  /** SIGKILL, at once; resolves when the process is gone. */
  kill(): Promise<void>
}

type Starting = {
  /** Options of Node. */
  readonly flags?: readonly string[]
  /** Milliseconds; a process that is not ready by then is killed. */
  readonly within?: number
}

/** Ends the process with the benchmark, whatever happens. */
export function track(child: ChildProcess): void {
  running.add(child)
  child.once('close', () => running.delete(child))
}

/**
 * Starts a script of the folder bench/ with the settings of a node, and waits until the process is ready.
 * Throws where the process ends before, and where the process is not ready in time.
 */
export async function startChild(
  script: string,
  args: readonly string[] = [],
  { flags = [], within = START_MS }: Starting = {},
): Promise<Child> {
  const started = performance.now()
  const path = fileURLToPath(new URL(script, import.meta.url))
  const env = { ...NODE_MALLOC, ...process.env }
  const child = spawn(process.execPath, [...NODE_FLAGS, ...flags, path, ...args], { stdio: 'pipe', env })
  track(child)
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4000)
  })
  const closed = new Promise<number | string>((resolve) => {
    child.once('close', (code, signal) => resolve(signal ?? code ?? 0))
  })
  const ready = new Promise<string>((resolve, reject) => {
    let text = ''
    child.once('error', reject)
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end >= 0) resolve(String(JSON.parse(text.slice(0, end)).url))
    })
    void closed.then((code) =>
      reject(new Error(`${script} ended with ${code} before it was ready:\n${said}`)),
    )
  })
  const late = (): Error => {
    child.kill('SIGKILL')
    return new Error(`${script} was not ready after ${Math.round(within / 1000)} s:\n${said}`)
  }
  const url = await withDeadline(ready, within, late)
  const stop = async (): Promise<void> => {
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    child.kill('SIGTERM')
    const code = await closed
    clearTimeout(timer)
    if (code !== 0) throw new Error(`${script} ended with ${code}:\n${said}`)
  }
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await closed
  }
  return { pid: child.pid ?? 0, url, readyMs: performance.now() - started, stop, kill }
}

/** For every end of the benchmark, errors and signals included. */
export function killChildren(): void {
  for (const child of running) child.kill('SIGKILL')
}

/** Seconds of CPU used by a process so far, over all threads. */
export function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Seconds of CPU used by the whole machine so far; stolen time counts as used. */
export function machineSeconds(): number {
  const [, user, nice, system, , , irq, softIrq, steal] = readFileSync('/proc/stat', 'utf8').split(/ +/)
  const ticks = [user, nice, system, irq, softIrq, steal].reduce((sum, each) => sum + Number(each), 0)
  return ticks / TICKS_PER_SECOND
}

/** Bytes in memory: `anon` is its own, `rss` counts the mapped pages of its files too. */
export function memoryOf(pid: number): { rss: number; anon: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return { rss: kib('VmRSS') * 1024, anon: kib('RssAnon') * 1024 }
}
