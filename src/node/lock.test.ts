import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { InUse, lockFile } from './lock.ts'

const LOCK = fileURLToPath(new URL('./lock.ts', import.meta.url))

test('a file is locked by one process at a time, and the lock ends with the process', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-lock-'))
  const path = join(dir, 'keyring.json')
  writeFileSync(path, '{}')
  const code = `const { lockFile } = await import(process.argv[1])
    globalThis.held = lockFile(process.argv[2], 0)
    process.stdout.write('locked')
    setInterval(() => {}, 1000)`
  const other = spawn(process.execPath, ['--input-type=module', '-e', code, LOCK, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(other.stdout, 'data')
    assert.throws(
      () => lockFile(path, 50),
      (error) => error instanceof InUse && /another command/.test(error.message),
    )
    const ended = once(other, 'exit')
    other.kill('SIGKILL')
    await ended
    lockFile(path, 0).release()
    lockFile(path, 0).release()
    assert.deepEqual(readdirSync(dir).sort(), ['.keyring.json.lock', 'keyring.json'])
    assert.equal(statSync(join(dir, '.keyring.json.lock')).mode & 0o777, 0o600)
  } finally {
    other.kill('SIGKILL')
    rmSync(dir, { recursive: true })
  }
})

test('processes that wait for the lock of a file get the lock in turn', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-lock-'))
  const path = join(dir, 'n1.yaml')
  writeFileSync(path, '')
  const code = `const { lockFile } = await import(process.argv[1])
    for (let i = 0; i < 300; i++) lockFile(process.argv[2], 5000).release()`
  try {
    const ends = [1, 2, 3].map(async () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', code, LOCK, path], {
        stdio: ['ignore', 'inherit', 'inherit'],
      })
      return (await once(child, 'exit'))[0]
    })
    assert.deepEqual(await Promise.all(ends), [0, 0, 0])
  } finally {
    rmSync(dir, { recursive: true })
  }
})
