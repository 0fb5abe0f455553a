// Loaded into a node by `--import`: how much heap the node takes at most, and how long its event loop stands
// still. Written to the file named by COFFER_BENCH_PROBE, again and again, from the moment the node listens:
// modules are loaded before.
import { writeFileSync } from 'node:fs'
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'

/** Of the histogram: a delay is counted from one timer to the next, so that an idle loop shows as much. */
const RESOLUTION_MS = 10
const SAMPLE_MS = 20
const WRITE_EVERY = 10
/** Blocks told. */
const LONGEST = 8

export type Block = {
  /** Milliseconds since the process started. */
  readonly at: number
  readonly ms: number
  /** CPU time of the main thread meanwhile: much less than `ms` where the thread had no core, or waited. */
  readonly cpuMs: number
}

/** Bytes and milliseconds. */
export type Probed = {
  readonly heapPeak: number
  readonly rssPeak: number
  /** The longest time between two turns of the event loop. */
  readonly longestBlock: number
  readonly longestCollection: number
  readonly blocks: readonly Block[]
}

/** Of the main thread. Absent before Node 23.9. */
type ThreadCpu = { threadCpuUsage?: () => { readonly user: number; readonly system: number } }

function cpuMs(): number {
  const used = (process as ThreadCpu).threadCpuUsage?.() ?? process.cpuUsage()
  return (used.user + used.system) / 1000
}

function probe(file: string): void {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delays.enable()
  let heapPeak = 0
  let rssPeak = 0
  let longestCollection = 0
  let blocks: Block[] = []
  let last = { at: performance.now(), cpu: cpuMs() }
  let samples = 0
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) longestCollection = Math.max(longestCollection, duration)
  }).observe({ entryTypes: ['gc'] })
  const write = (): void => {
    const longestBlock = Math.max(0, delays.max / 1e6 - RESOLUTION_MS)
    const probed: Probed = { heapPeak, rssPeak, longestBlock, longestCollection, blocks }
    writeFileSync(file, JSON.stringify(probed))
  }
  setInterval(() => {
    const now = { at: performance.now(), cpu: cpuMs() }
    heapPeak = Math.max(heapPeak, getHeapStatistics().used_heap_size)
    const ms = now.at - last.at - SAMPLE_MS
    if (ms > RESOLUTION_MS) {
      blocks.push({ at: last.at, ms, cpuMs: now.cpu - last.cpu })
      blocks = blocks.sort((a, b) => b.ms - a.ms).slice(0, LONGEST)
    }
    last = now
    if (++samples % WRITE_EVERY !== 0) return
    rssPeak = Math.max(rssPeak, process.memoryUsage.rss())
    write()
  }, SAMPLE_MS).unref()
  process.on('exit', write)
}

const { COFFER_BENCH_PROBE: file } = process.env
// A node starts other processes, with its own options and environment.
if (file !== undefined && process.argv.includes('start')) {
  const listening = setInterval(() => {
    if (!process.getActiveResourcesInfo().includes('TCPServerWrap')) return
    clearInterval(listening)
    probe(file)
  }, 1)
}
