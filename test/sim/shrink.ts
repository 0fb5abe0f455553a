// Makes the broken world of a seed smaller: kinds of faults are left out, and calls, as long as a law is broken. What is left out
// changes what is drawn afterwards, so the smaller world is another world, and may break another law.

import { FAULT_KINDS } from './faults.ts'
import { CALLS, runWorld, type Variant } from './whole-world.ts'

export type Smaller = {
  /** Kinds of faults that are left. */
  readonly kinds: readonly string[]
  readonly calls: number
  readonly law: string
  /** The last lines of the trace. */
  readonly trace: readonly string[]
}

const FEWEST_CALLS = 5
const LINES = 20

/** Returns undefined where the world of the seed keeps all laws. */
export async function shrink(seed: number, variant: Variant = {}): Promise<Smaller | undefined> {
  const without = new Set<string>()
  let calls = CALLS
  const broken = async (change: Variant): Promise<Pick<Smaller, 'law' | 'trace'> | undefined> => {
    const trace: string[] = []
    const tell = (line: string): void => {
      trace.push(line)
      if (trace.length > LINES) trace.shift()
    }
    try {
      await runWorld(seed, { ...variant, without, calls, tell, ...change })
      return undefined
    } catch (error) {
      return { law: error instanceof Error ? error.message : String(error), trace }
    }
  }
  let found = await broken({})
  if (!found) return undefined
  for (const kind of FAULT_KINDS) {
    const still = await broken({ without: new Set([...without, kind]) })
    if (!still) continue
    without.add(kind)
    found = still
  }
  for (let fewer = calls >> 1; fewer >= FEWEST_CALLS; fewer >>= 1) {
    const still = await broken({ calls: fewer })
    if (!still) break
    calls = fewer
    found = still
  }
  return { kinds: FAULT_KINDS.filter((kind) => !without.has(kind)), calls, ...found }
}
