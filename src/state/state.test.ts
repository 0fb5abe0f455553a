import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Digest } from './digest.ts'
import type { TokenTables } from './effects.ts'
import { type Entry, encodeEntry } from './entries.ts'
import { ledgerKey } from './ledger-keys.ts'
import { State } from './state.ts'
import { step } from './step.ts'
import type { Writer } from './writer.ts'

const WRITER: Writer = { boot: '0123456789abcdef0123456789abcdef', commit: 2 ** 40 + 7 }

const NO_TABLES: TokenTables = {
  add: () => assert.fail('there are no mappings'),
  insert: () => assert.fail('there are no mappings'),
  drop: () => assert.fail('there are no mappings'),
}

test('the state is a function of the live entries, not of their order', () => {
  const puts: [number, string, Exclude<Entry, { kind: 'segment' }>][] = []
  for (const owner of ['a', 'b']) {
    for (let epoch = 1; epoch <= 3; epoch++) {
      puts.push([puts.length + 1, ledgerKey.epoch(owner), { kind: 'epoch', owner, active: epoch }])
      const openedAt = `2026-01-0${epoch}T00:00:00.000Z`
      puts.push([
        puts.length + 1,
        ledgerKey.wrappedKey(owner, epoch),
        { kind: 'key', owner, epoch, wrapped: Uint8Array.of(epoch), openedAt },
      ])
    }
  }
  const digestOf = (list: typeof puts): string => {
    const state = new State()
    for (const [revision, key, entry] of list) {
      const put = { revision, created: revision, key, entry, value: encodeEntry(entry, WRITER) }
      const part = { revision: 20, decoded: [put], removed: [], snapshot: 'part' } as const
      const { effects } = step(state, { revisions: [part], ledger: 'l' })
      for (const effect of effects) state.apply(effect, NO_TABLES)
    }
    assert.equal(state.owners.get('b')?.active, 3)
    return state.digest()
  }
  const digest = digestOf(puts)
  assert.equal(digestOf([...puts].reverse()), digest)
  assert.equal(digestOf([...puts.slice(6), ...puts.slice(0, 6)]), digest)
  assert.equal(
    digestOf(puts.filter(([, key], i) => !key.startsWith('epoch/') || i === 4 || i === 10)),
    digest,
  )
  assert.notEqual(digestOf(puts.filter((_, i) => i !== 1)), digest)
})

test('the digest is of the mappings of every owner and epoch, not of their order', () => {
  const digestOf = (
    ...added: readonly [id: number, owner: string, epoch: number, words: number[]][]
  ): string => {
    const digest = new Digest()
    for (const [id, owner, epoch, words] of added) {
      digest.addTable(id, owner, epoch)
      for (const word of words) digest.addMappings(id, { count: 1, sum: Float64Array.of(word, 0, 0, 7) })
    }
    return digest.value()
  }
  const one = digestOf([0, 'a', 1, [5, 6]], [1, 'b', 1, [7]])
  assert.equal(digestOf([0, 'b', 1, [7]], [1, 'a', 1, [6, 5]]), one)
  assert.equal(
    digestOf([0, 'a', 1, [5, 6]], [1, 'b', 1, [7]], [2, 'c', 1, []]),
    one,
    'an empty table is nothing',
  )
  for (const other of [
    digestOf([0, 'a', 1, [5, 6]]),
    digestOf([0, 'a', 1, [5, 7]], [1, 'b', 1, [7]]),
    digestOf([0, 'a', 2, [5, 6]], [1, 'b', 1, [7]]),
    digestOf([0, 'c', 1, [5, 6]], [1, 'b', 1, [7]]),
    digestOf([0, 'a', 1, [11]], [1, 'b', 1, [7]]),
  ])
    assert.notEqual(other, one)
  const digest = new Digest()
  digest.addTable(0, 'a', 1)
  const empty = digest.value()
  digest.addMappings(0, { count: 1, sum: Float64Array.of(1, 2, 3, 4) })
  assert.notEqual(digest.value(), empty)
  digest.dropTable(0)
  assert.equal(digest.value(), empty)
})

test('a digest costs a hash for each table that has changed, however many tables there are', () => {
  const digest = new Digest()
  const one = { count: 1, sum: Float64Array.of(1, 2, 3, 4) }
  for (let id = 0; id < 1000; id++) {
    digest.addTable(id, `o${id}`, 1)
    digest.addMappings(id, one)
  }
  assert.equal(digest.settle(999), true)
  const before = digest.value()
  for (const id of [7, 8]) digest.addMappings(id, one)
  assert.equal(digest.settle(1), true)
  assert.equal(digest.settle(1), false)
  assert.notEqual(digest.value(), before)
})

test('the bytes of an owner count before the revision is applied', () => {
  const [owner, entry] = ['a', { kind: 'epoch', owner: 'a', active: 1 }] as const
  const value = encodeEntry(entry, WRITER)
  const put = { revision: 1, created: 1, key: ledgerKey.epoch(owner), entry, value }
  const first = { revision: 1, decoded: [put], removed: [] }
  const { effects } = step(new State(), { revisions: [first], ledger: 'l' })
  const kinds = effects.map(({ kind }) => kind)
  assert.ok(kinds.indexOf('bytes') < kinds.indexOf('applied'), kinds.join(' '))
  assert.ok(kinds.includes('bytes'))
})
