// The service on several nodes over one ledger: what is accepted is there once, whatever happens on the way.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { by, soon } from '../../test/deadlines.ts'
import {
  anyVersion,
  caller,
  createOnce,
  OWNER,
  once,
  type SimNode,
  secret,
  textOf,
  updateOnce,
  type World,
  withWorld,
} from '../../test/sim/nodes.ts'
import { systemClock } from '../clock.ts'
import { Keyring } from '../crypto/keyring.ts'
import { Problem, type Slug } from '../errors.ts'
import { COMMIT_BYTES, commitBytes, LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
import type { CommitFault } from '../ledger/memory.ts'
import { SECRETS_A_REQUEST, SECRETS_BYTES_A_REQUEST } from '../wire.ts'
import type { WriteResult } from './receipts.ts'

const isProblem =
  (slug: Slug, members: Record<string, unknown> = {}) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof Problem, String(error))
    assert.deepEqual([error.slug, error.members], [slug, members])
    return true
  }

/** Writes, each with names of its own: what is there afterwards, if it was done. */
type Write = {
  readonly what: string
  readonly before: (node: SimNode) => Promise<unknown>
  readonly run: (node: SimNode) => Promise<WriteResult>
  readonly names: readonly string[]
  readonly version: number
}

const create = (node: SimNode, ...names: string[]): Promise<WriteResult> =>
  node.secrets.create(
    caller('create', OWNER, node.clock),
    names.map((name) => secret(name)),
  )
const update = (
  node: SimNode,
  name: string,
  value = `value of ${name}`,
  matches: (version: number) => boolean = anyVersion,
): Promise<WriteResult> =>
  node.secrets.update(caller('update', OWNER, node.clock), secret(name, value), matches)
const nothing = async (): Promise<void> => undefined

const WRITES: readonly Write[] = [
  { what: 'create', before: nothing, run: (node) => create(node, 'a'), names: ['a'], version: 1 },
  {
    what: 'create many',
    before: nothing,
    run: (node) => create(node, 'b', 'a', 'c'),
    names: ['a', 'b', 'c'],
    version: 1,
  },
  {
    what: 'update',
    before: (node) => create(node, 'a'),
    run: (node) => update(node, 'a'),
    names: ['a'],
    version: 2,
  },
  {
    what: 'update where it matches',
    before: (node) => create(node, 'a'),
    run: (node) => update(node, 'a', undefined, (version) => version === 1),
    names: ['a'],
    version: 2,
  },
  {
    what: 'create once',
    before: nothing,
    run: (node) => createOnce(node, 'k', [secret('a'), secret('b')]),
    names: ['a', 'b'],
    version: 1,
  },
  {
    what: 'update once',
    before: (node) => create(node, 'a'),
    run: (node) => updateOnce(node, 'k', secret('a')),
    names: ['a'],
    version: 2,
  },
]

/**
 * Gives up on its next commit as soon as the outcome is unknown: the deadline has passed by this node's
 * clock.
 */
function impatient({ way, clock }: SimNode): void {
  way.through = async (_commit, send) => {
    try {
      return await send()
    } finally {
      clock.ahead += 5000
    }
  }
}

async function checkWritten(world: World, { names, version }: Write, written?: WriteResult): Promise<void> {
  const histories = await world.settled()
  assert.deepEqual([...histories.keys()], names)
  for (const lines of histories.values()) {
    assert.equal(lines.length, version)
    if (written)
      assert.deepEqual([written.version, written.validFrom], [version, lines[version - 1].validFrom])
  }
  for (const name of names) assert.equal(await textOf(world.nodes[1], name), `value of ${name}`)
}

const FAULTS: readonly CommitFault[][] = [
  ['lost'],
  ['answer-lost'],
  ['late'],
  ['lost', 'answer-lost'],
  ['answer-lost', 'lost'],
  ['late', 'late'],
  ['lost', 'refuse'],
  ['answer-lost', 'refuse'],
  ['late', 'lost', 'answer-lost'],
]

