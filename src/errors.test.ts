import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorCode, PROBLEMS, Problem } from './errors.ts'

test('a problem carries its status, and 503 is what may be tried again', () => {
  for (const [slug, entry] of Object.entries(PROBLEMS)) {
    if (entry.status === 503) assert.ok(entry.retryAfter !== undefined, slug)
  }
  assert.equal(new Problem('not-found', 'no such token').status, 404)
  assert.equal(new Problem('no-quorum', 'none', { outcome: 'unknown' }).retryable, true)
  assert.equal(new Problem('not-found', 'none').retryable, false)
})

test('the code of an error is a text, or there is none', () => {
  assert.equal(errorCode(Object.assign(new Error('gone'), { code: 'ENOENT' })), 'ENOENT')
  for (const error of [
    new Error('x'),
    Object.assign(new Error('x'), { code: 7 }),
    { code: 'ENOENT' },
    undefined,
  ])
    assert.equal(errorCode(error), undefined)
})
