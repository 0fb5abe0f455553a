import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeEntry } from '../state/entries.ts'
import { disagreements, ownersHash } from './agreement.ts'

const nodes = (...list: readonly (readonly [string, string, string?, string?])[]): Map<string, NodeEntry> =>
  new Map(
    list.map(([node, fields, rootKeys = 'rk-1', active = 'rk-1']) => [
      node,
      { kind: 'node', node, fields, rootKeys: rootKeys.split(' '), active },
    ]),
  )

test('the majority decides on fields: one node after the other can be changed', () => {
  const one = nodes(['n1', 'b'], ['n2', 'a'], ['n3', 'a'])
  assert.deepEqual(disagreements('n1', one), ['the configured fields are not those of nodes n2, n3'])
  assert.deepEqual(disagreements('n2', one), [])
  const two = nodes(['n1', 'b'], ['n2', 'b'], ['n3', 'a'])
  assert.deepEqual(
    ['n1', 'n2', 'n3'].map((node) => disagreements(node, two).length),
    [0, 0, 1],
  )
  const apart = nodes(['n1', 'a'], ['n2', 'b'])
  assert.deepEqual(disagreements('n2', apart), ['the configured fields are not those of node n1'])
  assert.deepEqual(disagreements('n1', nodes(['n1', 'a'])), [])
  assert.deepEqual(disagreements('n9', one), [])
})

test('a root key is missing where another node wraps keys by it, not where one has more', () => {
  const added = nodes(['n1', 'a', 'rk-1 rk-2'], ['n2', 'a'], ['n3', 'a'])
  for (const node of added.keys()) assert.deepEqual(disagreements(node, added), [])
  const activated = nodes(['n1', 'a', 'rk-1 rk-2', 'rk-2'], ['n2', 'a'], ['n3', 'a', 'rk-1 rk-2', 'rk-2'])
  assert.deepEqual(disagreements('n2', activated), [
    'the keyring has no root key rk-2, which is active on nodes n1, n3',
  ])
  assert.deepEqual(disagreements('n1', activated), [])
})

test('the hash of owners: of what is in force, in any order', () => {
  const key = (id: string): { id: string; sha256: string } => ({ id, sha256: `${id}-hash` })
  const owners = [
    { id: 'a', keys: [key('k1'), key('k2')], removed: [] },
    { id: 'b', keys: [], removed: [] },
  ]
  const hash = ownersHash(owners)
  assert.match(hash, /^[0-9a-f]{64}$/)
  const sorted = owners.map((owner) => ({ ...owner, keys: owner.keys.toReversed() })).toReversed()
  assert.equal(ownersHash(sorted), hash)
  const gone = { id: 'k9', removed: '2026-01-01T00:00:00Z' }
  assert.equal(ownersHash([{ ...owners[0], removed: [gone] }, owners[1]]), hash)
  const others = [
    [owners[0]],
    [{ ...owners[0], keys: [key('k1')] }, owners[1]],
    [{ ...owners[0], keys: [key('k1'), { ...key('k2'), sha256: 'another' }] }, owners[1]],
    [
      { ...owners[0], keys: [key('k1')] },
      { ...owners[1], keys: [key('k2')] },
    ],
  ]
  assert.equal(new Set([hash, ...others.map(ownersHash)]).size, 5)
})
