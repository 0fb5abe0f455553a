// Checkpoints beside the steps: what a checkpoint that cannot be kept does to the replica.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { bootPut, epochPut, genesisPut, keyPut, segmentPut, type TestPut } from '../../test/sim/puts.ts'
import { type Clock, systemClock } from '../clock.ts'
import { decodePuts } from '../state/puts.ts'
import { nextTurn } from '../waiting.ts'
import { Applier } from './apply.ts'
import { CheckpointDirectory } from './checkpoint-directory.ts'
import { MemoryStore } from './memory-store.ts'

const LEDGER = 'e'.repeat(32)

/** An applier on a memory store that wants a checkpoint after every mapping. */
async function opened(store: MemoryStore, clock: Clock = systemClock) {
  const told: string[] = []
  const applier = await Applier.open({
    store,
    clock,
    checkpointEvery: 1,
    checkpointFailed: ({ message }) => told.push(message),
  })
  const apply = (puts: readonly TestPut[]): Promise<void> => {
    const revision = applier.applied + 1
    const created = puts.map((put) => ({ ...put, created: revision }))
    return applier.apply([{ revision, ...decodePuts(revision, created) }], LEDGER)
  }
  return { applier, apply, told }
}

const BEGINNING = [genesisPut(LEDGER, 'rk1'), bootPut('a', 'n1'), epochPut('o', 1), keyPut('o', 1, 'rk1')]
const segment = (n: number): TestPut => segmentPut({ boot: 'a', n, owner: 'o', epoch: 1, ids: [n] })

test('where the files of older checkpoints cannot be removed, the failure is told and all goes on', async () => {
  const store = new MemoryStore()
  const { applier, apply, told } = await opened(store)
  store.checkpoints.removeOthers = () => Promise.reject(new Error('EACCES: a directory of another user'))
  await apply(BEGINNING)
  await apply([segment(0)])
  await new Promise<void>((resolve) => applier.beginCheckpointIfDue(resolve))
  await apply([segment(1)])
  assert.deepEqual(told, ['EACCES: a directory of another user'])
  assert.match(applier.state.meta.checkpoint, /^[0-9a-f]{16} 1$/, 'the checkpoint is recorded')
  await apply([segment(2)])
  assert.equal(applier.tables.mappings, 3)
})

test('a checkpoint that cannot be read, or files that cannot be removed, end no start', async () => {
  const store = new MemoryStore()
  const { applier, apply } = await opened(store)
  await apply(BEGINNING)
  await apply([segment(0)])
  await applier.close()
  const left = store.afterKill()
  assert.notEqual(left.meta()?.checkpoint, '')
  const failure = Object.assign(new Error('EIO: a bad disk'), { code: 'EIO' })
  left.checkpoints.read = () => {
    throw failure
  }
  left.checkpoints.removeOthers = () => Promise.reject(failure)
  const again = await opened(left)
  assert.deepEqual(again.told, ['EIO: a bad disk', 'EIO: a bad disk'])
  assert.deepEqual([again.applier.tables.mappings, again.applier.pagesRead], [1, 1])
})

