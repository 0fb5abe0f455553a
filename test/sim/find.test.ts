// A scenario of the museum is found by the expected failure of the expected test, and by nothing else.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seenIn } from './find.ts'

const SCENARIO = { only: 'a page is small', found: /\d+ bytes/ }
const failed = (name: string, error: string, type = 'testCodeFailure'): string =>
  `TAP version 13
# Subtest: ${name}
not ok 1 - ${name}
  ---
  duration_ms: 1.5
  failureType: '${type}'
  error: '${error}'
  code: 'ERR_ASSERTION'
  ...
1..1
`
const kindOf = (code: number | null, text: string): string => seenIn({ code, text }, SCENARIO).kind

test('the expected failure of the expected test is a find', () => {
  const text = failed('a page is small: always', '17 bytes')
  assert.deepEqual(seenIn({ code: 1, text }, SCENARIO), { kind: 'found', law: "'17 bytes'" })
})

test('another failure, another test, a module that does not load, and a time-out are no finds', () => {
  assert.equal(kindOf(0, ''), 'passed')
  assert.equal(kindOf(1, failed('a page is small', 'no port')), 'other')
  assert.equal(kindOf(1, failed('a page is large', '17 bytes')), 'other')
  assert.equal(kindOf(1, failed('a page is small', '17 bytes', 'testTimeoutFailure')), 'other')
  assert.equal(kindOf(1, "Error [ERR_MODULE_NOT_FOUND]: Cannot find module '/src/pages.ts'"), 'other')
  assert.equal(kindOf(1, `Cannot find module 'x'\n${failed('a page is small', '17 bytes')}`), 'other')
  assert.equal(kindOf(null, failed('a page is small', '17 bytes')), 'other')
})
