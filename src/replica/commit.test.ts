// Commits of a replica over a memory ledger: unknown outcomes, other ledgers, other writers.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { BOOT, putSegment, withReplica } from '../../test/replicas.ts'
import { found } from '../../test/sim/genesis.ts'
import { Deadline } from '../clock.ts'
import { type Commit, type Reader, UnknownOutcome } from '../ledger/ledger.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { decodeEntry, type Entry, encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { encodeSegment } from '../state/segment.ts'
import { until } from '../waiting.ts'
import type { Replica } from './replica.ts'

test('an unknown outcome is resolved by the same bytes: done once, whatever happened', () =>
  withReplica(async ({ ledger, open }) => {
    const replica = await open()
    for (const fault of ['lost', 'answer-lost', 'late'] as const) {
      const writer = replica.nextWriter()
      const key = ledgerKey.segment(writer.boot, writer.commit + 100_000)
      const value = encodeEntry({ kind: 'boot', boot: BOOT, node: 'n' }, writer)
      ledger.faults.push(fault)
      const result = await replica
        .commit(
          {
            if: [
              { key: ledgerKey.boot(BOOT.replace(/a/g, `${writer.commit % 10}`)), revision: 0 },
              { key, revision: 0 },
            ],
            put: [
              { key: ledgerKey.boot(BOOT.replace(/a/g, `${writer.commit % 10}`)), value },
              { key, value },
            ],
          },
          key,
          soon(),
        )
        .catch((error: unknown) => error)
      ledger.settle()
      assert.ok(result && typeof result === 'object' && 'ok' in result && result.ok, fault)
    }
  }))

/** A key that a node creates, and the commit that creates the key. */
function boot(replica: Replica): { readonly key: string; readonly commit: Commit } {
  const writer = replica.nextWriter()
  const key = ledgerKey.boot(String(writer.commit).repeat(32).slice(0, 32))
  const value = encodeEntry({ kind: 'boot', boot: key.slice(-32), node: 'n' }, writer)
  return { key, commit: { if: [{ key, revision: 0 }], put: [{ key, value }] } }
}

test('a ledger without a commit that was accepted and is not applied yet is not the followed ledger', () =>
  withReplica(async ({ ledger, open, told }) => {
    const { follow, head, read } = ledger
    const replica = await open()
    await putSegment(ledger, 1, 10)
    await replica.barrier(soon())
    // The stream stands still: the replica does not apply its own commit.
    ledger.follow = async function* (_after, signal) {
      await new Promise((resolve) => signal?.addEventListener('abort', resolve))
    }
    ledger.disconnect()
    assert.ok(await until(() => told.some((line) => line.startsWith('lost')), { every: 5, within: 5000 }))
    const { key, commit } = boot(replica)
    const accepted = await replica.commit(commit, key, soon())
    assert.ok(accepted.ok && accepted.revision > replica.applied)
    // Rolled back to a revision that is not before the cursor; then also with another history behind.
    for (const end of [accepted.revision - 1, accepted.revision + 5]) {
      ledger.head = async () => end
      ledger.read = async (wanted) =>
        wanted === key ? { key, revision: 0, created: 0, value: null } : read.call(ledger, wanted)
      ledger.disconnect()
      await assert.rejects(async () => {
        for (let i = 0; i < 20; i++) await replica.barrier(soon())
      }, /accepted/)
    }
    Object.assign(ledger, { follow, head, read })
    ledger.disconnect()
    assert.ok(await until(() => replica.applied === accepted.revision, { every: 5, within: 5000 }))
    await replica.barrier(soon())
  }))

/** The check of connections in force. */
function checkIn(ledger: MemoryLedger): (reader: Reader) => Promise<void> {
  let check: ((reader: Reader) => Promise<void>) | undefined
  const checkConnections = (next: (reader: Reader) => Promise<void>): void => void (check = next)
  Object.assign(ledger, { checkConnections })
  return (reader) => check?.(reader) ?? assert.fail('no check')
}

