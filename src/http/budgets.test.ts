import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Problem } from '../errors.ts'
import { Budgets } from './budgets.ts'

test('a budget: whole requests, until the next UTC day, told once a day', () => {
  let now = Date.parse('2026-03-01T23:59:59.999Z')
  let told = 0
  const budgets = new Budgets({ now: () => now })
  const caller = (most: number, keyId = 'k1') => ({ owner: 'a', keyId, resolve_per_day: most })
  const spend = (values: number, most = 10, keyId = 'k1'): boolean => {
    try {
      budgets.spend(caller(most, keyId), values, () => told++)
      return true
    } catch (error) {
      assert.ok(error instanceof Problem && error.slug === 'budget-exceeded')
      assert.deepEqual(error.members, { resolve_per_day: most })
      return false
    }
  }
  assert.deepEqual(
    [8, 3, 2, 1, 0].map((values) => spend(values)),
    [true, false, true, false, true],
  )
  assert.equal(told, 1)
  assert.ok(spend(10, 10, 'k2'), 'each key has its own budget')
  assert.ok(spend(5, 15), 'a budget that was raised by a reload')
  assert.ok(!spend(1, 5), 'and one that was lowered')
  budgets.spend({ owner: 'a', keyId: 'k1' }, 1e9, assert.fail)
  now++
  assert.deepEqual(
    [10, 1].map((values) => spend(values)),
    [true, false],
  )
  assert.equal(told, 2)
})
