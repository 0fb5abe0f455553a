// A fault of the disk is a call of `node:fs` that fails once, as the system tells a fault once.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Appending, WriteQueue } from './appending.ts'

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

/** Calls of `writev` write at most so many bytes. Returns the parts of each call. */
function slowWrites(t: TestContext, most: number): readonly number[] {
  const real = fs.writev
  const calls: number[] = []
  t.mock.method(
    fs,
    'writev',
    (file: number, parts: readonly Buffer[], done: (...args: unknown[]) => void) => {
      calls.push(parts.length)
      const bytes = Buffer.concat(parts).subarray(0, most)
      real(file, [bytes], (error, written) => done(error, written, parts))
    },
  )
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })
  return calls
}

test('parts that wait are written at once, in the order of the calls', async (t) => {
  const { path, file } = opened(t)
  const calls = slowWrites(t, Number.POSITIVE_INFINITY)
  const queue = new WriteQueue(file)
  const written = [queue.write(Buffer.from('a'))]
  await new Promise(setImmediate) // the first is on its way, or written
  for (const part of ['b', 'c', 'd']) written.push(queue.write(Buffer.from(part)))
  await Promise.all(written)
  assert.equal(fs.readFileSync(path, 'utf8'), 'abcd')
  assert.deepEqual(calls, [1, 3])
  await queue.write(Buffer.from('e'))
  assert.equal(fs.readFileSync(path, 'utf8'), 'abcde')
})

test('a part that is written in pieces is written whole', async (t) => {
  const { path, file } = opened(t)
  const calls = slowWrites(t, 5)
  const queue = new WriteQueue(file)
  await Promise.all(['abc', 'defgh', '', 'ijklmno'].map((part) => queue.write(Buffer.from(part))))
  assert.equal(fs.readFileSync(path, 'utf8'), 'abcdefghijklmno')
  assert.deepEqual(calls, [4, 3, 1])
})

test('a write that fails fails the writes behind', async (t) => {
  const { file } = opened(t)
  const fault = Object.assign(new Error('ENOSPC: no space left on device, writev'), { code: 'ENOSPC' })
  t.mock.method(fs, 'writev', (_: number, _parts: unknown, done: (error: Error) => void) =>
    setImmediate(done, fault),
  )
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })
  const queue = new WriteQueue(file)
  const first = queue.write(PART)
  await assert.rejects(first, fault)
  await assert.rejects(queue.write(PART), fault)
})
