// A fault of the disk is a call of `node:fs` that fails once, as the system tells a fault once.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Appending } from './appending.ts'

const PART = Buffer.alloc(1024 * 1024, 'part')
const PARTS = 70

function opened(t: TestContext): { readonly path: string; readonly file: number } {
  const dir = fs.mkdtempSync(join(tmpdir(), 'coffer-appending-'))
  const path = join(dir, 'file')
  const file = fs.openSync(path, 'wx')
  t.after(() => {
    fs.closeSync(file)
    fs.rmSync(dir, { recursive: true })
  })
  return { path, file }
}

test('bytes are flushed while more of them are written', async (t) => {
  const { path, file } = opened(t)
  const flush = t.mock.method(fs, 'fdatasync')
  syncBuiltinESMExports()
  const appending = new Appending(file)
  for (let i = 0; i < PARTS; i++) await appending.write(PART)
  const along = flush.mock.callCount()
  await appending.sync()
  t.mock.restoreAll()
  syncBuiltinESMExports()
  assert.ok(along >= 1 && along <= 2, `${along}`)
  assert.equal(fs.statSync(path).size, PARTS * PART.length)
})

test('a flush on the way that fails fails the sync', async (t) => {
  const { file } = opened(t)
  const fault = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })
  t.mock.method(fs, 'fdatasync', (_: number, done: (error: Error) => void) => setImmediate(done, fault))
  syncBuiltinESMExports()
  const appending = new Appending(file)
  for (let i = 0; i < PARTS; i++) await appending.write(PART)
  t.mock.restoreAll()
  syncBuiltinESMExports()
  await assert.rejects(appending.sync(), fault)
})
