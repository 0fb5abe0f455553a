// Whether a node runs is told by its lock, which other commands take for a moment to see the same.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { lockDirectory } from '../../node/lock.ts'
import { lockStopped, runningNode } from './node-process.ts'

const LOCK = fileURLToPath(new URL('../../node/lock.ts', import.meta.url))
/** Looks at the directory again and again, as `watch coffer cluster status` does, with longer looks. */
const OTHER = `
  import { setTimeout as sleep } from 'node:timers/promises'
  const { lockDirectory } = await import(process.argv[1])
  for (let told = false; ; told = true) {
    const lock = lockDirectory(process.argv[2], 1000)
    if (!told) console.log('looking')
    await sleep(5)
    lock.release()
    await sleep(5)
  }`

test('a command that looks for a moment is no running node', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-process-'))
  const files = { file: join(dir, 'n1.yaml'), node: 'n1', data: join(dir, 'n1') }
  mkdirSync(files.data)
  const other = spawn(process.execPath, ['--input-type=module', '-e', OTHER, LOCK, files.data])
  try {
    await once(other.stdout, 'data')
    for (let i = 0; i < 50; i++) {
      assert.equal(runningNode(files), undefined, `look ${i}`)
      lockStopped(files).release()
    }
    other.kill('SIGKILL')
    await once(other, 'close')
    const held = lockDirectory(files.data)
    assert.deepEqual(runningNode(files), { pid: undefined })
    assert.throws(() => lockStopped(files), /is in use: stop node n1 first|is in use$/)
    held.release()
  } finally {
    other.kill('SIGKILL')
    rmSync(dir, { recursive: true })
  }
})
