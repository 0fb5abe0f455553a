// Quotas among nodes over a memory ledger: a refusal comes only after a barrier; random writers at nodes that lag and
// a ledger that loses answers pass no quota by more than what other nodes had on their way, and at rest nothing is on
// its way and the sums are those of the live entries.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Deadline, randomHex, systemClock } from '../../src/clock.ts'
import { Values } from '../../src/crypto/canonical.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { Problem } from '../../src/errors.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import { LedgerUnavailable, type Revision, UnknownOutcome } from '../../src/ledger/ledger.ts'
import { MemoryLedger } from '../../src/ledger/memory.ts'
import { MemoryStore } from '../../src/replica/memory-store.ts'
import { Replica } from '../../src/replica/replica.ts'
import type { Claim } from '../../src/secrets/receipts.ts'
import { makeServices, type NodeServices } from '../../src/server/services.ts'
import { decodeEntry } from '../../src/state/entries.ts'
import { snapshotRanges } from '../../src/state/ledger-keys.ts'
import { by, soon } from '../deadlines.ts'
import { found } from './genesis.ts'
import { type Random, seeded } from './seed.ts'

const OWNER = 'o'

/** Revisions come when `open` is called. */
class LaggingLedger extends CheckedLedger {
  #gate: Promise<void> = Promise.resolve()
  open: () => void = () => undefined

  lag(): void {
    this.open()
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#gate = promise
    this.open = resolve
  }

  override async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    for await (const revision of super.follow(after, signal)) {
      await this.#gate
      yield revision
    }
  }
}

class Nodes implements AsyncDisposable {
  readonly ledger = new MemoryLedger()
  readonly links: LaggingLedger[] = []
  readonly nodes: NodeServices[] = []
  quota: number | undefined

  static async start(count: number): Promise<Nodes> {
    const world = new Nodes()
    const keyring = Keyring.create(systemClock)
    await found(world.ledger, { keyring: keyring })
    for (let i = 0; i < count; i++) {
      const link = new LaggingLedger(world.ledger)
      const replica = await Replica.open({
        store: new MemoryStore(),
        ledger: link,
        boot: randomHex(systemClock, 16),
        clock: systemClock,
        quotaOf: () => world.quota,
        events: { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} },
        fatal: (error) => assert.fail(error),
      })
      replica.follow()
      world.links.push(link)
      world.nodes.push(makeServices(replica, () => keyring, systemClock))
    }
    await world.nodes[0].tokens.openFirst(by(OWNER))
    await world.rest()
    return world
  }

  /** Nobody writes, and all nodes have all. */
  async rest(): Promise<void> {
    for (const link of this.links) link.open()
    const head = await this.ledger.head()
    for (const { replica } of this.nodes) await replica.waitApplied(head, Deadline.never)
  }

  /** Bytes of the owner's live entries in the ledger. */
  async recount(): Promise<number> {
    let bytes = 0
    for await (const { key, value } of (await this.ledger.snapshot(snapshotRanges([]))).entries) {
      const entry = decodeEntry(key, value)
      if (entry && 'owner' in entry && entry.owner === OWNER) bytes += key.length + value.length
    }
    return bytes
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.links) link.open()
    for (const { replica } of this.nodes) await replica.close()
  }
}

function valuesOf(...texts: string[]): Values {
  const values = new Values()
  for (const text of texts) values.pushString(text, 1 << 15)
  return values
}

const caller = { ...by(OWNER), keyId: 'k1', request: 'r' }
const isQuota = (error: unknown): boolean => error instanceof Problem && error.slug === 'quota-exceeded'

async function claimOf({ receipts }: NodeServices, idempotencyKey: string): Promise<Claim> {
  const begun = await receipts.begin(
    { owner: OWNER, keyId: 'k1', idempotencyKey },
    {
      method: 'POST',
      name: '',
      ifMatch: undefined,
      body: Buffer.of(),
    },
    soon(),
  )
  assert.equal(begun.kind, 'claimed')
  return begun.kind === 'claimed' ? begun.claim : assert.fail('')
}