for (const write of WRITES) {
  test(`${write.what}: an unknown outcome is resolved by sending the same bytes again`, async () => {
    const resolved = FAULTS.map((faults) =>
      withWorld(2, async (world, one) => {
        await write.before(one)
        world.ledger.faults.push(...faults)
        const written = await write.run(one)
        assert.deepEqual([written.replayed, written.version], [false, write.version], faults.join())
        assert.equal(world.ledger.faults.length, 0)
        await checkWritten(world, write, written)
      }),
    )
    await Promise.all(resolved)
  })

  test(`${write.what}: refused before it was sent, nothing is there; done again, it is done once`, async () => {
    await withWorld(2, async (world, one, two) => {
      await write.before(one)
      const before = await world.ledger.head()
      world.ledger.faults.push('refuse')
      await assert.rejects(write.run(one), LedgerUnavailable)
      assert.equal(await world.ledger.head(), before)
      await checkWritten(world, write, await write.run(two))
    })
  })

  test(`${write.what}: where no answer comes in time, the outcome is unknown, and either is possible`, async () => {
    for (const [fault, happens] of [
      ['lost', false],
      ['answer-lost', true],
      ['late', true],
    ] as const) {
      await withWorld(2, async (world, one) => {
        await write.before(one)
        impatient(one)
        world.ledger.faults.push(fault)
        await assert.rejects(write.run(one), UnknownOutcome)
        world.ledger.settle()
        one.way.through = undefined
        if (happens) return checkWritten(world, write)
        const histories = await world.settled()
        for (const lines of histories.values()) assert.equal(lines.length, write.version - 1)
        assert.equal(histories.size, write.version - 1)
      })
    }
  })
}

/** Before the first commit of `one` is answered, or sent where `lost`, another node does something. */
function meanwhile(one: SimNode, lost: boolean, work: () => Promise<unknown>): void {
  let first = true
  one.way.through = async (_commit, send) => {
    if (!first) return send()
    first = false
    if (!lost) await send()
    await work()
    throw new UnknownOutcome('no answer')
  }
}

test('a lost create does not take another node’s secret for its own', () =>
  withWorld(2, async (world, one, two) => {
    meanwhile(one, true, () => two.secrets.create(caller('other'), [secret('a', 'of two')]))
    await assert.rejects(create(one, 'b', 'a'), isProblem('secret-exists', { names: ['a'] }))
    assert.deepEqual([...(await world.settled()).keys()], ['a'])
    assert.equal(await textOf(one, 'a'), 'of two')
  }))

test('a lost update does not take another node’s version for its own', () =>
  withWorld(2, async (world, one, two) => {
    await create(one, 'a')
    meanwhile(one, true, () => update(two, 'a', 'of two'))
    assert.equal((await update(one, 'a', 'of one')).version, 3)
    meanwhile(one, true, () => update(two, 'a', 'of two again'))
    const stale = update(one, 'a', 'of one', (version) => version === 3)
    await assert.rejects(stale, isProblem('version-conflict', { version: 4 }))
    assert.equal((await world.settled()).get('a')?.length, 4)
    assert.equal(await textOf(one, 'a', 2), 'of two')
    assert.equal(await textOf(two, 'a', 3), 'of one')
  }))

test('an update whose answer was lost is known again, even when there is a later one', () =>
  withWorld(2, async (world, one, two) => {
    await create(one, 'a')
    meanwhile(one, false, async () => {
      assert.equal((await update(two, 'a', 'of two')).version, 3)
      assert.equal((await update(two, 'a', 'of two')).version, 4)
    })
    const written = await update(one, 'a', 'of one', (version) => version === 1)
    assert.deepEqual([written.version, written.replayed], [2, false])
    assert.equal((await update(one, 'a', 'next')).version, 5)
    assert.equal((await world.settled()).get('a')?.[1].validFrom, written.validFrom)
  }))

