import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DecodedRevision } from './apply.ts'
import { QUEUE_BYTES, RevisionQueue } from './queue.ts'

const decoded = (revision: number, bytes = 10): DecodedRevision => ({
  revision,
  decoded: [],
  removed: [],
  bytes,
})

/** Whether a promise is settled within a turn of the event loop. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  void promise.then(() => {
    done = true
  })
  await new Promise((resolve) => setImmediate(resolve))
  return done
}

const revisions = (taken: readonly DecodedRevision[]): number[] => taken.map(({ revision }) => revision)

test('small revisions gather, and are taken together', async () => {
  const queue = new RevisionQueue()
  const taken = queue.take(0)
  assert.equal(await settled(taken), false)
  queue.push(decoded(1))
  queue.push(decoded(2))
  assert.equal(await settled(taken), false, 'more may come')
  queue.push(decoded(3))
  assert.deepEqual(revisions(await taken), [1, 2, 3])
})

test('a caller that waits for a revision ends the gathering, before it and during it', async () => {
  const queue = new RevisionQueue()
  queue.push(decoded(1))
  const taken = queue.take(0)
  assert.equal(await settled(taken), false)
  queue.hurry(2)
  assert.equal(await settled(taken), true)
  queue.push(decoded(2))
  assert.equal(await settled(queue.take(1)), true, 'revision 2 is still wanted')
  queue.push(decoded(3))
  const later = queue.take(2)
  assert.equal(await settled(later), false, 'nobody waits for revision 3')
  assert.deepEqual(revisions(await later), [3])
})

test('large revisions do not gather', async () => {
  const queue = new RevisionQueue()
  queue.push(decoded(1, 1024 * 1024))
  assert.equal(await settled(queue.take(0)), true)
})

test('the reader waits while more than QUEUE_BYTES are queued', async () => {
  const queue = new RevisionQueue()
  queue.push(decoded(1, QUEUE_BYTES))
  assert.equal(await settled(queue.room()), true)
  queue.push(decoded(2, 1))
  const room = queue.room()
  assert.equal(await settled(room), false)
  assert.deepEqual(revisions(await queue.take(0)), [1, 2])
  assert.equal(await settled(room), true)
})

test('revisions are dense', () => {
  const queue = new RevisionQueue()
  queue.push(decoded(1))
  assert.throws(() => queue.push(decoded(3)), /dense/)
})

test('a closed queue lets reader and writer go', async () => {
  const queue = new RevisionQueue()
  const taken = queue.take(0)
  queue.close()
  assert.deepEqual(await taken, [])
  const full = new RevisionQueue()
  full.push(decoded(1, QUEUE_BYTES + 1))
  const room = full.room()
  assert.equal(await settled(room), false)
  full.close()
  assert.equal(await settled(room), true)
})
