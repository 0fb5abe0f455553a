// A simulated node: a process of its own in virtual time, with a disk, a clock and a way to the ledger; the product's
// replica and services run in it as they are. A crash takes the process and what the disk had not flushed.

import { type Clock, Deadline, randomHex } from '../../src/clock.ts'
import type { Keyring } from '../../src/crypto/keyring.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import { type Ledger, LedgerUnavailable, type Revision, UnknownOutcome } from '../../src/ledger/ledger.ts'
import type { MemoryLedger } from '../../src/ledger/memory.ts'
import { Replica } from '../../src/replica/replica.ts'
import type { Store } from '../../src/replica/store.ts'
import { makeServices, type NodeServices } from '../../src/server/services.ts'
import { encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { Disk } from './disk.ts'
import { Link, Weather } from './link.ts'
import { type Random, seeded } from './seed.ts'
import { SimProcess, type VirtualTime, within } from './virtual-time.ts'

/** The wall clock at the begin of every simulation. */
const BEGIN = Date.UTC(2030, 0, 1)
const RETRY_MS = 500
const COMMIT_MS = 4000

/** What a world gives its nodes. `driver` and `store` stand for other ones, with a fault that is to be found. */
export type Surroundings = {
  readonly time: VirtualTime
  readonly ledger: MemoryLedger
  /** All revisions of the ledger, also those compacted. */
  readonly history: readonly Revision[]
  readonly owners: readonly string[]
  readonly keyring: () => Keyring
  readonly checkpointEvery: number
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
  services?: NodeServices
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
  /** The last instant at which the process stood still. */
  stoodStill = 0
  readonly #around: Surroundings
  readonly #random: Random
  #left: Awaited<ReturnType<Disk['afterCrash']>> | undefined
  #runs = 0

  constructor(name: string, around: Surroundings, seed: number) {
    this.name = name
    this.#around = around
    this.#random = seeded(seed)
  }

  /** Resolves when the replica is open, or the process is gone. */
  async start(): Promise<void> {
    const { time, ledger, driver, history } = this.#around
    const process = new SimProcess(`${this.name}.${++this.#runs}`)
    const disk = new Disk(time, this.#random, this.#left)
    const { random, weather } = { random: this.#random, weather: this.weather }
    const cursor = (): number | undefined => run.services?.replica.applied
    const link = new Link({ ledger, time, random, process, weather, history, cursor })
    const clock: Clock = {
      now: () => Math.floor(BEGIN + time.now + this.shift),
      monotonic: () => time.now,
      random: (length) => Uint8Array.from({ length }, () => this.#random.below(256)),
    }
    const run: Run = { process, disk, link, clock, ready: false, calls: new Set() }
    this.run = run
    await this.#unlessGone(run, () => this.#open(run, driver ? driver(link, ledger) : link))
  }

  /** Resolves when the work of the process is done, or the process is gone. */
  #unlessGone(run: Run, work: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      run.calls.add(resolve)
      void within(run.process, () => work().then(resolve, reject))
    })
  }

  async #open(run: Run, ledger: Ledger): Promise<void> {
    const { checkpointEvery, keyring, fatal, store, services } = this.#around
    const boot = randomHex(run.clock, 16)
    const replica = await Replica.open({
      store: store ? store(run.disk) : run.disk,
      ledger: new CheckedLedger(ledger),
      boot,
      checkpointEvery,
      clock: run.clock,
      events: { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} },
      fatal,
    })
    replica.follow()
    const made = makeServices(replica, keyring, run.clock)
    run.services = services ? services(made) : made
    this.#announce(run, made, boot).catch(fatal)
  }

  /** As server/announce.ts. */
  async #announce(run: Run, { replica, tokens }: NodeServices, boot: string): Promise<void> {
    const key = ledgerKey.boot(boot)
    while (!run.ready) {
      try {
        const value = encodeEntry({ kind: 'boot', boot, node: this.name }, replica.nextWriter())
        const commit = { if: [{ key, revision: 0 }], put: [{ key, value }] }
        await replica.commit(commit, key, new Deadline(run.clock, COMMIT_MS))
        for (const owner of this.#around.owners)
          await tokens.openFirst({ owner, deadline: new Deadline(run.clock, COMMIT_MS) })
        run.ready = true
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
    await this.#unlessGone(run, () => replica.close())
    if (this.run === run) await this.crash('stays')
  }

  /** SIGSTOP and, later, SIGCONT. */
  pause(ms: number): void {
    if (!this.run) return
    const until = this.#around.time.now + ms
    this.run.process.pausedUntil = Math.max(this.run.process.pausedUntil, until)
    this.stoodStill = Math.max(this.stoodStill, until)
  }

  goOn(): void {
    if (this.run) this.run.process.pausedUntil = 0
  }

  /**
   * The answer of `work` in the process. Undefined where the process is not there, dies, or does not answer.
   */
  call<T>(work: (services: NodeServices, clock: Clock) => Promise<T>): Promise<T | undefined> {
    const { time } = this.#around
    const { run } = this
    return new Promise((resolve) => {
      const end = (answer: T | undefined): void => {
        run?.calls.delete(lost)
        time.after(this.#random.below(3), () => resolve(answer), undefined)
      }
      const lost = (): void => end(undefined)
      if (!run?.services || !run.process.alive) return lost()
      const { services, clock, process } = run
      run.calls.add(lost)
      time.after(this.#random.below(3), () => void work(services, clock).then(end, lost), process)
    })
  }
}
