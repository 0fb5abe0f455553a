// Receipts on several nodes over one ledger: of all requests under one Idempotency-Key one has an effect, and
// all that are answered get its answer.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { by, soon } from '../../test/deadlines.ts'
import {
  anyVersion,
  caller,
  createOnce,
  isProblem,
  OWNER,
  once,
  type SimNode,
  secret,
  textOf,
  updateOnce,
  type World,
  withWorld,
} from '../../test/sim/nodes.ts'
import { UnknownOutcome } from '../ledger/ledger.ts'
import { SILENT } from '../log.ts'
import { makeServices, sweepReceipts } from '../server/services.ts'
import { decodeEntry } from '../state/entries.ts'
import { KEPT_MS, type WriteResult } from './receipts.ts'

const HOUR_MS = 3600_000

/** A request under one key, and what there is afterwards. */
type Request = {
  readonly what: string
  readonly before: (node: SimNode) => Promise<unknown>
  readonly send: (node: SimNode) => Promise<WriteResult>
  readonly names: readonly string[]
  readonly version: number
}

const REQUESTS: readonly Request[] = [
  {
    what: 'create',
    before: async () => undefined,
    send: (node) => createOnce(node, 'k', [secret('a')]),
    names: ['a'],
    version: 1,
  },
  {
    what: 'create many',
    before: async () => undefined,
    send: (node) => createOnce(node, 'k', [secret('b'), secret('a')]),
    names: ['a', 'b'],
    version: 1,
  },
  {
    what: 'update',
    before: (node) => node.secrets.create(caller('x'), [secret('a')]),
    send: (node) => updateOnce(node, 'k', secret('a')),
    names: ['a'],
    version: 2,
  },
  {
    what: 'update where it matches',
    before: (node) => node.secrets.create(caller('x'), [secret('a')]),
    send: (node) => updateOnce(node, 'k', secret('a'), (version) => version === 1),
    names: ['a'],
    version: 2,
  },
]

const answerOf = ({ version, validFrom }: WriteResult): unknown => ({ version, validFrom })

/** Exactly one effect, and every answer tells of it. */
async function checkOne(
  world: World,
  { names, version, send }: Request,
  answers: readonly WriteResult[],
): Promise<void> {
  const histories = await world.settled()
  assert.deepEqual([...histories.keys()], names)
  for (const lines of histories.values()) {
    assert.equal(lines.length, version, 'one effect')
    for (const answer of answers) {
      assert.deepEqual(answerOf(answer), { version, validFrom: lines[version - 1].validFrom })
    }
  }
  // Whoever asks again, at whatever node, gets it too.
  const [{ validFrom }] = answers
  for (const node of world.nodes) {
    const again = await send(node)
    assert.deepEqual(again, { version, validFrom, revision: 0, replayed: true })
  }
  const head = await world.ledger.head()
  for (const node of world.nodes) await send(node)
  assert.equal(await world.ledger.head(), head, 'nothing is committed any more')
}

/** Sends it by a node that gives up before it knows what became of it. */
async function unknown(
  world: World,
  request: Request,
  node: SimNode,
  fault: 'late' | 'lost' | 'answer-lost',
): Promise<void> {
  world.ledger.faults.push(fault)
  node.way.through = async (_commit, send) => {
    try {
      return await send()
    } finally {
      node.clock.ahead += 5000
    }
  }
  await assert.rejects(request.send(node), UnknownOutcome)
  node.way.through = undefined
}

