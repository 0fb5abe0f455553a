import assert from 'node:assert/strict'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { LedgerUnavailable } from '../ledger/ledger.ts'
import { UpdateTurns } from './turns.ts'

test('updates of a secret run one after the other, also after one that failed', async () => {
  const turns = new UpdateTurns()
  const told: string[] = []
  const first = Promise.withResolvers<void>()
  const all = [
    turns.take('a', soon(), async () => {
      await first.promise
      told.push('first')
      throw new Error('failed')
    }),
    turns.take('a', soon(), async () => told.push('second')),
    turns.take('b', soon(), async () => told.push('other secret')),
  ]
  await all[2]
  assert.deepEqual(told, ['other secret'])
  first.resolve()
  await assert.rejects(all[0], /failed/)
  await all[1]
  assert.deepEqual(told, ['other secret', 'first', 'second'])
})

test('an update that gives up leaves: it never runs, and those behind it wait for the one before it', async () => {
  const turns = new UpdateTurns()
  const told: string[] = []
  const first = Promise.withResolvers<void>()
  const one = turns.take('a', soon(), () => first.promise)
  const late = turns.take('a', soon(5), async () => told.push('late'))
  const three = turns.take('a', soon(), async () => told.push('three'))
  await assert.rejects(late, LedgerUnavailable)
  const four = turns.take('a', soon(), async () => told.push('four'))
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(told, [])
  first.resolve()
  await Promise.all([one, three, four])
  assert.deepEqual(told, ['three', 'four'])
})
