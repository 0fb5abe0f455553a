import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Deadline, systemClock } from './clock.ts'

const late = (): Error => new Error('late')
const never = new Promise<never>(() => undefined)

test('a deadline has the time of its clock, and none once it has passed', () => {
  let now = 100
  const deadline = new Deadline({ monotonic: () => now }, 50)
  assert.deepEqual([deadline.left(), deadline.passed], [50, false])
  now = 149
  assert.deepEqual([deadline.left(), deadline.passed], [1, false])
  now = 150
  assert.deepEqual([deadline.left(), deadline.passed], [0, true])
  now = 1000
  assert.equal(deadline.left(), 0)
  assert.ok(deadline.isBefore(Deadline.never) && !Deadline.never.isBefore(deadline))
  assert.ok(!Deadline.never.passed)
})

test('a deadline with too little time left is replaced by a later one', () => {
  let now = 0
  const deadline = new Deadline({ monotonic: () => now }, 50)
  assert.equal(deadline.atLeast(50), deadline)
  now = 60
  const later = deadline.atLeast(20)
  assert.deepEqual([deadline.passed, later.left()], [true, 20])
  const fixed = new Deadline({ monotonic: () => now }, 5, () => false)
  assert.equal(fixed.atLeast(20), fixed)
})

test('listeners are called once, when the deadline has passed, in their order; not those taken back', async () => {
  const deadline = new Deadline(systemClock, 10)
  const called: string[] = []
  const listener = (name: string) => () => {
    assert.ok(deadline.passed)
    called.push(name)
  }
  deadline.onPass(listener('a'))
  const end = deadline.onPass(listener('b'))
  const twice = listener('c')
  deadline.onPass(twice)
  deadline.onPass(twice)
  end()
  end()
  await assert.rejects(deadline.race(never, late), { message: 'late' })
  assert.deepEqual(called, ['a', 'c', 'c'])
  await new Promise<void>((resolve) => deadline.onPass(resolve)) // after its time as well
})

test('a timer that rings before the time of the clock is set anew', async () => {
  const began = performance.now()
  let ahead = 0
  const deadline = new Deadline({ monotonic: () => performance.now() + ahead }, 40)
  ahead = -30
  await assert.rejects(deadline.race(never, late), { message: 'late' })
  assert.ok(performance.now() - began >= 70)
})

test('a race has the outcome of its promise before the deadline, and leaves no timer', async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()
  const deadline = new Deadline(systemClock, 60_000)
  assert.equal(await deadline.race(Promise.resolve(7), late), 7)
  await assert.rejects(deadline.race(Promise.reject(new Error('own')), late), { message: 'own' })
  assert.equal(await Deadline.never.race(Promise.resolve(8), late), 8)
  assert.equal(timers(), before)
})
