// kill -9 at random moments of a load of tokens and secrets, with checkpoints all the time, on the memory store:
// 25 histories of 8 rounds. After each kill the node starts again from what its store has kept: all that was
// acknowledged is there, the digest is that of a replica rebuilt from nothing, and the recorded checkpoint is used.
// Then the test of the test: a store with a second writer of meta must be found.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { fromCanonical, Values } from '../../src/crypto/canonical.ts'
import { newRootKey } from '../../src/crypto/keyring.ts'
import { readTokenText, tokenText } from '../../src/crypto/token.ts'
import { Problem } from '../../src/errors.ts'
import { LedgerUnavailable, UnknownOutcome } from '../../src/ledger/ledger.ts'
import type { MemoryStore } from '../../src/replica/memory-store.ts'
import type { Store } from '../../src/replica/store.ts'
import { TokenService } from '../../src/tokens/tokens.ts'
import { nextTurn, until } from '../../src/waiting.ts'
import { by, soon } from '../deadlines.ts'
import { createOnce, OWNER, type SimNode, secret, textOf, updateOnce, World } from './nodes.ts'
import { type Random, seeded } from './seed.ts'

const HISTORIES = 25
const ROUNDS = 8
const CLIENTS = 3
const CHECKPOINT_EVERY = 60
const OWNERS = [OWNER, 'p']

type Token = { readonly owner: string; readonly value: string; readonly token: string }
type Version = { readonly name: string; readonly version: number; readonly value: string }

/** Two nodes, a load on both, and what the load was told. */
class Kills {
  readonly world: World
  readonly random: Random
  readonly #tokens: Token[] = []
  readonly #versions: Version[] = []
  readonly #services = new Map<SimNode, TokenService>()
  /** Writes of all stores so far: kills come at a write. */
  #writes = 0
  #values = 0
  checkpointsUsed = 0

  constructor(world: World, random: Random) {
    this.world = world
    this.random = random
  }

  static async begin(random: Random): Promise<Kills> {
    const world = await World.open(0, { checkpointEvery: CHECKPOINT_EVERY })
    world.keyring = world.keyring.add(newRootKey(systemClock))
    const kills = new Kills(world, random)
    world.opening = (store) => kills.#slow(store)
    for (const name of ['n1', 'n2']) await world.add(name)
    for (const owner of OWNERS) await kills.#tokensOf(world.nodes[0]).openFirst(by(owner))
    return kills
  }

  /** Gives the store the pace of a disk: some turns of the event loop for each write. */
  #slow(store: MemoryStore): MemoryStore {
    store.pause = async () => {
      this.#writes++
      for (let turns = this.random.below(4); turns > 0; turns--) await nextTurn()
    }
    return store
  }

  #tokensOf(node: SimNode): TokenService {
    const known = this.#services.get(node)
    if (known) return known
    const service = new TokenService(node.replica, () => this.world.keyring, node.clock)
    this.#services.set(node, service)
    return service
  }

  /** Load until a random moment, then the kill, the start, and the laws. Throws where a law is broken. */
  async round(): Promise<void> {
    const { random, world } = this
    const victim = random.pick(world.nodes)
    const [end, killed] = [new AbortController(), new AbortController()]
    const clients = world.nodes.flatMap((node) => {
      const until = node === victim ? killed.signal : undefined
      return Array.from({ length: CLIENTS }, () => this.#client(node, end.signal, until))
    })
    const moment = this.#writes + 3 + random.below(36)
    while (this.#writes < moment) await nextTurn()
    for (let turns = random.below(6); turns > 0; turns--) await nextTurn()
    const quiet = random.chance(0.15)
    if (quiet) await this.#quiet(victim, end, clients)
    const left = world.kill(victim)
    killed.abort()
    end.abort()
    await Promise.all(clients)
    world.ledger.settle()
    if (random.chance(0.3)) world.ledger.compact((await world.ledger.head()) - random.below(40))
    await this.#start(victim.name, left, quiet)
    await this.#judge()
  }

  /** The load ends, and the node finishes what is due. */
  async #quiet(node: SimNode, end: AbortController, clients: readonly Promise<void>[]): Promise<void> {
    end.abort()
    await Promise.all(clients)
    await node.replica.barrier(soon())
    const store = this.world.storeOf(node.name)
    const due = (): number => Math.max(CHECKPOINT_EVERY, node.replica.contents.mappings / 4)
    const recorded = await until(() => mappingsAfter(store) < due(), { every: 2, within: 10_000 })
    assert.ok(recorded, 'a checkpoint is recorded once enough mappings are new, without another write')
  }

  /** The start uses the checkpoint that meta names, and reads only the pages after it. */
  async #start(name: string, left: MemoryStore, quiet: boolean): Promise<void> {
    const covered = coveredBy(left)
    const pages = [...left.pages(covered, Number.POSITIVE_INFINITY)].length
    const { replica } = await this.world.add(name)
    assert.equal(replica.pagesRead, pages, 'a recorded checkpoint is used')
    if (quiet && replica.contents.mappings > 2 * CHECKPOINT_EVERY) assert.ok(covered > 0)
    if (covered > 0) this.checkpointsUsed++
  }

  // ---- load

  /** `killed`: a client of a killed node does not wait for its answer. */
  async #client(node: SimNode, end: AbortSignal, killed?: AbortSignal): Promise<void> {
    const { promise: gone, resolve } = Promise.withResolvers<void>()
    killed?.addEventListener('abort', () => resolve(), { once: true })
    while (!end.aborted) {
      const step = this.#step(node, killed).catch((error: unknown) => {
        if (!killed?.aborted && !isAllowed(error)) throw error
      })
      await Promise.race([step, gone])
      await nextTurn()
    }
  }

  /** What a killed node is still told counts for nothing. */
  async #step(node: SimNode, killed?: AbortSignal): Promise<void> {
    const { random, world } = this
    if (random.chance(0.05)) world.ledger.faults.push(random.pick(['answer-lost', 'late', 'lost']))
    if (random.chance(0.55)) return this.#tokenize(node, killed)
    if (random.chance(0.05)) return this.#rotate(node)
    if (random.chance(0.04)) return this.#rewrap(node)
    const name = `s${random.below(8)}`
    const value = `value ${++this.#values}`
    const key = `key ${this.#values}`
    const exists = (node.replica.owner(OWNER)?.secrets.get(name)?.length ?? 0) > 0
    const { version } = exists
      ? await updateOnce(node, key, secret(name, value))
      : await createOnce(node, key, [secret(name, value)])
    if (!killed?.aborted) this.#versions.push({ name, version, value })
  }

  async #tokenize(node: SimNode, killed?: AbortSignal): Promise<void> {
    const { random } = this
    const owner = random.pick(OWNERS)
    const texts = Array.from({ length: 1 + random.below(20) }, () =>
      random.chance(0.2) ? `known ${random.below(100)}` : `new ${++this.#values}`,
    )
    const values = new Values()
    for (const text of texts) values.pushString(text, 1000)
    const { epoch, bodies, checks } = await this.#tokensOf(node).tokenize(by(owner), values, false)
    if (killed?.aborted) return
    for (const [i, value] of texts.entries()) {
      const [body, check] = [bodies.subarray(i * 16, i * 16 + 16), checks.subarray(i * 16, i * 16 + 4)]
      this.#tokens.push({ owner, value, token: tokenText(epoch, body, check) })
    }
  }

  async #rotate(node: SimNode): Promise<void> {
    const owner = this.random.pick(OWNERS)
    const tokens = this.#tokensOf(node)
    await tokens.rotate(by(owner), (await tokens.epochs(by(owner))).active + 1)
  }

  async #rewrap(node: SimNode): Promise<void> {
    const { random, world } = this
    world.keyring = world.keyring.activate(random.pick(world.keyring.ids))
    await world.rewrap(node)
  }

  // ---- judging

  async #judge(): Promise<void> {
    const { world } = this
    const histories = await world.settled()
    for (const node of world.nodes) {
      for (const owner of OWNERS) {
        const mine = this.#tokens.filter((each) => each.owner === owner)
        const found = await resolve(this.#tokensOf(node), owner, mine)
        for (const [i, { value, token }] of mine.entries())
          assert.equal(found[i], value, `${token} was acknowledged`)
      }
      for (const { name, version, value } of this.#versions) {
        assert.ok(
          (histories.get(name)?.length ?? 0) >= version,
          `${name}, version ${version} was acknowledged`,
        )
        assert.equal(await textOf(node, name, version), value)
      }
    }
  }
}

