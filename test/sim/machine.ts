// A simulated node: a process of its own in virtual time, with a disk, a clock and a way to the ledger; the product's
// replica and services run in it as they are. A crash takes the process and what the disk had not flushed.

import type { Clock } from '../../src/clock.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import { type Ledger, LedgerUnavailable, type Revision, UnknownOutcome } from '../../src/ledger/ledger.ts'
import type { MemoryLedger } from '../../src/ledger/memory.ts'
import { Replica } from '../../src/replica/replica.ts'
import type { Store } from '../../src/replica/store.ts'
import { announceAgain, commitBoot, openFirstEpochs } from '../../src/server/announce.ts'
import type { RunningNode } from '../../src/server/running-node.ts'
import { makeServices, type NodeServices } from '../../src/server/services.ts'
import { Disk } from './disk.ts'
import { Link, Weather } from './link.ts'
import { bytesOf, type Random, seeded } from './seed.ts'
import type { SharedKeys } from './shared-keys.ts'
import { type Files, reloadNode, simNode } from './sim-node.ts'
import { SimProcess, type VirtualTime, within } from './virtual-time.ts'

/** The wall clock at the begin of every simulation. */
const BEGIN = Date.UTC(2030, 0, 1)
const RETRY_MS = 500

/** What a world gives its nodes. `driver` and `store` stand for other ones, with a fault that is to be found. */
export type Surroundings = {
  readonly time: VirtualTime
  readonly ledger: MemoryLedger
  /** All revisions of the ledger, also those compacted. */
  readonly history: readonly Revision[]
  /** Called when a node begins to read its files. Returns the function to be called once the files are read. */
  readonly reads: (node: string) => () => void
  readonly checkpointEvery: number
  readonly keys: SharedKeys
  readonly driver?: ((link: Ledger, ledger: MemoryLedger) => Ledger) | undefined
  readonly store?: ((disk: Store) => Store) | undefined
  readonly services?: ((services: NodeServices) => NodeServices) | undefined
  /** Called with an invariant that broke. */
  readonly fatal: (error: Error) => void
}

/** A process with what runs in it. `services` once the replica is open. */
type Run = {
  readonly process: SimProcess
  readonly disk: Disk
  readonly link: Link
  readonly clock: Clock
  readonly node: RunningNode
  services?: NodeServices | undefined
  /** Whether the node has announced itself. */
  ready: boolean
  /** Ends a call that the process will not answer any more. */
  readonly calls: Set<() => void>
}

export class Machine {
  readonly name: string
  readonly weather = new Weather()
  /** Of the wall clock, in milliseconds. */
  shift = 0
  run: Run | undefined
  readonly files: Files
  readonly #around: Surroundings
  readonly #random: Random
  #left: Awaited<ReturnType<Disk['afterCrash']>> | undefined
  #runs = 0

  constructor(name: string, around: Surroundings, { seed, files }: { seed: number; files: Files }) {
    this.name = name
    this.files = files
    this.#around = around
    this.#random = seeded(seed)
  }

