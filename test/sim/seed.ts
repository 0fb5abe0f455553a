// Randomised tests print their seed, and take it back from COFFER_SEED.
export type Random = {
  readonly seed: number
  below(n: number): number
  pick<T>(list: readonly T[]): T
  chance(p: number): boolean
}

/** mulberry32: small, and the same everywhere. */
export function seeded(
  seed = Number(process.env.COFFER_SEED ?? Math.floor(Math.random() * 2 ** 31)),
): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (n: number): number => Math.floor(next() * n)
  return { seed, below, pick: (list) => list[below(list.length)], chance: (p) => next() < p }
}

export function bytesOf(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = random.below(256)
  return bytes
}
