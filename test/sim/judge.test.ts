// What the judge of worlds must not take: each answer below contradicts what was answered before.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Answer, type Ask, Judge, Violation } from './judge.ts'

const rotate: Ask = { kind: 'rotate', owner: 'o', to: 2 }
const epochs: Ask = { kind: 'epochs', owner: 'o' }
const active = (epoch: number): Answer => ({ kind: 'active', epoch })
const rotated = (value: boolean): Answer => ({ kind: 'rotated', epoch: 2, rotated: value })
const refused = (slug: string): Answer => ({ kind: 'refused', slug })

/** Calls one after the other. */
const calls = (list: readonly (readonly [Ask, Answer])[]) => (): void => {
  const judge = new Judge()
  for (const [ask, answer] of list) judge.end(judge.begin(ask), answer)
}

test('an epoch is active only where a rotation may have had an effect', () => {
  for (const told of [{ kind: 'not-applied' }, refused('forbidden'), refused('quota-exceeded')] as const) {
    assert.throws(
      calls([
        [rotate, told],
        [epochs, active(2)],
      ]),
      Violation,
    )
    calls([
      [rotate, told],
      [epochs, active(1)],
      [rotate, { kind: 'unknown' }],
      [epochs, active(2)],
    ])()
  }
})

test('a rotation that was seen may not be told as one that had no effect', () => {
  const judge = new Judge()
  const call = judge.begin(rotate)
  judge.end(judge.begin(epochs), active(2))
  assert.throws(() => judge.end(call, { kind: 'not-applied' }), Violation)
})

test('a rotation that found its epoch open needs another one that has opened it', () => {
  assert.throws(calls([[rotate, rotated(false)]]), Violation)
  calls([
    [rotate, rotated(true)],
    [rotate, rotated(false)],
    [epochs, active(2)],
  ])()
})

test('what stores nothing has no quota', () => {
  const detokenize: Ask = { kind: 'detokenize', owner: 'o', tokens: [] }
  assert.throws(calls([[detokenize, refused('quota-exceeded')]]), Violation)
  calls([[{ kind: 'tokenize', owner: 'o', values: ['v'] }, refused('quota-exceeded')]])()
})
