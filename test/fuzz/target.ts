// What is fuzzed: a target is a property of random inputs by fast-check. Its seed is that of the run (COFFER_SEED), so
// that a failure is found again by the seed, and shrunk by fast-check.
import { test } from 'node:test'
import fc from 'fast-check'
import { seeded } from '../sim/seed.ts'

export type Target = {
  readonly name: string
  /** Inputs in a run of the suite; a longer run goes on with other seeds. */
  readonly inputs: number
  readonly property: () => fc.IAsyncProperty<unknown> | fc.IProperty<unknown>
}

/** Throws with seed, counterexample and cause where an input breaks the property. */
export async function fuzz(target: Target, seed: number): Promise<void> {
  // Read anew from the seed by fast-check, which takes 32 bits with a sign.
  const run = { seed: seed | 0, numRuns: target.inputs, endOnFailure: false }
  try {
    await fc.assert(target.property() as fc.IAsyncProperty<unknown>, run)
  } catch (error) {
    throw new Error(`${target.name}: COFFER_SEED=${seed}`, { cause: error })
  }
}

/** A test for each target, from one seed. */
export function testAll(targets: readonly Target[]): void {
  const { seed } = seeded()
  console.log(`COFFER_SEED=${seed}`)
  for (const target of targets) test(target.name, () => fuzz(target, seed))
}

/** How bytes are damaged: each step changes the bytes of the step before. */
const step = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), bit: fc.nat(7) }),
  fc.record({ kind: fc.constant('put' as const), at: fc.nat(), byte: fc.nat(255) }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat() }),
  fc.record({ kind: fc.constant('drop' as const), at: fc.nat(), length: fc.nat(40) }),
  fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), bytes: fc.uint8Array({ maxLength: 20 }) }),
  fc.record({ kind: fc.constant('repeat' as const), at: fc.nat(), length: fc.nat(40) }),
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

/** Steps of damage, one after the other. */
export const damage: fc.Arbitrary<readonly Step[]> = fc.array(step, { minLength: 1, maxLength: 4 })

export function damaged(bytes: Uint8Array, steps: readonly Step[]): Buffer<ArrayBuffer> {
  return steps.reduce((now: Buffer<ArrayBuffer>, each) => damagedOnce(now, each), Buffer.from(bytes))
}

function damagedOnce(bytes: Buffer<ArrayBuffer>, change: Step): Buffer<ArrayBuffer> {
  const at = bytes.length === 0 ? 0 : change.at % bytes.length
  const before = bytes.subarray(0, at)
  const out = Buffer.from(bytes)
  switch (change.kind) {
    case 'flip':
      if (out.length > 0) out[at] ^= 1 << change.bit
      return out
    case 'put':
      if (out.length > 0) out[at] = change.byte
      return out
    case 'cut':
      return Buffer.from(before)
    case 'drop':
      return Buffer.concat([before, bytes.subarray(at + change.length)])
    case 'insert':
      return Buffer.concat([before, change.bytes, bytes.subarray(at)])
    case 'repeat':
      return Buffer.concat([before, bytes.subarray(at, at + change.length), bytes.subarray(at)])
  }
}

/**
 * Runs a decoder. Its bytes of array buffers are bounded by those of the input, whatever the input says of its own
 * lengths. Returns undefined where the decoder threw an error that `isTyped` knows; throws any other.
 */
export function decoded<T>(
  decode: () => T,
  { length, isTyped }: { readonly length: number; readonly isTyped: (error: unknown) => boolean },
): T | undefined {
  const before = process.memoryUsage().arrayBuffers
  let result: T | undefined
  try {
    result = decode()
  } catch (error) {
    if (!isTyped(error)) throw error
  }
  const taken = process.memoryUsage().arrayBuffers - before
  if (taken > 1024 * 1024 + 16 * length) throw new Error(`${taken} bytes for an input of ${length}`)
  return result
}
