// Loaded into a node by `--import`: how much heap the node takes at most, and how long its event loop stands
// still. Written to the file named by COFFER_BENCH_PROBE, again and again, from the moment the node listens:
// modules are loaded before.
import { readFileSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'

/** A delay is counted from one timer to the next, so that an idle loop shows as much. */
const RESOLUTION_MS = 10
const WRITE_EVERY = 20
/** Blocks told. */
const LONGEST = 8
const LEAST_COLLECTION_MS = 2

export type Block = {
  /** Milliseconds since the process started. */
  readonly at: number
  /** The time between two turns of the event loop in which the thread ran or waited, but not for a core. */
  readonly ms: number
  /** CPU time meanwhile. */
  readonly cpuMs: number
  /** Garbage collection meanwhile. */
  readonly gcMs: number
}

/** Bytes and milliseconds. */
export type Probed = {
  readonly heapPeak: number
  readonly rssPeak: number
  /** The longest of `blocks`, the longest first. */
  readonly longestBlock: number
  /** As `monitorEventLoopDelay` has it: with the time in which other processes had the cores. */
  readonly longestDelay: number
  readonly longestCollection: number
  readonly blocks: readonly Block[]
}

/** The main thread so far, in milliseconds: on a core, and ready for a core. */
function scheduled(): { readonly ran: number; readonly waited: number } {
  const [ran, waited] = readFileSync('/proc/self/schedstat', 'latin1').split(' ')
  return { ran: Number(ran) / 1e6, waited: Number(waited) / 1e6 }
}

function probe(file: string): void {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delays.enable()
  let heapPeak = 0
  let rssPeak = 0
  let longestCollection = 0
  let blocks: Block[] = []
  let last = { at: performance.now(), ...scheduled() }
  let samples = 0
  const collections: { readonly at: number; readonly ms: number }[] = []
  new PerformanceObserver((list) => {
    for (const { startTime: at, duration: ms } of list.getEntries()) {
      longestCollection = Math.max(longestCollection, ms)
      if (ms > LEAST_COLLECTION_MS) collections.push({ at, ms })
    }
  }).observe({ entryTypes: ['gc'] })
  const gcMs = ({ at, ms }: Block): number =>
    collections
      .filter((each) => each.at >= at && each.at <= at + ms + RESOLUTION_MS)
      .reduce((sum, each) => sum + each.ms, 0)
  const write = (): void => {
    const longestDelay = Math.max(0, delays.max / 1e6 - RESOLUTION_MS)
    const told = blocks.map((block) => ({ ...block, gcMs: gcMs(block) }))
    const longestBlock = told[0]?.ms ?? 0
    const probed: Probed = { heapPeak, rssPeak, longestBlock, longestDelay, longestCollection, blocks: told }
    writeFileSync(file, JSON.stringify(probed))
  }
  setInterval(() => {
    const now = { at: performance.now(), ...scheduled() }
    heapPeak = Math.max(heapPeak, getHeapStatistics().used_heap_size)
    const ms = now.at - last.at - (now.waited - last.waited) - RESOLUTION_MS
    if (ms > RESOLUTION_MS) {
      blocks.push({ at: last.at, ms, cpuMs: now.ran - last.ran, gcMs: 0 })
      blocks = blocks.sort((a, b) => b.ms - a.ms).slice(0, LONGEST)
    }
    last = now
    if (++samples % WRITE_EVERY !== 0) return
    rssPeak = Math.max(rssPeak, process.memoryUsage.rss())
    write()
  }, RESOLUTION_MS).unref()
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
