// The bytes of entries: what encoding writes is read back, and no other form is read.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mappingsOf } from '../../test/mappings.ts'
import { AssertionError } from '../assert.ts'
import { SEAL_BYTES } from '../crypto/aead.ts'
import { LAST_TIME, SECRET_VALUE_BYTES } from '../wire.ts'
import { decodeEntry, type Entry, encodeEntry } from './entries.ts'
import { ledgerKey, parseKey } from './ledger-keys.ts'
import { decodePuts } from './puts.ts'
import { decodeSegment, encodeSegment, mappingBytes, SEGMENT_BYTES, segmentHeadBytes } from './segment.ts'

import {
  CorruptEntry,
  decodeWriter,
  encodeWriter,
  LEDGER_FORMAT,
  OtherFormat,
  type Writer,
} from './writer.ts'

const WRITER: Writer = { boot: '0123456789abcdef0123456789abcdef', commit: 2 ** 40 + 7 }
/** As crypto/keyring.ts wraps: a version byte, the id of the root key, the rest. */
const WRAPPED = Uint8Array.from([2, 4, ...Buffer.from('rk-1'), 7, 8, 9])
const ENTRIES: readonly [string, Exclude<Entry, { kind: 'segment' }>][] = [
  [
    ledgerKey.genesis,
    { kind: 'genesis', identity: 'ab'.repeat(16), format: LEDGER_FORMAT, receiptKey: WRAPPED },
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
      wrapped: WRAPPED,
      openedAt: '2026-01-01T00:00:00.000Z',
    },
  ],
  [
    ledgerKey.wrappedKey('clinic-a', 11),
    { kind: 'tombstone', owner: 'clinic-a', epoch: 11, openedAt: '2025-01-01T00:00:00.000Z' },
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
    for (const none of [0, 32, 255]) {
      const other = Uint8Array.from(bytes)
      other[0] = none
      assert.throws(() => decodeEntry(key, other), CorruptEntry)
    }
    const text = Buffer.from(bytes.subarray(25)).toString()
    for (const changed of [
      text.replace('}', ',"x":1}'),
      text.replace(/"[^"]+":/, '"y":'),
      `${text} `,
      text.replace(':', ': '),
      text.replace('{', '{"x":1,'),
      text.replace(/^\{("[^"]+":[^,}]+)/, '{$1,$1'),
      '[]',
      'null',
      text.replace(/":.*?([,}])/, '":{}$1'),
    ]) {
      const other = Buffer.concat([bytes.subarray(0, 25), Buffer.from(changed)])
      assert.throws(() => decodeEntry(key, other), CorruptEntry, changed)
    }
  }
  for (const [key, entry] of ENTRIES) {
    const beyond = Uint8Array.from(encodeEntry(entry, WRITER))
    beyond[18] = 32 // a commit of 2^53
    assert.throws(() => decodeEntry(key, beyond), CorruptEntry)
  }
  const notUtf8 = withJson({ node: '?' })
  notUtf8[notUtf8.lastIndexOf(0x3f)] = 0xff
  assert.throws(() => decodeEntry(ledgerKey.boot(WRITER.boot), notUtf8), CorruptEntry)
  assert.throws(() => decodePuts(1, [{ key: ledgerKey.epoch('a'), value: null, created: 0 }]), CorruptEntry)
  assert.deepEqual(decodePuts(1, [{ key: 'foreign', value: null, created: 0 }]), {
    decoded: [],
    removed: [],
    foreign: 1,
  })
})

/** An entry of JSON under a key. */
function withJson(json: unknown): Uint8Array {
  const text = Buffer.from(JSON.stringify(json))
  const bytes = encodeWriter(WRITER, text.length)
  bytes.set(text, bytes.length - text.length)
  return bytes
}

test('a tombstone is told from a wrapped key by its member alone, and is nothing between the two', () => {
  const key = ledgerKey.wrappedKey('a', 1)
  const opened_at = '2026-01-01T00:00:00.000Z'
  const wrapped = Buffer.from(WRAPPED).toString('base64')
  assert.equal(decodeEntry(key, withJson({ tombstone: true, opened_at }))?.kind, 'tombstone')
  assert.equal(decodeEntry(key, withJson({ wrapped, opened_at }))?.kind, 'key')
  for (const json of [
    { opened_at },
    { tombstone: true },
    { wrapped },
    { tombstone: true, wrapped, opened_at },
    { tombstone: true, opened_at, x: 1 },
    ...[false, null, 1, 'true', {}].map((tombstone) => ({ tombstone, opened_at })),
    ...['', '2026-01-01', '2026-01-01T00:00:00Z', '2026-02-30T00:00:00.000Z', 1].flatMap((bad) => [
      { tombstone: true, opened_at: bad },
      { wrapped, opened_at: bad },
    ]),
    ...['', 'AQ==', 'AgQ='].map((unlike) => ({ wrapped: unlike, opened_at })),
  ]) {
    assert.throws(() => decodeEntry(key, withJson(json)), CorruptEntry, JSON.stringify(json))
  }
})

test('another format is refused by whichever entry is read first, with a message that says what to do', () => {
  const told = (format: number, when: string): RegExp =>
    new RegExp(
      `^the ledger has format ${format}, written by ${when} version; this version reads format 2 only: go on with`,
    )
  const refused = (message: RegExp) => (error: unknown) =>
    error instanceof OtherFormat && message.test(error.message)
  for (const [key, entry] of ENTRIES) {
    const bytes = encodeEntry(entry, WRITER)
    for (const [format, when] of [
      [1, 'an earlier'],
      [3, 'a later'],
    ] as const) {
      bytes[0] = format
      assert.throws(() => decodeEntry(key, bytes), refused(told(format, when)), key)
      assert.throws(
        () => decodePuts(1, [{ key, value: bytes, created: 1 }]),
        refused(told(format, when)),
        key,
      )
      assert.throws(() => decodeWriter(bytes), refused(told(format, when)), key)
    }
  }
  const receipt_key = Buffer.from(WRAPPED).toString('base64')
  const genesis = (format: number): Uint8Array => withJson({ identity: 'ab'.repeat(16), format, receipt_key })
  assert.equal(decodeEntry('genesis', genesis(2))?.kind, 'genesis')
  assert.throws(() => decodeEntry('genesis', genesis(1)), refused(told(1, 'an earlier')))
  assert.throws(() => decodeEntry('genesis', genesis(3)), refused(told(3, 'a later')))
  // Whatever else a later genesis holds.
  assert.throws(() => decodeEntry('genesis', withJson({ format: 3, new: 1 })), refused(told(3, 'a later')))
})

test('the largest entries of each kind fit into the bound of their kind, and a larger one is a fault of ours', () => {
  const id = 'x'.repeat(64)
  const wrapped = new Uint8Array(126)
  const openedAt = new Date(LAST_TIME).toISOString()
  const receipt = {
    owner: id,
    hash: 'ab'.repeat(32),
    mac: new Uint8Array(32),
    at: 0,
    version: 1,
    validFrom: 0,
  }
  const version = {
    kind: 'version',
    ...{ owner: id, name: 'n'.repeat(256), version: 1, validFrom: LAST_TIME, keyId: id },
    ...{ requestId: 'r'.repeat(128), wrapped, sealed: new Uint8Array(SEAL_BYTES + SECRET_VALUE_BYTES) },
  } as const
  const node = { kind: 'node', node: id, fields: 'ab'.repeat(32), active: id } as const
  for (const entry of [
    { kind: 'genesis', identity: 'ab'.repeat(16), format: LEDGER_FORMAT, receiptKey: wrapped },
    { kind: 'boot', boot: WRITER.boot, node: id },
    { ...node, rootKeys: Array<string>(1000).fill(id) },
    { kind: 'epoch', owner: id, active: 9_999_999_999 },
    { kind: 'key', owner: id, epoch: 9_999_999_999, wrapped, openedAt },
    { kind: 'tombstone', owner: id, epoch: 9_999_999_999, openedAt },
    { kind: 'receipt', ...receipt },
    version,
  ] as const)
    assert.ok(encodeEntry(entry, WRITER).length > 0, entry.kind)
  for (const entry of [
    { ...node, rootKeys: Array<string>(1010).fill(id) },
    { ...version, sealed: new Uint8Array(2 * SECRET_VALUE_BYTES) },
  ])
    assert.throws(() => encodeEntry(entry, WRITER), AssertionError)
  const most = Math.floor((SEGMENT_BYTES - segmentHeadBytes('a')) / mappingBytes(1))
  const head = { owner: 'a', epoch: 1, writer: WRITER }
  const list = mappingsOf(Array<number>(most + 1).fill(1))
  assert.ok(encodeSegment(head, [{ mappings: list, from: 0, to: most }]).length <= SEGMENT_BYTES)
  assert.throws(() => encodeSegment(head, [{ mappings: list, from: 0, to: most + 1 }]), AssertionError)
})

test('a segment holds the runs it was made of, in the size that was foretold', () => {
  const list = mappingsOf([2, 1, 127, 128, 4096, 3])
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
    { mappings: mappingsOf([1, 200, 2]), from: 0, to: 3 },
  ])
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(
      () => decodeSegment(bytes.subarray(0, length), WRITER.boot, 1),
      CorruptEntry,
      String(length),
    )
  }
  assert.throws(() => decodeSegment(Buffer.concat([bytes, Buffer.of(0)]), WRITER.boot, 1), CorruptEntry)
  for (const format of [0, 2, 255]) {
    const other = Uint8Array.from(bytes)
    other[25] = format
    assert.throws(() => decodeSegment(other, WRITER.boot, 1), CorruptEntry, `format ${format}`)
  }
})
