// What secrets outlive: a replica rebuilt from nothing, other root keys, a backup.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { by, soon } from '../../test/deadlines.ts'
import {
  AT_ONCE,
  anyVersion,
  caller,
  createOnce,
  isProblem,
  OWNER,
  type SimNode,
  secret,
  textOf,
  updateOnce,
  World,
  withWorld,
} from '../../test/sim/nodes.ts'
import { verifyBackup, writeBackup } from '../backup/backup.ts'
import { restore } from '../backup/restore.ts'
import { Deadline, systemClock } from '../clock.ts'
import { type Keyring, newRootKey } from '../crypto/keyring.ts'
import { rewrapKeys, WrappedKeys } from '../keys/rewrap.ts'
import { CheckedLedger } from '../ledger/checked.ts'
import { type Commit, type Ledger, UnknownOutcome } from '../ledger/ledger.ts'
import { LmdbLedger } from '../ledger/lmdb.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { snapshotRanges } from '../state/ledger-keys.ts'
import { until } from '../waiting.ts'
import type { WriteResult } from './receipts.ts'

/** Secrets of two owners, one of them with many versions, some written under an Idempotency-Key. */
async function fill(node: SimNode): Promise<void> {
  await createOnce(node, 'k1', [secret('a'), secret('a/1'), secret('a/0000000001')])
  await createOnce(node, 'k1', [secret('a', 'of p')], 'p')
  for (let i = 2; i <= 30; i++) await node.secrets.update(caller('x'), secret('a', `a${i}`), anyVersion)
  await updateOnce(node, 'k2', secret('a/1', 'second'))
}

async function checkFilled(node: SimNode): Promise<void> {
  assert.deepEqual(await node.secrets.names(by(OWNER), { prefix: '', after: '', limit: 10 }), [
    'a',
    'a/0000000001',
    'a/1',
  ])
  for (let i = 2; i <= 30; i++) assert.equal(await textOf(node, 'a', i), `a${i}`)
  assert.equal(await textOf(node, 'a', 1), 'value of a')
  assert.equal(await textOf(node, 'a/1', 1), 'value of a/1')
  assert.equal(await textOf(node, 'a/1'), 'second')
  assert.equal(await textOf(node, 'a/0000000001'), 'value of a/0000000001')
  assert.equal(await textOf(node, 'a', undefined, 'p'), 'of p')
  const first = await createOnce(node, 'k1', [secret('a'), secret('a/1'), secret('a/0000000001')])
  assert.deepEqual([first.version, first.replayed], [1, true])
  assert.equal((await updateOnce(node, 'k2', secret('a/1', 'second'))).replayed, true)
  await assert.rejects(createOnce(node, 'k2', [secret('c')]), isProblem('idempotency-key-reused'))
}

/** Another root key beside the one there is, active. */
function anotherRootKey(world: World): { before: string; after: string } {
  const added = world.keyring.add(newRootKey(systemClock))
  const before = world.keyring.active
  const after = added.ids.at(-1) ?? ''
  world.keyring = added.activate(after)
  return { before, after }
}

async function digestOf({ replica }: SimNode): Promise<string> {
  await replica.barrier(soon())
  return replica.digest().digest
}

test('the digest is the same on all replicas, after a restart, from nothing, and over a snapshot', () =>
  withWorld(3, async (world, one, two, three) => {
    const empty = await digestOf(one)
    await fill(one)
    const digest = await digestOf(one)
    assert.notEqual(digest, empty)
    for (const node of [two, three]) assert.equal(await digestOf(node), digest)
    assert.equal(await digestOf(await world.restart(two)), digest)
    assert.equal(await digestOf(await world.add('by-log')), digest)
    world.ledger.compact(await world.ledger.head())
    const bySnapshot = await world.add('by-snapshot')
    assert.equal(await digestOf(bySnapshot), digest)
    await checkFilled(bySnapshot)
    assert.deepEqual(bySnapshot.replica.contents, { mappings: 0, secrets: 4, secretVersions: 34 })
    assert.equal((await bySnapshot.secrets.update(caller('x'), secret('a'), anyVersion)).version, 31)
    assert.notEqual(await digestOf(one), digest)
    await world.settled()
  }))

