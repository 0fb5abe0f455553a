import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { addSum, Digest } from '../state/digest.ts'
import { readCheckpoint, writeCheckpoint } from './checkpoint.ts'
import { CheckpointDirectory } from './checkpoint-directory.ts'
import { lastFound, Part, TokenTable } from './table.ts'

function bodies(count: number): Uint32Array {
  return new Uint32Array(new Uint8Array(randomBytes(count * 16)).buffer)
}

function filled(words: Uint32Array, count: number): TokenTable {
  const table = new TokenTable()
  for (let i = 0; i < count; i++) assert.ok(table.insert(words, i * 4, i >> 4, i & 15))
  return table
}

function assertHolds(table: TokenTable, words: Uint32Array, count: number): void {
  assert.equal(table.count, count)
  for (let i = 0; i < count; i++) {
    assert.ok(table.find(words, i * 4))
    assert.deepEqual({ ...lastFound }, { page: i >> 4, slot: i & 15 })
  }
}

function sumOf(words: Uint32Array, count: number): Float64Array {
  const sum = new Float64Array(4)
  for (let i = 0; i < count; i++) addSum(sum, Float64Array.from(words.subarray(i * 4, i * 4 + 4)))
  return sum
}

test('every size finds what was put, and nothing else', () => {
  const words = bodies(120_000)
  const table = new TokenTable()
  const checks = new Set([1, 51, 52, 53, 3327, 3328, 3329, 7000, 60_000, 100_000])
  for (let i = 0; i < 100_000; i++) {
    assert.ok(table.insert(words, i * 4, i >> 4, i & 15))
    if (checks.has(i + 1)) assertHolds(table, words, i + 1)
  }
  for (let i = 100_000; i < 120_000; i++) assert.ok(!table.find(words, i * 4))
})

test('insert-once: an equal body changes nothing', () => {
  const words = bodies(5000)
  const table = filled(words, 5000)
  for (let i = 0; i < 5000; i++) assert.ok(!table.insert(words, i * 4, 9999, 3))
  assertHolds(table, words, 5000)
})

test('bodies that share their first words are told apart', () => {
  const words = new Uint32Array(4 * 40)
  for (let i = 0; i < 40; i++) words.set([7, 9, i & 3, i >> 2], i * 4)
  assertHolds(filled(words, 40), words, 40)
})

async function inFolder(run: (dir: string, files: CheckpointDirectory) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-checkpoint-'))
  try {
    await run(dir, new CheckpointDirectory(dir))
  } finally {
    rmSync(dir, { recursive: true })
  }
}

test('a checkpoint gives the tables back, less what came after its page', () =>
  inFolder(async (_, files) => {
    const words = bodies(30_000)
    const small = bodies(3)
    const tables = [
      { id: 4, table: filled(words, 30_000) },
      { id: 9, table: filled(small, 3) },
      { id: 10, table: new TokenTable() },
    ]
    await writeCheckpoint(files, 'one', tables)
    const again = await readCheckpoint(files, 'one', 1e9)
    assert.ok(again)
    assertHolds(again.get(4)?.tokens ?? new TokenTable(), words, 30_000)
    assertHolds(again.get(9)?.tokens ?? new TokenTable(), small, 3)
    assert.deepEqual(again.get(4)?.inserted, { count: 30_000, sum: sumOf(words, 30_000) })
    const early = (await readCheckpoint(files, 'one', 1000))?.get(4)
    assert.ok(early)
    const cut = early.tokens
    assertHolds(cut, words, 16_000)
    assert.deepEqual(early.inserted, { count: 16_000, sum: sumOf(words, 16_000) })
    // The loaded table grows on.
    for (let i = 16_000; i < 30_000; i++) assert.ok(cut.insert(words, i * 4, i >> 4, i & 15))
    assertHolds(cut, words, 30_000)
  }))

test('sums of millions of mappings are exact: words of bodies add up to more than 2^53', () =>
  inFolder(async (_, files) => {
    const full = new Uint32Array(4096 * 6)
    for (let slot = 0; slot < 3328; slot++)
      full.set([0xffff_ffff, 0xffff_ffff, 0xffff_fffe, 1, 7, 1], slot * 6)
    // Parts of a table of 3.4 million mappings; all parts share their slots.
    const parts = Array.from({ length: 1024 }, () => new Part(4096, 10, full))
    await writeCheckpoint(files, 'one', [{ id: 0, table: TokenTable.fromParts(parts) }])
    const loaded = (await readCheckpoint(files, 'one', 1e9))?.get(0)
    assert.ok(loaded)
    const { count, sum } = loaded.inserted
    assert.equal(count, 1024 * 3328)
    const body = 0xffff_ffffn | (0xffff_ffffn << 32n) | (0xffff_fffen << 64n) | (1n << 96n)
    const found = sum.reduceRight((all, word) => (all << 32n) | BigInt(word), 0n)
    assert.equal(found, (body * BigInt(count)) % (1n << 128n))
    const digest = new Digest()
    digest.addTable(0, 'a', 1)
    digest.addMappings(0, loaded.inserted)
    digest.addMappings(0, loaded.inserted)
  }))

test('a checkpoint that is damaged anywhere, cut, or another one is not used', () =>
  inFolder(async (dir, files) => {
    const words = bodies(2000)
    await writeCheckpoint(files, 'one', [{ id: 0, table: filled(words, 2000) }])
    const file = join(dir, 'checkpoint-one')
    const whole = readFileSync(file)
    assert.equal(await readCheckpoint(files, 'two', 1e9), undefined)
    for (let i = 0; i < 60; i++) {
      const at = i < 20 + 16 ? i : Math.floor((whole.length - 1) * (i / 59))
      const damaged = Buffer.from(whole)
      damaged[at] ^= 0x55
      writeFileSync(file, damaged)
      assert.equal(await readCheckpoint(files, 'one', 1e9), undefined, `byte ${at}`)
    }
    for (const length of [0, 10, 20, 30, 5000, whole.length - 16, whole.length - 1]) {
      writeFileSync(file, whole.subarray(0, length))
      assert.equal(await readCheckpoint(files, 'one', 1e9), undefined, `cut at ${length}`)
    }
    writeFileSync(file, whole)
    assert.ok(await readCheckpoint(files, 'one', 1e9))
    await files.removeOthers('none')
    assert.deepEqual(readdirSync(dir), [])
  }))
