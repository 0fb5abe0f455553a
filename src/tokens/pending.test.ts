import { equal } from 'node:assert/strict'
import { test } from 'node:test'
import { PendingMappings } from './pending.ts'

type Commit = { stage: 'waiting' | 'sent' | 'accepted' | 'gone' }

test('mappings are found while their commits are there, however often the memory serves again', () => {
  const pending = new PendingMappings<Commit>()
  const words = (round: number, i: number): Uint32Array => Uint32Array.of(i << 20, i, round, 7)
  const rounds: Commit[] = []
  for (let round = 0; round < 8; round++) {
    const before = rounds.at(-2)
    if (before) before.stage = 'gone'
    pending.sweep()
    const commit: Commit = { stage: 'waiting' }
    const count = round === 5 ? 3 : 5000 // now and then few
    for (let i = 0; i < count; i++) pending.add(words(round, i), 0, commit)
    commit.stage = 'sent'
    rounds.push(commit)
    for (let i = 0; i < count; i++) equal(pending.find(words(round, i), 0), commit)
    equal(pending.find(words(round + 1, 0), 0), undefined)
    if (round > 0) equal(pending.find(words(round - 1, 1), 0), rounds[round - 1])
    if (round > 1) equal(pending.find(words(round - 2, 1), 0), undefined)
  }
  for (const commit of rounds) commit.stage = 'gone'
  equal(pending.sweep(), true)
})