test('rewrapping: everything opens without the old root key, the digest stays, and receipts count', () =>
  withWorld(2, async (world, one, two) => {
    await fill(one)
    const digest = await digestOf(one)
    const { before, after } = anotherRootKey(world)
    assert.equal((await one.secrets.update(caller('x'), secret('a/1', 'new'), anyVersion)).version, 3)
    const between = await digestOf(one)
    assert.notEqual(between, digest)
    const keys = new WrappedKeys(two.replica.state)
    await two.replica.barrier(soon())
    // 34 data keys of versions and the key of receipts.
    assert.deepEqual([keys.counts().get(before), keys.counts().get(after)], [35, 1])
    assert.deepEqual(await world.rewrap(two), { rewrapped: 35, left: 0 })
    assert.deepEqual(await world.rewrap(one), { rewrapped: 0, left: 0 })
    await two.replica.barrier(soon())
    assert.deepEqual([keys.counts().get(before) ?? 0, keys.counts().get(after)], [0, 36])
    world.keyring = world.keyring.remove(before)
    const histories = await world.settled()
    assert.deepEqual(
      [...histories].map(([name, lines]) => [name, lines.length]),
      [
        ['a', 30],
        ['a/0000000001', 1],
        ['a/1', 3],
      ],
    )
    for (const node of [one, two, await world.add('from-nothing')]) {
      assert.equal(await digestOf(node), between)
      assert.equal(await textOf(node, 'a/1'), 'new')
      assert.equal(await textOf(node, 'a/1', 1), 'value of a/1')
      for (let i = 2; i <= 30; i++) assert.equal(await textOf(node, 'a', i), `a${i}`)
      assert.equal((await updateOnce(node, 'k2', secret('a/1', 'second'))).replayed, true)
    }
    assert.equal((await one.secrets.update(caller('x'), secret('a'), anyVersion)).version, 31)
  }))

test('a rewrap asks for room before each group of commits, and ends where it is superseded', () =>
  withWorld(1, async (world, one) => {
    const names = Array.from({ length: 300 }, (_, i) => secret(`s${i}`, 'x'.repeat(100)))
    await one.secrets.create(caller('x'), names)
    await one.replica.barrier(soon())
    anotherRootKey(world)
    const parts = { replica: one.replica, keyring: () => world.keyring, clock: one.clock }
    const superseded = new AbortController()
    const asked: number[] = []
    const room = async (bytes: number): Promise<void> => {
      asked.push(bytes)
      if (asked.length === 2) superseded.abort(new Error('superseded'))
    }
    await assert.rejects(rewrapKeys(parts, { signal: superseded.signal, room }), /superseded/)
    assert.equal(asked[0], 0)
    assert.ok(asked[1] > 128 * 100 && asked[1] < 128 * 500, `bytes of 128 entries: ${asked[1]}`)
    // The genesis came before the first group; the other commits are those of the next call.
    assert.deepEqual(await rewrapKeys(parts, AT_ONCE), { rewrapped: 300 - 128, left: 0 })
    await world.settled()
  }))

test('a node that lacks the root key says so, and serves the rest', () =>
  withWorld(1, async (world, one) => {
    await one.secrets.create(caller('x'), [secret('old')])
    const poor = world.keyring
    anotherRootKey(world)
    await one.secrets.create(caller('x'), [secret('new')])
    const two = await world.add('poor', () => poor)
    assert.equal(await textOf(two, 'old'), 'value of old')
    await assert.rejects(textOf(two, 'new'), isProblem('unknown-root-key'))
    const refs = ['old', 'new'].map((name) => ({ name, version: undefined }))
    await assert.rejects(
      two.secrets.resolve(by(OWNER), refs, undefined, () => undefined),
      isProblem('unknown-root-key'),
    )
    assert.equal((await two.secrets.history(by(OWNER), 'new')).length, 1)
    assert.equal((await two.secrets.update(caller('x'), secret('new', 'by two'), anyVersion)).version, 2)
    assert.equal(await textOf(two, 'new'), 'by two')
    assert.equal(await textOf(one, 'new'), 'by two')
    // Rewrapping leaves what it cannot open.
    const poorly = await rewrapKeys({ ...two, keyring: () => poor }, AT_ONCE)
    assert.deepEqual(poorly, { rewrapped: 0, left: 1 })
    assert.deepEqual((await world.rewrap(one)).left, 0)
    await assert.rejects(textOf(two, 'old'), isProblem('unknown-root-key'))
  }))

