// A process that runs its share of many worlds (worlds.ts), and tells the result of each.

import { once } from 'node:events'
import { runWorld } from './whole-world.ts'
import type { Share, Told } from './worlds.ts'

const [{ first, step, end, ms, calls }] = (await once(process, 'message')) as [Share]
const began = performance.now()

/** Stacks of errors that are answers cost a tenth of the time: only a broken world is run again with them. */
const { stackTraceLimit } = Error
Error.stackTraceLimit = 0

async function run(seed: number): Promise<Told> {
  const size = calls === undefined ? {} : { calls }
  try {
    return { kind: 'kept', report: await runWorld(seed, { ...size, traced: false }) }
  } catch (error) {
    Error.stackTraceLimit = stackTraceLimit
    const again = await runWorld(seed, size).then(
      () => undefined,
      (later: unknown) => later,
    )
    return { kind: 'broken', seed, stack: describe(again ?? error) }
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? `${error.stack}` : `${error.stack}\n${describe(error.cause)}`
}

const tell = (told: Told): Promise<void> =>
  new Promise((resolve, reject) => {
    process.send?.(told, (error: Error | null) => (error ? reject(error) : resolve()))
  })

for (let seed = first; seed < end && performance.now() - began < ms; seed += step) {
  const told = await run(seed)
  await tell(told)
  if (told.kind === 'broken') break
}
process.disconnect()
