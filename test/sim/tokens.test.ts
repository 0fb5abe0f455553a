// Several nodes over one ledger that misbehaves in every legal way, in one process: clients tokenize, detokenize and
// rotate anywhere while commits get lost or come late, streams break, history is compacted, nodes restart. Then all
// laws are checked, and all digests compared, also with a replica rebuilt from nothing.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { randomHex, systemClock } from '../../src/clock.ts'
import { fromCanonical, Values } from '../../src/crypto/canonical.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { readTokenText, tokenText } from '../../src/crypto/token.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import { LedgerUnavailable, UnknownOutcome } from '../../src/ledger/ledger.ts'
import { type CommitFault, MemoryLedger } from '../../src/ledger/memory.ts'
import { MemoryStore } from '../../src/replica/memory-store.ts'
import { Replica } from '../../src/replica/replica.ts'
import { TokenService } from '../../src/tokens/tokens.ts'
import { by, soon } from '../deadlines.ts'
import { found } from './genesis.ts'
import { History } from './laws.ts'
import { type Random, seeded } from './seed.ts'

const OWNERS = ['clinic-a', 'clinic-b']
const CLIENTS = 12
const STEPS = 60

type SimNode = { replica: Replica; tokens: TokenService; dir: string }

class World {
  readonly ledger = new MemoryLedger()
  readonly nodes: SimNode[] = []
  readonly history = new History()
  readonly random: Random
  readonly #keyring = Keyring.create(systemClock)
  readonly #stores = new Map<string, MemoryStore>()
  readonly fatal: Error[] = []
  #time = 0

  constructor(random: Random) {
    this.random = random
  }

  /** Instants of the history: no two are equal. */
  tick(): number {
    return ++this.#time
  }

  /** The store of a name lasts over restarts. */
  #storeOf(name: string): MemoryStore {
    const store = this.#stores.get(name) ?? new MemoryStore()
    this.#stores.set(name, store)
    return store
  }

  async open(dir: string): Promise<SimNode> {
    const replica = await Replica.open({
      store: this.#storeOf(dir),
      ledger: new CheckedLedger(this.ledger),
      boot: randomHex(systemClock, 16),
      clock: systemClock,
      fatal: (error) => this.fatal.push(error),
      events: { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} },
    })
    replica.follow()
    return { dir, replica, tokens: new TokenService(replica, () => this.#keyring, systemClock) }
  }

  async restart(index: number): Promise<void> {
    const { dir, replica } = this.nodes[index]
    await replica.close()
    this.nodes[index] = await this.open(dir)
  }

  async close(): Promise<void> {
    for (const { replica } of this.nodes) await replica.close()
  }
}

async function tokenize(world: World, node: SimNode): Promise<void> {
  const { history, random } = world
  const owner = random.pick(OWNERS)
  const texts = Array.from({ length: 1 + random.below(6) }, () => `value ${random.below(60)}`)
  const values = new Values()
  for (const text of texts) values.pushString(text, 1000)
  const asked = world.tick()
  const { epoch, bodies, checks } = await node.tokens.tokenize(by(owner), values, false)
  const answered = world.tick()
  for (const [i, value] of texts.entries()) {
    const token = tokenText(epoch, bodies.subarray(i * 16, i * 16 + 16), checks.subarray(i * 16, i * 16 + 4))
    history.issued({ owner, value, epoch, token, asked, answered })
  }
}

async function detokenize(world: World, node: SimNode): Promise<void> {
  const { history, random } = world
  if (history.tokens.length === 0) return
  const { token } = random.pick(history.tokens)
  const owner = random.pick(OWNERS)
  const asked = world.tick()
  history.resolved(token, owner, await lookUp(node, owner, token), asked)
}

async function lookUp(node: SimNode, owner: string, token: string): Promise<string | undefined> {
  const [bodies, checks] = [new Uint8Array(16), new Uint8Array(4)]
  const text = Buffer.from(token)
  const epochs = Float64Array.of(readTokenText(text, 0, text.length, bodies, checks, 0))
  const { values, index } = await node.tokens.detokenize(by(owner), { count: 1, epochs, bodies, checks })
  return index[0] < 0
    ? undefined
    : String(fromCanonical(values.bytes, values.offset[0] * 8, values.length[0]))
}

async function rotate(world: World, node: SimNode): Promise<void> {
  const owner = world.random.pick(OWNERS)
  const asked = world.tick()
  const { active } = await node.tokens.epochs(by(owner))
  const { epoch, rotated } = await node.tokens.rotate(by(owner), active + 1)
  if (rotated) world.history.rotations.push({ owner, epoch, asked, answered: world.tick() })
}

async function disturb(world: World): Promise<void> {
  const { ledger, random } = world
  switch (random.below(5)) {
    case 0:
      ledger.faults.push(random.pick<CommitFault>(['lost', 'late', 'answer-lost', 'refuse']))
      return
    case 1:
      ledger.settle()
      return
    case 2:
      ledger.disconnect()
      return
    case 3:
      ledger.compact(Math.max(0, (await ledger.head()) - random.below(20)))
      return
    default:
      ledger.settle()
  }
}

/** Errors that the contract allows: the client may not know, and nothing wrong was answered. */
function allowed(error: unknown): boolean {
  if (error instanceof UnknownOutcome || error instanceof LedgerUnavailable) return true
  return error instanceof Error && 'slug' in error && error.slug === 'epoch-conflict'
}

async function client(world: World): Promise<void> {
  const { random } = world
  for (let step = 0; step < STEPS; step++) {
    const node = random.pick(world.nodes)
    try {
      if (random.chance(0.1)) await disturb(world)
      if (random.chance(0.04)) await rotate(world, node)
      else if (random.chance(0.5)) await tokenize(world, node)
      else await detokenize(world, node)
    } catch (error) {
      if (!allowed(error)) throw error
    }
  }
}

test('three nodes over a ledger that misbehaves keep all laws', async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const world = new World(random)
  try {
    await found(world.ledger)
    for (const dir of ['n1', 'n2', 'n3']) world.nodes.push(await world.open(dir))
    for (const owner of OWNERS) await world.nodes[0].tokens.openFirst(by(owner))
    for (let round = 0; round < 3; round++) {
      await Promise.all(Array.from({ length: CLIENTS }, () => client(world)))
      await world.restart(random.below(3))
    }
    assert.deepEqual(world.fatal, [])
    world.ledger.faults.length = 0
    world.ledger.settle()
    world.history.checkEpochs()
    world.nodes.push(await world.open('from-nothing'))
    const digests = new Set<string>()
    for (const node of world.nodes) {
      await node.replica.barrier(soon())
      digests.add(JSON.stringify(node.replica.digest()))
      for (const { token, owner, value } of world.history.tokens)
        assert.equal(await lookUp(node, owner, token), value)
    }
    assert.equal(digests.size, 1, 'law 5: replicas at the same revision hold the same state')
    assert.ok(
      world.history.rotations.length > 0 && world.history.tokens.length > 100,
      'the run did something',
    )
  } finally {
    await world.close()
  }
})
