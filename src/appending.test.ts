// A fault of the disk is a call of `node:fs` that fails once, as the system tells a fault once.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
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

type Write = { readonly bytes: number; readonly position: number | null; readonly run: () => void }

/** Calls of `write` wait for `run`, and write at most `most` bytes. */
function heldWrites(t: TestContext, most = Number.POSITIVE_INFINITY): Write[] {
  const real = fs.write
  const calls: Write[] = []
  const held = (
    file: number,
    bytes: Buffer,
    from: number,
    size: number,
    position: number | null,
    done: (error: Error | null, written: number) => void,
  ): void => {
    const run = (): void => real(file, bytes, from, Math.min(size, most), position, done)
    calls.push({ bytes: size, position, run })
  }
  t.mock.method(fs, 'write', held)
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })
  return calls
}

/** Runs the calls of a list that grows, one after another, until `work` is done. */
async function runAll(calls: readonly Write[], work: Promise<unknown>): Promise<void> {
  let isDone = false
  const end = work.finally(() => {
    isDone = true
  })
  for (let i = 0; !isDone; ) {
    if (i < calls.length) calls[i++].run()
    await new Promise(setImmediate)
  }
  await end
}

const KIB = 1024

test('a file is written in parts of 256 KiB, three at once, each to its place', async (t) => {
  const { path, file } = opened(t)
  const calls = heldWrites(t)
  const queue = new WriteQueue(file, 'file')
  const content = randomBytes(1000 * KIB)
  const written = Promise.all([
    queue.write(content.subarray(0, 900 * KIB)),
    queue.write(content.subarray(900 * KIB)),
  ])
  const told = (): unknown => calls.map(({ bytes, position }) => [bytes / KIB, Number(position) / KIB])
  const first = [0, 256, 512].map((at) => [256, at])
  assert.deepEqual(told(), first)
  const began = calls.splice(0)
  for (const call of began.toReversed()) call.run()
  await runAll(calls, written)
  calls.unshift(...began)
  assert.deepEqual(told(), [...first, [132, 768], [100, 900]])
  assert.deepEqual(fs.readFileSync(path), content)
})

test('a stream is written in the order of the calls, one write at a time', async (t) => {
  const { path, file } = opened(t)
  const calls = heldWrites(t)
  const queue = new WriteQueue(file, 'stream')
  const written = Promise.all(['a', 'b', 'c'].map((part) => queue.write(Buffer.from(part))))
  assert.equal(calls.length, 1)
  await runAll(calls, written)
  assert.equal(fs.readFileSync(path, 'utf8'), 'abc')
  assert.deepEqual(new Set(calls.map(({ position }) => position)), new Set([null]))
})

for (const kind of ['file', 'stream'] as const)
  test(`a part that is written in pieces is written whole: a ${kind}`, async (t) => {
    const { path, file } = opened(t)
    const calls = heldWrites(t, 5)
    const queue = new WriteQueue(file, kind)
    const parts = ['abc', 'defgh', '', 'ijklmno']
    await runAll(calls, Promise.all(parts.map((part) => queue.write(Buffer.from(part)))))
    assert.equal(fs.readFileSync(path, 'utf8'), 'abcdefghijklmno')
    assert.equal(calls.length, 4)
  })

test('a write that fails fails the writes behind, when no write is on its way', async (t) => {
  const { file } = opened(t)
  const fault = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  const ends: ((error: Error | null, written: number) => void)[] = []
  t.mock.method(fs, 'write', (...args: unknown[]) => ends.push(args[5] as (typeof ends)[number]))
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })
  const queue = new WriteQueue(file, 'file')
  let isOver = false
  const first = queue.write(PART).finally(() => {
    isOver = true
  })
  const refused = assert.rejects(first, fault)
  ends[0](fault, 0)
  for (const end of ends.slice(1)) {
    await new Promise(setImmediate)
    assert.equal(isOver, false, 'other parts are on their way')
    end(null, 256 * KIB)
  }
  await refused
  await assert.rejects(queue.write(PART), fault)
  assert.equal(ends.length, 3)
})
