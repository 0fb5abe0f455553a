// An applier for tests: a checkpoint that fails is a failure of the test.
import { systemClock } from '../../src/clock.ts'
import { Applier } from '../../src/replica/apply.ts'
import type { Store } from '../../src/replica/store.ts'

/** `checkpointEvery`: new mappings that are worth a checkpoint. Throws DamagedReplica. */
export function openApplier(store: Store, checkpointEvery?: number): Promise<Applier> {
  return Applier.open({
    store,
    clock: systemClock,
    checkpointEvery,
    checkpointFailed: (error) => {
      throw error
    },
  })
}
