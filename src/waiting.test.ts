import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Deadline, systemClock } from './clock.ts'
import { nextTurn, retry, sleep, unlessAborted, until, Waiters, withDeadline } from './waiting.ts'

const LONG_MS = 60_000

/** An abort within the next turns of the event loop. */
function soon(reason?: unknown): AbortSignal {
  const stop = new AbortController()
  void nextTurn().then(() => stop.abort(reason))
  return stop.signal
}

test('a sleep ends with its time, or with its signal', async () => {
  const began = performance.now()
  await sleep(20)
  assert.ok(performance.now() - began > 15)
  await sleep(LONG_MS, soon())
  await sleep(LONG_MS, AbortSignal.abort())
})

test('polling ends with the answer, or with the time', async () => {
  let asked = 0
  assert.equal(await until(() => ++asked === 3, { every: 1, within: LONG_MS }), true)
  assert.equal(asked, 3)
  assert.equal(await until(async () => false, { every: 1, within: 5 }), false)
})

test('work is tried again where its error allows it, and no longer than is said', async () => {
  let tries = 0
  const failing = (until: number) => async (): Promise<number> => {
    if (++tries < until) throw new RangeError(`try ${tries}`)
    return tries
  }
  const when = (error: unknown): boolean => error instanceof RangeError
  assert.equal(await retry(failing(3), { every: 1, when }), 3)
  tries = 0
  await assert.rejects(retry(failing(3), { every: 1, when: () => false }), { message: 'try 1' })
  tries = 0
  await assert.rejects(retry(failing(3), { every: 10, when, within: 5 }), { message: 'try 2' })
})

test('a signal ends retries, at once and with its reason', async () => {
  const reason = new Error('stopping')
  let tries = 0
  const work = async (): Promise<void> => {
    tries++
    throw new RangeError('again')
  }
  const options = { every: LONG_MS, when: () => true }
  await assert.rejects(retry(work, { ...options, signal: soon(reason) }), reason)
  assert.equal(tries, 1)
  await assert.rejects(retry(work, { ...options, signal: AbortSignal.abort(reason) }), reason)
  assert.equal(tries, 1)
})

test('a promise with a deadline, or with a signal, settles as what comes first', async () => {
  const never = new Promise<never>(() => undefined)
  const late = (): Error => new Error('late')
  assert.equal(await withDeadline(Promise.resolve(7), LONG_MS, late), 7)
  await assert.rejects(withDeadline(Promise.reject(new Error('own')), LONG_MS, late), { message: 'own' })
  await assert.rejects(withDeadline(never, 1, late), { message: 'late' })
  const reason = new Error('stopping')
  assert.equal(await unlessAborted(Promise.resolve(7), soon()), 7)
  await assert.rejects(unlessAborted(never, soon(reason)), reason)
  await assert.rejects(unlessAborted(never, AbortSignal.abort(reason)), reason)
})

test('callers that wait for an event leave with their deadline; the event wakes the others', async () => {
  const waiters = new Waiters()
  const told: string[] = []
  const late = (): Error => new Error('late')
  const left = waiters.wait(new Deadline(systemClock, 5), late)
  const stay = [waiters.wait(new Deadline(systemClock, 4000), late), waiters.wait(Deadline.never, late)]
  for (const each of stay) void each.then(() => told.push('woken'))
  await assert.rejects(left, { message: 'late' })
  assert.deepEqual([waiters.count, told], [2, []])
  waiters.wake()
  await Promise.all(stay)
  assert.deepEqual([waiters.count, told], [0, ['woken', 'woken']])
  waiters.wake()
})
