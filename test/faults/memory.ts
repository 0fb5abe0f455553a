// Anonymous memory of processes over time (RssAnon of /proc/PID/status), by stretches of five minutes. A vault grows where the
// last stretch is above what the second one was: the first is warm-up. A process counts from a minute after its start on: one
// that has just rebuilt its replica holds more.
import { readFileSync } from 'node:fs'

const SAMPLE_MS = 2000
const MEBIBYTE_KIB = 1024
const MINUTE_MS = 60_000
const STRETCH_MINUTES = 5
const YOUNG_MS = MINUTE_MS
/** A stretch with fewer says nothing: its processes were young nearly all the time. */
const LEAST_SAMPLES = 20
const MOST_GROWTH = 1.2

type Process = {
  readonly pid: number
  /** When the process was seen first, in milliseconds since the begin. */
  readonly since: number
}
type Sample = { readonly pid: number; readonly ms: number; readonly kib: number }

/** Of one name: processes one after the other. */
class Series {
  readonly #minutes: number[][] = []
  /** Of processes that are not young, by stretch. */
  readonly #stretches: number[][] = []
  #process: Process = { pid: 0, since: 0 }

  add({ pid, ms, kib }: Sample): void {
    if (pid !== this.#process.pid) this.#process = { pid, since: ms }
    const minute = Math.floor(ms / MINUTE_MS)
    ;(this.#minutes[minute] ??= []).push(kib)
    if (ms - this.#process.since < YOUNG_MS) return
    ;(this.#stretches[Math.floor(minute / STRETCH_MINUTES)] ??= []).push(kib)
  }

  /** The last stretch against the second one; undefined where the run was too short, or all processes were young. */
  get growth(): number | undefined {
    const [, base = [], ...later] = Array.from(this.#stretches, (list) => list ?? [])
    const last = later.findLast(({ length }) => length >= LEAST_SAMPLES)
    return last && base.length >= LEAST_SAMPLES ? median(last) / median(base) : undefined
  }

  /** Of each minute, in MiB. */
  get medians(): string[] {
    const each = Array.from(this.#minutes, (list) => list ?? [])
    return each.map((list) => (list.length > 0 ? (median(list) / MEBIBYTE_KIB).toFixed(0) : '-'))
  }
}

export class Memory {
  readonly #series = new Map<string, Series>()

  add(name: string, sample: Sample): void {
    const series = this.#series.get(name) ?? new Series()
    this.#series.set(name, series)
    series.add(sample)
  }

  /** A line for each name. */
  lines(): string[] {
    return [...this.#series].map(([name, { growth, medians }]) => {
      const told = growth === undefined ? 'too few samples' : `${growth.toFixed(2)}× the second stretch`
      return `${name.padEnd(12)} ${told}; MiB by minute: ${medians.join(' ')}`
    })
  }

  /** Those of the names that have grown too much. */
  grown(names: readonly string[]): string[] {
    return names.filter((name) => (this.#series.get(name)?.growth ?? 0) > MOST_GROWTH)
  }
}

export class MemoryOverTime extends Memory implements Disposable {
  readonly #timer: NodeJS.Timeout
  readonly #began = performance.now()

  /** `processes`: names and process ids of now; 0 where a process does not run. */
  constructor(processes: () => Iterable<readonly [string, number]>) {
    super()
    this.#timer = setInterval(() => {
      for (const [name, pid] of processes()) {
        const kib = pid > 0 ? rssAnon(pid) : undefined
        if (kib !== undefined) this.add(name, { pid, ms: performance.now() - this.#began, kib })
      }
    }, SAMPLE_MS)
    this.#timer.unref()
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