  /** Of the wall clock. */
  get now(): number {
    return Math.floor(BEGIN + this.#around.time.now + this.shift)
  }

  /** Resolves when the replica is open, or the process is gone. */
  async start(): Promise<void> {
    const { time, ledger, driver, history, fatal, reads } = this.#around
    const process = new SimProcess(`${this.name}.${++this.#runs}`)
    const disk = new Disk(time, this.#random, this.#left)
    const { random, weather } = { random: this.#random, weather: this.weather }
    const cursor = (): number | undefined => run.services?.replica.applied
    const link = new Link({ ledger, time, random, process, weather, history, cursor })
    const clock: Clock = {
      now: () => this.now,
      monotonic: () => time.now,
      random: (length) => bytesOf(this.#random, length),
    }
    const checked = new CheckedLedger(driver ? driver(link, ledger) : link)
    const read = reads(this.name)
    const node = simNode({ name: this.name, files: this.files, clock, ledger: checked, fatal })
    read()
    const run: Run = { process, disk, link, clock, node, ready: false, calls: new Set() }
    this.run = run
    await this.#unlessGone(run, () => this.#open(run))
  }

  /** Resolves when the work of the process is done, or the process is gone. */
  #unlessGone(run: Run, work: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      run.calls.add(resolve)
      void within(run.process, () => work().then(resolve, reject))
    })
  }

  async #open(run: Run): Promise<void> {
    const { checkpointEvery, fatal, store, services, keys } = this.#around
    const { node } = run
    const replica = await Replica.open({
      store: store ? store(run.disk) : run.disk,
      ledger: node.ledger,
      boot: node.boot,
      quotaOf: (owner) => node.quotas.get(owner),
      checkpointEvery,
      clock: run.clock,
      events: { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} },
      fatal,
    })
    replica.follow()
    const made = makeServices(replica, () => keys.share(node.keyring), run.clock)
    run.services = services ? services(made) : made
    node.services = made
    this.#announce(run, made).catch(fatal)
  }

  /** As server/ready.ts. */
  async #announce(run: Run, services: NodeServices): Promise<void> {
    const { node } = run
    const { owners, keyring } = node // before the first try, whose commit may come late
    while (!run.ready) {
      try {
        await commitBoot(node, services.replica)
        await openFirstEpochs(services, run.clock, owners)
        run.ready = true
        node.waitingFor = ''
        if (node.owners !== owners || node.keyring !== keyring || node.keyring.rewrap) announceAgain(node)
      } catch (error) {
        if (!(error instanceof LedgerUnavailable) && !(error instanceof UnknownOutcome)) throw error
        if (error instanceof LedgerUnavailable && error.reason === 'closed') return
        await this.#around.time.sleep(RETRY_MS)
      }
    }
  }

  /** Kill -9, with or without a loss of power. */
  async crash(power: 'lost' | 'stays'): Promise<void> {
    const { run } = this
    if (!run) return
    this.run = undefined
    run.process.alive = false
    for (const end of [...run.calls]) end()
    run.link.breakStreams() // else the streams, and all that they hold, would be kept for ever
    this.#left = await run.disk.afterCrash(power)
  }

  /** An end in order: a last checkpoint, a closed store. */
  async stop(): Promise<void> {
    const { run } = this
    if (!run?.services) return this.crash('stays')
    const { replica } = run.services
    await this.#unlessGone(run, async () => {
      run.node.stop.abort(new LedgerUnavailable('closed', 'the node is stopping'))
      await run.node.background.close()
      await replica.close()
    })
    if (this.run === run) await this.crash('stays')
  }

  /** SIGHUP. Whether the node has read its files: false where the process is gone. */
  reload(): Promise<boolean> {
    const { run } = this
    return new Promise((resolve) => {
      const lost = (): void => resolve(false)
      if (!run?.process.alive) return lost()
      run.calls.add(lost)
      const read = (): void => {
        run.calls.delete(lost)
        reloadNode(run.node, this.files)
        resolve(true)
      }
      this.#around.time.after(this.#random.below(3), read, run.process)
    })
  }

  /** SIGSTOP and, later, SIGCONT. */
  pause(ms: number): void {
    if (!this.run) return
    const { now } = this.#around.time
    this.run.process.pause(now, now + ms)
  }

  /** What a pause has put off before still comes at the end of that pause. */
  goOn(): void {
    if (this.run) this.run.process.pausedUntil = 0
  }

  /**
   * The answer of `work` in the process. Undefined where the process is not there, dies, or does not answer.
   */
  call<T>(
    work: (services: NodeServices, clock: Clock, node: RunningNode) => Promise<T>,
  ): Promise<T | undefined> {
    const { time } = this.#around
    const { run } = this
    return new Promise((resolve) => {
      const end = (answer: T | undefined): void => {
        run?.calls.delete(lost)
        time.after(this.#random.below(3), () => resolve(answer), undefined)
      }
      const lost = (): void => end(undefined)
      if (!run?.services || !run.process.alive) return lost()
      const { services, clock, process, node } = run
      run.calls.add(lost)
      const begin = (): void => void work(services, clock, node).then(end, lost)
      time.after(this.#random.below(3), begin, process)
    })
  }
}
