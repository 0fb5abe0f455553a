import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Decoded } from '../state/puts.ts'
import type { DecodedRevision } from '../state/step.ts'
import { RevisionQueue } from './queue.ts'

const MIB = 1024 * 1024

function decoded(revision: number, bytes = 10): DecodedRevision {
  const entry = { kind: 'boot', boot: 'b', node: 'n' } as const
  const put: Decoded = { key: 'boot/b', entry, value: new Uint8Array(bytes), revision, created: revision }
  return { revision, decoded: [put], removed: [] }
}

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

test('the reader waits while more than 8 MiB are queued', async () => {
  const queue = new RevisionQueue()
  for (let revision = 1; revision <= 8; revision++) queue.push(decoded(revision, MIB - 2000))
  assert.equal(await settled(queue.room()), true)
  queue.push(decoded(9, MIB))
  const room = queue.room()
  assert.equal(await settled(room), false)
  assert.deepEqual(revisions(await queue.take(0)), [1, 2, 3, 4, 5, 6, 7, 8])
  assert.equal(await settled(room), true)
})

test('a step takes at most 8 MiB, and at least one revision', async () => {
  const queue = new RevisionQueue()
  queue.push(decoded(1, 9 * MIB))
  assert.deepEqual(revisions(await queue.take(0)), [1])
  for (const [i, bytes] of [4 * MIB, 4 * MIB - 4000, MIB / 4].entries()) queue.push(decoded(i + 2, bytes))
  assert.deepEqual(revisions(await queue.take(1)), [2, 3])
  assert.deepEqual(revisions(await queue.take(3)), [4])
})

test('many small entries are a step of their own, for what each of them costs', async () => {
  const queue = new RevisionQueue()
  for (let revision = 1; revision <= 5000; revision++) queue.push(decoded(revision, 1))
  assert.ok((await queue.take(0)).length <= 5461)
})

test('the queue is idle once what was taken has been applied', async () => {
  const queue = new RevisionQueue()
  queue.push(decoded(1, MIB))
  const idle = queue.idle()
  await queue.take(0)
  assert.equal(await settled(idle), false, 'taken is not applied')
  const next = queue.take(1)
  assert.equal(await settled(idle), true)
  queue.close()
  await next
})

test('a step is taken without revisions where one is wanted', async () => {
  const queue = new RevisionQueue()
  const taken = queue.take(0)
  assert.equal(await settled(taken), false)
  queue.nudge()
  assert.deepEqual(await taken, [])
  assert.equal(queue.closed, false)
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
  full.push(decoded(1, 8 * MIB + 1))
  const room = full.room()
  assert.equal(await settled(room), false)
  full.close()
  assert.equal(await settled(room), true)
})