for (const request of REQUESTS) {
  test(`${request.what}: again on another node, and the first one comes late`, () =>
    withWorld(2, async (world, one, two) => {
      await request.before(one)
      await unknown(world, request, one, 'late')
      const second = await request.send(two)
      assert.equal(second.replayed, false)
      const head = await world.ledger.head()
      world.ledger.settle()
      assert.equal(await world.ledger.head(), head, 'the late one is refused')
      await checkOne(world, request, [second, await request.send(one)])
    }))

  test(`${request.what}: again on another node, after the first one came late`, () =>
    withWorld(2, async (world, one, two) => {
      await request.before(one)
      await unknown(world, request, one, 'late')
      world.ledger.settle()
      const second = await request.send(two)
      assert.equal(second.replayed, true)
      await checkOne(world, request, [second, await request.send(one)])
    }))

  test(`${request.what}: again on another node that has not learnt of the first`, () =>
    withWorld(2, async (world, one, two) => {
      await request.before(one)
      await two.replica.barrier(soon())
      two.way.hold()
      const first = await request.send(one)
      const asked = request.send(two)
      // An update without condition finds out by its commit, which needs no replica; the others by a barrier.
      two.way.release()
      const second = await asked
      assert.deepEqual([first.replayed, second.replayed], [false, true])
      await checkOne(world, request, [first, second])
    }))

  test(`${request.what}: its answer was lost, and the node itself is asked again`, () =>
    withWorld(2, async (world, one) => {
      await request.before(one)
      await unknown(world, request, one, 'answer-lost')
      const again = await request.send(one)
      assert.equal(again.replayed, true)
      await checkOne(world, request, [again])
    }))

  test(`${request.what}: it never came, and is done when it is asked again`, () =>
    withWorld(2, async (world, one) => {
      await request.before(one)
      await unknown(world, request, one, 'lost')
      const again = await request.send(one)
      assert.equal(again.replayed, false)
      await checkOne(world, request, [again])
    }))

  test(`${request.what}: on three nodes at once`, () =>
    withWorld(3, async (world, ...nodes) => {
      await request.before(nodes[0])
      const answers = await Promise.all(nodes.map((node) => request.send(node)))
      assert.equal(answers.filter(({ replayed }) => !replayed).length, 1)
      await checkOne(world, request, answers)
    }))

  test(`${request.what}: on three nodes at once, each of which loses something`, () =>
    withWorld(3, async (world, ...nodes) => {
      await request.before(nodes[0])
      world.ledger.faults.push('late', 'lost', 'answer-lost', 'lost', 'answer-lost', 'late')
      const answers = await Promise.all(nodes.map((node) => request.send(node)))
      assert.equal(answers.filter(({ replayed }) => !replayed).length, 1)
      await checkOne(world, request, answers)
    }))

  test(`${request.what}: after the node was restarted, and on one that begins from nothing`, () =>
    withWorld(1, async (world, one) => {
      await request.before(one)
      const first = await request.send(one)
      const restarted = await world.restart(one)
      const fresh = await world.add('fresh')
      await checkOne(world, request, [first, await request.send(restarted), await request.send(fresh)])
    }))
}

test('another request under the key is refused on every node, whether it has learnt of the first or not', () =>
  withWorld(3, async (world, one, two, three) => {
    await one.secrets.create(caller('x'), [secret('there')])
    await createOnce(one, 'k', [secret('a')])
    await two.replica.barrier(soon())
    const others = [
      (node: SimNode) => createOnce(node, 'k', [secret('b')]),
      (node: SimNode) => createOnce(node, 'k', [secret('a', 'another value')]),
      (node: SimNode) => createOnce(node, 'k', [secret('there')]),
      (node: SimNode) => createOnce(node, 'k', [secret('a'), secret('b')]),
      (node: SimNode) => updateOnce(node, 'k', secret('there')),
      (node: SimNode) => updateOnce(node, 'k', secret('absent')),
      (node: SimNode) => updateOnce(node, 'k', secret('there'), (version) => version === 9),
    ]
    for (const other of others) {
      for (const node of [one, two, three])
        await assert.rejects(other(node), isProblem('idempotency-key-reused'))
    }
    const histories = await world.settled()
    assert.deepEqual(
      [...histories].map(([name, lines]) => [name, lines.length]),
      [
        ['a', 1],
        ['there', 1],
      ],
    )
  }))

test('different requests under one key on three nodes at once: one has an effect, the others are refused', () =>
  withWorld(3, async (world, ...nodes) => {
    for (let round = 0; round < 20; round++) {
      const outcomes = await Promise.allSettled(
        nodes.map((node, i) => createOnce(node, `k${round}`, [secret(`${round}-${i}`)])),
      )
      const done = outcomes.findIndex(({ status }) => status === 'fulfilled')
      for (const [i, outcome] of outcomes.entries()) {
        if (i === done) continue
        assert.ok(outcome.status === 'rejected')
        assert.ok(isProblem('idempotency-key-reused')(outcome.reason), String(outcome.reason))
      }
      assert.deepEqual(
        await nodes[1].secrets.names(by(OWNER), { prefix: `${round}-`, after: '', limit: 10 }),
        [`${round}-${done}`],
      )
    }
    await world.settled()
  }))

