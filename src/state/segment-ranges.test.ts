import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Ahead, aheadAfter, isAhead } from './segment-ranges.ts'

const key = (n: number): string => `seg/a/${String(n).padStart(10, '0')}`

test('what a snapshot has ahead is one part, however many parts the snapshot came in', () => {
  let ahead: readonly Ahead[] = []
  for (let n = 1; n <= 1000; n++) ahead = aheadAfter(ahead, { to: key(n), revision: 7 })
  assert.deepEqual(ahead, [{ to: key(1000), revision: 7 }])
  assert.deepEqual(
    [isAhead(ahead, key(1000), 7), isAhead(ahead, key(1001), 7), isAhead(ahead, key(5), 8)],
    [true, false, false],
  )
})

test('a later snapshot that came less far leaves what the earlier one has beyond', () => {
  const ahead = aheadAfter([{ to: key(9), revision: 7 }], { to: key(4), revision: 8 })
  assert.deepEqual(ahead, [
    { to: key(9), revision: 7 },
    { to: key(4), revision: 8 },
  ])
  assert.deepEqual(
    [isAhead(ahead, key(4), 8), isAhead(ahead, key(5), 8), isAhead(ahead, key(5), 7)],
    [true, false, true],
  )
})