test('32 creates of one name on three nodes at once: one of them is done', () =>
  withWorld(3, async (world, ...nodes) => {
    for (let round = 0; round < 5; round++) {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 32 }, (_, i) =>
          nodes[i % 3].secrets.create(caller(`${i}`), [
            secret(`own-${round}-${i}`),
            secret(`a-${round}`, `of ${i}`),
          ]),
        ),
      )
      const done = outcomes.findIndex(({ status }) => status === 'fulfilled')
      for (const [i, outcome] of outcomes.entries()) {
        if (i === done) continue
        assert.ok(outcome.status === 'rejected', 'a second one was done')
        isProblem('secret-exists', { names: [`a-${round}`] })(outcome.reason)
      }
      for (const node of nodes) assert.equal(await textOf(node, `a-${round}`), `of ${done}`)
      assert.deepEqual(
        await nodes[0].secrets.names(by(OWNER), { prefix: `own-${round}-`, after: '', limit: 100 }),
        [`own-${round}-${done}`],
      )
    }
    await world.settled()
  }))

test('updates on three nodes where one version matches: one of them is done each round', () =>
  withWorld(3, async (world, ...nodes) => {
    await create(nodes[0], 'a')
    for (let version = 1; version <= 20; version++) {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 12 }, (_, i) =>
          update(nodes[i % 3], 'a', `${version} ${i}`, (head) => head === version),
        ),
      )
      const done = outcomes.findIndex(({ status }) => status === 'fulfilled')
      for (const [i, outcome] of outcomes.entries()) {
        if (i === done) continue
        assert.ok(outcome.status === 'rejected', 'a second one was done')
        isProblem('version-conflict', { version: version + 1 })(outcome.reason)
      }
      for (const node of nodes) assert.equal(await textOf(node, 'a'), `${version} ${done}`)
    }
    assert.equal((await world.settled()).get('a')?.length, 21)
  }))

test('updates on three nodes whose clocks disagree: no version twice, intervals that only grow', () =>
  withWorld(3, async (world, ...nodes) => {
    const [one, two, three] = nodes
    one.clock.shift = 5 * 60_000
    three.clock.shift = -7 * 60_000
    await create(three, 'a', 'b')
    const written: string[] = []
    for (let round = 0; round < 3; round++) {
      const some = Array.from({ length: 30 }, async (_, i) => {
        const name = i % 5 === 0 ? 'b' : 'a'
        const { version, validFrom } = await update(nodes[i % 3], name, `${round} ${i}`)
        written.push(`${name} ${version} ${validFrom}`)
      })
      await Promise.all(some)
      // A clock jumps back.
      one.clock.shift -= 3600_000
    }
    const histories = await world.settled()
    const there = [...histories].flatMap(([name, lines]) =>
      lines.slice(1).map(({ version, validFrom }) => `${name} ${version} ${validFrom}`),
    )
    assert.deepEqual(written.toSorted(), there.toSorted())
    assert.deepEqual(
      [...histories].map(([name, lines]) => [name, lines.length]),
      [
        ['a', 73],
        ['b', 19],
      ],
    )
    // Whoever is asked, whatever the clock says: one version for each instant.
    for (const [name, lines] of histories) {
      for (const { version, validFrom, validTo } of lines.slice(0, 20)) {
        for (const node of nodes) {
          const at = async (instant: number) =>
            (await node.secrets.read(by(OWNER), name, { at: instant })).version
          assert.equal(await at(validFrom), version)
          if (validTo !== null) assert.equal(await at(validTo - 1), version)
        }
      }
      const [{ validFrom: first }] = lines
      await assert.rejects(two.secrets.read(by(OWNER), name, { at: first - 1 }), isProblem('not-found'))
    }
  }))

