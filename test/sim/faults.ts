// What goes wrong, by kind and at any instant.

import type { MemoryLedger } from '../../src/ledger/memory.ts'
import type { Answer, Ask } from './asks.ts'
import type { CommitFault } from './link.ts'
import type { Machine } from './machine.ts'
import type { Operator } from './operator.ts'
import type { OtherLedger } from './other-ledger.ts'
import type { Random } from './seed.ts'
import type { VirtualTime } from './virtual-time.ts'
import { NAMES } from './workload.ts'

/** Longer than a client waits, and than a commit is late. */
const ALL_ANSWERED_MS = 30_000
const HOUR_MS = 3_600_000
const YEAR_MS = 365 * 24 * HOUR_MS
/** Of a clock: no clock shows a year before 1970. */
const EARLIEST = -30 * YEAR_MS
/** Of a world. */
const MOST_FAULTS = [8, 15, 30]
export const LEAST_FAULTS = 5
const LEFT_OUT = 'left out'
const COMMIT_FAULTS: readonly CommitFault[] = ['refused', 'lost', 'silent', 'late', 'answer-lost']

type World = {
  readonly time: VirtualTime
  readonly random: Random
  /** The mean time between two faults, in milliseconds. */
  readonly pace: number
  /** Kinds of faults that do not happen, and are counted as left out. */
  readonly without: ReadonlySet<string>
  readonly ledger: MemoryLedger
  readonly machines: readonly Machine[]
  readonly owners: readonly string[]
  readonly ask: (machine: Machine, asked: Ask) => Promise<Answer>
  /** Called with a broken law. */
  readonly fail: (error: unknown) => void
  readonly otherLedger: () => Promise<OtherLedger>
  /** An owner, and the newest tokens of the owner. */
  readonly known: () => { readonly owner: string; readonly tokens: readonly string[] }
  /** A text that nobody has asked for. */
  readonly newValue: () => string
  readonly operator: Operator
  /** Clients rest for so long, and send no request again that was sent before. False: they have rested already. */
  readonly rest: (ms: number) => Promise<boolean>
}

type Fault = (world: World, machine: Machine) => Promise<void>

