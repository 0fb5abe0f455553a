import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CommitDelay } from './commit-delay.ts'

test('after a slow round trip as many callers as last time are waited for, as long as the round trip took', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let released = 0
  const delay = new CommitDelay(() => released++)
  assert.equal(delay.expectsMore(0), false, 'nobody is expected at first')
  delay.answered(3, 1, 5)
  assert.equal(delay.expectsMore(3), true)
  assert.equal(delay.expectsMore(4), false, 'the 3 answered and the 1 that waits')
  t.mock.timers.tick(4)
  assert.equal(released, 0)
  t.mock.timers.tick(1)
  assert.equal(released, 1)
  assert.equal(delay.expectsMore(1), false, 'the wait has ended')
})

test('no wait after a quick round trip, for a caller alone, or after the end; none is longer than 10 ms', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let released = 0
  const delay = new CommitDelay(() => released++)
  delay.answered(100, 0, 1)
  assert.equal(delay.expectsMore(1), false)
  delay.answered(1, 0, 50)
  assert.equal(delay.expectsMore(0), false)
  delay.answered(2, 0, 5000)
  t.mock.timers.tick(10)
  assert.equal(released, 1)
  delay.answered(2, 0, 5)
  delay.end()
  t.mock.timers.tick(100)
  assert.equal(released, 1)
})
