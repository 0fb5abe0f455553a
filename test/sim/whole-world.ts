// A world of whole nodes and their clients from one seed: calls while faults come, then all is mended, and within a bounded
// time every node is ready, has one digest and answers everything. Same seed, same trace.

import { createHash } from 'node:crypto'
import { type Clock, Deadline } from '../../src/clock.ts'
import type { Revision } from '../../src/ledger/ledger.ts'
import { MemoryLedger } from '../../src/ledger/memory.ts'
import { notReady } from '../../src/server/status.ts'
import { ask, REQUEST_MS } from './asking.ts'
import { type Answer, type Ask, type Line, secretOf } from './asks.ts'
import { disturb, LEAST_FAULTS } from './faults.ts'
import { found } from './genesis.ts'
import { Held } from './held.ts'
import { ANY_TIME, Judge } from './judge.ts'

import { Machine, type Surroundings } from './machine.ts'
import { Operator, OWN_KEY } from './operator.ts'
import { otherLedger } from './other-ledger.ts'
import { bytesOf, type Random, seeded } from './seed.ts'
import { SharedKeys } from './shared-keys.ts'
import { Violation } from './violation.ts'
import { type SimProcess, VirtualTime } from './virtual-time.ts'
import { Workload } from './workload.ts'

const NODES = 3
const CLIENTS = 5
/** With those of faults, before all is mended. A world has at least twice as many, with those of the last checks. */
export const CALLS = 100
/** Of clients, and of faults: the mean time between two faults. */
const PACES_MS = [30, 150, 600]
/** A client gives a call up after so long. */
const PATIENCE_MS = 20_000
/** For all of the calls with faults, and for what comes after: virtual milliseconds. */
const CALLS_MS = 30 * 60_000
const MENDED_MS = 60_000
/** Tokens of a call of the last checks. */
const CHECKED_TOGETHER = 1000
/** Tokens of a call that is told in short. */
const LONG = 20
/** Characters of the trace. */
const HASHED_TOGETHER = 64 * 1024
/** More than a request has: a node is answering late. */
const LATE_MS = REQUEST_MS + 500
/** Most milliseconds until the body of a request has come, with another key than the one that stays. */
const BODY_MS = 40
/** Classes of calls, for the report: at most so many values. */
const SIZES = [1, 20, 100, 1000, 12_000, 100_000]
const SIZE_NAMES = SIZES.map((size) => `at most ${size}`)
const NOTHING: ReadonlySet<string> = new Set()

export type Variant = Pick<Surroundings, 'driver' | 'store' | 'services'> & {
  /** Kinds of faults that do not happen. */
  readonly without?: ReadonlySet<string>
  /** Instead of CALLS. */
  readonly calls?: number
  /** Without a trace a world takes a tenth less time. Default: true. */
  readonly traced?: boolean
  /** Gets each line of the trace. */
  readonly tell?: (line: string) => void
}

export type Report = {
  readonly seed: number
  /** SHA-256 of the trace, in hex; of nothing where there is no trace. */
  readonly trace: string
  readonly calls: ReadonlyMap<string, number>
  /** Calls by how many values, tokens or names each has. */
  readonly sizes: ReadonlyMap<string, number>
  readonly faults: ReadonlyMap<string, number>
  readonly events: number
  readonly revisions: number
}

/** Runs the world of a seed. Throws an error that names the seed. */
export async function runWorld(seed: number, variant: Variant = {}): Promise<Report> {
  const world = new WholeWorld(seed, variant)
  const restore = world.time.install()
  try {
    return await world.run()
  } catch (error) {
    const law = error instanceof Error ? error.message : error
    throw new Error(`COFFER_SEED=${seed}, ${variant.calls ?? CALLS} calls: ${law}`, { cause: error })
  } finally {
    restore()
  }
}

