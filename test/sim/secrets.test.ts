// Secrets on several nodes over one ledger that misbehaves in every legal way, in one process: clients create, update and
// read anywhere while commits get lost or come late, streams break, history is compacted, clocks jump, root keys change,
// nodes restart. Then every answer is judged by the histories that all nodes agree on.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { newRootKey } from '../../src/crypto/keyring.ts'
import { Problem } from '../../src/errors.ts'
import { LedgerUnavailable, UnknownOutcome } from '../../src/ledger/ledger.ts'
import type { CommitFault } from '../../src/ledger/memory.ts'
import type { VersionSelector } from '../../src/secrets/intervals.ts'
import type { WriteResult } from '../../src/secrets/receipts.ts'
import type { HistoryLine } from '../../src/secrets/secrets.ts'
import { by } from '../deadlines.ts'
import { caller, createOnce, OWNER, type SimNode, secret, textOf, updateOnce, World } from './nodes.ts'
import { type Random, seeded } from './seed.ts'

const NAMES = ['a', 'a/1', 'a/0000000001', 'b', 'c', 'd']
const CLIENTS = 12
const STEPS = 50
const ROUNDS = 3
const MINUTE_MS = 60_000

/** What a client has asked to be written; every value is another. `none`: it was told that nothing was done. */
type Write = {
  readonly names: readonly string[]
  readonly value: string
  readonly create: boolean
  /** The version that it has to follow, if any. */
  readonly after: number | undefined
  readonly asked: number
  answered: number
  outcome: WriteResult | 'maybe' | 'none'
}
/** Of the latest version, undefined where there was none, or of the one of an instant. */
type Read = {
  readonly name: string
  readonly at: number | undefined
  readonly version: number | undefined
  readonly value: string
  readonly asked: number
  readonly answered: number
}
/** That a name exists, does not, or has another version. */
type Refusal = {
  readonly name: string
  readonly slug: string
  readonly version: number | undefined
  readonly asked: number
  readonly answered: number
}
type Version = HistoryLine & { readonly value: string }

/** Errors after which a client does not know, or may ask again. */
function unavailable(error: unknown): boolean {
  if (error instanceof Problem) return error.slug === 'no-quorum'
  return error instanceof UnknownOutcome || error instanceof LedgerUnavailable
}

class Sim {
  readonly world: World
  readonly random: Random
  readonly writes: Write[] = []
  readonly reads: Read[] = []
  readonly refusals: Refusal[] = []
  /** Beginnings of versions that were read. */
  readonly #instants: { readonly name: string; readonly at: number }[] = []
  #time = 0

  constructor(world: World, random: Random) {
    this.world = world
    this.random = random
  }

