// One fault under load: clients before, during and after the fault; then the judge and the last checks.
import { lastChecks } from './last-checks.ts'
import type { Fault, Stage } from './stage.ts'

const CALLS = 60
/** Secrets have other names in each of so many episodes, and then the same again. */
const NAME_GROUPS = 10
const ROTATIONS = 1

/** `number`: of the episode. Throws Violation. */
export async function episode(
  stage: Stage,
  fault: Fault,
  number: number,
): Promise<{ readonly calls: number; readonly ms: number }> {
  const { clients, book, operator } = stage
  const from = performance.now()
  const names = clients.namesOf(number % NAME_GROUPS)
  clients.begin(book.judge(names), names, ROTATIONS)
  const known = clients.judge.calls.length
  clients.start()
  try {
    await stage.goOn(CALLS)
    await fault.run(stage)
    await stage.goOn(CALLS)
  } finally {
    await clients.stop()
  }
  await lastChecks(stage)
  await operator.check()
  return { calls: clients.judge.calls.length - known, ms: performance.now() - from }
}