test('while the first is running, another at the same node is told so; of another owner it is another', () =>
  withWorld(2, async (world, one, two) => {
    const gate = Promise.withResolvers<void>()
    one.way.through = async (_commit, send) => {
      await gate.promise
      return send()
    }
    const first = createOnce(one, 'k', [secret('a')])
    await assert.rejects(createOnce(one, 'k', [secret('a')]), isProblem('idempotency-in-progress'))
    const others = [createOnce(one, 'k', [secret('a')], 'p'), createOnce(one, 'k2', [secret('b')])]
    // Another node does not know of it: it is the first one then.
    const elsewhere = await createOnce(two, 'k', [secret('a')])
    assert.equal(elsewhere.replayed, false)
    gate.resolve()
    assert.deepEqual(answerOf(await first), answerOf(elsewhere))
    assert.equal((await first).replayed, true)
    for (const other of await Promise.all(others)) assert.equal(other.replayed, false)
    await createOnce(one, 'k', [secret('a')])
    assert.deepEqual([...(await world.settled()).keys()], ['a', 'b'])
  }))

/** The receipts in the ledger, as their readers and those of a backup see them. */
async function storedReceipts(node: SimNode): Promise<{ hash: string; mac: string; owner: string }[]> {
  await node.replica.barrier(soon())
  return [...node.replica.receipts()].map(({ key, value }) => {
    const entry = decodeEntry(key, value)
    assert.ok(entry?.kind === 'receipt')
    return { owner: entry.owner, hash: entry.hash, mac: Buffer.from(entry.mac).toString('hex') }
  })
}

test('who reads the ledger cannot find a value out by sending guesses under a key of its own', () =>
  withWorld(1, async (world, one) => {
    const pin = '7'
    const body = (guess: string): Buffer => Buffer.from(JSON.stringify({ name: 'pin', value: guess }))
    const create = (
      who: { owner: string; keyId: string; key: string },
      guess: string,
    ): Promise<WriteResult> => {
      const asked = { method: 'POST', name: '', ifMatch: undefined, body: body(guess) }
      const caller = { ...by(who.owner), keyId: who.keyId, request: 'r' }
      // The receipt of a request without secrets: so that every guess has success, as under names of one's own.
      return once(one, { ...who, asked }, (claim) => one.secrets.create(caller, [], claim))
    }
    await create({ owner: 'victim', keyId: 'k1', key: 'job' }, pin)
    const [target] = await storedReceipts(one)
    for (let guess = 0; guess < 10; guess++) {
      await create({ owner: 'guesser', keyId: 'k1', key: `job${guess}` }, String(guess))
      await create({ owner: 'victim', keyId: 'k2', key: `job${guess}` }, String(guess))
      await create({ owner: 'victim', keyId: 'k1', key: `job${guess}` }, String(guess))
    }
    await create({ owner: 'guesser', keyId: 'k1', key: 'job' }, pin)
    await create({ owner: 'victim', keyId: 'k2', key: 'job' }, pin)
    const all = await storedReceipts(one)
    assert.equal(all.length, 33)
    assert.equal(all.filter(({ mac }) => mac === target.mac).length, 1, 'a guess has the MAC of the victim')
    assert.equal(new Set(all.map(({ mac }) => mac)).size, all.length)
    assert.equal(new Set(all.map(({ hash }) => hash)).size, all.length)
    await world.settled()
  }))

test('an Idempotency-Key is of one API key: under another key of the owner it is another request', () =>
  withWorld(2, async (world, one, two) => {
    const under = (node: SimNode, keyId: string, name: string): Promise<WriteResult> => {
      const asked = { method: 'POST', name: '', ifMatch: undefined, body: Buffer.from(name) }
      const caller = { ...by(OWNER), keyId, request: 'r' }
      return once(node, { owner: OWNER, keyId, key: 'k', asked }, (claim) =>
        node.secrets.create(caller, [secret(name)], claim),
      )
    }
    const first = await under(one, 'k1', 'a')
    // Neither the first success nor `idempotency-key-reused`.
    await assert.rejects(under(two, 'k2', 'a'), isProblem('secret-exists'))
    assert.equal((await under(two, 'k2', 'b')).replayed, false)
    assert.deepEqual(answerOf(await under(two, 'k1', 'a')), answerOf(first))
    await assert.rejects(under(one, 'k1', 'b'), isProblem('idempotency-key-reused'))
    assert.deepEqual([...(await world.settled()).keys()], ['a', 'b'])
  }))

test('what has failed runs no more: the key is free again', () =>
  withWorld(1, async (_, one) => {
    await assert.rejects(updateOnce(one, 'k', secret('a')), isProblem('not-found'))
    one.way.through = async () => {
      throw new TypeError('a fault of ours')
    }
    await assert.rejects(createOnce(one, 'k', [secret('a')]), TypeError)
    one.way.through = undefined
    assert.equal((await createOnce(one, 'k', [secret('a')])).replayed, false)
  }))

