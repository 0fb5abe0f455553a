// Makes the broken world of a seed smaller: all faults are left out, else some kinds, and calls, as long as a law is broken. What
// is left out changes what is drawn afterwards, so the smaller world is another world, and may break another law.

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

/** All are tried: fewer calls may break a law where more do not. */
const NUMBERS_OF_CALLS = [0.05, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8].map((part) => Math.floor(CALLS * part))
const ALL_FAULTS: ReadonlySet<string> = new Set(FAULT_KINDS)
const LINES = 20

/** Returns undefined where the world of the seed keeps all laws. */
export async function shrink(seed: number, variant: Variant = {}): Promise<Smaller | undefined> {
  const without = new Set<string>()
  let calls = variant.calls ?? CALLS
  const fewerCalls = (): number[] => NUMBERS_OF_CALLS.filter((number) => number < calls)
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
  for (const fewer of fewerCalls()) {
    const still = await broken({ without: ALL_FAULTS, calls: fewer })
    if (still) return { kinds: [], calls: fewer, ...still }
  }
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false
    for (const kind of FAULT_KINDS.filter((each) => !without.has(each))) {
      const still = await broken({ without: new Set([...without, kind]) })
      if (!still) continue
      without.add(kind)
      found = still
      isSmaller = true
    }
    for (const fewer of fewerCalls()) {
      const still = await broken({ calls: fewer })
      if (!still) continue
      calls = fewer
      found = still
      isSmaller = true
      break
    }
  }
  return { kinds: FAULT_KINDS.filter((kind) => !without.has(kind)), calls, ...found }
}
