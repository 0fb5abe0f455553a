import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Digest } from './digest.ts'
import type { TokenTables } from './effects.ts'
import { decodeEntry, type Entry, encodeEntry } from './entries.ts'
import { ledgerKey, parseKey } from './ledger-keys.ts'
import { decodePuts } from './puts.ts'
import { decodeSegment, encodeSegment, type Mappings, mappingBytes, segmentHeadBytes } from './segment.ts'
import { State } from './state.ts'
import { step } from './step.ts'
import { CorruptEntry, decodeWriter, type Writer } from './writer.ts'

const WRITER: Writer = { boot: '0123456789abcdef0123456789abcdef', commit: 2 ** 40 + 7 }
const ENTRIES: readonly [string, Exclude<Entry, { kind: 'segment' }>][] = [
  [
    ledgerKey.genesis,
    { kind: 'genesis', identity: 'ab'.repeat(16), format: 1, receiptKey: Uint8Array.of(1, 2, 3) },
  ],
  [ledgerKey.boot(WRITER.boot), { kind: 'boot', boot: WRITER.boot, node: 'n1' }],
  [
    ledgerKey.node('n1'),
    { kind: 'node', node: 'n1', fields: 'ab'.repeat(32), rootKeys: ['rk-1', 'rk-2'], active: 'rk-2' },
  ],
  [ledgerKey.epoch('clinic-a'), { kind: 'epoch', owner: 'clinic-a', active: 12 }],
  [
    ledgerKey.wrappedKey('clinic-a', 12),
    {
      kind: 'key',
      owner: 'clinic-a',
      epoch: 12,
      wrapped: Uint8Array.of(9, 8),
      openedAt: '2026-01-01T00:00:00.000Z',
    },
  ],
]

test('keys are parsed back, and foreign ones are none of ours', () => {
  assert.deepEqual(parseKey(ledgerKey.wrappedKey('a', 7)), { kind: 'key', owner: 'a', epoch: 7 })
  assert.deepEqual(parseKey(ledgerKey.segment(WRITER.boot, 3)), { kind: 'segment', boot: WRITER.boot, n: 3 })
  for (const key of [
    '',
    'genesis/',
    'epoch/',
    'epoch/A',
    'epoch/a/b',
    'key/a',
    'key/a@1',
    'seg/x/0000000001',
    'other',
    `boot/${WRITER.boot}0`,
  ]) {
    assert.equal(parseKey(key), undefined, key)
  }
})

test('entries are decoded to what was encoded, with their writer', () => {
  for (const [key, entry] of ENTRIES) {
    const bytes = encodeEntry(entry, WRITER)
    assert.deepEqual(decodeEntry(key, bytes), entry)
    assert.deepEqual(decodeWriter(bytes), WRITER)
  }
})

test('what encoding never writes is refused', () => {
  for (const [key, entry] of ENTRIES) {
    const bytes = encodeEntry(entry, WRITER)
    for (const length of [0, 10, 24, 25, bytes.length - 1]) {
      assert.throws(() => decodeEntry(key, bytes.subarray(0, length)), CorruptEntry)
    }
    const version = Uint8Array.from(bytes)
    version[0] = 2
    assert.throws(() => decodeEntry(key, version), CorruptEntry)
    const text = Buffer.from(bytes.subarray(25)).toString()
    for (const changed of [
      text.replace('}', ',"x":1}'),
      text.replace(/"[^"]+":/, '"y":'),
      '[]',
      'null',
      text.replace(/":.*?([,}])/, '":{}$1'),
    ]) {
      const other = Buffer.concat([bytes.subarray(0, 25), Buffer.from(changed)])
      assert.throws(() => decodeEntry(key, other), CorruptEntry, changed)
    }
  }
  assert.throws(() => decodePuts(1, [{ key: ledgerKey.epoch('a'), value: null, created: 0 }]), CorruptEntry)
  assert.deepEqual(decodePuts(1, [{ key: 'foreign', value: null, created: 0 }]), {
    decoded: [],
    removed: [],
    foreign: 1,
  })
})

const NO_TABLES: TokenTables = {
  add: () => assert.fail('there are no mappings'),
  insert: () => assert.fail('there are no mappings'),
  drop: () => assert.fail('there are no mappings'),
}

function mappings(sizes: number[]): Mappings {
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

test('a segment holds the runs it was made of, in the size that was foretold', () => {
  const list = mappings([2, 1, 127, 128, 4096, 3])
  const bytes = encodeSegment({ owner: 'clinic-a', epoch: 3, writer: WRITER }, [
    { mappings: list, from: 1, to: 5 },
    { mappings: list, from: 0, to: 1 },
  ])
  assert.equal(
    bytes.length,
    segmentHeadBytes('clinic-a') + [1, 127, 128, 4096, 2].reduce((sum, size) => sum + mappingBytes(size), 0),
  )
  const segment = decodeSegment(bytes, WRITER.boot, 7)
  assert.deepEqual([segment.owner, segment.epoch, segment.count], ['clinic-a', 3, 5])
  assert.deepEqual([...segment.sizes], [1, 127, 128, 4096, 2])
  assert.deepEqual([...segment.bodies.subarray(64)], [...list.bodies.subarray(0, 16)])
  assert.deepEqual([...segment.sealed.subarray(0, 8)], [...list.bytes.subarray(16, 24)])
  assert.deepEqual([...segment.sealed.subarray(-16)], [...list.bytes.subarray(0, 16)])
})

test('a segment that is cut, or longer than its values, is refused', () => {
  const bytes = encodeSegment({ owner: 'a', epoch: 1, writer: WRITER }, [
    { mappings: mappings([1, 200, 2]), from: 0, to: 3 },
  ])
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(
      () => decodeSegment(bytes.subarray(0, length), WRITER.boot, 1),
      CorruptEntry,
      String(length),
    )
  }
  assert.throws(() => decodeSegment(Buffer.concat([bytes, Buffer.of(0)]), WRITER.boot, 1), CorruptEntry)
})

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
