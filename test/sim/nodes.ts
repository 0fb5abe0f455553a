// Several nodes' replicas and services over one memory ledger, in one process: each with a clock of its own, and a way to
// the ledger on which a test can lose, hold back and reorder. And what has to hold at the end of every such test.

import assert from 'node:assert/strict'
import { type Clock, type Deadline, randomHex, systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import type { AskedRequest } from '../../src/crypto/receipt.ts'
import { Problem } from '../../src/errors.ts'
import { type RewrapOptions, rewrapKeys } from '../../src/keys/rewrap.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import type { Commit, CommitResult, KeyRange, Ledger, Revision } from '../../src/ledger/ledger.ts'
import { MemoryLedger } from '../../src/ledger/memory.ts'
import { PendingCommit } from '../../src/ledger/pending-commit.ts'
import { MemoryStore } from '../../src/replica/memory-store.ts'
import { Replica } from '../../src/replica/replica.ts'
import type { Store } from '../../src/replica/store.ts'
import { type Claim, Receipts, type WriteResult } from '../../src/secrets/receipts.ts'
import { type Caller, type HistoryLine, type NewSecret, SecretService } from '../../src/secrets/secrets.ts'
import { by, soon } from '../deadlines.ts'
import { found } from './genesis.ts'

export const OWNER = 'o'

/** A rewrap that nobody ends, in a ledger with room. */
export const AT_ONCE: RewrapOptions = { signal: new AbortController().signal, room: async () => undefined }

/** The system's clock, shifted. */
export class ShiftedClock implements Clock {
  /** Of the wall clock and of the monotonic one, in milliseconds. */
  shift = 0
  ahead = 0
  readonly random = systemClock.random

  now(): number {
    return systemClock.now() + this.shift
  }

  monotonic(): number {
    return systemClock.monotonic() + this.ahead
  }
}

/** One node's way to the ledger. */
export class Way implements Ledger {
  readonly full = false
  readonly right = true
  /** Takes the place of sending a commit; `send` sends it. */
  through: ((commit: Commit, send: () => Promise<CommitResult>) => Promise<CommitResult>) | undefined
  /** Takes the place of asking for the head. */
  asking: (() => Promise<number>) | undefined
  /** Commits that were to be sent. */
  sent = 0
  readonly #ledger: MemoryLedger
  #held: PromiseWithResolvers<void> | undefined
  #cut = false

  constructor(ledger: MemoryLedger) {
    this.#ledger = ledger
  }

  /** The node learns of no revision any more, until `release`. */
  hold(): void {
    this.#held ??= Promise.withResolvers()
  }

  release(): void {
    this.#held?.resolve()
    this.#held = undefined
  }

  /** The node is dead: nothing that it asks from now on is sent, or answered. */
  cut(): void {
    this.#cut = true
    this.hold()
  }

  commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    if (this.#cut) return new Promise(() => undefined)
    this.sent++
    const send = (): Promise<CommitResult> => this.#ledger.commit(commit, deadline)
    if (!this.through) return send()
    const pending = new PendingCommit(commit, deadline, () => undefined)
    if (pending.depart() > 0)
      this.through(commit, send).then(
        (result) => pending.resolve(result),
        (error: unknown) => pending.reject(error),
      )
    return pending.outcome
  }

  head(): Promise<number> {
    if (this.#cut) return new Promise(() => undefined)
    return this.asking ? this.asking() : this.#ledger.head()
  }

  read(key: string): ReturnType<Ledger['read']> {
    return this.#ledger.read(key)
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    for await (const revision of this.#ledger.follow(after, signal)) {
      await this.#held?.promise
      yield revision
    }
  }

  snapshot(ranges: readonly KeyRange[]): ReturnType<Ledger['snapshot']> {
    return this.#ledger.snapshot(ranges)
  }

  checkConnections(): void {}

  health(): ReturnType<Ledger['health']> {
    return this.#ledger.health()
  }

  async close(): Promise<void> {}
}

export type SimNode = {
  readonly name: string
  readonly replica: Replica
  readonly secrets: SecretService
  readonly receipts: Receipts
  readonly clock: ShiftedClock
  readonly way: Way
}

export class World {
  readonly ledger = new MemoryLedger()
  readonly nodes: SimNode[] = []
  readonly fatal: Error[] = []
  keyring = Keyring.create(systemClock)
  /** Options of the replicas that are opened from now on. */
  checkpointEvery: number | undefined
  /** Takes the place of opening a store. */
  opening = (store: MemoryStore): Store => store
  readonly #stores = new Map<string, MemoryStore>()

  static async open(
    count: number,
    options: Partial<Pick<World, 'checkpointEvery' | 'opening'>> = {},
  ): Promise<World> {
    const world = Object.assign(new World(), options)
    await found(world.ledger, { keyring: world.keyring })
    for (let i = 1; i <= count; i++) await world.add(`n${i}`)
    return world
  }

  /** A node with what is left of an earlier one of that name; `keyring`: one of its own. */
  async add(
    name: string,
    keyring: () => Keyring = () => this.keyring,
    ledger = this.ledger,
  ): Promise<SimNode> {
    const clock = new ShiftedClock()
    const way = new Way(ledger)
    const replica = await Replica.open({
      store: this.opening(this.storeOf(name)),
      checkpointEvery: this.checkpointEvery,
      ledger: new CheckedLedger(way),
      boot: randomHex(systemClock, 16),
      clock,
      fatal: (error) => this.fatal.push(error),
      events: { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} },
    })
    replica.follow()
    await replica.barrier(soon())
    const secrets = new SecretService(replica, keyring, clock)
    const node = { name, replica, secrets, receipts: new Receipts(replica, keyring, clock), clock, way }
    this.nodes.push(node)
    return node
  }

  /** The store of a name lasts over restarts. */
  storeOf(name: string): MemoryStore {
    const store = this.#stores.get(name) ?? new MemoryStore()
    this.#stores.set(name, store)
    return store
  }

  async remove(node: SimNode): Promise<void> {
    await node.replica.close()
    this.nodes.splice(this.nodes.indexOf(node), 1)
  }

  /** kill -9: what the node does from now on reaches neither its store nor the ledger. Returns what is left. */
  kill(node: SimNode): MemoryStore {
    const left = this.storeOf(node.name).afterKill()
    this.#stores.set(node.name, left)
    node.way.cut()
    void node.replica.close() // to end its reading of the ledger; never resolves
    this.nodes.splice(this.nodes.indexOf(node), 1)
    return left
  }

  async restart(node: SimNode): Promise<SimNode> {
    await this.remove(node)
    return this.add(node.name)
  }

  rewrap(node: SimNode): ReturnType<typeof rewrapKeys> {
    const { replica, clock } = node
    return rewrapKeys({ replica, keyring: () => this.keyring, clock }, AT_ONCE)
  }

  async close(): Promise<void> {
    this.ledger.reconnect()
    for (const { way, replica } of this.nodes) {
      way.release()
      await replica.close()
    }
  }

  /**
   * The laws, when everything has arrived: all replicas, one from nothing among them, hold the same; versions are
   * gapless, their intervals too; every value opens. Gives the histories by name.
   */
  async settled(owner = OWNER): Promise<Map<string, HistoryLine[]>> {
    this.ledger.faults.length = 0
    this.ledger.reconnect()
    this.ledger.settle()
    for (const { way } of this.nodes) {
      way.through = way.asking = undefined
      way.release()
    }
    const fresh = await this.add(`from-nothing-${systemClock.random(4).join('-')}`)
    const histories = new Map<string, HistoryLine[]>()
    for (const { replica } of this.nodes) await replica.barrier(soon())
    const digests = new Set(this.nodes.map(({ replica }) => JSON.stringify(replica.digest())))
    assert.equal(digests.size, 1, 'replicas at one revision hold the same')
    for (const name of await fresh.secrets.names(by(owner), { prefix: '', after: '', limit: 10_000 })) {
      const lines = await fresh.secrets.history(by(owner), name)
      checkIntervals(lines)
      histories.set(name, lines)
    }
    for (const { secrets } of this.nodes) {
      assert.deepEqual(await secrets.names(by(owner), { prefix: '', after: '', limit: 10_000 }), [
        ...histories.keys(),
      ])
      for (const [name, lines] of histories) assert.deepEqual(await secrets.history(by(owner), name), lines)
    }
    await this.remove(fresh)
    assert.deepEqual(this.fatal, [])
    return histories
  }
}

export function checkIntervals(lines: readonly HistoryLine[]): void {
  for (const [i, { version, validFrom, validTo }] of lines.entries()) {
    assert.equal(version, i + 1, 'versions are gapless')
    assert.equal(validTo, lines[i + 1]?.validFrom ?? null, 'intervals are gapless')
    assert.ok(validTo === null || validTo > validFrom, 'intervals grow')
  }
}

export async function withWorld(
  count: number,
  run: (world: World, ...nodes: SimNode[]) => Promise<void>,
): Promise<void> {
  const world = await World.open(count)
  try {
    await run(world, ...world.nodes)
    assert.deepEqual(world.fatal, [])
  } finally {
    await world.close()
  }
}

// ---- requests

/** The deadline is by the clock of the node that is asked, where a test shifts that clock. */
export const caller = (request: string, owner = OWNER, clock: Clock = systemClock): Caller => ({
  ...by(owner, clock),
  keyId: 'k1',
  request,
})
export const secret = (name: string, value = `value of ${name}`): NewSecret => ({
  name,
  value: Buffer.from(value),
})
export const anyVersion = (): boolean => true

/** Works under an Idempotency-Key, as the HTTP side does. */
export async function once(
  { receipts }: SimNode,
  { owner, keyId = 'k1', key, asked }: { owner: string; keyId?: string; key: string; asked: AskedRequest },
  work: (claim: Claim) => Promise<WriteResult>,
): Promise<WriteResult> {
  const begun = await receipts.begin({ owner, keyId, idempotencyKey: key }, asked, soon())
  if (begun.kind === 'answered') return begun.written
  try {
    return await work(begun.claim)
  } catch (error) {
    return await receipts.successInstead(begun.claim, error, soon())
  } finally {
    receipts.settle(begun.claim)
  }
}

/** Creates under an Idempotency-Key, as the HTTP side does; `owner` and the rest of the request may differ. */
export function createOnce(
  node: SimNode,
  key: string,
  secrets: readonly NewSecret[],
  owner = OWNER,
): Promise<WriteResult> {
  const body = Buffer.from(JSON.stringify(secrets))
  const asked = { method: 'POST', name: '', ifMatch: undefined, body }
  const asker = caller(key, owner, node.clock)
  return once(node, { owner, key, asked }, (claim) => node.secrets.create(asker, secrets, claim))
}

export function updateOnce(
  node: SimNode,
  key: string,
  { name, value }: NewSecret,
  matches: (version: number) => boolean = anyVersion,
): Promise<WriteResult> {
  const asked = { method: 'PUT', name, ifMatch: String(matches), body: value }
  return once(node, { owner: OWNER, key, asked }, (claim) =>
    node.secrets.update(caller(key, OWNER, node.clock), { name, value }, matches, claim),
  )
}

export async function textOf(node: SimNode, name: string, version?: number, owner = OWNER): Promise<string> {
  const { value } = await node.secrets.read(by(owner), name, version === undefined ? {} : { version })
  return value.toString('utf8')
}

/** For assert.rejects. */
export const isProblem =
  (slug: string) =>
  (error: unknown): boolean =>
    error instanceof Problem && error.slug === slug