/** Each fault that lasts mends itself after a while. */
const FAULTS: Readonly<Record<string, Fault>> = {
  async 'crash, power lost'(world, machine) {
    await machine.crash('lost')
    await restartSoon(world, machine)
  },
  async crash(world, machine) {
    await machine.crash('stays')
    await restartSoon(world, machine)
  },
  async 'stop and start'(world, machine) {
    await machine.stop()
    await restartSoon(world, machine)
  },
  async pause({ random }, machine) {
    machine.pause(random.below(random.chance(0.2) ? 8000 : 400))
  },
  async commit({ random }, { weather }) {
    for (let count = 1 + random.below(3); count > 0; count--) weather.faults.push(random.pick(COMMIT_FAULTS))
  },
  async 'no way to the ledger'(world, machine) {
    const { random, time } = world
    const { weather, run } = machine
    const again = await askForKnown(world, machine)
    weather.cut = random.pick(['refuses', 'hangs'])
    run?.link.breakStreams()
    const answered = again()
    await time.sleep(random.below(random.chance(0.2) ? 6000 : 500))
    weather.cut = 'open'
    await answered
  },
  async 'no quorum'(world, machine) {
    const { random, time, machines } = world
    const again = await askForKnown(world, machine)
    for (const { weather, run } of machines) {
      weather.cut = 'hangs'
      run?.link.breakStreams()
    }
    const answered = again()
    await time.sleep(random.below(random.chance(0.2) ? 6000 : 500))
    for (const { weather } of machines) weather.cut = 'open'
    await answered
  },
  async 'slow way'({ random, time }, { weather }) {
    weather.delay = random.pick([20, 100, 800])
    await time.sleep(random.below(1000))
    weather.delay = 2
  },
  async 'stale member'({ random, time }, { weather }) {
    weather.lag = random.pick([10, 50, 300])
    await time.sleep(random.below(2000))
    weather.lag = 0
  },
  async 'broken stream'(_, { run }) {
    run?.link.breakStreams()
  },
  async compaction({ random, ledger }) {
    const head = await ledger.head()
    ledger.compact(Math.max(0, head - random.below(random.chance(0.5) ? 3 : 40)))
  },
  async 'compaction beyond a stale member'({ random, ledger, time }, { weather, run }) {
    weather.cut = 'refuses'
    run?.link.breakStreams()
    weather.cutPages = random.below(3)
    weather.refusedPages = random.below(2)
    await time.sleep(random.below(800))
    ledger.compact(await ledger.head())
    weather.cut = 'open'
    await time.sleep(random.below(20))
    ledger.compact(await ledger.head())
  },
  async 'slow disk'({ random, time }, { run }) {
    if (!run) return
    run.disk.slowness = random.pick([5, 30, 200])
    await time.sleep(random.below(1500))
    run.disk.slowness = 1
  },
  async 'full disk'({ random, time }, { run }) {
    if (!run) return
    run.disk.full = true
    await time.sleep(random.below(1500))
    run.disk.full = false
  },
  async clock({ random }, machine) {
    const most = random.pick([1, 60, 600, YEAR_MS / 1000, 5 * (YEAR_MS / 1000)])
    machine.shift = Math.max(EARLIEST, machine.shift + (random.below(2001) - 1000) * most)
  },
  /** Receipts are swept while some node may be behind; a day after no client asks under the same key. */
  async 'two days later'({ random, ledger, machines, rest }, machine) {
    if (!(await rest(ALL_ANSWERED_MS))) return
    for (const each of machines) each.shift += 50 * HOUR_MS
    const behind = random.pick(machines)
    if (behind !== machine) {
      behind.weather.cut = 'refuses'
      behind.run?.link.breakStreams()
    }
    await machine.call(({ receipts }) => receipts.sweep())
    if (random.chance(0.7)) ledger.compact(await ledger.head())
    behind.weather.cut = 'open'
  },
  /** A value is asked for again while its first commit is under way, and perhaps lost. */
  async 'the same value while its commit is lost'(
    { random, time, machines, ask, owners, newValue },
    machine,
  ) {
    const { weather } = machine
    const owner = random.pick(owners)
    const asked: Ask = { kind: 'tokenize', owner, values: [newValue()] }
    weather.delay = random.pick([2, 20, 100])
    weather.faults.unshift(random.pick(COMMIT_FAULTS))
    const first = ask(machine, asked)
    await time.sleep(random.below(2 * weather.delay))
    const answer = await ask(machine, asked)
    if (answer.kind === 'tokens')
      await ask(random.pick(machines), { kind: 'detokenize', owner, tokens: answer.tokens })
    weather.mendWay()
    await first
  },
  /** Another node rotates while the answer of a commit is late, and then the value is asked for again. */
  async 'a rotation at the worst moment'({ random, time, machines, ask, owners, newValue }, machine) {
    const { weather } = machine
    const owner = random.pick(owners)
    const asked: Ask = { kind: 'tokenize', owner, values: [newValue()] }
    Object.assign(weather, { lateAnswers: random.pick([30, 200, 1000]), lag: random.pick([30, 200, 1000]) })
    const first = ask(machine, asked)
    await time.sleep(random.below(30))
    const others = machines.filter((each) => each !== machine)
    const epochs = await ask(random.pick(others), { kind: 'epochs', owner })
    if (epochs.kind === 'active')
      await ask(random.pick(others), { kind: 'rotate', owner, to: epochs.epoch + 1 })
    await ask(machine, asked)
    weather.mendWay()
    await first
  },
  /** One endpoint, or all of them, lead to an older copy that was written on, or to a second ledger. */
  async 'another ledger'({ random, time, otherLedger }, { weather, run }) {
    const other = await otherLedger()
    weather.other = other
    if (random.chance(0.5)) run?.link.breakStreams()
    else await run?.link.checkOther(other)
    await time.sleep(random.below(1000))
    weather.other = undefined
    if (random.chance(0.5)) run?.link.breakStreams()
  },
  /** All nodes meet an older copy, without commits that were acknowledged, or a second ledger; then the right one is back. */
  async 'the ledger is put back'({ random, time, machines, otherLedger }) {
    const other = await otherLedger()
    for (const { weather, run } of machines) {
      weather.other = { ...other, everywhere: true }
      run?.link.breakStreams()
    }
    await time.sleep(random.below(1500))
    for (const { weather, run } of machines) {
      weather.other = undefined
      run?.link.breakStreams()
    }
  },
  async 'another root key'({ operator }) {
    await operator.changeRootKeys()
  },
  /** A reload that needs the ledger comes first. */
  async 'a key is removed while the node waits for the ledger'(world, machine) {
    const { random, time, operator, ask } = world
    const owner = random.pick(world.owners)
    machine.weather.cut = random.pick(['refuses', 'hangs'])
    machine.run?.link.breakStreams()
    const removed = await operator.withKey(owner, () => time.sleep(random.below(300)))
    await ask(machine, { kind: 'detokenize', owner, tokens: [], by: removed })
    machine.weather.cut = 'open'
  },
  async 'API keys and quotas'({ random, operator }) {
    for (let count = 1 + random.below(3); count > 0; count--) await operator.changeOwners()
  },
}

