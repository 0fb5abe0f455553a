// Requests of short deadlines over a ledger that hangs in every way: commits wait, get no answer, are lost or come
// late, the head is not answered, the replica is held back, the process stands still. Each request is answered by
// its deadline, and nothing is ever in the ledger of a request that was refused as `not-applied`.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Deadline } from '../../src/clock.ts'
import { Values } from '../../src/crypto/canonical.ts'
import { Problem } from '../../src/errors.ts'
import { LedgerUnavailable, UnknownOutcome } from '../../src/ledger/ledger.ts'
import type { CommitFault } from '../../src/ledger/memory.ts'
import { TokenService } from '../../src/tokens/tokens.ts'
import { by, soon } from '../deadlines.ts'
import { anyVersion, createOnce, OWNER, type SimNode, secret, updateOnce, World } from './nodes.ts'
import { type Random, seeded } from './seed.ts'
import { type Traces, tracesOf } from './traces.ts'

/** All of them: COFFER_ROUNDS=100. */
const HISTORIES = Number(process.env.COFFER_ROUNDS ?? 12)
const CLIENTS = 24
const CALLS = 120
const DEADLINE_MS = { least: 5, more: 60 }
/** What a slow machine may add. */
const SLACK_MS = 400
const OWNERS = Array.from({ length: CALLS }, (_, i) => `r${i}`)

type Call = {
  readonly id: number
  /** Whether the traces show the call. */
  readonly left: (traces: Traces) => boolean
}

class Histories {
  readonly world: World
  readonly random: Random
  readonly #services = new Map<SimNode, TokenService>()
  /** Calls that were refused as `not-applied`. */
  readonly refused: Call[] = []
  /** Issue the values of calls, after all. */
  readonly issues: (() => Promise<void>)[] = []
  unknown = 0
  done = 0
  #next = 0

  constructor(world: World, random: Random) {
    this.world = world
    this.random = random
  }

  tokens(node: SimNode): TokenService {
    const service =
      this.#services.get(node) ?? new TokenService(node.replica, () => this.world.keyring, node.clock)
    this.#services.set(node, service)
    return service
  }

  async client(): Promise<void> {
    while (this.#next < CALLS) {
      if (this.random.chance(0.3)) this.#disturb()
      await this.#call(this.#next++)
    }
  }

