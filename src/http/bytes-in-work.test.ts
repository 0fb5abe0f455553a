import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Problem } from '../errors.ts'
import { BytesInWork } from './bytes-in-work.ts'

const overloaded = (error: unknown): boolean => error instanceof Problem && error.slug === 'overloaded'

test('an owner gets half of the bytes in work, all owners together no more than all', () => {
  const bytes = new BytesInWork(100)
  const [a, b, c] = ['a', 'b', 'c'].map((owner) => bytes.share(owner))
  a.takeBody(30)
  assert.throws(() => bytes.share('a').takeBody(21), overloaded)
  bytes.share('a').takeBody(20)
  b.takeBody(49)
  assert.throws(() => c.takeBody(2), overloaded)
  c.takeBody(1)
  assert.equal(bytes.total, 100)
  b.release()
  b.release()
  assert.equal(bytes.total, 51)
})

test('the body goes when the answer is whole, the answer when it is flushed', () => {
  const bytes = new BytesInWork(200)
  const share = bytes.share('a')
  share.takeBody(40)
  share.roomFor(50)
  share.roomFor(20)
  assert.equal(bytes.total, 90)
  assert.throws(() => share.roomFor(61), overloaded)
  share.answered(30)
  assert.equal(bytes.total, 30)
  share.release()
  share.answered(30)
  assert.equal(bytes.total, 0)
})
