// The start of a new node on a ledger of segments with one mapping each: the worst that a ledger can hold.
// Time, memory, and how long the event loop stands still, by the number of segments.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { EpochKey } from '../src/crypto/epoch-key.ts'
import type { EtcdEndpoint } from '../src/ledger/etcd-client.ts'
import type { Bench } from './bench.ts'
import { forgetHistory } from './catch-up.ts'
import { writeClusterFiles, writeExtraNode } from './cluster-files.ts'
import { StartedNode } from './coffer.ts'
import { Boot, epochKeyOf, keyringOf, valuesOf } from './entries.ts'
import { Members } from './raw-etcd.ts'
import { format, type Row } from './table.ts'

const OWNER = 'bench'
const SIZES = [250_000, 500_000, 1_000_000, 2_000_000]
const CALCULATED = 25_000_000
/** Segments of a boot, and of a revision. */
const OF_BOOT = 50_000
const OF_REVISION = 4000
const IN_FLIGHT = 4
const READY_MS = 600_000
const MIB = 2 ** 20

type Start = {
  readonly segments: number
  /** Seconds. */
  readonly ready: number
  /** Bytes. */
  readonly heap: number
  readonly rss: number
  /** Milliseconds. */
  readonly block: number
  readonly delay: number
}

export async function measureSegments(bench: Bench): Promise<void> {
  const dir = join(bench.dir, 'segments')
  const configs = await writeClusterFiles(dir, [OWNER], ['n1'])
  const config = writeExtraNode(dir, { node: 'a', owners: [OWNER], members: configs })
  const members = new Members(dir, configs)
  const starts: Start[] = []
  try {
    await members.ready()
    const [endpoint] = members.endpoints
    const founder = new StartedNode(config)
    await founder.ready(READY_MS)
    await founder.stop()
    const key = await epochKeyOf(endpoint, keyringOf(config), OWNER)
    let there = 0
    for (const size of SIZES.map((full) => Math.round(full * bench.size))) {
      bench.say(`segments: to ${format(size)} of one mapping each`)
      await fill(endpoint, key, { first: there, count: size - there })
      there = size
      await forgetHistory(endpoint)
      rmSync(config.data, { recursive: true, force: true })
      bench.say('segments: a new node')
      const node = new StartedNode(config, bench.flags)
      const ready = await node.ready(READY_MS)
      const tokens = await node.tokens(OWNER)
      await node.stop()
      if (tokens !== size) throw new Error(`the node has ${tokens} tokens of ${size}`)
      const { heapPeak: heap, rssPeak: rss, longestBlock: block, longestDelay: delay, blocks } = node.probed
      starts.push({ segments: size, ready, heap, rss, block, delay })
      const list = blocks.map(
        ({ at, ms, cpuMs, gcMs }) => `${[ms, cpuMs, gcMs].map(Math.round).join('/')} at ${Math.round(at)}`,
      )
      bench.say(
        `segments: ready after ${format(ready)} s, heap ${format(heap / MIB)} MiB, ` +
          `blocks in ms (all/CPU/collection): ${list.join(', ')}`,
      )
    }
  } finally {
    await members.stop()
  }
  bench.rows.push(...rowsOf(starts))
}

type Stretch = { readonly first: number; readonly count: number }

/** Values `first` and so on, each in a segment of its own. */
async function fill(endpoint: EtcdEndpoint, key: EpochKey, { first, count }: Stretch): Promise<void> {
  const end = first + count
  let next = first
  const worker = async (): Promise<void> => {
    while (next < end) {
      let from = next
      const to = Math.min(from + OF_BOOT, end)
      next = to
      const boot = new Boot(endpoint)
      await boot.begin('a')
      while (from < to) {
        const some = Math.min(OF_REVISION, to - from)
        await boot.put(
          boot.segments(
            key,
            valuesOf(from, some, (n) => `04821-${n}`),
            1,
          ),
        )
        from += some
      }
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker))
}

function rowsOf(starts: readonly Start[]): Row[] {
  const last = starts[starts.length - 1]
  const aimed = (start: Start, aim: Row['aim']): Partial<Row> => (start === last && aim ? { aim } : {})
  const rows = starts.flatMap((start): Row[] => {
    const what = `new node, ${format(start.segments)} segments of 1`
    return [
      { what: `${what}: ready`, value: start.ready, unit: 's', ...aimed(start, { most: 90 }) },
      { what: `${what}: heap`, value: start.heap / MIB, unit: 'MiB', ...aimed(start, { most: 500 }) },
      { what: `${what}: memory (RSS)`, value: start.rss / MIB, unit: 'MiB' },
      {
        what: `${what}: longest block`,
        value: start.block,
        unit: 'ms',
        aim: { most: 50 },
        note: `${format(start.delay)} ms with waits for a core`,
      },
    ]
  })
  return [...rows, ...proportions(starts)]
}

/** What a segment takes at the largest size against the smallest, and what a full etcd would take. */
function proportions(starts: readonly Start[]): Row[] {
  const [smallest] = starts
  const [before, last] = starts.slice(-2)
  const calculated = (of: 'ready' | 'heap' | 'rss', from: Start): number =>
    last[of] + ((CALCULATED - last.segments) * (last[of] - from[of])) / (last.segments - from.segments)
  const what = `${format(CALCULATED)} segments, by calculation`
  return [
    {
      what: `time a segment, of ${format(last.segments)} against ${format(smallest.segments)}`,
      value: last.ready / last.segments / (smallest.ready / smallest.segments),
      unit: 'x',
      aim: { most: 1.2 },
    },
    { what: `${what}: ready`, value: calculated('ready', before), unit: 's', aim: { most: 3600 } },
    { what: `${what}: heap`, value: calculated('heap', smallest) / MIB, unit: 'MiB' },
    { what: `${what}: memory (RSS)`, value: calculated('rss', before) / MIB, unit: 'MiB' },
  ]
}
