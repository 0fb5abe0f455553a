import assert from 'node:assert/strict'
import { openSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { AssertionError } from '../../assert.ts'
import { CofferError } from '../../client/error.ts'
import { FatalError, OperatorError, UsageError } from '../../errors.ts'
import { LedgerUnavailable } from '../../ledger/ledger.ts'
import { explain } from './failure.ts'

test('errors for people are printed without a stack, with their hint and their exit code', () => {
  const said = (error: unknown): unknown[] => Object.values(explain(error))
  assert.deepEqual(said(new OperatorError('no node')), ['no node', 1])
  assert.deepEqual(said(new OperatorError('no node', { hint: 'start one' })), ['no node: start one', 1])
  assert.deepEqual(said(new OperatorError('no command', { exitCode: 127 })), ['no command', 127])
  assert.deepEqual(said(new UsageError('no name')), ['no name', 2])
  assert.deepEqual(said(new LedgerUnavailable('no-quorum', 'nobody there')), ['nobody there', 1])
  assert.deepEqual(said(new FatalError('page 7 is damaged')), ['page 7 is damaged', 1])
  assert.deepEqual(said(new CofferError('not-found', 'no secret')), ['no secret (not-found)', 1])
})

test('errors of the system are printed without a stack', () => {
  assert.throws(
    () => openSync('/nowhere/at/all', 'r'),
    (error) =>
      explain(error).text === '/nowhere/at/all: no such file or directory (ENOENT): correct the path',
  )
})

test('an error of the system without a path has its reason and next step, and no words of the system', () => {
  assert.throws(
    () => readFileSync('.'),
    (error) => explain(error).text === 'illegal operation on a directory (EISDIR): name a file',
  )
})

test('faults of ours keep their stack', () => {
  for (const error of [new AssertionError('internal error: broken'), new TypeError('x is undefined')]) {
    assert.match(explain(error).text, /^internal error: .*\n +at /)
  }
  assert.equal(explain('text').text, 'internal error: text')
})