test('refusals are not kept: the same request may succeed later', () =>
  withWorld(2, async (world, one, two) => {
    const put = (node: SimNode): Promise<WriteResult> => updateOnce(node, 'k', secret('a', 'new'))
    await assert.rejects(put(one), isProblem('not-found'))
    await assert.rejects(put(two), isProblem('not-found'))
    assert.equal([...two.replica.receipts()].length, 0)
    await two.secrets.create(caller('x'), [secret('a')])
    const done = await put(one)
    assert.deepEqual([done.version, done.replayed], [2, false])
    assert.deepEqual(answerOf(await put(two)), answerOf(done))
    assert.equal((await world.settled()).get('a')?.length, 2)
  }))

test('a refusal is believed only where nobody has had success by then', () =>
  withWorld(2, async (world, one, two) => {
    // The node has read the secret's latest version before the other one did the same request.
    await one.secrets.create(caller('x'), [secret('a')])
    await two.replica.barrier(soon())
    two.way.hold()
    const matches = (version: number): boolean => version === 1
    const first = await updateOnce(one, 'k', secret('a'), matches)
    await one.secrets.update(caller('x'), secret('a'), anyVersion)
    two.way.release()
    const again = await updateOnce(two, 'k', secret('a'), matches)
    assert.deepEqual([again.version, again.replayed], [first.version, true])
    const existing = await createOnce(one, 'k2', [secret('b')])
    assert.deepEqual(answerOf(await createOnce(two, 'k2', [secret('b')])), answerOf(existing))
    assert.equal((await world.settled()).get('a')?.length, 3)
  }))

// ---- old ones

/** How many receipts each node has. */
async function counts(world: World): Promise<number[]> {
  const found: number[] = []
  for (const { replica } of world.nodes) {
    await replica.barrier(soon())
    found.push([...replica.receipts()].length)
  }
  return found
}

test('old receipts go on all nodes, younger ones than 48 h stay', () =>
  withWorld(3, async (world, one, two, three) => {
    // By the clock of the node that makes it, each so old as its name says.
    for (const [i, age] of [0, 1, 24, 47, 47.99, 48.01, 49, 1000].entries()) {
      one.clock.shift = -age * HOUR_MS
      await createOnce(one, `k${i}`, [secret(`a${i}`)])
    }
    one.clock.shift = 0
    assert.deepEqual(await counts(world), [8, 8, 8])
    const digest = two.replica.digest().digest
    assert.equal(await two.receipts.sweep(), 3)
    assert.deepEqual(await counts(world), [5, 5, 5])
    assert.equal(two.replica.digest().digest, digest, 'receipts are no part of the digest')
    for (const node of [one, two, three]) assert.equal(await node.receipts.sweep(), 0)
    // What stays is still replayed; what is gone is forgotten, with its effect still there.
    assert.equal((await createOnce(three, 'k4', [secret('a4')])).replayed, true)
    await assert.rejects(createOnce(three, 'k5', [secret('a5')]), isProblem('secret-exists'))
    assert.equal(await textOf(three, 'a5'), 'value of a5')
    three.clock.shift = KEPT_MS + 60_000
    assert.equal(await three.receipts.sweep(), 5)
    assert.deepEqual(await counts(world), [0, 0, 0])
    await world.settled()
    const restarted = await world.restart(one)
    assert.deepEqual([...restarted.replica.receipts()], [])
  }))

test('very many go in several commits', () =>
  withWorld(2, async (world, one, two) => {
    one.clock.shift = -3 * KEPT_MS
    await Promise.all(Array.from({ length: 300 }, (_, i) => createOnce(one, `k${i}`, [])))
    one.clock.shift = 0
    await createOnce(one, 'young', [])
    await two.replica.barrier(soon())
    const before = two.way.sent
    assert.equal(await two.receipts.sweep(), 300)
    assert.equal(two.way.sent - before, 5)
    assert.deepEqual(await counts(world), [1, 1])
  }))

test('a sweep ends at the first receipts that cannot be removed, and between two commits at the stop', () =>
  withWorld(1, async (world, one) => {
    one.clock.shift = -3 * KEPT_MS
    await Promise.all(Array.from({ length: 300 }, (_, i) => createOnce(one, `k${i}`, [])))
    one.clock.shift = 0
    await one.replica.barrier(soon())
    const before = one.way.sent
    world.ledger.faults.push('refuse')
    assert.equal(await one.receipts.sweep(), 0)
    assert.equal(one.way.sent - before, 1)

    const stop = new AbortController()
    one.way.through = (_commit, send) => {
      stop.abort()
      return send()
    }
    assert.equal(await one.receipts.sweep(stop.signal), 64)
    assert.equal(one.way.sent - before, 2)
    await one.replica.barrier(soon())
    assert.equal(await one.receipts.sweep(stop.signal), 0)
    one.way.through = undefined
    assert.equal(await one.receipts.sweep(), 300 - 64)
  }))

