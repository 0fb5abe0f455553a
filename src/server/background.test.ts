import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Background } from './background.ts'

test('a newer task supersedes the older; only the error of the newest is reported', async () => {
  const errors: unknown[] = []
  const background = new Background((error) => errors.push(error))
  const ended: string[] = []
  const older = Promise.withResolvers<void>()
  background.run(async (signal) => {
    signal.addEventListener('abort', () => ended.push('older'))
    await older.promise
  })
  assert.deepEqual(ended, [])
  const failure = new Error('of the newer')
  background.run(async () => {
    throw failure
  })
  assert.deepEqual(ended, ['older'])
  older.reject(new Error('of the older'))
  await background.close()
  assert.equal(errors.length, 0)
  const again = new Background((error) => errors.push(error))
  again.run(async () => {
    throw failure
  })
  await new Promise(setImmediate)
  assert.deepEqual(errors, [failure])
  await again.close()
})

test('closing ends a task that waits for ever', async () => {
  const background = new Background(() => assert.fail('no task has failed'))
  background.run(() => new Promise<never>(() => undefined))
  await background.close()
})
