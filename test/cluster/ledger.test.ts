// The etcd driver against a real etcd: the contract of every ledger, and what only this one can run into.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Deadline } from '../../src/clock.ts'
import { ledgerContract } from '../../src/ledger/contract.ts'
import { EtcdLedger } from '../../src/ledger/etcd.ts'
import { versionIsRight } from '../../src/ledger/etcd-version.ts'
import { LedgerUnavailable } from '../../src/ledger/ledger.ts'
import { Etcd } from './etcd.ts'

ledgerContract('etcd', async () => {
  const etcd = await Etcd.start()
  const ledger = new EtcdLedger([etcd.url])
  return {
    ledger,
    // A small write in flight holds the others back.
    hold: async () => {
      await ledger.head()
      etcd.signal('SIGSTOP')
      const filler = ledger.commit(commit('filler'), Deadline.never).catch(() => undefined)
      await new Promise((resolve) => setImmediate(resolve))
      return async () => {
        etcd.signal('SIGCONT')
        await filler
      }
    },
    reopen: async () => {
      await etcd.kill()
      await etcd.start()
      return new EtcdLedger([etcd.url])
    },
    remove: () => etcd.remove(),
  }
})

const commit = (key: string, revision = 0): Parameters<EtcdLedger['commit']>[0] => ({
  if: [{ key, revision }],
  put: [{ key, value: Buffer.from(key) }],
})

test('independent commits travel together, each with its own outcome', async () => {
  const etcd = await Etcd.start()
  const ledger = new EtcdLedger([etcd.url])
  try {
    await ledger.commit(commit('taken'), Deadline.never)
    const all = await Promise.all([
      ...Array.from({ length: 200 }, (_, i) => ledger.commit(commit(`k${i}`), Deadline.never)),
      ledger.commit(commit('taken'), Deadline.never),
      ledger.commit(commit('k0'), Deadline.never),
    ])
    assert.equal(all.filter((result) => result.ok).length, 200)
    assert.equal(all[200].ok, false)
    assert.notEqual(all[201].ok, all[0].ok, 'of two under one guard one is accepted, whichever comes first')
    assert.ok((await ledger.head()) < 50, 'they share revisions')
    const seen = new Set<string>()
    for await (const { puts } of ledger.follow(0)) {
      for (const { key } of puts) seen.add(key)
      if (seen.size === 201) break
    }
  } finally {
    await ledger.close()
    await etcd.remove()
  }
})

test('a member that is away: refused before it is sent, and found again', async () => {
  const etcd = await Etcd.start()
  const ledger = new EtcdLedger([etcd.url])
  try {
    await ledger.commit(commit('a'), Deadline.never)
    await etcd.kill()
    await assert.rejects(ledger.commit(commit('b'), Deadline.never))
    await assert.rejects(ledger.head(), LedgerUnavailable)
    await etcd.start()
    const deadline = Date.now() + 10_000
    let head: number | undefined
    while (head === undefined && Date.now() < deadline) head = await ledger.head().catch(() => undefined)
    assert.ok(head === 1 || head === 2)
  } finally {
    await ledger.close()
    await etcd.remove()
  }
})

test('more operations than the member takes: refused for certain, not of unknown outcome', async () => {
  const etcd = await Etcd.start()
  const ledger = new EtcdLedger([etcd.url])
  try {
    const keys = Array.from({ length: 5000 }, (_, i) => `k${i}`)
    const put = keys.map((key) => ({ key, value: Buffer.of(1) }))
    const guards = keys.map((key) => ({ key, revision: 0 }))
    await assert.rejects(ledger.commit({ if: guards, put }, Deadline.never), LedgerUnavailable)
    assert.equal(await ledger.head(), 0)
  } finally {
    await ledger.close()
    await etcd.remove()
  }
})

test('releases that can answer stale reads are refused', () => {
  for (const good of ['3.5.33', '3.6.14', '3.7.1', '3.7.3', '3.8.0', '4.0.0'])
    assert.ok(versionIsRight(good), good)
  for (const bad of ['3.4.45', '3.5.32', '3.6.13', '3.7.0', '2.3.8']) assert.ok(!versionIsRight(bad), bad)
})
