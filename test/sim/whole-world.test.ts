// Whole nodes in virtual time: some hundred worlds keep all laws, and a seed gives one trace.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seeded } from './seed.ts'
import { runWorld } from './whole-world.ts'

/** As many as fit into the time of a test, which depends on what else the machine does. */
const WORLDS = { most: 200, ms: 15_000 }

test('a seed gives one trace, byte for byte', async (t) => {
  const { seed } = seeded()
  t.diagnostic(`COFFER_SEED=${seed}`)
  const [one, two] = [await runWorld(seed), await runWorld(seed)]
  assert.equal(one.trace, two.trace)
  assert.notEqual(one.trace, (await runWorld(seed + 1)).trace)
})

test('three nodes with faults of every kind keep the laws, and answer everything once all is mended', async (t) => {
  const first = seeded().seed
  t.diagnostic(`COFFER_SEED=${first}`)
  const end = performance.now() + WORLDS.ms
  let worlds = 0
  while (worlds < WORLDS.most && performance.now() < end) await runWorld(first + worlds++)
  t.diagnostic(`${worlds} worlds`)
})
