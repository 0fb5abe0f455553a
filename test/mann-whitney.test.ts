// The statistics of `npm run timing`, against values computed by SciPy (mannwhitneyu, method asymptotic).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compare } from '../bench/mann-whitney.ts'
import { seeded } from './sim/seed.ts'

test('shares and probabilities are those of SciPy, with ties and without', () => {
  const near = (found: number, expected: number): void =>
    assert.ok(Math.abs(found - expected) < 1e-6, `${found}`)
  const plain = compare(Float64Array.of(19, 22, 16, 29, 24), Float64Array.of(20, 11, 17, 12))
  near(plain.share, 17 / 20)
  near(plain.p, 0.11134688653)
  const tied = compare(Float64Array.of(1, 2, 2, 3, 5), Float64Array.of(2, 3, 3, 4, 6, 6))
  near(tied.share, 7 / 30)
  near(tied.p, 0.16205161437)
  assert.deepEqual(compare(Float64Array.of(1, 1), Float64Array.of(1, 1, 1)), { share: 0.5, p: 1 })
})

test('one distribution is not told apart, a shift of a tenth of its width is', () => {
  const random = seeded(1)
  const list = (shift: number): Float64Array =>
    Float64Array.from({ length: 10_000 }, () => random.below(1e6) / 1e6 + shift)
  assert.ok(compare(list(0), list(0)).p > 0.001)
  assert.ok(compare(list(0.1), list(0)).p < 1e-9)
})
