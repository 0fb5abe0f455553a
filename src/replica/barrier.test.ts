import assert from 'node:assert/strict'
import { test } from 'node:test'
import { soon } from '../../test/deadlines.ts'
import { Deadline } from '../clock.ts'
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
  return {
    barrier: new SharedBarrier({ send, late: () => new Error('late'), now: () => clock.now }),
    sent,
    clock,
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('who asks while one is on its way waits for the next one, together with others', async () => {
  const { barrier, sent } = world()
  const told: string[] = []
  const ask = (name: string): Promise<unknown> => barrier.pass(Deadline.never).then(() => told.push(name))
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
  const first = barrier.pass(Deadline.never)
  const second = barrier.pass(Deadline.never)
  const failed = assert.rejects(first, /away/)
  sent[0].reject(new Error('away'))
  await failed
  sent[1].resolve()
  await second
})

test('after one that took long the next waits for as many callers, but not for ever', async () => {
  const { barrier, sent, clock } = world()
  const first = barrier.pass(Deadline.never)
  const waiting = [barrier.pass(Deadline.never)]
  clock.now = 5
  sent[0].resolve()
  await first
  assert.equal(sent.length, 1, 'another caller is expected')
  waiting.push(barrier.pass(Deadline.never))
  assert.equal(sent.length, 2, 'two were seen, two are there')
  clock.now = 10
  sent[1].resolve()
  await Promise.all(waiting)
  const alone = barrier.pass(Deadline.never)
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
    const one = barrier.pass(Deadline.never)
    assert.equal(sent.length, i + 1)
    clock.now += 100
    sent[i].resolve()
    await one
  }
})

test('a caller whose deadline passes leaves; a barrier in flight ends with the last deadline of its callers', async () => {
  const deadlines: Deadline[] = []
  const inFlight: PromiseWithResolvers<void>[] = []
  const send = (deadline: Deadline): Promise<void> => {
    deadlines.push(deadline)
    inFlight.push(Promise.withResolvers())
    return inFlight[inFlight.length - 1].promise
  }
  const barrier = new SharedBarrier({ send, late: () => new Error('late'), now: () => 0 })
  const first = barrier.pass(soon())
  const [left, last, before] = [soon(5), soon(), soon(4000)]
  const gone = barrier.pass(left)
  const stay = [barrier.pass(before), barrier.pass(last)]
  await assert.rejects(gone, /late/)
  inFlight[0].resolve()
  await first
  assert.equal(deadlines.length, 2)
  assert.equal(deadlines[1], last)
  const [impatient] = [barrier.pass(soon(5))]
  await assert.rejects(impatient, /late/)
  inFlight[1].resolve()
  await Promise.all(stay)
  await settle()
  assert.equal(deadlines.length, 2, 'no barrier is sent for a caller that has left')
})

test('a caller of a barrier in flight gets its error at its own deadline', async () => {
  const { barrier, sent } = world()
  const long = barrier.pass(soon(60_000))
  sent[0].resolve()
  await long
  const short = barrier.pass(soon(5))
  await assert.rejects(short, /late/)
  sent[1].resolve()
})