test('the closer of the sweeps waits for a single sweep, which has the signal of the stop', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const signals: (AbortSignal | undefined)[] = []
  const under = Promise.withResolvers<number>()
  await withWorld(1, async (_world, one) => {
    t.mock.method(one.receipts, 'sweep', (signal?: AbortSignal) => {
      signals.push(signal)
      return under.promise
    })
    const services = { ...makeServices(one.replica, () => assert.fail(), one.clock), receipts: one.receipts }
    const stop = new AbortController()
    const close = sweepReceipts(services, { stop, clock: one.clock, log: SILENT, fail: assert.fail })
    t.mock.timers.tick(10 * HOUR_MS)
    const closed = close()
    stop.abort()
    under.resolve(0)
    await closed
    assert.deepEqual(
      signals.map((signal) => signal?.aborted),
      [true],
    )
  })
})

test('two sweeps at once, and a key that is used anew meanwhile', () =>
  withWorld(2, async (world, one, two) => {
    for (const node of [one, two]) node.clock.shift = -3 * KEPT_MS
    for (let i = 0; i < 10; i++) await createOnce(one, `k${i}`, [secret(`a${i}`)])
    for (const node of [one, two]) node.clock.shift = 0
    await two.replica.barrier(soon())
    // Both remove the same; the second commit is refused, or finds nothing to remove.
    const swept = await Promise.all([one.receipts.sweep(), two.receipts.sweep()])
    assert.ok(swept.includes(10), swept.join())
    assert.deepEqual(await counts(world), [0, 0])

    one.clock.shift = -3 * KEPT_MS
    await updateOnce(one, 'again', secret('a1'))
    one.clock.shift = 0
    assert.deepEqual(await counts(world), [1, 1])
    // While node two is about to remove it, it goes and is put anew.
    two.way.through = async (_commit, send) => {
      two.way.through = undefined
      assert.equal(await one.receipts.sweep(), 1)
      await one.replica.barrier(soon())
      const anew = await updateOnce(one, 'again', secret('a1', 'anew'))
      assert.deepEqual([anew.version, anew.replayed], [3, false])
      return send()
    }
    assert.equal(await two.receipts.sweep(), 0)
    assert.deepEqual(await counts(world), [1, 1])
    assert.equal((await updateOnce(two, 'again', secret('a1', 'anew'))).replayed, true)
    assert.equal((await world.settled()).get('a1')?.length, 3)
  }))

test('a sweep without the ledger, or one whose answer is lost, does no harm', () =>
  withWorld(2, async (world, one) => {
    one.clock.shift = -3 * KEPT_MS
    await createOnce(one, 'k', [secret('a')])
    one.clock.shift = 0
    await one.replica.barrier(soon())
    world.ledger.reachable = false
    assert.equal(await one.receipts.sweep(), 0)
    world.ledger.reconnect()
    for (const fault of ['refuse', 'lost', 'late'] as const) {
      world.ledger.faults.push(fault)
      assert.equal(await one.receipts.sweep(), 0)
    }
    assert.deepEqual(await counts(world), [1, 1])
    world.ledger.settle()
    assert.deepEqual(await counts(world), [0, 0])
    assert.equal(await one.receipts.sweep(), 0)
  }))

test('a node that was away loses what was swept meanwhile, also by a snapshot', () =>
  withWorld(3, async (world, one, two, three) => {
    one.clock.shift = -3 * KEPT_MS
    for (let i = 0; i < 5; i++) await createOnce(one, `old${i}`, [secret(`a${i}`)])
    one.clock.shift = 0
    await createOnce(one, 'young', [secret('b')])
    assert.deepEqual(await counts(world), [6, 6, 6])
    await world.remove(three)
    two.way.hold()
    assert.equal(await one.receipts.sweep(), 5)
    await createOnce(one, 'younger', [secret('c')])
    world.ledger.compact((await world.ledger.head()) - 1)
    world.ledger.disconnect()
    two.way.release()
    const back = await world.add('n3')
    assert.deepEqual(await counts(world), [2, 2, 2])
    for (const node of [two, back]) {
      assert.equal((await createOnce(node, 'young', [secret('b')])).replayed, true)
      assert.equal((await createOnce(node, 'younger', [secret('c')])).replayed, true)
      await assert.rejects(createOnce(node, 'old1', [secret('a1')]), isProblem('secret-exists'))
    }
    await world.settled()
    const again = await world.restart(back)
    assert.equal([...again.replica.receipts()].length, 2)
  }))