test('a rewrap between a commit whose answer was lost and its resolution: the writer still knows it', () =>
  withWorld(2, async (world, one, two) => {
    await one.secrets.create(caller('x'), [secret('there')])
    const { before } = anotherRootKey(world)
    const lost = (): void => {
      let first = true
      one.way.through = async (_commit, send) => {
        if (!first) return send()
        first = false
        await send()
        // Everything is wrapped anew, also what has just been put and nobody was told of.
        world.keyring = world.keyring.activate(
          world.keyring.active === before ? world.keyring.ids[1] : before,
        )
        assert.ok((await world.rewrap(two)).rewrapped > 0)
        throw new UnknownOutcome('no answer')
      }
    }
    const update = (name: string, value: string, matches = anyVersion): Promise<WriteResult> =>
      one.secrets.update(caller('x'), secret(name, value), matches)
    for (const [write, version, next] of [
      [() => one.secrets.create(caller('x'), [secret('a'), secret('b')]), 1, 'a'],
      [() => update('there', 't2'), 2, 'there'],
      [() => createOnce(one, 'k1', [secret('c')]), 1, 'c'],
      [() => updateOnce(one, 'k2', secret('there', 't4')), 4, 'there'],
    ] as const) {
      lost()
      const written = await write()
      assert.deepEqual([written.version, written.replayed], [version, false], next)
      one.way.through = undefined
      // The next one of the same node goes on from there.
      assert.equal((await update(next, 'next')).version, version + 1)
    }
    const histories = await world.settled()
    assert.equal(histories.get('there')?.length, 5)
    assert.equal(await textOf(two, 'there', 2), 't2')
    assert.equal(await textOf(two, 'there', 4), 't4')
    assert.equal(await textOf(two, 'b', 1), 'value of b')
  }))

test('a commit on its way while all is rewrapped is refused, and wrapped by the root key active now', () =>
  withWorld(2, async (world, one, two) => {
    await one.secrets.create(caller('x'), [secret('there')])
    for (const write of [
      () => one.secrets.create(caller('x'), [secret('a'), secret('b')]),
      () => createOnce(one, 'k1', [secret('c')]),
      () => one.secrets.update(caller('x'), secret('there', 't2'), anyVersion),
      () => updateOnce(one, 'k2', secret('there', 't3')),
    ]) {
      let sent = 0
      one.way.through = async (_commit, send) => {
        if (sent++ > 0) return send()
        const { before } = anotherRootKey(world)
        await world.rewrap(two)
        world.keyring = world.keyring.remove(before)
        return send()
      }
      assert.equal((await write()).replayed, false)
      assert.equal(sent, 2)
    }
    one.way.through = undefined
    await world.settled()
    const fresh = await world.add('from-nothing')
    for (const name of ['a', 'b', 'c']) assert.equal(await textOf(fresh, name), `value of ${name}`)
    assert.equal(await textOf(fresh, 'there'), 't3')
    assert.equal((await updateOnce(fresh, 'k2', secret('there', 't3'))).replayed, true)
  }))

/** The commit puts a version of a secret. */
const putsVersion = ({ put }: Commit): boolean => put.some(({ key }) => key.startsWith('version/'))

