// Files whose names no other file can take: flags of the file system. Mounts: test/cli/env.test.ts.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkReplaceable, FileError, replaceFile } from './files.ts'

/** Whether the system has set the flag; not every file system has flags, and only root may set flags. */
const flag = (change: string, path: string): boolean => spawnSync('chattr', [change, path]).status === 0

function refusal(work: () => void): FileError {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof FileError, String(error))
    return error
  }
  assert.fail('it was taken')
}

test('an immutable or append-only file is refused before anything is written', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-flags-'))
  const file = join(dir, 'file')
  try {
    for (const letter of ['i', 'a']) {
      writeFileSync(file, 'old')
      if (!flag(`+${letter}`, file)) return t.skip('no flags here')
      try {
        for (const work of [() => checkReplaceable(file), () => replaceFile(file, 'new')]) {
          const { message, hint } = refusal(work)
          assert.match(message, /file cannot be replaced: its flags forbid changes/)
          assert.equal(hint, `remove them as root: chattr -i -a ${file}`)
        }
      } finally {
        flag(`-${letter}`, file)
      }
      assert.deepEqual([readFileSync(file, 'utf8'), readdirSync(dir)], ['old', ['file']])
    }
    // Rights of the file itself do not matter: a rename needs those of the directory.
    chmodSync(file, 0o400)
    checkReplaceable(file)
    replaceFile(file, 'new')
    assert.equal(readFileSync(file, 'utf8'), 'new')
  } finally {
    rmSync(dir, { recursive: true })
  }
  return undefined
})

test('a directory that keeps every name is found out, and told', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-flags-'))
  const file = join(dir, 'file')
  try {
    writeFileSync(file, 'old')
    if (!flag('+a', dir)) return t.skip('no flags here')
    try {
      assert.match(refusal(() => checkReplaceable(file)).message, /file cannot be replaced: .*removed again$/)
    } finally {
      flag('-a', dir)
    }
    assert.equal(readFileSync(file, 'utf8'), 'old')
  } finally {
    rmSync(dir, { recursive: true })
  }
  return undefined
})
