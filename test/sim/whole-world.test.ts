// Whole nodes in virtual time: two thousand small worlds keep all laws, and a seed gives one trace.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeServices } from '../../src/server/services.ts'
import { seeded } from './seed.ts'
import { runWorld } from './whole-world.ts'
import { runWorlds } from './worlds.ts'

const WORLDS = 2000
/** The same worlds each time: a test that fails is of a change. Other worlds are those of `npm run sim`. */
const FIRST = Number(process.env.COFFER_SEED ?? 1)
const PROCESSES = 2
/** Before all is mended. `npm run sim` has worlds of a hundred. */
const CALLS = 30
const LEAST_CALLS = 60
const LEAST_FAULTS = 5
/** In which a bug that is planted must be found. */
const WORLDS_WITH_A_BUG = 100

test('a seed gives one trace, byte for byte', async (t) => {
  const { seed } = seeded()
  t.diagnostic(`COFFER_SEED=${seed}`)
  const [one, two] = [await runWorld(seed), await runWorld(seed)]
  assert.equal(one.trace, two.trace)
  assert.notEqual(one.trace, (await runWorld(seed + 1)).trace)
})

test('three nodes with faults of every kind keep the laws, and answer everything once all is mended', async (t) => {
  t.diagnostic(`COFFER_SEED=${FIRST}`)
  let worlds = 0
  const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0)
  await runWorlds({
    first: FIRST,
    seeds: WORLDS,
    ms: Number.POSITIVE_INFINITY,
    calls: CALLS,
    processes: PROCESSES,
    report: ({ calls, faults }) => {
      worlds++
      assert.ok(sum(calls) >= LEAST_CALLS && sum(faults) >= LEAST_FAULTS, 'a world is not too tame')
    },
  })
  assert.equal(worlds, WORLDS)
})

/** The law that the first broken one of a few worlds names. */
async function lawBroken(services: (services: NodeServices) => NodeServices): Promise<string> {
  for (let seed = 1; seed <= WORLDS_WITH_A_BUG; seed++) {
    try {
      await runWorld(seed, { services, calls: CALLS, traced: false })
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }
  return 'none'
}

test('a node that never answers is found', async () => {
  const law = await lawBroken((services) => {
    Object.assign(services.tokens, { detokenize: () => new Promise(() => undefined) })
    return services
  })
  assert.match(law, /law 7: no answer by the deadline/)
})

test('a node that asks the ledger for tokens that it holds is found', async () => {
  const law = await lawBroken((services) => {
    const { tokens, replica } = services
    const detokenize = tokens.detokenize.bind(tokens)
    const asks: typeof detokenize = async (request, ...rest) => {
      await replica.barrier(request.deadline)
      return detokenize(request, ...rest)
    }
    Object.assign(tokens, { detokenize: asks })
    return services
  })
  assert.match(law, /law 7: detokenize of what the node holds/)
})