test('a rewrap goes back: its own commit that is late, is refused', () =>
  withWorld(2, async (world, one, two) => {
    await one.secrets.create(caller('x'), [secret('a')])
    const { before, after } = anotherRootKey(world)
    one.way.through = async (commit, send) => {
      if (!putsVersion(commit)) return send()
      one.way.through = undefined
      world.keyring = world.keyring.activate(before)
      await world.rewrap(two)
      world.keyring = world.keyring.remove(after)
      return send()
    }
    await world.rewrap(one)
    assert.equal(one.way.through, undefined, 'the rewrap went back meanwhile')
    await world.settled()
    assert.equal(await textOf(await world.add('from-nothing'), 'a'), 'value of a')
  }))

test('a root key is active again for a while: what was wrapped by it then, and is late, is refused', () =>
  withWorld(2, async (world, one, two) => {
    await one.secrets.create(caller('x'), [secret('a')])
    const { before, after } = anotherRootKey(world)
    await world.rewrap(two)
    await one.replica.barrier(soon())
    world.keyring = world.keyring.activate(before)
    let sent = 0
    one.way.through = async (_commit, send) => {
      if (sent++ > 0) return send()
      world.keyring = world.keyring.activate(after)
      assert.deepEqual(await world.rewrap(two), { rewrapped: 0, left: 0 })
      world.keyring = world.keyring.remove(before)
      return send()
    }
    assert.equal((await one.secrets.update(caller('x'), secret('a', 'a2'), anyVersion)).version, 2)
    assert.equal(sent, 2)
    await world.settled()
    assert.equal(await textOf(await world.add('from-nothing'), 'a'), 'a2')
  }))

test('a version that another node has wrapped anew is not taken for what was sent without an answer', () =>
  withWorld(2, async (world, one, two) => {
    await one.secrets.create(caller('x'), [secret('a')])
    await two.replica.barrier(soon())
    anotherRootKey(world)
    one.way.through = async (commit, send) => {
      if (!putsVersion(commit)) return send()
      one.way.through = undefined
      assert.equal((await world.rewrap(two)).rewrapped, 1)
      await one.replica.barrier(soon())
      throw new UnknownOutcome('no answer')
    }
    assert.equal((await world.rewrap(one)).rewrapped, 1, 'the genesis')
    assert.equal(one.way.through, undefined)
    await world.settled()
  }))

test('a node that is behind a rewrap, and lacks the old root key, looks again after a barrier', () =>
  withWorld(2, async (world, one, two) => {
    await createOnce(two, 'k1', [secret('a')])
    await two.replica.barrier(soon())
    two.way.hold()
    const { before } = anotherRootKey(world)
    await world.rewrap(one)
    world.keyring = world.keyring.remove(before)
    const refs = [{ name: 'a', version: 1 }]
    const asked = [
      textOf(two, 'a', 1),
      two.secrets
        .resolve(by(OWNER), refs, undefined, () => undefined)
        .then(({ values }) => String(values[0])),
      createOnce(two, 'k1', [secret('a')]).then(({ replayed }) => String(replayed)),
    ]
    two.way.release()
    assert.deepEqual(await Promise.all(asked), ['value of a', 'value of a', 'true'])
  }))

test('rewraps on two nodes at once, while secrets are written', () =>
  withWorld(3, async (world, one, two, three) => {
    await fill(one)
    const { before } = anotherRootKey(world)
    const writes = Array.from({ length: 40 }, (_, i) =>
      three.secrets.update(caller('x'), secret('a/0000000001', `${i}`), anyVersion),
    )
    const rewrapped = await Promise.all([world.rewrap(one), world.rewrap(two)])
    await Promise.all(writes)
    assert.equal(
      rewrapped.reduce((sum, each) => sum + each.rewrapped, 0),
      35,
    )
    await world.rewrap(one)
    world.keyring = world.keyring.remove(before)
    const histories = await world.settled()
    assert.equal(histories.get('a/0000000001')?.length, 41)
    for (const node of world.nodes) {
      for (const [name, lines] of histories) {
        for (const { version } of lines) assert.ok(await textOf(node, name, version))
      }
    }
  }))

// ---- backup and restore

async function backedUp(ledger: Ledger, keyring: Keyring): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  const sink = async (chunk: Uint8Array): Promise<void> => void chunks.push(chunk)
  await writeBackup({ ledger: new CheckedLedger(ledger), keyring, sink, clock: systemClock })
  return Buffer.concat(chunks)
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000)
}

