// npm run soak -- [--minutes M] [--seed S] [--only TEXT;TEXT]: all faults in turn on three real nodes under load; after each one
// the history is judged, and the last checks are made. What was done, by kind; what held; memory over time. Exit 1 for a
// violation, and for memory of a vault that has grown.
import { parseArgs } from 'node:util'
import { seeded } from '../sim/seed.ts'
import { episode } from './episode.ts'
import { FAULTS } from './faults.ts'
import { MemoryOverTime } from './memory.ts'
import { type Fault, Stage } from './stage.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string' },
    only: { type: 'string', default: '' },
  },
})
const minutes = Number(values.minutes)
const random = seeded(values.seed === undefined ? undefined : Number(values.seed))
if (!(minutes > 0) || Number.isNaN(random.seed)) throw new Error('--minutes and --seed take numbers')

const began = performance.now()
const seconds = (): number => Math.round((performance.now() - began) / 1000)
const done = new Map<string, number>()
const wanted = FAULTS.filter(({ name }) => values.only.split(';').some((part) => name.includes(part)))

function tell(stage: Stage, fault: Fault, { calls, ms }: { calls: number; ms: number }): void {
  done.set(fault.name, (done.get(fault.name) ?? 0) + 1)
  const { slowest } = stage.clients
  const told = slowest ? `, slowest 503: ${slowest.name} after ${slowest.ms.toFixed(0)} ms` : ''
  const when = String(seconds()).padStart(5)
  console.log(`${when} s  ${fault.name}: ${calls} calls, ${(ms / 1000).toFixed(1)} s${told}`)
}

/** All faults, in another order each time, until the minutes are over. */
async function soak(stage: Stage): Promise<void> {
  const possible = wanted.filter(({ needs }) => needs === undefined || stage.disks.length > 0)
  if (possible.length < wanted.length) console.log(`left out, without disks of their own: ${stage.noDisk}`)
  const first = possible.filter(({ once }) => once)
  const again = possible.filter(({ once }) => !once)
  for (let episodes = 0, turn: Fault[] = []; seconds() < minutes * 60; episodes++) {
    if (turn.length === 0) turn = [...again]
    const fault = first.shift() ?? turn.splice(random.below(turn.length), 1).at(0)
    if (!fault) return
    try {
      tell(stage, fault, await episode(stage, fault, episodes))
    } catch (error) {
      for (const node of stage.nodes) console.error(node.name, node.process?.log.slice(-30).join('\n'))
      throw new Error(`in "${fault.name}", the ${episodes + 1}. fault`, { cause: error })
    }
  }
}

function table(title: string, counts: ReadonlyMap<string, number>): void {
  console.log(`\n${title}: ${[...counts.values()].reduce((a, b) => a + b, 0)}`)
  for (const [name, count] of [...counts].sort()) console.log(`${String(count).padStart(8)}  ${name}`)
}

/** Returns how many vaults hold too much more memory than before. */
function report(stage: Stage, memory: MemoryOverTime, violations: number): number {
  table('calls and answers', stage.clients.counts)
  table('commands', stage.operator.counts)
  table('faults', done)
  const missing = wanted.filter(({ name }) => !done.has(name)).map(({ name }) => name)
  if (missing.length > 0) console.log(`not reached: ${missing.join('; ')}`)
  console.log('\nmemory (RssAnon)')
  for (const line of memory.lines()) console.log(`  ${line}`)
  const grown = memory.grown(stage.nodes.map(({ name }) => name))
  if (grown.length > 0) console.log(`memory has grown: ${grown.join(', ')}`)
  console.log(`\nseed ${random.seed}, ${seconds()} s: ${violations} violations`)
  return grown.length
}

await using stage = await Stage.set(random)
using memory = new MemoryOverTime(() =>
  stage.nodes.flatMap((node): (readonly [string, number])[] => [
    [node.name, node.process?.child.pid ?? 0],
    [`${node.name} etcd`, node.memberPid],
  ]),
)
try {
  await soak(stage)
  if (report(stage, memory, 0) > 0) process.exitCode = 1
} catch (error) {
  console.error(error, `\nagain: npm run soak -- --minutes ${minutes} --seed ${random.seed}`)
  report(stage, memory, 1)
  process.exitCode = 1
}
