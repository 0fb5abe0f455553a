import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Step } from './apply.ts'
import { QUEUE_BYTES, StepQueue } from './queue.ts'

const step = (revision: number, bytes = 10): Step => ({ revision, decoded: [], removed: [], bytes })

/** Whether a promise is settled within a turn of the event loop. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  void promise.then(() => {
    done = true
  })
  await new Promise((resolve) => setImmediate(resolve))
  return done
}

const revisions = (steps: readonly Step[]): number[] => steps.map(({ revision }) => revision)

test('small steps gather, and are taken together', async () => {
  const queue = new StepQueue()
  const taken = queue.take(0)
  assert.equal(await settled(taken), false)
  queue.push(step(1))
  queue.push(step(2))
  assert.equal(await settled(taken), false, 'more may come')
  queue.push(step(3))
  assert.deepEqual(revisions(await taken), [1, 2, 3])
})

test('a caller that waits for a revision ends the gathering, before it and during it', async () => {
  const queue = new StepQueue()
  queue.push(step(1))
  const taken = queue.take(0)
  assert.equal(await settled(taken), false)
  queue.hurry(2)
  assert.equal(await settled(taken), true)
  queue.push(step(2))
  assert.equal(await settled(queue.take(1)), true, 'revision 2 is still wanted')
  queue.push(step(3))
  const later = queue.take(2)
  assert.equal(await settled(later), false, 'nobody waits for revision 3')
  assert.deepEqual(revisions(await later), [3])
})

test('large steps do not gather', async () => {
  const queue = new StepQueue()
  queue.push(step(1, 1024 * 1024))
  assert.equal(await settled(queue.take(0)), true)
})

test('the reader waits while more than QUEUE_BYTES are queued', async () => {
  const queue = new StepQueue()
  queue.push(step(1, QUEUE_BYTES))
  assert.equal(await settled(queue.room()), true)
  queue.push(step(2, 1))
  const room = queue.room()
  assert.equal(await settled(room), false)
  assert.deepEqual(revisions(await queue.take(0)), [1, 2])
  assert.equal(await settled(room), true)
})

test('revisions are dense', () => {
  const queue = new StepQueue()
  queue.push(step(1))
  assert.throws(() => queue.push(step(3)), /dense/)
})

test('a closed queue lets reader and writer go', async () => {
  const queue = new StepQueue()
  const taken = queue.take(0)
  queue.close()
  assert.deepEqual(await taken, [])
  const full = new StepQueue()
  full.push(step(1, QUEUE_BYTES + 1))
  const room = full.room()
  assert.equal(await settled(room), false)
  full.close()
  assert.equal(await settled(room), true)
})