test('without room no checkpoint is begun: told once, tried again after a minute, and written with room', async () => {
  const store = new MemoryStore()
  let now = 0
  const { applier, apply, told } = await opened(store, { ...systemClock, monotonic: () => now })
  let [asked, written] = [0, 0]
  const { checkpoints } = store
  const { hasRoom, write } = checkpoints
  checkpoints.hasRoom = (bytes) => {
    asked++
    return hasRoom.call(checkpoints, bytes)
  }
  checkpoints.write = (name, blocks) => {
    written++
    return write.call(checkpoints, name, blocks)
  }
  checkpoints.room = 64 * 24 // a part as it is in the file has a head, too
  await apply(BEGINNING)
  let n = 0
  /** A step, and the wait for a checkpoint that it may have begun. */
  const step = async (): Promise<void> => {
    await apply([segment(n++)])
    applier.beginCheckpointIfDue(() => undefined)
    for (let turn = 0; turn < 10; turn++) await nextTurn()
  }
  for (let i = 0; i < 5; i++) await step()
  assert.deepEqual([asked, written], [1, 0])
  for (let minute = 1; minute <= 3; minute++) {
    now += 60_000
    await step()
    await step()
    assert.deepEqual([asked, written], [1 + minute, 0])
  }
  assert.equal(told.length, 1)
  assert.match(told[0], /^the disk has no room for 1 MiB beside .*: make room/)

  checkpoints.room = 16 + 64 * 24
  now += 60_000
  await step()
  assert.deepEqual([asked, written], [5, 1])
  await step()
  assert.match(applier.state.meta.checkpoint, /^[0-9a-f]{16} \d+$/)
  for (let i = 0; i < 20 && written < 2; i++) await step()
  assert.equal(written, 2, 'with room there is no pause')

  checkpoints.room = 0
  for (let i = 0; i < 40 && told.length < 2; i++) await step()
  assert.equal(told.length, 2, 'told again after it was well')
  await applier.close()
  assert.deepEqual([written, told.length], [2, 2], 'nor is it written at the stop')
})

test('the size that a checkpoint asks for is the size of its file', async () => {
  const store = new MemoryStore()
  const { applier, apply } = await opened(store)
  const asked: number[] = []
  store.checkpoints.hasRoom = async (bytes) => {
    asked.push(bytes)
    return true
  }
  await apply(BEGINNING)
  for (let n = 0; n < 4; n++) {
    const ids = Array.from({ length: 3900 }, (_, i) => n * 3900 + i)
    await apply([segmentPut({ boot: 'a', n, owner: 'o', epoch: 1, ids })])
  }
  await applier.close()
  const [name] = store.meta()?.checkpoint.split(' ') ?? []
  let bytes = 0
  for await (const block of store.checkpoints.read(name) ?? []) bytes += block.length
  assert.equal(bytes - asked[0], `coffer checkpoint 1 ${name}\n`.length + 16, 'magic and end mark')
})

test('a directory: a checkpoint leaves the store twice what the ledger keeps free', async () => {
  const path = mkdtempSync(join(tmpdir(), 'coffer-checkpoint-'))
  try {
    const directory = new CheckpointDirectory(path, () => ({ free: 1000, reserve: 100 }))
    assert.deepEqual(await Promise.all([0, 800, 801, 5000].map((bytes) => directory.hasRoom(bytes))), [
      true,
      true,
      false,
      false,
    ])
    assert.equal(await new CheckpointDirectory(path).hasRoom(Number.MAX_SAFE_INTEGER), false)
  } finally {
    rmSync(path, { recursive: true })
  }
})

test('a directory: a checkpoint that fails leaves no file', async () => {
  const path = mkdtempSync(join(tmpdir(), 'coffer-checkpoint-'))
  async function* blocks(): AsyncIterable<Buffer> {
    yield Buffer.alloc(100)
    throw new Error('the disk is full')
  }
  try {
    await assert.rejects(new CheckpointDirectory(path).write('a'.repeat(16), blocks()), /the disk is full/)
    assert.deepEqual(readdirSync(path), [])
  } finally {
    rmSync(path, { recursive: true })
  }
})

test('a directory: what a killed process was writing goes when the next one begins', async () => {
  const path = mkdtempSync(join(tmpdir(), 'coffer-checkpoint-'))
  try {
    const named = (name: string): string => `checkpoint-${name.repeat(16)}`
    for (const file of [named('a'), `${named('a')}.new`, `${named('b')}.new`, named('c'), 'data.mdb'])
      writeFileSync(join(path, file), '')
    await new CheckpointDirectory(path).removeOthers('a'.repeat(16))
    assert.deepEqual(readdirSync(path).sort(), [named('a'), 'data.mdb'])
  } finally {
    rmSync(path, { recursive: true })
  }
})