class WholeWorld {
  readonly time = new VirtualTime()
  readonly ledger = new MemoryLedger()
  readonly judge = new Judge()
  readonly #random: Random
  readonly #workload: Workload
  readonly #machines: Machine[] = []
  readonly #surroundings: Surroundings
  readonly #faults = new Map<string, number>()
  readonly #trace = createHash('sha256')
  readonly #operator: Operator
  readonly #variant: Variant
  readonly #calls: number
  /** Of the trace, not hashed yet. */
  #lines = ''
  /** Of what belongs to no node. */
  readonly #clock: Clock
  readonly #history: Revision[] = []
  /** By the run of a node. */
  readonly #held = new WeakMap<object, Held>()
  #failure: unknown
  #revisions = 0
  /** Clients rest until this instant. */
  #restUntil = 0

  constructor(seed: number, variant: Variant) {
    const random = seeded(seed)
    this.#random = random
    this.#variant = variant
    this.#calls = variant.calls ?? CALLS
    this.#workload = new Workload(random, this.judge)
    const clock: Clock = {
      now: () => 0,
      monotonic: () => this.time.now,
      random: (length) => bytesOf(random, length),
    }
    this.#clock = clock
    const { owners } = this.#workload
    this.#operator = new Operator({ owners, machines: this.#machines, random, clock, time: this.time })
    this.#surroundings = {
      time: this.time,
      ledger: this.ledger,
      history: this.#history,
      reads: (node) => this.#operator.access.reads(node),
      keys: new SharedKeys(),
      checkpointEvery: random.pick([1, 30, 300]),
      fatal: (error) => this.#fail(error),
      ...variant,
    }
  }

  async run(): Promise<Report> {
    for (let i = 1; i <= NODES; i++) this.#add(`n${i}`)
    await this.#do(CALLS_MS, () => this.#disturbed())
    await this.#do(MENDED_MS, () => this.#mended())
    for (const { run } of this.#machines) run?.link.breakStreams()
    this.#hashLines()
    return {
      seed: this.#random.seed,
      trace: this.#trace.digest('hex'),
      calls: countBy(this.judge.calls, ({ ask: { kind }, answer }) => `${kind}: ${answer.kind}`),
      sizes: countBy(this.judge.calls, ({ ask: asked }) => sizeClass(sizeOf(asked))),
      faults: this.#faults,
      events: this.time.events,
      revisions: this.#revisions,
    }
  }

  /** Runs the part to its end, within so many virtual milliseconds. */
  async #do(within: number, part: () => Promise<void>): Promise<void> {
    let done = false
    this.time.after(
      0,
      () => {
        part().then(
          () => (done = true),
          (error) => this.#fail(error),
        )
      },
      undefined,
    )
    await this.time.until(() => done || this.#failure !== undefined, this.time.now + within)
    if (this.#failure !== undefined) throw this.#failure
  }

  #fail(error: unknown): void {
    this.#failure ??= error
  }

  #add(name: string): Machine {
    const machine = new Machine(name, this.#surroundings, {
      seed: this.#random.below(2 ** 31),
      files: this.#operator.files(),
    })
    this.#machines.push(machine)
    return machine
  }

  async #disturbed(): Promise<void> {
    const random = this.#random
    this.#remember().catch((error: unknown) => this.#fail(error))
    await found(this.ledger, { keyring: this.#operator.files().keyring, clock: this.#clock })
    for (const machine of this.#machines) await machine.start()
    let clients = CLIENTS
    const pace = random.pick(PACES_MS)
    const crowd = random.pick([0, 0, 0.8]) // in some worlds most clients ask one node
    const client = async (): Promise<void> => {
      while (this.judge.calls.length < this.#calls || sum(this.#faults) < LEAST_FAULTS) {
        if (random.chance(0.6)) await this.time.sleep(random.below(random.chance(0.1) ? 5 * pace : pace / 2))
        while (this.time.now < this.#restUntil) await this.time.sleep(this.#restUntil - this.time.now)
        const machine = random.chance(crowd) ? this.#machines[0] : random.pick(this.#machines)
        const asked = this.#workload.next()
        await this.#ask(machine, { ...asked, by: this.#operator.caller(asked.owner) })
      }
      clients--
    }
    const world = {
      time: this.time,
      random,
      pace: pace * Math.min(1, this.#calls / CALLS), // a world of few calls has as many faults
      without: this.#variant.without ?? NOTHING,
      ledger: this.ledger,
      machines: this.#machines,
      owners: this.#workload.owners,
      ask: (machine: Machine, asked: Ask) =>
        this.#ask(machine, asked).catch((error: unknown): Answer => {
          this.#fail(error) // nobody may wait for the answer yet
          return { kind: 'unknown' }
        }),
      fail: (error: unknown) => this.#fail(error),
      otherLedger: () => otherLedger({ history: this.#history, random, clock: this.#clock }),
      known: () => this.#known(),
      newValue: () => `call ${this.judge.calls.length}`,
      operator: this.#operator,
      rest: async (ms: number) => {
        if (this.#restUntil > 0) return false
        this.#workload.forget()
        this.#restUntil = this.time.now + ms
        await this.time.sleep(ms)
        return true
      },
    }
    await Promise.all([
      ...Array.from({ length: CLIENTS }, client),
      disturb(world, () => clients === 0, this.#faults),
    ])
  }

  #known(): { readonly owner: string; readonly tokens: readonly string[] } {
    const owner = this.#random.pick(this.#workload.owners)
    const newest = this.judge.tokens.slice(-LONG).filter((token) => this.judge.issue(token)?.owner === owner)
    return { owner, tokens: newest }
  }

  /** Keeps all revisions, also those that will be compacted. */
  async #remember(): Promise<void> {
    for await (const revision of this.ledger.follow(0)) this.#history.push(revision)
  }

  /** A client's call. The answer is judged, and goes into the trace. */
  async #ask(machine: Machine, asked: Ask): Promise<Answer> {
    const { judge, time } = this
    const call = judge.begin(asked)
    const from = time.now
    const { access } = this.#operator
    const [least, shift, clock] = [access.since(machine.name), machine.shift, machine.now]
    const judgeHeld = this.#holds(machine, asked)
    const body = (asked.by ?? OWN_KEY) === OWN_KEY ? 0 : this.#random.below(BODY_MS)
    const { promise, resolve } = Promise.withResolvers<Answer>()
    const impatient = time.after(PATIENCE_MS, () => resolve({ kind: 'unknown' }), undefined)
    const request = { asked, id: call.id, body: () => (body > 0 ? time.sleep(body) : Promise.resolve()) }
    const { run } = machine
    const answered = machine.call((services, _, node) =>
      this.#answer(run?.process, () => ask(services, node, request)),
    )
    void answered.then((answer) => resolve(answer ?? { kind: 'unknown' }))
    const answer = await promise
    time.cancel(impatient)
    const steady = machine.shift === shift // else the clock was anything
    const between = steady ? ([clock, machine.now] as const) : ANY_TIME
    access.judge({ id: asked.by ?? OWN_KEY, least, clock: between }, asked, answer)
    judge.end(call, answer, between)
    judgeHeld(answer)
    const to = time.now
    this.#tell(() => [Math.round(from), Math.round(to), machine.name, ...told(asked, answer)])
    return answer
  }

  /** An error that is no answer ends the world. */
  async #answer(process: SimProcess | undefined, work: () => Promise<Answer>): Promise<Answer> {
    const endWatch = process && this.#watch(process)
    try {
      return await work()
    } catch (error) {
      this.#fail(error)
      throw error
    } finally {
      endWatch?.()
    }
  }

  /**
   * Ends the world where a living process has not answered within the time of a request; the time in which the process stood
   * still does not count. Returns the function to be called with the answer.
   */
  #watch(process: SimProcess): () => void {
    const { time } = this
    const from = time.now
    const look = (): void => {
      if (!process.alive) return
      const left = LATE_MS - (time.now - from - process.stoodStill(from, time.now))
      if (left > 0) next = time.after(Math.max(1, left), look, undefined)
      else this.#fail(new Violation('law 7: no answer by the deadline'))
    }
    let next = time.after(LATE_MS, look, undefined)
    return () => time.cancel(next)
  }

  /**
   * Returns the judge of the answer: what the run of a node held when the question came, the run answers, unless the process
   * ends, or stands still, meanwhile.
   */
  #holds({ run }: Machine, asked: Ask): (answer: Answer) => void {
    if (!run?.services) return () => undefined // not open yet, even for a question about nothing
    const { process, node } = run
    const held = this.#held.get(run) ?? new Held()
    this.#held.set(run, held)
    const from = this.time.now
    const isCertain = held.answers(asked)
    return (answer) => {
      held.note(asked, answer)
      if (!isCertain || !process.alive || node.stop.signal.aborted) return
      if (process.stoodStill(from, this.time.now) > 0) return
      const isAnswer = answer.kind !== 'not-applied' && answer.kind !== 'unknown'
      if (!isAnswer) throw new Violation(`law 7: ${asked.kind} of what the node holds: ${answer.kind}`)
    }
  }

  #tell(line: () => unknown): void {
    if (this.#variant.traced === false) return
    const text = JSON.stringify(line())
    this.#variant.tell?.(text)
    this.#lines += `${text}\n`
    if (this.#lines.length >= HASHED_TOGETHER) this.#hashLines()
  }

  #hashLines(): void {
    this.#trace.update(this.#lines)
    this.#lines = ''
  }

  // ---- all is mended

  async #mended(): Promise<void> {
    const machines = this.#machines
    for (const machine of machines) {
      machine.weather.mend()
      machine.goOn()
      if (!machine.run) await machine.start()
      Object.assign(machine.run?.disk ?? {}, { slowness: 1, full: false })
    }
    await this.#operator.mend()
    const fresh = this.#add('from-nothing')
    await fresh.start()
    while (!machines.every(({ run }) => run?.ready && notReady(run.node, false).length === 0))
      await this.time.sleep(100)
    await this.#tokensAreThere()
    let lastCalls = this.#lastCalls()
    while (this.judge.calls.length + lastCalls < 2 * this.#calls) {
      const asked = { ...this.#workload.next(), by: OWN_KEY }
      await this.#certain(this.#random.pick(machines), asked)
      if (asked.kind === 'write') lastCalls = this.#lastCalls()
    }
    const histories = await this.#histories(fresh)
    this.judge.judgeSecrets(histories)
    await this.#oneDigest()
  }

  /** Asks until a node answers: a limit of time is on all of the part. */
  async #certain(machine: Machine, asked: Ask): Promise<Answer> {
    for (;;) {
      const answer = await this.#ask(machine, asked)
      if (answer.kind !== 'unknown' && answer.kind !== 'not-applied') return answer
      await this.time.sleep(100)
    }
  }

  /** Every acknowledged token, at every node; and values get tokens. */
  async #tokensAreThere(): Promise<void> {
    const byOwner = Map.groupBy(this.judge.tokens, (token) => this.judge.issue(token)?.owner ?? '')
    for (const machine of this.#machines) {
      for (const [owner, tokens] of byOwner) {
        for (let i = 0; i < tokens.length; i += CHECKED_TOGETHER) {
          const some = tokens.slice(i, i + CHECKED_TOGETHER)
          await this.#certain(machine, { kind: 'detokenize', owner, tokens: some })
        }
        const values = tokens.slice(0, 3).map((token) => this.judge.issue(token)?.value ?? '')
        await this.#certain(machine, { kind: 'tokenize', owner, values: [...values, `new ${machine.name}`] })
      }
    }
  }

  /** The histories of all secrets at two nodes, the latest value at every node, and each version's value. */
  async #histories(fresh: Machine): Promise<Map<string, readonly Line[]>> {
    const histories = new Map<string, readonly Line[]>()
    for (const [key, [owner, name]] of this.#names()) {
      const answer = await this.#certain(fresh, { kind: 'history', owner, name })
      await this.#certain(this.#random.pick(this.#machines), { kind: 'history', owner, name })
      if (answer.kind !== 'lines') continue
      histories.set(key, answer.lines)
      for (const machine of this.#machines) await this.#certain(machine, { kind: 'read', owner, name })
      const at = this.#random.pick(answer.lines).validFrom
      await this.#certain(fresh, { kind: 'read', owner, name, at })
      for (const { version } of answer.lines)
        await this.#certain(fresh, { kind: 'read', owner, name, version })
    }
    return histories
  }

  /** Of `#histories`, at least: a secret that is there has a version. */
  #lastCalls(): number {
    const there = new Set<string>()
    for (const { ask: asked, answer } of this.judge.calls)
      if (asked.kind === 'write' && answer.kind === 'written')
        for (const name of asked.names) there.add(secretOf(asked.owner, name))
    return 2 * this.#names().size + there.size * (this.#machines.length + 2)
  }

  /** Owner and name of all secrets that were written, or may have been. */
  #names(): ReadonlyMap<string, readonly [string, string]> {
    const names = new Map<string, readonly [string, string]>()
    for (const { ask: asked } of this.judge.calls)
      if (asked.kind === 'write')
        for (const name of asked.names) names.set(secretOf(asked.owner, name), [asked.owner, name])
    return names
  }

  /** Law 5: all nodes, one from nothing among them, and a quarter of them after another start. */
  async #oneDigest(): Promise<void> {
    for (const round of ['running', 'started again']) {
      const { digests, head } = await this.#digestsAtRest()
      if (digests.size !== 1)
        throw new Violation(`law 5: digests differ, ${round}: ${[...digests].join(' ')}`)
      this.#tell(() => [...digests])
      this.#revisions = head
      if (round !== 'running') return
      for (const machine of this.#machines) {
        if (this.#random.chance(0.75)) continue // to start again takes time
        if (this.#random.chance(0.5)) await machine.crash('lost')
        else await machine.stop()
        await machine.start()
        while (!machine.run?.ready) await this.time.sleep(10)
      }
    }
  }

  /**
   * Digests of all nodes at one head: what nodes commit after a reload may still be under way, and a node whose stream was cut
   * may be behind for a while. A limit of time is on all of the part.
   */
  async #digestsAtRest(): Promise<{
    readonly digests: ReadonlySet<string | undefined>
    readonly head: number
  }> {
    for (;;) {
      const digests = new Set<string | undefined>()
      const head = await this.ledger.head()
      for (const machine of this.#machines) {
        const digest = await machine.call(async ({ replica }, clock) => {
          await replica.barrier(new Deadline(clock, REQUEST_MS))
          const receipts = [...replica.receipts()].map(({ key }) => key).sort()
          return JSON.stringify({ ...replica.digest(), receipts })
        })
        digests.add(digest)
      }
      if (!digests.has(undefined) && (await this.ledger.head()) === head) return { digests, head }
      await this.time.sleep(100)
    }
  }
}

/** For the trace: long answers that the judge has compared with what was known are told by their kind. */
function told(asked: Ask, answer: Answer): unknown[] {
  const isLong = asked.kind === 'detokenize' && asked.tokens.length > LONG && answer.kind === 'values'
  return isLong ? [asked.kind, asked.owner, asked.tokens.length, answer.kind] : [asked, answer]
}

/** Of values, tokens, references or names. */
function sizeOf(asked: Ask): number {
  if (asked.kind === 'tokenize') return asked.values.length
  if (asked.kind === 'detokenize' || asked.kind === 'retokenize') return asked.tokens.length
  if (asked.kind === 'resolve') return asked.refs.length
  return asked.kind === 'write' ? asked.names.length : 1
}

function sizeClass(size: number): string {
  let at = 0
  while (size > SIZES[at]) at++
  return SIZE_NAMES[at]
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((a, b) => a + b, 0)
}

function countBy<T>(list: readonly T[], name: (each: T) => string): Map<string, number> {
  const counts = new Map<string, number>()
  for (const each of list) counts.set(name(each), (counts.get(name(each)) ?? 0) + 1)
  return counts
}