  /** Instants of the history: no two are equal. */
  #tick(): number {
    return ++this.#time
  }

  async client(): Promise<void> {
    for (let step = 0; step < STEPS; step++) {
      if (this.random.chance(0.1)) await this.#disturb()
      if (this.random.chance(0.5)) await this.#write()
      else await this.#read()
    }
  }

  async #write(): Promise<void> {
    const { random, world } = this
    const create = random.chance(0.2)
    const names = create ? [...new Set([random.pick(NAMES), random.pick(NAMES)])] : [random.pick(NAMES)]
    const after = !create && random.chance(0.4) ? 1 + random.below(this.writes.length / 10 + 2) : undefined
    const value = `value ${this.writes.length}`
    const write: Write = { names, value, create, after, asked: this.#tick(), answered: 0, outcome: 'none' }
    this.writes.push(write)
    // Only under an Idempotency-Key a client may ask again, wherever it likes.
    const once = random.chance(0.5)
    for (let attempts = once ? 4 : 1; attempts > 0; attempts--) {
      try {
        write.outcome = await this.#send(write, random.pick(world.nodes), once)
        break
      } catch (error) {
        if (!unavailable(error)) {
          this.#refused(write, error)
          write.outcome = 'none'
          break
        }
        if (error instanceof UnknownOutcome) write.outcome = 'maybe'
      }
    }
    write.answered = this.#tick()
  }

  #send({ names, value, create, after }: Write, node: SimNode, once: boolean): Promise<WriteResult> {
    const secrets = names.map((name) => secret(name, value))
    if (create) return once ? createOnce(node, value, secrets) : node.secrets.create(caller(value), secrets)
    const matches = (version: number): boolean => after === undefined || version === after
    if (once) return updateOnce(node, value, secrets[0], matches)
    return node.secrets.update(caller(value), secrets[0], matches)
  }

  #refused({ names, create, asked }: Write, error: unknown): void {
    if (!(error instanceof Problem)) throw error
    const expected = create ? ['secret-exists'] : ['not-found', 'version-conflict']
    assert.ok(expected.includes(error.slug), String(error))
    // As the table of errors documents the members.
    const told = { slug: error.slug, version: error.members.version as number | undefined, asked }
    const about = create ? (error.members.names as string[]) : names
    for (const name of about) this.refusals.push({ ...told, name, answered: this.#tick() })
  }

  async #read(): Promise<void> {
    const { random, world } = this
    const node = random.pick(world.nodes)
    const earlier = random.chance(0.3) ? random.pick([undefined, ...this.#instants]) : undefined
    const name = earlier?.name ?? random.pick(NAMES)
    const which: VersionSelector = earlier
      ? { at: earlier.at }
      : random.chance(0.3)
        ? { version: 1 + random.below(5) }
        : {}
    const about = { name, at: which.at, asked: this.#tick() }
    try {
      const { version, validFrom, value } = await node.secrets.read(by(OWNER), name, which)
      this.#instants.push({ name, at: validFrom })
      const read = { ...about, version, value: value.toString('utf8'), answered: this.#tick() }
      if (which.version === undefined) this.reads.push(read)
      // A version asked for by number may be an old one: as good as the question at its beginning.
      else this.reads.push({ ...read, at: validFrom })
    } catch (error) {
      if (unavailable(error)) return
      if (!(error instanceof Problem) || error.slug !== 'not-found') throw error
      assert.equal(earlier, undefined, 'what was valid once is found')
      if (which.version === undefined)
        this.reads.push({ ...about, version: undefined, value: '', answered: this.#tick() })
    }
  }

  async #disturb(): Promise<void> {
    const { random, world } = this
    const { ledger } = world
    switch (random.below(7)) {
      case 0:
      case 1:
        ledger.faults.push(random.pick<CommitFault>(['lost', 'late', 'answer-lost', 'refuse']))
        return
      case 2:
        ledger.settle()
        return
      case 3:
        ledger.disconnect()
        return
      case 4:
        ledger.compact(Math.max(0, (await ledger.head()) - random.below(20)))
        return
      case 5:
        random.pick(world.nodes).clock.shift = (random.below(20) - 10) * MINUTE_MS
        return
      default:
        if (random.chance(0.3)) await this.#rewrap()
    }
  }

  /** Every node has all root keys; which of them is active changes. */
  async #rewrap(): Promise<void> {
    const { random, world } = this
    world.keyring = world.keyring.activate(random.pick(world.keyring.ids))
    try {
      await world.rewrap(random.pick(world.nodes))
    } catch (error) {
      const overtaken = error instanceof Error && error.message.startsWith('other nodes keep wrapping')
      assert.ok(unavailable(error) || overtaken, String(error))
    }
  }

  // ---- judging

  async judge(): Promise<void> {
    const histories = await this.world.settled()
    const versions = new Map<string, Version[]>()
    for (const [name, lines] of histories) {
      const all: Version[] = []
      for (const line of lines) {
        const values = new Set<string>()
        for (const node of this.world.nodes) values.add(await textOf(node, name, line.version))
        assert.equal(values.size, 1)
        all.push({ ...line, value: [...values][0] })
      }
      versions.set(name, all)
    }
    this.#judgeWrites(versions)
    for (const read of this.reads) this.#judgeRead(read, versions.get(read.name) ?? [])
    for (const refusal of this.refusals) this.#judgeRefusal(refusal, versions.get(refusal.name) ?? [])
  }

  /** What was acknowledged is there once, what was refused is not, and there is nothing that nobody wrote. */
  #judgeWrites(versions: Map<string, Version[]>): void {
    let known = 0
    for (const { names, value, create, after, outcome, asked } of this.writes) {
      const places = names.flatMap((name) =>
        (versions.get(name) ?? []).filter((each) => each.value === value).map((each) => ({ name, ...each })),
      )
      known += places.length
      if (outcome === 'none') assert.equal(places.length, 0, `${value} was refused, and is there`)
      else if (outcome !== 'maybe' || places.length > 0)
        assert.deepEqual(
          places.map(({ name }) => name),
          names,
          `${value}: all of it, once`,
        )
      for (const { name, version, validFrom, requestId } of places) {
        assert.equal(requestId, value)
        if (create) assert.equal(version, 1)
        if (after !== undefined) assert.equal(version, after + 1, `${value} follows version ${after}`)
        if (typeof outcome !== 'string')
          assert.deepEqual([outcome.version, outcome.validFrom], [version, validFrom])
        assert.ok(
          version > this.#acknowledged(name, asked, value),
          `${value} of ${name} is before what it came after`,
        )
      }
    }
    assert.equal(known, [...versions.values()].flat().length, 'every version is somebody’s')
  }

  /** The latest version of the name that was acknowledged before the instant. */
  #acknowledged(name: string, before: number, except = ''): number {
    const done = this.writes.map(({ names, value, outcome, answered }) =>
      names.includes(name) && value !== except && typeof outcome !== 'string' && answered < before
        ? outcome.version
        : 0,
    )
    return Math.max(0, ...done)
  }

  #askedFor(value: string): number {
    const write = this.writes.find((each) => each.value === value)
    assert.ok(write)
    return write.asked
  }

  #judgeRead({ name, at, version, value, asked, answered }: Read, versions: readonly Version[]): void {
    if (version === undefined) {
      assert.equal(this.#acknowledged(name, asked), 0, `${name} was not found, and was acknowledged before`)
      return
    }
    const found = versions[version - 1]
    assert.equal(value, found?.value, `${name}, version ${version}`)
    assert.ok(this.#askedFor(value) < answered, 'nothing is read before it was asked to be written')
    if (at !== undefined) {
      assert.ok(found.validFrom <= at && (found.validTo === null || at < found.validTo), `${name} at ${at}`)
      return
    }
    assert.ok(version >= this.#acknowledged(name, asked), `${name}: an old version as the latest`)
    for (const other of this.reads) {
      if (other.name !== name || other.at !== undefined || other.answered >= asked) continue
      assert.ok((other.version ?? 0) <= version, `${name}: later reads see no less`)
    }
  }

  #judgeRefusal({ name, slug, version, asked, answered }: Refusal, versions: readonly Version[]): void {
    if (slug === 'not-found') assert.equal(this.#acknowledged(name, asked), 0, `${name} was there`)
    else {
      const there = versions[(version ?? 1) - 1]
      assert.ok(there, `${name} has no version ${version ?? 1}`)
      assert.ok(this.#askedFor(there.value) < answered, `${name} was refused for what nobody had asked for`)
      if (version !== undefined)
        assert.ok(version >= this.#acknowledged(name, asked), `${name}: an old version`)
    }
  }
}

test('three nodes over a ledger that misbehaves: every answer is true', async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const world = await World.open(3)
  try {
    for (let i = 0; i < 2; i++) world.keyring = world.keyring.add(newRootKey(systemClock))
    const sim = new Sim(world, random)
    for (let round = 0; round < ROUNDS; round++) {
      await Promise.all(Array.from({ length: CLIENTS }, () => sim.client()))
      await world.restart(random.pick(world.nodes))
    }
    await sim.judge()
    const done = sim.writes.filter(({ outcome }) => typeof outcome !== 'string')
    assert.ok(
      done.length > 100 && sim.reads.length > 200 && sim.refusals.length > 20,
      'the run did something',
    )
    t.diagnostic(`${done.length} writes, ${sim.reads.length} reads, ${sim.refusals.length} refusals`)
  } finally {
    await world.close()
  }
})
