// Anonymous memory of processes over time (RssAnon of /proc/PID/status), by minute.
import { readFileSync } from 'node:fs'

const SAMPLE_MS = 2000
const MEBIBYTE_KIB = 1024
/** The length of a stretch. The first one is warm-up; a node that has just rebuilt its replica holds more for a minute. */
const STRETCH_MINUTES = 5

export class MemoryOverTime implements Disposable {
  /** By name, a list of samples for each minute, in KiB. */
  readonly #samples = new Map<string, number[][]>()
  readonly #timer: NodeJS.Timeout
  readonly #began = performance.now()

  /** `processes`: names and process ids of now; 0 where a process does not run. */
  constructor(processes: () => Iterable<readonly [string, number]>) {
    this.#timer = setInterval(() => {
      const minute = Math.floor((performance.now() - this.#began) / 60_000)
      for (const [name, pid] of processes()) {
        const kib = pid > 0 ? rssAnon(pid) : undefined
        if (kib === undefined) continue
        const minutes = this.#samples.get(name) ?? []
        ;(minutes[minute] ??= []).push(kib)
        this.#samples.set(name, minutes)
      }
    }, SAMPLE_MS)
    this.#timer.unref()
  }

  /** A line for each process: the highest median of a later stretch against the second one, and the median of each minute in MiB. */
  lines(): string[] {
    return [...this.#samples].map(([name, minutes]) => {
      const all = Array.from(minutes, (list) => list ?? [])
      const stretches: number[] = []
      for (let at = 0; at + STRETCH_MINUTES <= all.length; at += STRETCH_MINUTES)
        stretches.push(median(all.slice(at, at + STRETCH_MINUTES).flat()))
      const [, second, ...later] = stretches
      const growth = later.length > 0 ? `${(Math.max(...later) / second).toFixed(2)}×` : 'no later stretch'
      const each = all.map((list) => (list.length > 0 ? (median(list) / MEBIBYTE_KIB).toFixed(0) : '-'))
      return `${name.padEnd(12)} ${growth} after ${STRETCH_MINUTES} min.; MiB by minute: ${each.join(' ')}`
    })
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

function rssAnon(pid: number): number | undefined {
  try {
    const [, kib] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return kib === undefined ? undefined : Number(kib)
  } catch {
    return undefined // the process has just ended
  }
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN
}
