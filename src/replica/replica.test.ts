// The replica over a memory ledger that misbehaves in every legal way; state, digest and look-ups after each.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { assertFinds, putEpoch, putSegment, withReplica } from '../../test/replicas.ts'
import { Deadline } from '../clock.ts'
import { Compacted } from '../ledger/ledger.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { until } from '../waiting.ts'
import { checkFile } from './check.ts'

test('after the barrier everything acknowledged before it is there', () =>
  withReplica(async ({ ledger, open }) => {
    const replica = await open()
    for (let seed = 1; seed <= 20; seed++) {
      await putSegment(ledger, seed, 50)
      await replica.barrier(soon())
      assertFinds(replica, seed, 50)
    }
    assert.equal(replica.contents.mappings, 1000)
  }))

test('a barrier is never joined once it has been sent', () =>
  withReplica(async ({ ledger, open }) => {
    const replica = await open()
    await replica.barrier(soon())
    let asked = 0
    const head = ledger.head.bind(ledger)
    ledger.head = () => {
      asked++
      return head()
    }
    const first = replica.barrier(soon())
    await putSegment(ledger, 1, 10)
    const [second, third] = [replica.barrier(soon()), replica.barrier(soon())]
    await second
    assertFinds(replica, 1, 10)
    await Promise.all([first, third])
    assert.equal(asked, 2, 'the third shares the second one, which was not sent yet')
  }))

test('equal mappings are ignored and counted; the digest does not know in which order things came', () =>
  withReplica(async ({ ledger, open }) => {
    const other = new MemoryLedger()
    const replica = await open()
    await putEpoch(ledger, 'o', 1)
    for (const seed of [1, 2, 2, 3, 1]) await putSegment(ledger, seed, 40)
    await replica.barrier(soon())
    assert.equal(replica.counts.ignoredDuplicates, 80)
    assertFinds(replica, 2, 40)
    const { digest } = replica.digest()
    await withReplica(async (bench) => {
      for (const seed of [3, 2, 1]) await putSegment(bench.ledger, seed, 40)
      await putEpoch(bench.ledger, 'o', 1)
      const reordered = await bench.open()
      await reordered.barrier(soon())
      assert.equal(reordered.digest().digest, digest)
      await putEpoch(bench.ledger, 'o', 2)
      await reordered.barrier(soon())
      assert.notEqual(reordered.digest().digest, digest)
    })
    await other.close()
  }))

test('a restart goes on at its own cursor, with and without its checkpoint', () =>
  withReplica(async ({ ledger, open, path, told }) => {
    let replica = await open()
    await putEpoch(ledger, 'o', 1)
    for (let seed = 1; seed <= 5; seed++) await putSegment(ledger, seed, 333)
    await putSegment(ledger, 6, 70, 'other')
    await replica.barrier(soon())
    const { digest, revision } = replica.digest()
    await replica.close()
    assert.equal(readdirSync(path).filter((file) => file.startsWith('checkpoint-')).length, 1)
    for (const damage of [undefined, 'flip', 'remove'] as const) {
      const name = readdirSync(path).find((file) => file.startsWith('checkpoint-'))
      if (damage === 'remove' && name) rmSync(join(path, name))
      if (damage === 'flip' && name) {
        const bytes = readFileSync(join(path, name))
        bytes[bytes.length >> 1] ^= 1
        writeFileSync(join(path, name), bytes)
      }
      replica = await open()
      assert.equal(replica.applied, revision)
      assert.deepEqual(replica.digest(), { digest, revision })
      for (let seed = 1; seed <= 5; seed++) assertFinds(replica, seed, 333)
      assertFinds(replica, 6, 70, 'other')
      assert.equal(replica.owner('o')?.active, 1)
      await replica.close()
    }
    assert.deepEqual(
      told.filter((line) => line.startsWith('fatal')),
      [],
    )
  }))

test('an older checkpoint that is put back is not used', () =>
  withReplica(async ({ ledger, open, path }) => {
    let replica = await open()
    await putSegment(ledger, 1, 100)
    await replica.barrier(soon())
    await replica.close()
    const old = readdirSync(path).find((file) => file.startsWith('checkpoint-')) ?? ''
    const bytes = readFileSync(join(path, old))
    replica = await open()
    await putSegment(ledger, 2, 100)
    await replica.barrier(soon())
    await replica.close()
    for (const file of readdirSync(path)) if (file.startsWith('checkpoint-')) rmSync(join(path, file))
    writeFileSync(join(path, old), bytes)
    replica = await open()
    assertFinds(replica, 1, 100)
    assertFinds(replica, 2, 100)
    assert.deepEqual(
      readdirSync(path).filter((file) => file.startsWith('checkpoint-')),
      [],
    )
  }))

