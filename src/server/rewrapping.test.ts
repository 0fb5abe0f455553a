// A rewrap in a ledger with little room, with a ledger that reports given parts as occupied.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Health, Ledger } from '../ledger/ledger.ts'
import { SILENT } from '../log.ts'
import { roomIn } from './rewrapping.ts'

const MEBIBYTE = 1024 * 1024

class Bench {
  /** What the ledger reports next, look by look; another look is an error. */
  readonly looks: number[] = []
  readonly warnings: object[] = []
  #now = 0
  readonly room = roomIn(
    {
      ledger: { health: async () => this.#look() } as unknown as Ledger, // asked for nothing else
      log: { ...SILENT, warn: (fields) => void this.warnings.push(fields) },
      clock: { now: () => 0, monotonic: () => this.#now, random: (bytes) => new Uint8Array(bytes) },
    },
    new AbortController().signal,
  )

  #look(): Pick<Health, 'occupied'> {
    const occupied = this.looks.shift()
    assert.ok(occupied !== undefined, 'the rewrap looks again, as if there were no room')
    return { occupied }
  }

  /** The rewrap has put `bytes`; the ledger reports the parts in turn, until the rewrap goes on. */
  async put(bytes: number, ...looks: number[]): Promise<void> {
    this.looks.push(...looks)
    await this.room(bytes)
    assert.deepEqual(this.looks, [], 'the rewrap goes on before there is room')
  }

  advance(hours: number): void {
    this.#now += hours * 60 * 60 * 1000
  }
}

test('a rewrap waits at 60 % of the room, looking every 8 MiB', async () => {
  const bench = new Bench()
  await bench.put(0, 0.3)
  await bench.put(4 * MEBIBYTE)
  await bench.put(4 * MEBIBYTE, 0.59)
  assert.deepEqual(bench.warnings, [])
  await bench.put(8 * MEBIBYTE, 0.6, 0.59)
  assert.deepEqual(bench.warnings, [{ occupied: 0.6, limit: 0.6 }])
})

for (const [live, limit] of [
  [0.7, 0.725],
  [0.8, 0.9],
  [0.98, 0.99],
]) {
  test(`a rewrap in a ledger of which live entries occupy ${live} waits at ${limit}`, async () => {
    const bench = new Bench()
    await bench.put(0, live)
    await bench.put(8 * MEBIBYTE, limit - 0.001)
    assert.deepEqual(bench.warnings, [])
    await bench.put(8 * MEBIBYTE, limit + 0.001, live)
    assert.equal(bench.warnings.length, 1)
    // Another try after a failure begins with 0 bytes, and has the same limit.
    await bench.put(0, limit + 0.001, live)
  })
}

test('entries that others have put meanwhile are not waited for, once history must have been compacted', async () => {
  const bench = new Bench()
  await bench.put(0, 0.7)
  const waiting = bench.put(8 * MEBIBYTE, 0.73, 0.735)
  await Promise.resolve()
  bench.advance(4)
  await waiting
  assert.equal(bench.warnings.length, 1)
  await bench.put(8 * MEBIBYTE, 0.74) // the limit is between 0.735 and 0.75
})

test('a ledger whose room is not known is not waited for', async () => {
  const bench = new Bench()
  await bench.put(0, 0)
  await bench.put(8 * MEBIBYTE, 0.7)
  assert.deepEqual(bench.warnings, [])
})