test('a node that lags refuses nothing that is known, and nothing that has room by now', async () => {
  await using world = await Nodes.start(2)
  const [one, two] = world.nodes
  const changed = { name: 'u', value: Buffer.from('x') }
  await one.secrets.create({ ...caller, ...by(OWNER) }, [changed])
  await world.rest()
  const before = await world.recount()
  world.links[1].lag()
  const { bodies } = await one.tokens.tokenize(by(OWNER), valuesOf('known'), false)
  const secret = { name: 's', value: Buffer.from('x') }
  await one.secrets.create({ ...caller, ...by(OWNER) }, [secret])
  await one.secrets.update({ ...caller, ...by(OWNER) }, changed, () => true)
  assert.equal(two.replica.quotas.used(OWNER), before)
  // The second node has applied neither, and has room for a part of what it is asked for.
  world.quota = before + 10
  const asked = [
    two.tokens.tokenize(by(OWNER), valuesOf('known'), false),
    two.secrets.create({ ...caller, ...by(OWNER) }, [secret]),
    two.secrets.update({ ...caller, ...by(OWNER) }, changed, (version) => version === 1),
    two.tokens.tokenize(by(OWNER), valuesOf('known', 'new'), false),
    two.tokens.rotate(by(OWNER), 2),
  ] as const
  const settled = Promise.allSettled(asked)
  world.links[1].open()
  const [known, created, updated, fresh, rotated] = await settled
  assert.deepEqual(known.status === 'fulfilled' && Buffer.from(known.value.bodies), Buffer.from(bodies))
  const slugs = [created, updated, fresh, rotated].map(
    (each) => each.status === 'rejected' && each.reason.slug,
  )
  assert.deepEqual(slugs, ['secret-exists', 'version-conflict', 'quota-exceeded', 'quota-exceeded'])
  // Receipts that another node has removed make room here.
  world.quota = undefined
  const claim = await claimOf(one, 'old')
  await one.secrets.create({ ...caller, ...by(OWNER) }, [{ name: 't', value: Buffer.from('x') }], claim)
  one.receipts.settle(claim)
  await world.rest()
  world.quota = (await world.recount()) + 50
  world.links[1].lag()
  const all = [...one.replica.receipts()]
  assert.equal(all.length, 1)
  assert.ok(await one.replica.removeReceipts(all, by(OWNER).deadline))
  const later = two.tokens.tokenize(by(OWNER), valuesOf('has room now'), false)
  world.links[1].open()
  assert.equal((await later).fresh, 1)
  await world.rest()
  for (const { replica } of world.nodes) assert.equal(replica.quotas.used(OWNER), await world.recount())
})

test('what waits, is sent or is accepted counts; what failed counts no more', async () => {
  await using world = await Nodes.start(1)
  const [{ tokens, secrets, replica }] = world.nodes
  const { quotas } = replica
  const before = quotas.used(OWNER)
  world.ledger.held = true
  const waiting = tokens.tokenize(by(OWNER), valuesOf('a'), false)
  while (world.ledger.waiting === 0) await new Promise(setImmediate)
  const one = quotas.used(OWNER) - before
  assert.ok(one > 100, `${one}`)
  world.quota = quotas.used(OWNER) + 20
  const twice = tokens.tokenize(by(OWNER), valuesOf('a', 'a'), false)
  await assert.rejects(tokens.tokenize(by(OWNER), valuesOf('b'), false), isQuota)
  await assert.rejects(
    secrets.create({ ...caller, ...by(OWNER) }, [{ name: 's', value: Buffer.of() }]),
    isQuota,
  )
  await assert.rejects(tokens.rotate(by(OWNER), 2), isQuota)
  world.links[0].lag()
  world.ledger.release()
  await waiting
  assert.equal(quotas.used(OWNER) - before, one, 'accepted and not applied')
  world.links[0].open()
  await twice
  await world.rest()
  assert.equal(quotas.used(OWNER), await world.recount())
  assert.equal(quotas.used(OWNER) - before, one)

  world.quota = undefined
  world.ledger.reachable = false
  const soon = { owner: OWNER, deadline: new Deadline(systemClock, 50) }
  await assert.rejects(tokens.tokenize(soon, valuesOf('lost'), false), LedgerUnavailable)
  await assert.rejects(
    secrets.create({ ...caller, ...soon }, [{ name: 's', value: Buffer.of() }]),
    LedgerUnavailable,
  )
  assert.equal(quotas.used(OWNER) - before, one)
})

