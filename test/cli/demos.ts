// For tests of `coffer demo`.
import assert from 'node:assert/strict'

type Whole = { readonly chapters: number; readonly claims: number }

/** A demo that ended well: all its chapters in order, each claim with its tick, and the verdict. */
export function assertWhole(told: string, { chapters, claims }: Whole): void {
  const numbers = [...told.matchAll(/^(\d+)\. /gm)].map(([, number]) => Number(number))
  assert.deepEqual(
    numbers,
    Array.from({ length: chapters }, (_, i) => i + 1),
  )
  assert.equal([...told.matchAll(/^ {2}✓ /gm)].length, claims, told)
  assert.match(told, new RegExp(`^✓ ${claims} claims checked, all true\\.`, 'm'))
  assert.doesNotMatch(told, /cof_|\u001b/, 'no key, and no colour where there is no terminal')
}