test('without a stream a wrong connection counts only where no right connection is open', () =>
  withReplica(async ({ ledger, open, told }) => {
    const check = checkIn(ledger)
    const replica = await open()
    await replica.barrier(soon())
    ledger.reachable = false // no quorum: the right members answer nothing
    ledger.disconnect()
    assert.ok(await until(() => told.some((line) => line.startsWith('lost')), { every: 5, within: 5000 }))
    const wrong = new MemoryLedger()
    await found(wrong, { identity: 'f'.repeat(32) })
    const changed = { name: 'LedgerUnavailable', reason: 'ledger-changed' }
    await assert.rejects(check(wrong), changed)
    replica.checkAbsence()
    assert.deepEqual(replica.problems, [])
    ledger.right = false
    assert.throws(() => replica.checkAbsence(), changed)
    ledger.right = true
    replica.checkAbsence()
  }))

test('a contradiction that is found while a stream is opened again sends the follower back to recognize', () =>
  withReplica(async ({ ledger, open, told }) => {
    const replica = await open()
    await putSegment(ledger, 1, 10)
    await replica.barrier(soon())
    const held = Promise.withResolvers<void>()
    const asked = Promise.withResolvers<void>()
    const { head } = ledger
    let calls = 0
    // The first call is of the recognition, the second of the stream to come, the third of the barrier.
    ledger.head = async () => {
      if (++calls === 3) return replica.applied - 1
      if (calls !== 2) return head.call(ledger)
      asked.resolve()
      await held.promise
      return head.call(ledger)
    }
    ledger.disconnect()
    await asked.promise
    await assert.rejects(replica.barrier(soon()), { name: 'LedgerUnavailable', reason: 'ledger-changed' })
    held.resolve()
    await putSegment(ledger, 2, 10)
    assert.ok(await until(() => replica.applied === 3, { every: 5, within: 5000 }), told.join())
    await replica.barrier(soon())
    assert.deepEqual(replica.problems, [])
    assert.deepEqual(
      told.filter((line) => line.startsWith('fatal')),
      [],
    )
  }))

test('a genesis that cannot be read is a verdict on its connection alone, once a ledger is followed', () =>
  withReplica(async ({ ledger, open }) => {
    const check = checkIn(ledger)
    const replica = await open()
    const genesis = await ledger.read(ledgerKey.genesis)
    assert.ok(genesis.value)
    const damaged = { ...genesis, value: genesis.value.subarray(0, 40) }
    const wrong: Reader = { head: () => ledger.head(), read: async () => damaged }
    await assert.rejects(check(wrong), { name: 'CorruptEntry' })
    await replica.barrier(soon())
    await assert.rejects(check(wrong), { name: 'LedgerUnavailable', reason: 'ledger-changed' })
    await check(ledger)
    await replica.barrier(soon())
  }))

test('a commit that was created here has the revision of its creation, also when wrapped anew since', () =>
  withReplica(async ({ ledger, open }) => {
    const replica = await open()
    const { key, commit } = boot(replica)
    ledger.faults.push('answer-lost')
    const pending = replica.commit(commit, key, soon())
    assert.ok(await until(() => ledger.faults.length === 0, { every: 5, within: 5000 }))
    const { revision } = await ledger.read(key)
    await ledger.commit({ if: [], put: commit.put }, Deadline.never) // the writer stays
    assert.deepEqual(await pending, { ok: true, revision })
    assert.ok((await ledger.read(key)).revision > revision)
  }))

