// The test of Mann and Whitney: whether values of one list tend to be larger than those of another, whatever their
// distribution.

/**
 * `share`: how often a value of `a` is above a value of `b`, ties half: 0.5 where nothing tells the lists apart.
 * `p`: how likely a share as far from 0.5 is by chance, two-sided, by the normal approximation with ties.
 */
export type Comparison = { readonly share: number; readonly p: number }

export function compare(a: Float64Array, b: Float64Array): Comparison {
  const all = [
    ...Array.from(a, (value) => ({ value, isA: true })),
    ...Array.from(b, (value) => ({ value, isA: false })),
  ]
  all.sort((x, y) => x.value - y.value)
  let ranks = 0
  let ties = 0
  for (let from = 0; from < all.length; ) {
    let to = from
    let ofA = 0
    while (to < all.length && all[to].value === all[from].value) ofA += Number(all[to++].isA)
    ranks += (ofA * (from + 1 + to)) / 2
    ties += (to - from) ** 3 - (to - from)
    from = to
  }
  const [n, m, sum] = [a.length, b.length, all.length]
  const u = ranks - (n * (n + 1)) / 2
  const variance = ((n * m) / 12) * (sum + 1 - ties / (sum * (sum - 1)))
  const distance = Math.max(0, Math.abs(u - (n * m) / 2) - 0.5)
  return { share: u / (n * m), p: variance === 0 ? 1 : twoSided(distance / Math.sqrt(variance)) }
}

/** Of the normal distribution, by Abramowitz and Stegun 7.1.26: absolute error below 2e-7. */
function twoSided(z: number): number {
  const x = z / Math.SQRT2
  const t = 1 / (1 + 0.3275911 * x)
  const polynomial = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592]
  return polynomial.reduce((value, factor) => (value + factor) * t, 0) * Math.exp(-x * x)
}
