// The bytes of the ledger's entries: whatever is decoded is encoded to the same bytes, and all else is refused by a
// typed error.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { systemClock } from '../../src/clock.ts'
import { SEAL_BYTES } from '../../src/crypto/aead.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { decodeEntry, type Entry, encodeEntry } from '../../src/state/entries.ts'
import { type LedgerKey, ledgerKey, parseKey } from '../../src/state/ledger-keys.ts'
import { decodeSegment, encodeSegment, type Segment } from '../../src/state/segment.ts'
import {
  CorruptEntry,
  decodeWriter,
  LEDGER_FORMAT,
  OtherFormat,
  type Writer,
} from '../../src/state/writer.ts'
import { LAST_TIME } from '../../src/wire.ts'
import { mappingsOf } from '../mappings.ts'
import { damage, damaged, decoded, type Target } from './target.ts'
import { id, secretName } from './texts.ts'

const hex = (bytes: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((list) => Buffer.from(list).toString('hex'))
const writer: fc.Arbitrary<Writer> = fc.record({ boot: hex(16), commit: fc.maxSafeNat() })
const number = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 9_999_999_999 }))
const time = fc.integer({ min: 0, max: LAST_TIME })
const openedAt = fc.date({ noInvalidDate: true }).map((date) => date.toISOString())
const keyring = Keyring.create(systemClock)
const wrapped = fc
  .uint8Array({ minLength: 16, maxLength: 48 })
  .map((bytes) => keyring.wrap(bytes, ['x'], systemClock))
const kind = <K extends string>(name: K): fc.Arbitrary<K> => fc.constant(name)

type Plain = Exclude<Entry, { kind: 'segment' }>
const plain: fc.Arbitrary<Plain> = fc.oneof(
  fc.record({
    kind: kind('genesis'),
    identity: hex(16),
    format: fc.constant(LEDGER_FORMAT),
    receiptKey: wrapped,
  }),
  fc.record({ kind: kind('boot'), boot: hex(16), node: id }),
  fc
    .record({ node: id, fields: hex(32), rootKeys: fc.uniqueArray(id, { minLength: 1, maxLength: 5 }) })
    .map((entry) => ({ kind: 'node' as const, ...entry, active: entry.rootKeys[0] })),
  fc.record({ kind: kind('epoch'), owner: id, active: number }),
  fc.record({ kind: kind('key'), owner: id, epoch: number, wrapped, openedAt }),
  fc.record({ kind: kind('tombstone'), owner: id, epoch: number, openedAt }),
  fc.record({
    kind: kind('version'),
    owner: id,
    name: secretName,
    version: number,
    validFrom: time,
    keyId: id,
    requestId: fc.stringMatching(/^[A-Za-z0-9._:-]{1,128}$/),
    wrapped,
    sealed: fc.uint8Array({ minLength: SEAL_BYTES, maxLength: 300 }),
  }),
  fc.record({
    kind: kind('receipt'),
    owner: id,
    hash: hex(32),
    mac: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    at: time,
    version: number,
    validFrom: time,
  }),
)

const keyOf = (entry: Plain): string =>
  keyFrom(entry.kind === 'tombstone' ? { ...entry, kind: 'key' } : entry)

type Packed = { readonly owner: string; readonly epoch: number; readonly sizes: readonly number[] }
export const packed: fc.Arbitrary<Packed> = fc.record({
  owner: id,
  epoch: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  sizes: fc.array(fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 1, max: 5 }) }, sizeOfAny()), {
    minLength: 1,
    maxLength: 70,
  }),
})

/** Units of a sealed value whose LEB128 has one, two or three bytes. */
function sizeOfAny(): fc.Arbitrary<number> {
  return fc.constantFrom(127, 128, 500)
}

function encodedSegment({ owner, epoch, sizes }: Packed, by: Writer): Uint8Array {
  const mappings = mappingsOf(sizes)
  return encodeSegment({ owner, epoch, writer: by }, [{ mappings, from: 0, to: sizes.length }])
}

/** The segment as a node reads it. */
export function segmentOf(list: Packed): Segment {
  const by = { boot: '0'.repeat(32), commit: 1 }
  return decodeSegment(encodedSegment(list, by), by.boot, 1)
}

/** The bytes of a decoded segment. */
function encodedAgain(segment: Segment, by: Writer): Uint8Array {
  const offset = new Uint32Array(segment.count)
  for (let i = 1; i < segment.count; i++) offset[i] = offset[i - 1] + segment.sizes[i - 1]
  const { owner, epoch, count, bodies, sizes, sealed } = segment
  const mappings = { count, bodies, sizes, offset, bytes: sealed }
  return encodeSegment({ owner, epoch, writer: by }, [{ mappings, from: 0, to: count }])
}

