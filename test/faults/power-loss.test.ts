// Law 1 through lost power: a few rounds here; `npm run power-loss -- --rounds 100` for many, and `--nodes 3`.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Violation } from '../sim/judge.ts'
import { seeded } from '../sim/seed.ts'
import { losePower, noPowerLoss } from './power-loss.ts'

const skip = noPowerLoss() ?? false

test('a node that loses power loses nothing that was acknowledged', { skip }, async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const { counts } = await losePower({ rounds: 2, nodes: 1, random })
  assert.ok((counts.get('tokenize: answered') ?? 0) > 2 && (counts.get('write: answered') ?? 0) > 0)
})

test('where syncs do nothing, the loss is found within five rounds', { skip }, async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const run = losePower({ rounds: 5, nodes: 1, random, skipSync: true })
  const found = await run.catch((error: Error) => error)
  if (found instanceof Error && /strace/.test(found.message)) return t.skip(found.message)
  assert.ok(found instanceof Violation, 'nothing was lost without syncs')
  t.diagnostic(found.message.split('\n')[0])
})
