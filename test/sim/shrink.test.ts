// A broken world becomes smaller, and stays broken.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { EXHIBITS } from './exhibits.ts'
import { shrink } from './shrink.ts'
import { CALLS, runWorld, type Variant } from './whole-world.ts'

const MOST_WORLDS = 300
const CALLS_OF_NPM_TEST = 30
/** The same world each time, as in whole-world.test.ts. */
const FIRST = Number(process.env.COFFER_SEED ?? 1)

test('the world of a planted bug is told with fewer calls and fewer kinds of faults, and is broken', async (t) => {
  t.diagnostic(`COFFER_SEED=${FIRST}`)
  const { variant } = EXHIBITS['mappings without the guard of their epoch']
  for (const calls of [CALLS, CALLS_OF_NPM_TEST]) await showSmaller(t, { ...variant, calls })
})

async function showSmaller(t: TestContext, variant: Variant & { readonly calls: number }): Promise<void> {
  for (let seed = FIRST; seed < FIRST + MOST_WORLDS; seed++) {
    const smaller = await shrink(seed, variant)
    if (!smaller) continue
    const { kinds, calls, law, trace } = smaller
    t.diagnostic(`seed ${seed}, ${calls} calls, faults: ${kinds.join('; ')}: ${law}`)
    assert.ok(
      calls < variant.calls && kinds.length <= 2,
      'one commit upon another needs few calls, and hardly a fault',
    )
    assert.ok(trace.length > 0)
    return
  }
  assert.fail(`no world of ${MOST_WORLDS} is broken`)
}

test('the world of a seed that keeps all laws is not told', async () => {
  await runWorld(FIRST)
  assert.equal(await shrink(FIRST), undefined)
})
