// The soak in small: a fault under load, with the last checks; and the last checks find what is not right.
import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { episode } from '../faults/episode.ts'
import { FAULTS } from '../faults/faults.ts'
import { lastChecks } from '../faults/last-checks.ts'
import { Stage } from '../faults/stage.ts'
import { Violation } from '../sim/judge.ts'
import { seeded } from '../sim/seed.ts'

const NAME = 'a network that cuts answers in half'

describe('faults of real nodes', () => {
  const random = seeded()
  let stage: Stage

  before(async () => {
    stage = await Stage.set(random)
  })
  after(() => stage[Symbol.asyncDispose]())

  test(`${NAME}: nothing is lost, and nothing wrong is answered`, async (t) => {
    t.diagnostic(`COFFER_SEED=${random.seed}`)
    const fault = FAULTS.find(({ name }) => name === NAME) ?? assert.fail(NAME)
    const { calls } = await episode(stage, fault, 0)
    assert.ok(calls > 100)
  })

  beforeEach(() => {
    const { clients, book } = stage
    clients.begin(book.judge(clients.names), clients.names, 0)
  })

  test('a value in clear in the data of a node is found', async () => {
    const file = join(stage.cluster.dir, 'n2/forgotten')
    writeFileSync(file, `${stage.marker} 1`)
    await assert.rejects(lastChecks(stage), (error: Error) => {
      return error instanceof Violation && /law 8: in clear in .*forgotten/.test(error.message)
    })
    rmSync(file)
  })

  test('a version that was acknowledged and is not there is found', async () => {
    const written = { kind: 'written', version: 7, validFrom: 1, replayed: false } as const
    const { judge, names } = stage.clients
    const call = judge.begin({ kind: 'write', owner: 'a', names: [names[0]], value: 'never', create: false })
    judge.end(call, written)
    await assert.rejects(lastChecks(stage), /law 1: an acknowledged write is lost/)
  })
})
