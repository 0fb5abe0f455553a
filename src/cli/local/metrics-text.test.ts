import assert from 'node:assert/strict'
import { test } from 'node:test'
import { held, NO_NUMBERS, nodeNumbers, ownersInForce, rootKeys } from './metrics-text.ts'

const TEXT = `# HELP coffer_ready Whether the node is ready.
# TYPE coffer_ready gauge
coffer_ready 1
coffer_quorum 1
coffer_ledger_leader{node="n1"} 0
coffer_ledger_leader{node="n2"} 1
coffer_ledger_revision 120
coffer_replica_revision 117
coffer_root_keys{root_key="rk-1",active="false"} 1
coffer_root_keys{root_key="rk-2",active="true"} 1
coffer_owners{hash="0a"} 1
coffer_wrapped_keys{root_key="rk-1"} 4
coffer_wrapped_keys{root_key="rk-2"} 1.2e3
coffer_genesis_revision 7
process_cpu_seconds_total 1.5
`

test('the numbers of a node are read from its metrics', () => {
  assert.deepEqual(nodeNumbers(TEXT), { quorum: true, leader: 'n2', revision: 117, lag: 3 })
  assert.deepEqual(nodeNumbers(TEXT.replace('coffer_quorum 1', 'coffer_quorum 0')).quorum, false)
  assert.deepEqual(nodeNumbers('something else\n'), NO_NUMBERS)
})

test('what a replica holds is another text only where the replica has changed', () => {
  const before = held(TEXT)
  assert.equal(held(TEXT.replace('coffer_ledger_revision 120', 'coffer_ledger_revision 121')), before)
  assert.notEqual(held(TEXT.replace('coffer_replica_revision 117', 'coffer_replica_revision 118')), before)
})

test('the root keys of a node are read from its metrics', () => {
  const keys = rootKeys(TEXT)
  assert.deepEqual([keys.active, keys.ids, keys.genesis], ['rk-2', ['rk-1', 'rk-2'], 7])
  assert.deepEqual(Object.fromEntries(keys.wrapped ?? []), { 'rk-1': 4, 'rk-2': 1200 })
  assert.deepEqual(rootKeys(TEXT.replace('coffer_ready 1', 'coffer_ready 0')), {
    ...keys,
    wrapped: undefined,
  })
})

test('the owners in force are read from the metrics of a node, ready or not', () => {
  assert.equal(ownersInForce(TEXT.replace('coffer_ready 1', 'coffer_ready 0')), '0a')
  assert.equal(ownersInForce('something else\n'), undefined)
})
