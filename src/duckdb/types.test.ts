import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isTypeName, readingOf } from './types.ts'

test('a name of a type cannot end the cast in which it stands', () => {
  for (const type of [
    'BIGINT',
    'DECIMAL(18,3)',
    'TIMESTAMP WITH TIME ZONE',
    'STRUCT(a INTEGER, "b ""c)" VARCHAR)[]',
    'MAP(VARCHAR, INTEGER)',
    'INTEGER[3]',
  ])
    assert.equal(isTypeName(type), true, type)
  for (const type of [
    '',
    'BIGINT)',
    'BIGINT) AS x, (SELECT 1',
    "ENUM('a')",
    'a;b',
    '(',
    '"a',
    'a -- b',
    'a/*',
  ])
    assert.equal(isTypeName(type), false, type)
})

test('how values are read', () => {
  assert.equal(readingOf('BIGINT', false), 'as it is')
  assert.equal(readingOf('BIGINT', true), 'as text')
  assert.equal(readingOf('VARCHAR', true), 'as it is')
  assert.equal(readingOf('DATE', false), 'as text')
  assert.equal(readingOf('HUGEINT', false), 'as text')
  assert.equal(readingOf('FLOAT', false), 'refused')
  assert.equal(readingOf('FLOAT', true), 'as text')
})
