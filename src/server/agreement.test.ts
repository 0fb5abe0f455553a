import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeEntry } from '../state/entries.ts'
import { disagreements } from './agreement.ts'

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
