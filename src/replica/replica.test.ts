// The replica over a memory ledger that misbehaves in every legal way; state, digest and look-ups after each.

import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { found } from '../../test/sim/genesis.ts'
import { Deadline, systemClock } from '../clock.ts'
import { CheckedLedger } from '../ledger/checked.ts'
import { type Commit, Compacted, type Reader, UnknownOutcome } from '../ledger/ledger.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { decodeEntry, type Entry, encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { encodeSegment } from '../state/segment.ts'
import { until } from '../waiting.ts'
import { checkFile } from './check.ts'
import { LmdbStore } from './lmdb-store.ts'
import { Replica, type ReplicaOptions } from './replica.ts'
import { lastFound } from './table.ts'

const BOOT = 'a'.repeat(32)

type Bench = {
  ledger: MemoryLedger
  open: (change?: Partial<ReplicaOptions>) => Promise<Replica>
  path: string
  told: string[]
}

async function withReplica(run: (bench: Bench) => Promise<void>): Promise<void> {
  const path = mkdtempSync(join(tmpdir(), 'coffer-replica-'))
  const ledger = new MemoryLedger()
  await found(ledger)
  const told: string[] = []
  const opened: Replica[] = []
  const open: Bench['open'] = async (change = {}) => {
    const replica = await Replica.open({
      store: new LmdbStore(path),
      ledger: new CheckedLedger(ledger),
      boot: BOOT,
      clock: systemClock,
      fatal: (error) => told.push(`fatal ${error.message}`),
      events: {
        lost: (reason) => told.push(`lost ${reason}`),
        recovered: () => told.push('recovered'),
        caughtUp: (from, to) => told.push(`caught-up ${from} ${to}`),
        epoch: (owner, epoch) => told.push(`epoch ${owner} ${epoch}`),
        applied: (node) => told.push(`applied ${node}`),
      },
      ...change,
    })
    opened.push(replica)
    replica.follow()
    return replica
  }
  try {
    await run({ ledger, open, path, told })
  } finally {
    for (const replica of opened) await replica.close()
    rmSync(path, { recursive: true })
  }
}

let n = 0

/** Puts a segment of `count` mappings whose bodies are made of `seed` and their index. */
async function putSegment(ledger: MemoryLedger, seed: number, count: number, owner = 'o'): Promise<void> {
  const writer = { boot: BOOT, commit: ++n }
  const words = bodiesOf(seed, count)
  const mappings = {
    count,
    bodies: new Uint8Array(words.buffer),
    sizes: new Uint32Array(count).fill(2),
    offset: Uint32Array.from({ length: count }, (_, i) => i * 2),
    bytes: new Uint8Array(count * 16).fill(seed & 255),
  }
  const key = ledgerKey.segment(BOOT, n)
  const value = encodeSegment({ owner, epoch: 1, writer }, [{ mappings, from: 0, to: count }])
  await ledger.commit({ if: [{ key, revision: 0 }], put: [{ key, value }] }, Deadline.never)
}

function bodiesOf(seed: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count * 4 }, (_, i) => Math.imul(seed * 1000003 + i + 1, 2654435761))
}

function assertFinds(replica: Replica, seed: number, count: number, owner = 'o'): void {
  const words = bodiesOf(seed, count)
  const reader = replica.reader()
  const table = replica.tokens(owner, 1)
  assert.ok(table)
  for (let i = 0; i < count; i++) {
    assert.ok(table.find(words, i * 4), `mapping ${i} of ${seed}`)
    assert.equal(reader.seek(lastFound.page, lastFound.slot), 2)
    const copy = new Uint8Array(16)
    reader.copy(copy, 0, 2)
    assert.deepEqual(copy, new Uint8Array(16).fill(seed & 255))
  }
}

async function putEpoch(ledger: MemoryLedger, owner: string, epoch: number): Promise<void> {
  const writer = { boot: BOOT, commit: ++n }
  await ledger.commit(
    {
      if: [],
      put: [
        { key: ledgerKey.epoch(owner), value: encodeEntry({ kind: 'epoch', owner, active: epoch }, writer) },
        {
          key: ledgerKey.wrappedKey(owner, epoch),
          value: encodeEntry(
            {
              kind: 'key',
              owner,
              epoch,
              wrapped: Uint8Array.from([2, 4, ...Buffer.from('rk-1'), ...new Uint8Array(54)]),
              openedAt: `2026-01-0${epoch}T00:00:00.000Z`,
            },
            writer,
          ),
        },
      ],
    },
    Deadline.never,
  )
}

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

test('a genesis that cannot be read is a verdict on its connection alone, once a ledger is followed', () =>
  withReplica(async ({ ledger, open }) => {
    const checks: ((reader: Reader) => Promise<void>)[] = []
    const checkConnections = (check: (reader: Reader) => Promise<void>): void => void checks.push(check)
    Object.assign(ledger, { checkConnections })
    const replica = await open()
    const genesis = await ledger.read(ledgerKey.genesis)
    assert.ok(genesis.value)
    const damaged = { ...genesis, value: genesis.value.subarray(0, 40) }
    const wrong: Reader = { head: () => ledger.head(), read: async () => damaged }
    const [check] = checks
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
