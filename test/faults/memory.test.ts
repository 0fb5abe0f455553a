// The judge of memory over time: what grows is found, and what is young or new is not.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Memory } from './memory.ts'

const MINUTE_MS = 60_000
const MIB = 1024

/** A sample every two seconds. `pid` and `mib` by milliseconds since the begin. */
function over(minutes: number, pid: (ms: number) => number, mib: (ms: number) => number): Memory {
  const memory = new Memory()
  for (let ms = 0; ms < minutes * MINUTE_MS; ms += 2000)
    memory.add('n1', { pid: pid(ms), ms, kib: mib(ms) * MIB })
  return memory
}
const grown = (memory: Memory): boolean => memory.grown(['n1']).length > 0

test('memory that grows by more than a fifth after the warm-up is found, over restarts, too', () => {
  const leak = (ms: number): number => 120 + (2 * ms) / MINUTE_MS
  assert.ok(grown(over(30, () => 7, leak)))
  assert.ok(grown(over(30, (ms) => 7 + Math.floor(ms / (3 * MINUTE_MS)), leak)))
  assert.ok(
    !grown(
      over(
        30,
        () => 7,
        (ms) => 120 + (0.5 * ms) / MINUTE_MS,
      ),
    ),
  )
})

test('a warm-up, a young process, and a run that is too short are no growth', () => {
  assert.ok(
    !grown(
      over(
        30,
        () => 7,
        (ms) => (ms < 5 * MINUTE_MS ? 60 : 140),
      ),
    ),
  )
  const late = 26 * MINUTE_MS
  assert.ok(
    !grown(
      over(
        27,
        (ms) => (ms < late ? 7 : 8),
        (ms) => (ms < late ? 120 : 300),
      ),
    ),
  )
  assert.ok(
    !grown(
      over(
        9,
        () => 7,
        (ms) => 120 + (20 * ms) / MINUTE_MS,
      ),
    ),
  )
})