async function restoreInto(bytes: Uint8Array, ledger: Ledger, keyring: Keyring): Promise<void> {
  const backup = await verifyBackup(pieces(bytes), { keyring })
  const open = (): AsyncIterable<Uint8Array> => pieces(bytes)
  await restore({ ledger: new CheckedLedger(ledger), open, keyring, backup, clock: systemClock })
}

test('a backup restored into an empty ledger has all versions, and the receipts', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-keeping-'))
  const world = await World.open(1)
  try {
    const [one] = world.nodes
    await fill(one)
    const { before } = anotherRootKey(world)
    await one.secrets.create(caller('x'), [secret('by-the-new-key')])
    const digest = await digestOf(one)
    const bytes = await backedUp(world.ledger, world.keyring)
    assert.equal(bytes.indexOf('value of'), -1, 'still sealed')
    const lmdb = new LmdbLedger(join(dir, 'ledger'))
    await restoreInto(bytes, lmdb, world.keyring)
    const memory = new MemoryLedger()
    await restoreInto(await backedUp(lmdb, world.keyring), memory, world.keyring)
    await lmdb.close()
    const other = await world.add('restored', undefined, memory)
    assert.equal(await digestOf(other), digest)
    assert.equal(await textOf(other, 'by-the-new-key'), 'value of by-the-new-key')
    const histories = await Promise.all([one, other].map((node) => node.secrets.history(by(OWNER), 'a')))
    assert.deepEqual(histories[1], histories[0])
    assert.equal((await updateOnce(other, 'k2', secret('a/1', 'second'))).replayed, true)
    // It goes on: the next versions, and other root keys.
    assert.equal((await other.secrets.update(caller('x'), secret('a'), anyVersion)).version, 31)
    assert.equal((await world.rewrap(other)).left, 0)
    world.keyring = world.keyring.remove(before)
    assert.equal(await textOf(other, 'a', 17), 'a17')
    assert.equal((await createOnce(other, 'k1', [secret('a', 'of p')], 'p')).replayed, true)
  } finally {
    await world.close()
    rmSync(dir, { recursive: true })
  }
})

test('a backup with a version that was changed, moved or left out is refused', () =>
  withWorld(1, async (world, one) => {
    await fill(one)
    const bytes = await backedUp(world.ledger, world.keyring)
    await verifyBackup(pieces(bytes), { keyring: world.keyring })
    const at = bytes.indexOf('version/o/a/1@0000000002')
    assert.ok(at > 0)
    for (const offset of [0, 10, 12, 23, 60, 90]) {
      const damaged = Buffer.from(bytes)
      damaged[at + offset] ^= 1
      await assert.rejects(verifyBackup(pieces(damaged), { keyring: world.keyring }), `${offset}`)
    }
    const { entries } = await world.ledger.snapshot(snapshotRanges([]))
    const left = new MemoryLedger()
    for await (const { key, value } of entries) {
      if (key !== 'version/o/a@0000000007')
        await left.commit({ if: [], put: [{ key, value }] }, Deadline.never)
    }
    const other = await world.add('with-a-hole', undefined, left)
    assert.notEqual(await digestOf(other), await digestOf(one))
    await world.remove(other)
  }))

test('an update overtakes the answer to a create whose outcome was unknown', async () => {
  await withWorld(1, async (_, node) => {
    const { way, replica } = node
    way.through = async (_commit, send) => {
      way.through = undefined
      await send()
      throw new UnknownOutcome('the answer was lost')
    }
    const created = node.secrets.create(caller('r1'), [secret('a')])
    await until(() => replica.owner(OWNER)?.secrets.has('a') ?? false, { every: 1, within: 4000 })
    way.hold() // the second version is accepted, and not applied
    await node.secrets.update(caller('r2'), secret('a', 'second'), anyVersion)
    assert.equal((await created).version, 1)
    way.release()
    assert.equal(await textOf(node, 'a'), 'second')
  })
})