/** A request of any kind. Returns the slug of its refusal, 'unknown', or 'done'. */
async function ask(world: Nodes, random: Random, n: number): Promise<string> {
  const { tokens, secrets, ...services } = random.pick(world.nodes)
  const text = (): string => `value ${random.below(3000)} ${'x'.repeat(random.below(200))}`
  const name = `s${random.below(40)}`
  const value = Buffer.alloc(random.below(2000), 'v')
  const claim = random.chance(0.5) ? await claimOf({ tokens, secrets, ...services }, `key ${n}`) : undefined
  const who = { ...caller, deadline: new Deadline(systemClock, 300) }
  const calls: (() => Promise<unknown>)[] = [
    () => tokens.tokenize(who, valuesOf(...Array.from({ length: random.below(60) }, text)), true),
    () => tokens.tokenize(who, valuesOf(...Array.from({ length: 3 }, text)), true),
    () => secrets.create(who, [{ name, value }], claim),
    () => secrets.create(who, [], claim),
    () => secrets.update(who, { name, value }, () => true, claim),
    () => tokens.rotate(who, (services.replica.owner(OWNER)?.active ?? 0) + 1),
  ]
  try {
    await random.pick(calls)()
    return 'done'
  } catch (error) {
    if (error instanceof Problem) return error.slug
    if (error instanceof UnknownOutcome || error instanceof LedgerUnavailable) return 'unknown'
    throw error
  } finally {
    if (claim) services.receipts.settle(claim)
  }
}

for (const { count, faults } of [
  { count: 1, faults: false },
  { count: 1, faults: true },
  { count: 3, faults: true },
]) {
  test(`random writers at ${count} nodes${faults ? ', with faults' : ''}: the sums are those of the ledger`, async () => {
    const random = seeded()
    const about = `COFFER_SEED=${random.seed}`
    await using world = await Nodes.start(count)
    const told = new Map<string, number>()
    for (let round = 0; round < 20; round++) {
      const quota = (await world.recount()) + random.below(20_000)
      world.quota = quota
      if (faults)
        world.ledger.faults.push(
          ...Array.from({ length: 4 }, () => random.pick(['none', 'lost', 'answer-lost', 'late'] as const)),
        )
      if (random.chance(0.5)) random.pick(world.links).lag()
      const writers = Array.from({ length: 20 }, (_, i) => ask(world, random, round * 20 + i))
      await new Promise((resolve) => setImmediate(resolve))
      for (const link of world.links) link.open()
      for (const slug of await Promise.all(writers)) told.set(slug, (told.get(slug) ?? 0) + 1)
      world.ledger.faults.length = 0
      world.ledger.settle()
      await world.rest()
      const bytes = await world.recount()
      for (const { replica } of world.nodes) {
        assert.equal(replica.owner(OWNER)?.bytes, bytes, about)
        assert.equal(replica.quotas.used(OWNER), bytes, about)
      }
      if (count === 1 && !faults) assert.ok(bytes <= quota, `${bytes} of ${quota}, ${about}`)
    }
    for (const slug of ['done', 'quota-exceeded']) assert.ok((told.get(slug) ?? 0) > 10, `${slug}, ${about}`)
  })
}