  async #call(id: number): Promise<void> {
    const ms = DEADLINE_MS.least + this.random.below(DEADLINE_MS.more)
    const node = this.random.pick(this.world.nodes)
    const began = performance.now()
    const [left, work] = this.#work(id, node, soon(ms, node.clock))
    try {
      await work
      this.done++
    } catch (error) {
      if (error instanceof LedgerUnavailable) this.refused.push({ id, left })
      else if (error instanceof UnknownOutcome) this.unknown++
      else assert.ok(error instanceof Problem && error.status < 500, String(error))
    }
    const took = performance.now() - began
    assert.ok(took < ms + SLACK_MS, `call ${id} had ${ms} ms and took ${Math.round(took)} ms`)
  }

  /** Whether traces show the call, and the call. */
  #work(id: number, node: SimNode, deadline: Deadline): [Call['left'], Promise<unknown>] {
    const name = `s${id}`
    const who = { owner: OWNER, keyId: 'k1', request: `q${id}`, deadline }
    const wrote = ({ requests }: Traces): boolean => requests.has(`q${id}`)
    const nothing = (): boolean => false
    switch (this.random.below(9)) {
      case 0:
        return [wrote, node.secrets.create(who, [secret(name), secret(`${name}-too`)])]
      case 1:
        return [wrote, node.secrets.update(who, secret('hot'), anyVersion)]
      case 2:
        return [wrote, node.secrets.update(who, secret('hot'), (version) => version === 1)]
      case 3:
        return [nothing, node.secrets.history(who, 'hot')]
      case 4: {
        const rotated = ({ epochs }: Traces): boolean => epochs.get(OWNERS[id]) !== 1
        return [rotated, this.tokens(node).rotate({ owner: OWNERS[id], deadline }, 2)]
      }
      case 5:
        return [nothing, this.tokens(node).epochs(who)]
      default: {
        // New values alone, and with known ones; every value is of one call.
        const texts = Array.from({ length: 1 + this.random.below(5) }, (_, i) => `value ${id}/${i}`)
        const asked = this.random.chance(0.3) ? [...texts, 'known'] : texts
        const mine = this.#bodiesOf(texts)
        const issued = ({ bodies }: Traces): boolean => mine().some((body) => bodies.has(body))
        return [issued, this.tokens(node).tokenize(who, valuesOf(asked), true)]
      }
    }
  }

  /** A token is a function of its value: the bodies are computed by issuing the values in the end. */
  #bodiesOf(texts: readonly string[]): () => string[] {
    const bodies: string[] = []
    this.issues.push(async () => {
      const issued = await this.tokens(this.world.nodes[0]).tokenize(by(OWNER), valuesOf(texts), true)
      for (let i = 0; i < texts.length; i++)
        bodies.push(Buffer.from(issued.bodies.subarray(i * 16, i * 16 + 16)).toString('hex'))
    })
    return () => bodies
  }

  #disturb(): void {
    const { world, random } = this
    if (random.chance(0.6)) {
      this.#mend()
      return
    }
    const { ledger } = world
    const { way, clock } = random.pick(world.nodes)
    const fault = random.pick<CommitFault>(['silent', 'silent', 'late', 'lost', 'answer-lost', 'refuse'])
    const disturbances: readonly (() => void)[] = [
      () => ledger.faults.push(fault),
      () => (ledger.held ? ledger.release() : (ledger.held = true)),
      () => ledger.settle(),
      () => (way.asking = way.asking ? undefined : () => new Promise(() => undefined)),
      () => (random.chance(0.5) ? way.hold() : way.release()),
      () => (ledger.reachable ? (ledger.reachable = false) : ledger.reconnect()),
      () => (clock.ahead += random.below(40)), // stood still
      () => ledger.disconnect(),
    ]
    random.pick(disturbances)()
  }

  #mend(): void {
    const { nodes, ledger } = this.world
    for (const { way } of nodes) {
      way.asking = undefined
      way.release()
    }
    ledger.faults.length = 0
    ledger.reconnect()
    ledger.release()
  }

  async judge(): Promise<void> {
    const { world } = this
    this.#mend()
    await world.settled()
    const traces = await tracesOf(world.ledger)
    for (const issue of this.issues) await issue()
    const wrong = this.refused.filter(({ left }) => left(traces)).map(({ id }) => id)
    assert.deepEqual(wrong, [], 'calls that were not applied have left something in the ledger')
    assert.equal(world.ledger.waiting, 0)
  }
}

function valuesOf(texts: readonly string[]): Values {
  const values = new Values()
  for (const text of texts) values.pushString(text, 1000)
  return values
}

async function history(random: Random): Promise<Histories> {
  const world = await World.open(2)
  const histories = new Histories(world, random)
  try {
    const [node] = world.nodes
    await createOnce(node, 'first', [secret('hot')])
    await updateOnce(node, 'second', secret('hot'))
    for (const owner of [OWNER, ...OWNERS]) await histories.tokens(node).openFirst(by(owner))
    await Promise.all(Array.from({ length: CLIENTS }, () => histories.client()))
    await histories.judge()
    assert.deepEqual(world.fatal, [])
    return histories
  } finally {
    await world.close()
  }
}

test('requests over a ledger that hangs are answered in time, and `not-applied` is true', async (t) => {
  const first = seeded().seed
  t.diagnostic(`COFFER_SEED=${first}`)
  const sums = { refused: 0, unknown: 0, done: 0 }
  for (let i = 0; i < HISTORIES; i++) {
    const random = seeded(first + i)
    const { refused, unknown, done } = await history(random).catch((error: unknown) => {
      throw new Error(`COFFER_SEED=${random.seed}`, { cause: error })
    })
    sums.refused += refused.length
    sums.unknown += unknown
    sums.done += done
  }
  t.diagnostic(JSON.stringify(sums))
  for (const [name, count] of Object.entries(sums)) assert.ok(count > 0, `${name}: ${count}`)
})