const isTyped = (error: unknown): boolean => error instanceof CorruptEntry || error instanceof OtherFormat

/** Refused by a typed error, or of the same bytes when encoded again. */
function decodesAsWritten(key: string, bytes: Buffer): void {
  const entry = decoded(() => decodeEntry(key, bytes), { length: bytes.length, isTyped })
  if (entry === undefined) return
  const by = decodeWriter(bytes)
  const again = entry.kind === 'segment' ? encodedAgain(entry, by) : encodeEntry(entry, by)
  assert.deepEqual(Buffer.from(again), bytes)
}

const SEGMENT_KEY = ledgerKey.segment('0'.repeat(32), 1)

function keyFrom(name: LedgerKey): string {
  switch (name.kind) {
    case 'genesis':
      return ledgerKey.genesis
    case 'boot':
      return ledgerKey.boot(name.boot)
    case 'node':
      return ledgerKey.node(name.node)
    case 'epoch':
      return ledgerKey.epoch(name.owner)
    case 'key':
      return ledgerKey.wrappedKey(name.owner, name.epoch)
    case 'segment':
      return ledgerKey.segment(name.boot, name.n)
    case 'version':
      return ledgerKey.version(name.owner, name.name, name.version)
    case 'receipt':
      return ledgerKey.receipt(name.owner, name.hash)
  }
}

export const CODECS: readonly Target[] = [
  {
    name: 'entries: decoded to what was encoded',
    inputs: 1000,
    property: () =>
      fc.property(plain, writer, (entry, by) => {
        const bytes = encodeEntry(entry, by)
        const again = decodeEntry(keyOf(entry), bytes)
        assert.ok(again !== undefined && again.kind !== 'segment')
        assert.deepEqual(again.kind, entry.kind)
        assert.deepEqual(Buffer.from(encodeEntry(again, by)), Buffer.from(bytes))
        assert.deepEqual(plainOf(again), plainOf(entry))
      }),
  },
  {
    name: 'entries: damaged, or under the key of another: refused, or as written',
    inputs: 6000,
    property: () =>
      fc.property(plain, plain, writer, fc.option(damage, { nil: undefined }), (entry, other, by, steps) => {
        const bytes = encodeEntry(entry, by)
        decodesAsWritten(keyOf(steps === undefined ? other : entry), damaged(bytes, steps ?? []))
      }),
  },
  {
    name: 'entries: any bytes behind a header, under any key: refused, or as written',
    inputs: 4000,
    property: () =>
      fc.property(plain, writer, fc.uint8Array({ maxLength: 200 }), fc.string(), (entry, by, rest, text) => {
        const header = encodeEntry({ kind: 'epoch', owner: 'o', active: 1 }, by).subarray(0, 25)
        decodesAsWritten(keyOf(entry), Buffer.concat([header, rest]))
        decodesAsWritten(SEGMENT_KEY, Buffer.concat([header, Buffer.of(1, 0, 0, 0, 1), rest]))
        decodesAsWritten(
          keyOf(entry),
          Buffer.concat([header, Buffer.from(`{"node":${JSON.stringify(text)}}`)]),
        )
      }),
  },
  {
    name: 'segments: decoded to what was packed; damaged: refused, or as written',
    inputs: 4000,
    property: () =>
      fc.property(packed, writer, damage, (list, by, steps) => {
        const bytes = encodedSegment(list, by)
        const segment = decodeSegment(bytes, by.boot, 1)
        assert.deepEqual(
          [segment.owner, segment.epoch, [...segment.sizes]],
          [list.owner, list.epoch, list.sizes],
        )
        assert.deepEqual(Buffer.from(encodedAgain(segment, by)), Buffer.from(bytes))
        decodesAsWritten(SEGMENT_KEY, damaged(bytes, steps))
      }),
  },
  {
    name: 'keys of the ledger: made of what they are parsed to, damaged or not',
    inputs: 10_000,
    property: () =>
      fc.property(plain, damage, (entry, steps) => {
        const key = keyOf(entry)
        assert.equal(parseKey(key)?.kind, entry.kind === 'tombstone' ? 'key' : entry.kind)
        const other = damaged(Buffer.from(key), steps).toString('latin1')
        const name = parseKey(other)
        if (name !== undefined) assert.equal(keyFrom(name), other)
      }),
  },
]

/** With bytes in hex: a Buffer and a Uint8Array of the same bytes are equal. */
function plainOf(entry: Plain): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(entry).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    ]),
  )
}