export const FAULT_KINDS: readonly string[] = Object.keys(FAULTS)

/** Each costs many reloads: in fewer worlds. */
const OF_OPERATORS: ReadonlySet<string> = new Set([
  'another root key',
  'a key is removed while the node waits for the ledger',
  'API keys and quotas',
])

/** Asks the node for a few tokens, or the latest version of a secret. Returns the function that asks for the same again. */
async function askForKnown({ ask, random, known }: World, machine: Machine): Promise<() => Promise<void>> {
  const { owner, tokens } = known()
  const name = random.pick(NAMES)
  const again: Ask[] = tokens.length > 0 ? [{ kind: 'detokenize', owner, tokens }] : []
  for (const asked of again) await ask(machine, asked)
  const latest = await ask(machine, { kind: 'read', owner, name })
  if (latest.kind === 'secret') again.push({ kind: 'read', owner, name, version: latest.version })
  return async () => {
    for (const asked of again) await ask(machine, asked)
  }
}

async function restartSoon({ time, random }: World, machine: Machine): Promise<void> {
  await time.sleep(random.below(random.chance(0.2) ? 3000 : 200))
  if (!machine.run) await machine.start()
}

/** Faults one after the other and at the same time, until `ended`. Counts the faults by kind. */
export async function disturb(
  world: World,
  ended: () => boolean,
  counts: Map<string, number>,
): Promise<void> {
  const { random, time, machines, pace } = world
  const some = FAULT_KINDS.filter((kind) => random.chance(OF_OPERATORS.has(kind) ? 0.2 : 0.6)) // of each world others
  const kinds = some.length > 0 ? some : FAULT_KINDS
  const most = random.pick(MOST_FAULTS)
  const going = new Set<Promise<void>>() // some go on at the same time
  for (let count = 0; count < most && !ended(); count++) {
    await time.sleep(random.below(2 * pace))
    const kind = random.pick(kinds)
    const machine = random.pick(machines)
    const isLeftOut = world.without.has(kind)
    const told = isLeftOut ? LEFT_OUT : kind
    counts.set(told, (counts.get(told) ?? 0) + 1)
    if (!isLeftOut) going.add(FAULTS[kind](world, machine).catch(world.fail))
  }
  await Promise.all(going)
}
