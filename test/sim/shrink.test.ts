// A broken world becomes smaller, and stays broken.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EXHIBITS } from './exhibits.ts'
import { seeded } from './seed.ts'
import { shrink } from './shrink.ts'
import { CALLS, runWorld } from './whole-world.ts'

const MOST_WORLDS = 300

test('the world of a planted bug is told with fewer calls and fewer kinds of faults, and is broken', async (t) => {
  const { seed: first } = seeded()
  t.diagnostic(`COFFER_SEED=${first}`)
  const { variant } = EXHIBITS['mappings without the guard of their epoch']
  for (let seed = first; seed < first + MOST_WORLDS; seed++) {
    const smaller = await shrink(seed, variant)
    if (!smaller) continue
    const { kinds, calls, law, trace } = smaller
    t.diagnostic(`seed ${seed}, ${calls} calls, faults: ${kinds.join('; ')}: ${law}`)
    assert.ok(
      calls < CALLS && kinds.length <= 2,
      'one commit upon another needs few calls, and hardly a fault',
    )
    assert.ok(trace.length > 0)
    return
  }
  assert.fail(`no world of ${MOST_WORLDS} is broken`)
})

test('the world of a seed that keeps all laws is not told', async () => {
  const { seed } = seeded()
  await runWorld(seed)
  assert.equal(await shrink(seed), undefined)
})
