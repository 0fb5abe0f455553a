import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { OperatorError } from '../../errors.ts'
import { check, filesIn, nowhereIn } from './story.ts'

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

test('a file that is removed while the files are read is left out', () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-story-'))
  try {
    mkdirSync(join(dir, 'b'))
    for (const name of ['a', 'b/c', 'd']) writeFileSync(join(dir, name), name)
    const read: string[] = []
    for (const { bytes } of filesIn(dir)) {
      read.push(String(bytes))
      rmSync(join(dir, 'b'), { recursive: true, force: true })
    }
    assert.deepEqual(read, ['a', 'd'])
    assert.deepEqual([...filesIn(join(dir, 'b'))], [])
  } finally {
    rmSync(dir, { recursive: true })
  }
})
