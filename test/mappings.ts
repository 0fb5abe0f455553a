// Mappings for tests of segments.
import type { Mappings } from '../src/state/segment.ts'

/** Mappings of the sizes, with bytes that tell their places. */
export function mappingsOf(sizes: readonly number[]): Mappings {
  const offset = new Uint32Array(sizes.length)
  let units = 0
  for (const [i, size] of sizes.entries()) {
    offset[i] = units
    units += size
  }
  return {
    count: sizes.length,
    bodies: Uint8Array.from({ length: sizes.length * 16 }, (_, i) => i * 31),
    sizes: Uint32Array.from(sizes),
    offset,
    bytes: Uint8Array.from({ length: units * 8 }, (_, i) => i * 7),
  }
}
