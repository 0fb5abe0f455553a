import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SharedBarrier } from './barrier.ts'

/** Barriers that end when the test says so, by a clock of its own. */
function world(): { barrier: SharedBarrier; sent: PromiseWithResolvers<void>[]; clock: { now: number } } {
  const sent: PromiseWithResolvers<void>[] = []
  const clock = { now: 0 }
  const send = (): Promise<void> => {
    const one = Promise.withResolvers<void>()
    sent.push(one)
    return one.promise
  }
  return { barrier: new SharedBarrier(send, () => clock.now), sent, clock }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('who asks while one is on its way waits for the next one, together with others', async () => {
  const { barrier, sent } = world()
  const told: string[] = []
  const ask = (name: string): Promise<unknown> => barrier.pass().then(() => told.push(name))
  const all = [ask('a')]
  all.push(ask('b'), ask('c'))
  assert.equal(sent.length, 1)
  sent[0].resolve()
  await settle()
  assert.deepEqual(told, ['a'])
  assert.equal(sent.length, 2, 'b and c share one')
  sent[1].resolve()
  await Promise.all(all)
  assert.deepEqual(told, ['a', 'b', 'c'])
})

test('a failure is told to those who asked for that one, and the next one goes', async () => {
  const { barrier, sent } = world()
  const first = barrier.pass()
  const second = barrier.pass()
  const failed = assert.rejects(first, /away/)
  sent[0].reject(new Error('away'))
  await failed
  sent[1].resolve()
  await second
})

test('after one that took long the next waits for as many callers, but not for ever', async () => {
  const { barrier, sent, clock } = world()
  const first = barrier.pass()
  const waiting = [barrier.pass()]
  clock.now = 5
  sent[0].resolve()
  await first
  assert.equal(sent.length, 1, 'another caller is expected')
  waiting.push(barrier.pass())
  assert.equal(sent.length, 2, 'two were seen, two are there')
  clock.now = 10
  sent[1].resolve()
  await Promise.all(waiting)
  const alone = barrier.pass()
  assert.equal(sent.length, 2)
  const started = performance.now()
  while (sent.length < 3) await settle()
  assert.ok(performance.now() - started < 1000)
  sent[2].resolve()
  await alone
})

test('one caller after the other never waits for others', async () => {
  const { barrier, sent, clock } = world()
  for (let i = 0; i < 5; i++) {
    const one = barrier.pass()
    assert.equal(sent.length, i + 1)
    clock.now += 100
    sent[i].resolve()
    await one
  }
})
