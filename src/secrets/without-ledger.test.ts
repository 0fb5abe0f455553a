// Law 7 for secrets: without the ledger what is certain is answered, and the rest is refused within its
// deadline.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { by, soon } from '../../test/deadlines.ts'
import {
  anyVersion,
  caller,
  createOnce,
  OWNER,
  type SimNode,
  secret,
  textOf,
  updateOnce,
  type World,
  withWorld,
} from '../../test/sim/nodes.ts'
import { Problem } from '../errors.ts'
import { LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
import type { Reference } from '../wire.ts'

/** What the contract gives a request without quorum, and what a slow machine may add. */
const DEADLINE_MS = 5000

const ref = (name: string, version?: number): Reference => ({ name, version })

/**
 * `a` has three versions and `b` one, of which the second node holds all but the third of `a`, and nothing of
 * `c`.
 */
async function prepare(one: SimNode, two: SimNode): Promise<void> {
  await one.secrets.create(caller('x'), [secret('a', 'a1'), secret('b', 'b1')])
  await updateOnce(one, 'known', secret('a', 'a2'))
  await two.replica.barrier(soon())
  two.way.hold()
  await one.secrets.update(caller('x'), secret('a', 'a3'), anyVersion)
  await one.secrets.create(caller('x'), [secret('c', 'c1')])
}

/** All that needs the ledger, and whether it can only be read for it. */
const REFUSED: Readonly<Record<string, (node: SimNode) => Promise<unknown>>> = {
  'create what is new': (node) => node.secrets.create(caller('x'), [secret('new')]),
  'create what is known to exist': (node) => node.secrets.create(caller('x'), [secret('a')]),
  'create many, one of which exists': (node) =>
    node.secrets.create(caller('x'), [secret('new'), secret('a')]),
  'create once': (node) => createOnce(node, 'fresh', [secret('new')]),
  update: (node) => node.secrets.update(caller('x'), secret('a'), anyVersion),
  'update what is not known here': (node) => node.secrets.update(caller('x'), secret('c'), anyVersion),
  'update where it does not match here': (node) =>
    node.secrets.update(caller('x'), secret('a'), (v) => v === 3),
  'update once': (node) => updateOnce(node, 'fresh too', secret('a')),
  'the latest': (node) => node.secrets.read(by(OWNER), 'a', {}),
  'an instant': (node) => node.secrets.read(by(OWNER), 'a', { at: 0 }),
  'a version that is not held': (node) => node.secrets.read(by(OWNER), 'a', { version: 3 }),
  'a version of what is not known here': (node) => node.secrets.read(by(OWNER), 'c', { version: 1 }),
  'a version of nothing': (node) => node.secrets.read(by(OWNER), 'no', { version: 1 }),
  history: (node) => node.secrets.history(by(OWNER), 'a'),
  names: (node) => node.secrets.names(by(OWNER), { prefix: '', after: '', limit: 10 }),
  'resolve the latest': (node) =>
    node.secrets.resolve(by(OWNER), [ref('a', 1), ref('a')], undefined, () => undefined),
  'resolve what is not held': (node) =>
    node.secrets.resolve(by(OWNER), [ref('a', 1), ref('a', 3)], undefined, () => undefined),
}

async function answersWhatIsCertain(two: SimNode): Promise<void> {
  assert.equal(await textOf(two, 'a', 1), 'a1')
  assert.equal(await textOf(two, 'a', 2), 'a2')
  assert.equal(await textOf(two, 'b', 1), 'b1')
  const { values } = await two.secrets.resolve(
    by(OWNER),
    [ref('a', 2), ref('a', 1), ref('b', 1)],
    undefined,
    () => undefined,
  )
  assert.deepEqual(values.map(String), ['a2', 'a1', 'b1'])
  // null: this node knows of no later one. Once a time, for ever that time.
  const first = await two.secrets.read(by(OWNER), 'a', { version: 1 })
  const second = await two.secrets.read(by(OWNER), 'a', { version: 2 })
  assert.deepEqual([first.validTo, second.validTo], [second.validFrom, null])
}

/** All at once: each is refused in its time. */
async function refusesTheRest(two: SimNode): Promise<void> {
  await Promise.all(
    Object.entries(REFUSED).map(async ([what, ask]) => {
      const started = performance.now()
      await assert.rejects(ask(two), (error) => {
        const noQuorum = error instanceof Problem && error.slug === 'no-quorum'
        const unavailable = error instanceof LedgerUnavailable || error instanceof UnknownOutcome
        assert.ok(unavailable || noQuorum, `${what}: ${error}`)
        return true
      })
      const ms = performance.now() - started
      assert.ok(ms < DEADLINE_MS, `${what} took ${ms} ms`)
    }),
  )
}

async function afterwards(world: World): Promise<void> {
  const histories = await world.settled()
  assert.deepEqual(
    [...histories].map(([name, lines]) => [name, lines.length]),
    [
      ['a', 3],
      ['b', 1],
      ['c', 1],
    ],
  )
}

test('a ledger that cannot be reached', () =>
  withWorld(2, async (world, one, two) => {
    await prepare(one, two)
    world.ledger.reachable = false
    await answersWhatIsCertain(two)
    await refusesTheRest(two)
    world.ledger.reachable = true
    two.way.release()
    await afterwards(world)
    assert.equal(await textOf(two, 'a'), 'a3')
    assert.equal((await two.secrets.read(by(OWNER), 'a', { version: 2 })).version, 2)
  }))

test('a ledger that gives no answer: to nothing, or to commits only', () =>
  withWorld(4, async (world, one, two, three) => {
    await prepare(one, two)
    const never = (): Promise<never> => new Promise(() => undefined)
    // A driver gives up some time, though later than a request may.
    const { promise, reject } = Promise.withResolvers<never>()
    two.way.asking = () => promise
    two.way.through = never
    await answersWhatIsCertain(two)
    await refusesTheRest(two)
    reject(new LedgerUnavailable('no-quorum', 'given up'))
    two.way.release()
    await afterwards(world)
    three.way.through = never
    const started = performance.now()
    const asked = await Promise.allSettled([
      three.secrets.create(caller('x'), [secret('new')]),
      createOnce(three, 'k', [secret('new')]),
      three.secrets.update(caller('x'), secret('b'), anyVersion),
      updateOnce(three, 'k2', secret('c')),
    ])
    for (const outcome of asked) {
      assert.ok(outcome.status === 'rejected' && outcome.reason instanceof UnknownOutcome)
    }
    assert.ok(performance.now() - started < DEADLINE_MS)
    assert.equal(await textOf(three, 'a'), 'a3')
    await afterwards(world)
  }))

test('updates of one secret that wait for each other are refused in time, every one', () =>
  withWorld(1, async (world, one) => {
    await one.secrets.create(caller('x'), [secret('a', 'a1')])
    one.way.through = () => new Promise(() => undefined)
    const started = performance.now()
    const took = await Promise.all(
      Array.from({ length: 5 }, async (_, i) => {
        await assert.rejects(one.secrets.update(caller('x'), secret('a', `${i}`), anyVersion))
        return performance.now() - started
      }),
    )
    for (const ms of took) assert.ok(ms < DEADLINE_MS, `${took.map(Math.round)} ms`)
    one.way.through = undefined
    assert.equal((await one.secrets.update(caller('x'), secret('a', 'a2'), anyVersion)).version, 2)
    assert.equal((await world.settled()).get('a')?.length, 2)
  }))

test('an Idempotency-Key that had success is answered again where its receipt is held', () =>
  withWorld(2, async (world, one, two) => {
    await prepare(one, two)
    world.ledger.reachable = false
    const again = await updateOnce(two, 'known', secret('a', 'a2'))
    assert.deepEqual([again.version, again.replayed], [2, true])
  }))

test('a name outside the prefix of a key is refused as such under an Idempotency-Key, too', () =>
  withWorld(1, async (world, one) => {
    await createOnce(one, 'known', [secret('a')])
    world.ledger.reachable = false
    const { receipts } = one
    const under = { owner: OWNER, keyId: 'k1', idempotencyKey: 'new' }
    const asked = { method: 'POST', name: '', ifMatch: undefined, body: Buffer.from('{}') }
    const begun = await receipts.begin(under, asked, soon())
    assert.ok(begun.kind === 'claimed')
    const judged = (error: Error): Promise<unknown> => receipts.successInstead(begun.claim, error, soon(500))
    const outside = new Problem('forbidden', 'outside', { prefix: 'app/' })
    await assert.rejects(judged(outside), outside)
    await assert.rejects(judged(new Problem('secret-exists', 'there')), LedgerUnavailable)
    receipts.settle(begun.claim)
  }))
