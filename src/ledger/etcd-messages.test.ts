import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WatchResponse } from './etcd-client.ts'
import { Revisions, txnRequest } from './etcd-messages.ts'
import { type Commit, Compacted, LedgerUnavailable } from './ledger.ts'

/** A response with events of the revisions, in the ledger's count. */
function response(revisions: readonly number[], more: Partial<WatchResponse> = {}): WatchResponse {
  const events = revisions.map((revision) => {
    const at = String(revision + 1)
    const kv = {
      key: Buffer.from(`k${revision}`),
      value: Buffer.of(1),
      create_revision: at,
      mod_revision: at,
    }
    return { type: 'PUT' as const, kv }
  })
  const header = { cluster_id: '1', member_id: '1', revision: '9', raft_term: '1' }
  const rest = { created: false, canceled: false, compact_revision: '0', cancel_reason: '', fragment: false }
  return { header, events, ...rest, ...more }
}

test('responses of a watch become whole revisions: fragments are put together, duplicates are dropped', () => {
  const revisions = new Revisions(2)
  const numbers = (...each: Parameters<typeof response>): [number, number][] =>
    revisions.add(response(...each)).map(({ revision, puts }) => [revision, puts.length])
  assert.deepEqual(numbers([3, 3], { fragment: true }), [])
  assert.deepEqual(numbers([3, 4]), [
    [3, 3],
    [4, 1],
  ])
  assert.deepEqual(numbers([2, 3, 4, 4, 5]), [[5, 1]])
  assert.deepEqual(numbers([5]), [])
  assert.throws(() => revisions.add(response([7])), Compacted, 'a jump means lost events')
  assert.equal(revisions.last, 5)
})

test('a watch that cannot go on: Compacted where history is gone, else LedgerUnavailable', () => {
  assert.throws(
    () => new Revisions(0).add(response([], { compact_revision: '5', canceled: true })),
    Compacted,
  )
  assert.throws(() => new Revisions(0).add(response([], { canceled: true })), LedgerUnavailable)
})

// Members whose histories are compacted at other instants answer such a Txn otherwise, and diverge (etcd#18667).
test('no Txn reads at a revision', () => {
  const commit = (key: string): Commit => ({
    if: [{ key, revision: 0 }],
    put: [
      { key, value: Buffer.of(1) },
      { key: `${key}/gone`, value: null },
    ],
  })
  for (const commits of [[commit('a')], [commit('a'), commit('b')]]) {
    const text = JSON.stringify(txnRequest(commits))
    assert.match(text, /"request_range":\{"key"/)
    assert.doesNotMatch(text, /"(revision|\w+_mod_revision|\w+_create_revision)"/)
  }
})
