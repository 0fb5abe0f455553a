// A replica is compared with one that is built anew from a ledger that goes on, and forgets, meanwhile.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { Deadline, systemClock } from '../clock.ts'
import { CheckedLedger } from '../ledger/checked.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { LEDGER_FORMAT } from '../state/writer.ts'
import { LmdbStore } from './lmdb-store.ts'
import { Replica } from './replica.ts'
import { type ReplicaCheck, verifyReplica } from './verify.ts'

const writer = { boot: 'a'.repeat(32), commit: 1 }

class Bench implements AsyncDisposable {
  readonly data = mkdtempSync(join(tmpdir(), 'coffer-verify-'))
  readonly ledger = new MemoryLedger()
  readonly lost: string[] = []

  /** A ledger with a genesis and some epochs, and a replica that has applied them. */
  static async make(): Promise<Bench> {
    const bench = new Bench()
    await bench.begin('f')
    for (let i = 1; i <= 20; i++) await bench.put(`o${i % 5}`, i)
    await bench.build()
    return bench
  }

  async begin(identity: string, ledger = this.ledger): Promise<void> {
    const receiptKey = Uint8Array.from([2, 4, ...Buffer.from('rk-1'), 1])
    const genesis = {
      kind: 'genesis',
      identity: identity.repeat(32),
      format: LEDGER_FORMAT,
      receiptKey,
    } as const
    await ledger.commit(
      { if: [], put: [{ key: ledgerKey.genesis, value: encodeEntry(genesis, writer) }] },
      Deadline.never,
    )
  }

  async put(owner: string, active: number, ledger = this.ledger): Promise<void> {
    const value = encodeEntry({ kind: 'epoch', owner, active }, writer)
    await ledger.commit({ if: [], put: [{ key: ledgerKey.epoch(owner), value }] }, Deadline.never)
  }

  async build(): Promise<void> {
    const path = join(this.data, 'replica')
    mkdirSync(path, { recursive: true })
    const quiet = (): void => undefined
    const replica = await Replica.open({
      store: new LmdbStore(path),
      ledger: new CheckedLedger(this.ledger),
      boot: 'b'.repeat(32),
      clock: systemClock,
      events: { lost: quiet, recovered: quiet, caughtUp: quiet, epoch: quiet, applied: quiet },
      fatal: quiet,
    })
    replica.follow()
    await replica.waitApplied(await this.ledger.head(), soon())
    await replica.close()
  }

  async verify(ledger = this.ledger): Promise<ReplicaCheck> {
    const lost = (reason: string): void => void this.lost.push(reason)
    const result = await verifyReplica({
      data: this.data,
      ledger: new CheckedLedger(ledger),
      shared: true,
      clock: systemClock,
      lost,
    })
    this.assertNothingLeft()
    return result
  }

  assertNothingLeft(): void {
    const left = readdirSync(this.data).filter((name) => name.startsWith('verify'))
    assert.deepEqual(left, [], 'nothing is left')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ledger.close()
    rmSync(this.data, { recursive: true })
  }
}

test('the replica catches up first, and both are compared at one revision', async () => {
  await using bench = await Bench.make()
  await bench.put('o1', 21)
  const result = await bench.verify()
  assert.ok(result.kind === 'compared')
  assert.deepEqual([result.revision, result.digest], [22, result.rebuilt])
  await bench.put('o1', 22)
  const later = await bench.verify()
  assert.ok(later.kind === 'compared')
  assert.notEqual(later.digest, result.digest)
})

test('a ledger that is written to all the while does not keep it from its end', async () => {
  await using bench = await Bench.make()
  let done = false
  const writing = (async () => {
    for (let i = 1; !done; i++) {
      await bench.put(`o${i % 5}`, 100 + i)
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  const result = await bench.verify()
  done = true
  await writing
  assert.ok(result.kind === 'compared')
  assert.equal(result.digest, result.rebuilt)
})

test('history that is gone: both go to the revision of the later snapshot', async () => {
  await using bench = await Bench.make()
  for (let i = 21; i <= 30; i++) await bench.put(`o${i % 5}`, i)
  bench.ledger.compact(29)
  const { ledger } = bench
  const snapshot = ledger.snapshot.bind(ledger)
  let taken = 0
  // What one of them reads in its snapshot is later than what the other one has read.
  ledger.snapshot = async (ranges) => {
    await bench.put(`o${++taken}`, 40 + taken)
    return snapshot(ranges)
  }
  const result = await bench.verify()
  assert.equal(taken, 2)
  assert.ok(result.kind === 'compared')
  assert.deepEqual([result.revision, result.digest], [33, result.rebuilt])
})

test('history that only the new one needs: the replica follows it to the later revision', async () => {
  await using bench = await Bench.make()
  const { ledger } = bench
  ledger.compact(10)
  const snapshot = ledger.snapshot.bind(ledger)
  ledger.snapshot = async (ranges) => {
    await new Promise((resolve) => setTimeout(resolve, 100)) // by then the other one waits for more
    await bench.put('o1', 50)
    return snapshot(ranges)
  }
  const result = await bench.verify()
  assert.ok(result.kind === 'compared')
  assert.deepEqual([result.revision, result.digest], [22, result.rebuilt])
})

test('one that was built from another ledger is told, also where only one entry differs', async () => {
  await using bench = await Bench.make()
  const other = new MemoryLedger()
  await bench.begin('e', other)
  for (let i = 1; i <= 30; i++) await bench.put(`o${i % 5}`, i, other)
  const strange = await bench.verify(other)
  assert.ok(strange.kind === 'damaged' && strange.what === 'replica')
  assert.match(strange.reason, /the replica follows f+/)
  const forked = new MemoryLedger()
  await bench.begin('f', forked)
  for (let i = 1; i <= 20; i++) await bench.put(`o${i % 5}`, i === 17 ? 99 : i, forked)
  const differs = await bench.verify(forked)
  assert.ok(differs.kind === 'compared')
  assert.notEqual(differs.digest, differs.rebuilt)
  const shorter = new MemoryLedger()
  await bench.begin('f', shorter)
  assert.deepEqual(await bench.verify(shorter), { kind: 'ahead', revision: 21, head: 1 })
})

test('a ledger that goes away for a moment is waited for; without a replica there is nothing to do', async () => {
  await using bench = await Bench.make()
  await bench.put('o1', 21)
  const { ledger } = bench
  const head = ledger.head.bind(ledger)
  ledger.head = async () => {
    ledger.head = head
    const answer = await head()
    ledger.reachable = false
    setTimeout(() => ledger.reconnect(), 300)
    return answer
  }
  const result = await bench.verify()
  assert.ok(result.kind === 'compared')
  assert.equal(result.digest, result.rebuilt)
  assert.ok(bench.lost.length > 0)
  rmSync(join(bench.data, 'replica'), { recursive: true })
  assert.deepEqual(await bench.verify(), { kind: 'absent' })
  assert.ok(!existsSync(join(bench.data, 'replica')))
})

test('a genesis that cannot be read ends the check, whether or not the replica has followed a ledger', async () => {
  await using bench = await Bench.make()
  const { ledger } = bench
  const read = ledger.read.bind(ledger)
  ledger.read = async (key) => {
    const found = await read(key)
    return found.value ? { ...found, value: found.value.subarray(0, 40) } : found
  }
  const path = join(bench.data, 'replica')
  for (const followed of [true, false]) {
    if (!followed) {
      rmSync(path, { recursive: true })
      mkdirSync(path)
      await new LmdbStore(path).close()
    }
    await assert.rejects(bench.verify(), { name: 'CorruptEntry' })
    bench.assertNothingLeft()
  }
})
