// Anonymous memory of processes over time (RssAnon of /proc/PID/status), by minute.
import { readFileSync } from 'node:fs'

const SAMPLE_MS = 2000
const MEBIBYTE_KIB = 1024
/** Minutes whose highest value later minutes are compared with. */
const FIRST_MINUTES = 5

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

  /** A line for each process: the median of each minute in MiB, and the highest against the first five minutes. */
  lines(): string[] {
    return [...this.#samples].map(([name, minutes]) => {
      const medians = [...minutes].map((list) => median(list ?? []) / MEBIBYTE_KIB)
      const first = Math.max(...medians.slice(0, FIRST_MINUTES).filter(Number.isFinite))
      const later = Math.max(...medians.slice(FIRST_MINUTES).filter(Number.isFinite))
      const growth = later > 0 ? `${(later / first).toFixed(2)}×` : 'no later minutes'
      const each = medians.map((mib) => (Number.isFinite(mib) ? mib.toFixed(0) : '-')).join(' ')
      return `${name.padEnd(12)} ${growth} after ${FIRST_MINUTES} min.; MiB by minute: ${each}`
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
