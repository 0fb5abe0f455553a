// Checkpoints beside the steps: what a checkpoint that cannot be kept does to the replica.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bootPut, epochPut, genesisPut, keyPut, segmentPut, type TestPut } from '../../test/sim/puts.ts'
import { systemClock } from '../clock.ts'
import { decodePuts } from '../state/puts.ts'
import { Applier } from './apply.ts'
import { MemoryStore } from './memory-store.ts'

const LEDGER = 'e'.repeat(32)

test('where the files of older checkpoints cannot be removed, the failure is told and all goes on', async () => {
  const store = new MemoryStore()
  const told: string[] = []
  const applier = await Applier.open({
    store,
    clock: systemClock,
    checkpointEvery: 1,
    checkpointFailed: ({ message }) => told.push(message),
  })
  store.checkpoints.removeOthers = () => Promise.reject(new Error('EACCES: a directory of another user'))
  const apply = (puts: readonly TestPut[]): Promise<void> => {
    const revision = applier.applied + 1
    const created = puts.map((put) => ({ ...put, created: revision }))
    return applier.apply([{ revision, ...decodePuts(revision, created) }], LEDGER)
  }
  const segment = (n: number): TestPut => segmentPut({ boot: 'a', n, owner: 'o', epoch: 1, ids: [n] })
  await apply([genesisPut(LEDGER, 'rk1'), bootPut('a', 'n1'), epochPut('o', 1), keyPut('o', 1, 'rk1')])
  await apply([segment(0)])
  await new Promise<void>((resolve) => applier.beginCheckpointIfDue(resolve))
  await apply([segment(1)])
  assert.deepEqual(told, ['EACCES: a directory of another user'])
  assert.match(applier.state.meta.checkpoint, /^[0-9a-f]{16} 1$/, 'the checkpoint is recorded')
  await apply([segment(2)])
  assert.equal(applier.tables.mappings, 3)
})