test('what is created after a version was seen begins no earlier, where clocks differ by less than a minute', () =>
  withWorld(2, async (_, one, two) => {
    one.clock.shift = 50_000
    const { validFrom } = await create(one, 'a')
    assert.equal(await textOf(two, 'a'), 'value of a')
    assert.equal((await create(two, 'b')).validFrom, validFrom)
    assert.equal((await update(two, 'a')).validFrom, validFrom + 1)
    await two.replica.barrier(soon())
    assert.equal((await create(two, 'c')).validFrom, validFrom + 1)
    assert.ok((await two.secrets.create(caller('x', 'other'), [secret('c')])).validFrom < validFrom)
    // When the clock has come as far, time goes on by the clock.
    two.clock.shift = 60_000
    assert.ok((await create(two, 'd')).validFrom > validFrom + 1)
  }))

test('a clock ten years ahead harms the secret that it has written, and no other of the owner', () =>
  withWorld(2, async (world, one, two) => {
    const years = 10 * 365 * 24 * 3600_000
    await create(two, 'b')
    one.clock.shift = years
    const { validFrom } = await create(one, 'a')
    await two.replica.barrier(soon())
    for (const written of [await create(two, 'c'), await update(two, 'b'), await create(two, 'd', 'e')]) {
      assert.ok(written.validFrom <= two.clock.now() + 60_000, 'at most a minute ahead')
      assert.ok(written.validFrom < validFrom - years / 2)
    }
    // Valid a minute later at the latest: `at` finds all but the secret of the wrong clock.
    two.clock.shift = 60_001
    const at = two.clock.now()
    for (const [name, version] of [
      ['b', 2],
      ['c', 1],
      ['d', 1],
    ] as const)
      assert.equal((await two.secrets.read(by(OWNER), name, { at })).version, version)
    await assert.rejects(two.secrets.read(by(OWNER), 'a', { at }), isProblem('not-found'))
    // The versions of that secret are in order all the same.
    assert.equal((await update(two, 'a')).validFrom, validFrom + 1)
    assert.equal((await update(one, 'a')).validFrom > validFrom + 1, true)
    const restarted = await world.restart(two)
    restarted.clock.shift = 60_001
    assert.ok((await create(restarted, 'f')).validFrom <= restarted.clock.now() + 60_000)
    await world.settled()
  }))

test('`at` may be as late as the last version, where another clock is ahead', () =>
  withWorld(2, async (_, one, two) => {
    one.clock.shift = 10 * 60_000
    const { validFrom } = await create(one, 'a')
    assert.equal((await two.secrets.read(by(OWNER), 'a', { at: validFrom })).version, 1)
    const path = { path: 'at', expected: 'an instant in the past' }
    await assert.rejects(
      two.secrets.read(by(OWNER), 'a', { at: validFrom + 1 }),
      isProblem('invalid-request', path),
    )
    assert.equal((await one.secrets.read(by(OWNER), 'a', { at: validFrom + 1 - 1 })).version, 1)
    const refs = [{ name: 'a', version: undefined }]
    assert.equal((await two.secrets.resolve(by(OWNER), refs, validFrom, () => undefined)).values.length, 1)
    await assert.rejects(
      two.secrets.resolve(by(OWNER), refs, validFrom + 1, () => undefined),
      isProblem('invalid-request', path),
    )
  }))

test('`at` of a resolve is bounded for each reference as a read of that secret bounds an instant', () =>
  withWorld(2, async (_, one, two) => {
    await create(two, 'b')
    one.clock.shift = 10 * 60_000
    const { validFrom } = await create(one, 'a')
    const path = { path: 'at', expected: 'an instant in the past' }
    const asked = (...refs: [name: string, version?: number][]) =>
      two.secrets.resolve(
        by(OWNER),
        refs.map(([name, version]) => ({ name, version })),
        validFrom,
        () => undefined,
      )
    for (const name of ['b', 'no']) {
      const read = two.secrets.read(by(OWNER), name, { at: validFrom })
      await assert.rejects(read, isProblem('invalid-request', path), name)
      await assert.rejects(asked(['a'], [name]), isProblem('invalid-request', path), name)
      await assert.rejects(asked([name], ['a']), isProblem('invalid-request', path), name)
    }
    assert.equal((await asked(['a'], ['b', 1])).values.length, 2)
    assert.deepEqual((await asked(['a'], ['no', 1])).missing, [1])
    assert.equal((await asked(['b', 1])).values.length, 1)
  }))