test('when the history is compacted away, a snapshot takes its place', () =>
  withReplica(async ({ ledger, open, told }) => {
    let replica = await open()
    await putEpoch(ledger, 'o', 1)
    await putSegment(ledger, 1, 100)
    await replica.barrier(soon())
    await replica.close()
    for (let seed = 2; seed <= 9; seed++) await putSegment(ledger, seed, 100)
    await putEpoch(ledger, 'o', 2)
    ledger.compact(9)
    replica = await open()
    await replica.barrier(soon())
    for (let seed = 1; seed <= 9; seed++) assertFinds(replica, seed, 100)
    assert.equal(replica.owner('o')?.active, 2)
    assert.ok(told.some((line) => line.startsWith('caught-up')))
    const { digest } = replica.digest()
    await withReplica(async (bench) => {
      for (let seed = 1; seed <= 9; seed++) await putSegment(bench.ledger, seed, 100)
      await putEpoch(bench.ledger, 'o', 1)
      await putEpoch(bench.ledger, 'o', 2)
      const whole = await bench.open()
      await whole.barrier(soon())
      assert.equal(whole.digest().digest, digest)
    })
  }))

test('a history that is compacted away during every snapshot is read again with pauses', () =>
  withReplica(async ({ ledger, open }) => {
    await putEpoch(ledger, 'o', 1)
    ledger.compact(2)
    const { snapshot } = ledger
    let snapshots = 0
    ledger.snapshot = async () => {
      snapshots++
      throw new Compacted('the history of the snapshot is gone')
    }
    const replica = await open()
    const began = performance.now()
    assert.ok(await until(() => snapshots >= 4, { every: 5, within: 20_000 }))
    assert.ok(performance.now() - began > 400, 'three pauses of 200 ms')
    ledger.snapshot = snapshot
    await replica.barrier(soon())
    assert.equal(replica.owner('o')?.active, 1)
  }))

test('a stream that breaks, and a ledger that goes away, are told and survived', () =>
  withReplica(async ({ ledger, open, told }) => {
    const replica = await open()
    await putSegment(ledger, 1, 10)
    await replica.barrier(soon())
    ledger.disconnect()
    await putSegment(ledger, 2, 10)
    await replica.barrier(soon())
    assertFinds(replica, 2, 10)
    ledger.reachable = false
    ledger.disconnect()
    await assert.rejects(replica.barrier(soon()), /cannot be reached/)
    assertFinds(replica, 1, 10)
    ledger.reconnect()
    await putSegment(ledger, 3, 10)
    await replica.barrier(soon())
    assertFinds(replica, 3, 10)
    assert.ok(told.some((line) => line.startsWith('lost')))
  }))

test('foreign keys are skipped and counted; an entry of ours that does not decode ends the node', () =>
  withReplica(async ({ ledger, open, told }) => {
    const replica = await open()
    await ledger.commit({ if: [], put: [{ key: 'somebody/else', value: Buffer.from('x') }] }, Deadline.never)
    await putSegment(ledger, 1, 5)
    await replica.barrier(soon())
    assert.equal(replica.counts.foreignKeys, 1)
    await ledger.commit(
      {
        if: [],
        put: [{ key: ledgerKey.epoch('o'), value: Buffer.from('not an entry at all, is it') }],
      },
      Deadline.never,
    )
    await assert.rejects(replica.waitApplied(4, soon()))
    assert.match(told.join('\n'), /fatal an entry has version/)
    assertFinds(replica, 1, 5)
  }))

test('the check reads a damaged file in a child, and says so', () =>
  withReplica(async ({ ledger, open, path }) => {
    const replica = await open()
    for (let seed = 1; seed <= 30; seed++) await putSegment(ledger, seed, 500)
    await replica.barrier(soon())
    await replica.close()
    assert.deepEqual(await checkFile('replica', path), { whole: true })
    const file = join(path, 'data.mdb')
    const whole = readFileSync(file)
    const damages: Record<string, Buffer> = {
      'random bytes': Buffer.from(whole.map((byte, i) => (i > 8192 ? (byte * 7 + i) & 255 : byte))),
      half: whole.subarray(0, whole.length >> 1),
      'one value': Buffer.from(whole),
    }
    // Copy-on-write leaves older copies of a page behind: the value is damaged in all of them.
    for (
      let at = whole.indexOf(Buffer.alloc(16, 20));
      at >= 0;
      at = whole.indexOf(Buffer.alloc(16, 20), at + 16)
    ) {
      damages['one value'][at] ^= 255
    }
    for (const [name, bytes] of Object.entries(damages)) {
      writeFileSync(file, bytes)
      const checked = await checkFile('replica', path)
      assert.equal(checked.whole, false, name)
    }
  }))

test('a broken invariant while applying ends the node; it is not taken for a full disk', () =>
  withReplica(async ({ ledger, open, told }) => {
    const replica = await open({
      events: {
        lost: (reason) => told.push(`lost ${reason}`),
        recovered() {},
        caughtUp() {},
        epoch() {
          throw new Error('an invariant broke')
        },
        applied() {},
      },
    })
    await replica.barrier(soon())
    await putEpoch(ledger, 'o', 1)
    await assert.rejects(replica.waitApplied(2, soon()), /an invariant broke/)
    assert.deepEqual(told, ['fatal an invariant broke'])
  }))