test('a rewrap is reported as of the node that put the genesis first, not as of the writer of an entry', () =>
  withReplica(async ({ ledger, open, told }) => {
    const replica = await open()
    const boots = { n2: '2'.repeat(32), n3: '3'.repeat(32) }
    for (const [node, id] of Object.entries(boots)) {
      const value = encodeEntry({ kind: 'boot', boot: id, node }, { boot: id, commit: 1 })
      await ledger.commit({ if: [], put: [{ key: ledgerKey.boot(id), value }] }, Deadline.never)
    }
    await replica.barrier(soon())
    const put = async (
      key: string,
      entry: Exclude<Entry, { kind: 'segment' }>,
      by: string,
    ): Promise<void> => {
      told.length = 0
      const value = encodeEntry(entry, { boot: by, commit: 2 })
      await ledger.commit({ if: [], put: [{ key, value }] }, Deadline.never)
      await replica.barrier(soon())
    }
    const wrapped = Uint8Array.from([2, 4, ...Buffer.from('rk-1'), ...new Uint8Array(54)])
    const entry = {
      kind: 'key',
      owner: 'o',
      epoch: 1,
      wrapped,
      openedAt: '2026-01-01T00:00:00.000Z',
    } as const
    const key = ledgerKey.wrappedKey('o', 1)
    await put(key, entry, boots.n2)
    assert.deepEqual(told, ['applied n2'])
    const genesis = await ledger.read(ledgerKey.genesis)
    assert.ok(genesis.value)
    const first = decodeEntry(ledgerKey.genesis, genesis.value)
    assert.ok(first?.kind === 'genesis')
    await put(ledgerKey.genesis, first, boots.n3)
    assert.deepEqual(told, ['applied n3'])
    await put(key, entry, boots.n2)
    assert.deepEqual(told, ['applied n3'])
  }))

test('an unknown outcome that another writer took is a refusal', () =>
  withReplica(async ({ ledger, open }) => {
    const replica = await open()
    const mine = replica.nextWriter()
    const key = ledgerKey.boot('b'.repeat(32))
    const theirs = encodeEntry(
      { kind: 'boot', boot: 'b'.repeat(32), node: 'x' },
      { boot: 'c'.repeat(32), commit: 1 },
    )
    ledger.faults.push('lost')
    const pending = replica.commit(
      {
        if: [{ key, revision: 0 }],
        put: [{ key, value: encodeEntry({ kind: 'boot', boot: 'b'.repeat(32), node: 'y' }, mine) }],
      },
      key,
      soon(),
    )
    while (ledger.faults.length > 0) await new Promise((resolve) => setImmediate(resolve)) // until it has been sent
    await ledger.commit({ if: [], put: [{ key: 'unrelated', value: theirs }] }, Deadline.never)
    await ledger.commit({ if: [{ key, revision: 0 }], put: [{ key, value: theirs }] }, Deadline.never)
    assert.equal((await pending).ok, false)
    ledger.faults.push(...new Array<'lost'>(1000).fill('lost'))
    const never = replica.commit({ if: [{ key, revision: 0 }], put: [{ key, value: theirs }] }, key, soon())
    await assert.rejects(never, UnknownOutcome)
  }))

test('a node does not run ahead of its own replica without end: commits wait until it has applied some', () =>
  withReplica(async ({ ledger, open }) => {
    const gate = Promise.withResolvers<void>()
    const follow = ledger.follow.bind(ledger)
    ledger.follow = async function* (after, signal) {
      await gate.promise
      yield* follow(after, signal)
    }
    const replica = await open()
    let done = 0
    const [sizes, offset] = [Uint32Array.of(12_500), Uint32Array.of(0)]
    const mappings = { count: 1, bodies: new Uint8Array(16), sizes, offset, bytes: new Uint8Array(100_000) }
    const commits = Array.from({ length: 40 }, async (_, i) => {
      const boot = String(i).padStart(32, '0')
      const writer = replica.nextWriter()
      const value = encodeSegment({ owner: 'a', epoch: 1, writer }, [{ mappings, from: 0, to: 1 }])
      for (; done < i; ) await new Promise((resolve) => setImmediate(resolve)) // one after the other
      const key = ledgerKey.segment(boot, writer.commit)
      const result = await replica.commit({ if: [{ key, revision: 0 }], put: [{ key, value }] }, key, soon())
      done++
      return result.ok
    })
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.ok(done > 10 && done < 25, `${done} commits of 100 KB ahead of the replica`)
    gate.resolve()
    assert.ok((await Promise.all(commits)).every(Boolean))
  }))
