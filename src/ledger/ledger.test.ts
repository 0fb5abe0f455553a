import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Deadline } from '../clock.ts'
import { ledgerContract } from './contract.ts'
import { Compacted, LedgerUnavailable, UnknownOutcome } from './ledger.ts'
import { LmdbLedger } from './lmdb.ts'
import { DiskRoom } from './lmdb-room.ts'
import { verifyLedger } from './lmdb-verify.ts'
import { MemoryLedger } from './memory.ts'

ledgerContract('memory', async () => {
  const ledger = new MemoryLedger()
  return {
    ledger,
    reopen: async () => ledger.reopen(),
    hold: async () => {
      ledger.held = true
      return async () => ledger.release()
    },
    remove: async () => undefined,
  }
})
ledgerContract('lmdb', async () => {
  const path = mkdtempSync(join(tmpdir(), 'coffer-ledger-'))
  let held: Promise<void> | undefined
  const room = new DiskRoom(path)
  return {
    ledger: new LmdbLedger(path, {
      room: {
        check: (transaction) => (held ?? Promise.resolve()).then(() => room.check(transaction)),
      },
    }),
    hold: async () => {
      const end = Promise.withResolvers<void>()
      held = end.promise
      return async () => end.resolve()
    },
    reopen: async () => new LmdbLedger(path),
    remove: async () => rmSync(path, { recursive: true }),
  }
})

const value = Buffer.from('value')
const commit = (key: string): Parameters<MemoryLedger['commit']>[0] => ({
  if: [{ key, revision: 0 }],
  put: [{ key, value }],
})

test('lmdb: an acknowledged commit is in a copy of the files made at that moment', async () => {
  // The copy is what a power loss leaves at best: nothing of this process's memory is in it.
  const path = mkdtempSync(join(tmpdir(), 'coffer-ledger-'))
  const copy = mkdtempSync(join(tmpdir(), 'coffer-ledger-'))
  const ledger = new LmdbLedger(path)
  try {
    for (let i = 1; i <= 20; i++) {
      const result = await ledger.commit(commit(`k${i}`), Deadline.never)
      cpSync(join(path, 'data.mdb'), join(copy, 'data.mdb'))
      const other = new LmdbLedger(copy)
      assert.ok(result.ok && (await other.head()) >= result.revision)
      assert.equal((await other.commit(commit(`k${i}`), Deadline.never)).ok, false)
      await other.close()
    }
    assert.equal(verifyLedger(path), 20)
  } finally {
    await ledger.close()
    rmSync(path, { recursive: true })
    rmSync(copy, { recursive: true })
  }
})

test('memory: every legal misbehaviour can be had', async () => {
  const ledger = new MemoryLedger()
  ledger.faults.push('refuse', 'lost', 'answer-lost', 'late')
  await assert.rejects(ledger.commit(commit('a'), Deadline.never), LedgerUnavailable)
  await assert.rejects(ledger.commit(commit('a'), Deadline.never), UnknownOutcome)
  assert.equal(await ledger.head(), 0)
  await assert.rejects(ledger.commit(commit('a'), Deadline.never), UnknownOutcome)
  assert.equal(await ledger.head(), 1)
  await assert.rejects(ledger.commit(commit('b'), Deadline.never), UnknownOutcome)
  assert.equal(await ledger.head(), 1)
  ledger.settle()
  assert.equal(await ledger.head(), 2)
  ledger.compact(1)
  await assert.rejects(async () => {
    for await (const _ of ledger.follow(0)) break
  }, Compacted)
  for await (const { revision } of ledger.follow(1)) {
    assert.equal(revision, 2)
    break
  }
  const taken = async (meanwhile: () => unknown): Promise<void> => {
    const { entries } = await ledger.snapshot([{ from: '', to: '', largest: 1024 }])
    for await (const _ of entries) await meanwhile()
  }
  await assert.rejects(
    taken(async () => {
      await ledger.commit({ if: [], put: [{ key: 'c', value }] }, Deadline.never)
      ledger.compact(await ledger.head())
    }),
    Compacted,
  )
  await taken(() => undefined)
  const unreachable = taken(() => {
    ledger.reachable = false
  })
  await assert.rejects(unreachable, LedgerUnavailable)
  await assert.rejects(ledger.head(), LedgerUnavailable)
  ledger.reconnect()
  const head = await ledger.head()
  const broken = assert.rejects(async () => {
    for await (const _ of ledger.follow(head)) assert.fail('nothing comes')
  }, LedgerUnavailable)
  ledger.disconnect()
  await broken
})
