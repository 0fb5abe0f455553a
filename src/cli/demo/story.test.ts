import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { OperatorError } from '../../errors.ts'
import { check, nowhereIn } from './story.ts'

test('a statement that is not true is told, and asks for a report', () => {
  check(true, 'all is well')
  assert.throws(
    () => check(false, 'all is well'),
    (error) =>
      error instanceof OperatorError &&
      /says that all is well, and that is not true/.test(error.message) &&
      error.hint === 'please report it',
  )
})

test('a value in any file is found, and a directory without the files of a vault proves nothing', () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-story-'))
  try {
    assert.throws(() => nowhereIn(dir, ['value']), /the vault's files are there, and that is not true/)
    mkdirSync(join(dir, 'n1'))
    writeFileSync(join(dir, 'n1', 'data.mdb'), 'sealed')
    nowhereIn(dir, ['value'])
    writeFileSync(join(dir, 'n1', 'events.ndjson'), '{"a":"the value in it"}')
    assert.throws(() => nowhereIn(dir, ['other', 'value']), /no value is found, and that is not true/)
  } finally {
    rmSync(dir, { recursive: true })
  }
})