test('an update needs no replica that has seen the one before, and a read by number knows of it', () =>
  withWorld(2, async (world, one, two) => {
    await create(one, 'a')
    await one.replica.barrier(soon())
    one.way.hold()
    const from: number[] = []
    for (let version = 2; version <= 4; version++) {
      const written = await update(one, 'a', `${version}`)
      assert.equal(written.version, version)
      from.push(written.validFrom)
      assert.equal((await one.secrets.read(by(OWNER), 'a', { version: 1 })).validTo, from[0])
    }
    assert.equal(one.replica.owner(OWNER)?.secrets.get('a')?.length, 1, 'the replica is held back')
    assert.deepEqual(
      from.toSorted((a, b) => a - b),
      from,
    )
    // Another node has been first meanwhile: known only when it is refused.
    const next = update(two, 'a', 'of two')
    assert.equal((await next).version, 5)
    one.way.release()
    assert.equal((await update(one, 'a', 'last')).version, 6)
    assert.equal((await world.settled()).get('a')?.length, 6)
  }))

test('what was acknowledged is found on every other node by the next question', () =>
  withWorld(3, async (_, ...nodes) => {
    for (let i = 0; i < 30; i++) {
      const [writer, reader] = [nodes[i % 3], nodes[(i + 1) % 3]]
      await create(writer, `a${i}`)
      assert.equal(await textOf(reader, `a${i}`), `value of a${i}`)
      await update(reader, `a${i}`, 'second')
      assert.equal(await textOf(writer, `a${i}`, 2), 'second')
      assert.equal((await writer.secrets.history(by(OWNER), `a${i}`)).length, 2)
      assert.equal(
        (await writer.secrets.names(by(OWNER), { prefix: '', after: '', limit: 1000 })).length,
        i + 1,
      )
      await assert.rejects(create(reader, `a${i}`), isProblem('secret-exists', { names: [`a${i}`] }))
    }
  }))

test('the largest request there can be fits into a commit, with the longest of ids', async () => {
  const rootKey = { id: 'r'.repeat(64), key: systemClock.random(32), createdAt: '2026-01-01T00:00:00.000Z' }
  await withWorld(1, async (world) => {
    world.keyring = new Keyring([...world.keyring.rootKeys, rootKey], rootKey.id)
    const [one] = world.nodes
    let bytes = 0
    one.way.through = (commit, send) => {
      bytes = commitBytes(commit)
      return send()
    }
    const who = { ...by('o'.repeat(64)), keyId: 'k'.repeat(64), request: 'r'.repeat(128) }
    const names = Array.from({ length: SECRETS_A_REQUEST }, (_, i) => `${i}-`.padEnd(256, 'n'))
    const room = SECRETS_BYTES_A_REQUEST - names.length * 256
    const each = Math.floor(room / names.length)
    const secrets = names.map((name, i) =>
      secret(name, 'v'.repeat(i === 0 ? room - each * (names.length - 1) : each)),
    )
    const asked = { method: 'POST', name: '', ifMatch: undefined, body: Buffer.alloc(0) }
    await once(one, { owner: who.owner, key: 'k'.repeat(128), asked }, (claim) =>
      one.secrets.create(who, secrets, claim),
    )
    assert.ok(bytes > SECRETS_BYTES_A_REQUEST && bytes <= COMMIT_BYTES, `${bytes} bytes`)
    assert.equal(
      (await one.secrets.names(by(who.owner), { prefix: '', after: '', limit: 1000 })).length,
      SECRETS_A_REQUEST,
    )
  })
})