/** The values of tokens, undefined where a token is not found. */
async function resolve(
  service: TokenService,
  owner: string,
  tokens: readonly Token[],
): Promise<(string | undefined)[]> {
  const count = tokens.length
  const [bodies, checks, epochs] = [
    new Uint8Array(16 * count),
    new Uint8Array(4 * count),
    new Float64Array(count),
  ]
  for (const [i, { token }] of tokens.entries()) {
    const text = Buffer.from(token)
    epochs[i] = readTokenText(text, 0, text.length, bodies, checks, i)
  }
  const { values, index } = await service.detokenize(by(owner), { count, epochs, bodies, checks })
  return Array.from(index, (at) =>
    at < 0 ? undefined : String(fromCanonical(values.bytes, values.offset[at] * 8, values.length[at])),
  )
}

/** Pages that the recorded checkpoint of a store covers. */
function coveredBy(store: Store): number {
  return Number(store.meta()?.checkpoint.split(' ')[1] ?? 0)
}

/** Mappings on the pages after the recorded checkpoint, duplicates among them. */
function mappingsAfter(store: Store): number {
  let mappings = 0
  for (const { page } of store.pages(coveredBy(store), Number.POSITIVE_INFINITY)) mappings += page[8]
  return mappings
}

/** Errors that clients may get: from a ledger that misbehaves, from other clients, and from a stop. */
function isAllowed(error: unknown): boolean {
  if (error instanceof UnknownOutcome || error instanceof LedgerUnavailable || error instanceof Problem)
    return true
  return error instanceof Error && error.message.startsWith('other nodes keep wrapping')
}

for (let history = 0; history < HISTORIES; history++) {
  test(`kill -9 at ${ROUNDS} random moments: nothing acknowledged is lost (${history + 1} of ${HISTORIES})`, async (t) => {
    const random = seeded(seedOf(history))
    t.diagnostic(`COFFER_SEED=${random.seed}`)
    const kills = await Kills.begin(random)
    try {
      for (let round = 0; round < ROUNDS; round++) await kills.round()
      assert.ok(kills.checkpointsUsed >= ROUNDS / 2, 'starts had checkpoints')
      assert.deepEqual(kills.world.fatal, [])
    } finally {
      await kills.world.close()
    }
  })
}

/** COFFER_SEED is the seed of the first history. */
function seedOf(history: number): number | undefined {
  const first = process.env.COFFER_SEED
  return first === undefined ? undefined : Number(first) + history
}
