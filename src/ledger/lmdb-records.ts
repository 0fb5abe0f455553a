// The embedded ledger's records: a revision with its puts in `log`, the revision of a key's latest put in
// `keys`.
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import { FatalError } from '../errors.ts'
import type { LedgerPut, Revision } from './ledger.ts'

/** A record does not match its checksum, or the file is not a ledger. */
export class DamagedLedger extends FatalError {
  override readonly name = 'DamagedLedger'
}

/** A key's latest put; `removed`: the put was null. */
export type Latest = { readonly revision: number; readonly removed: boolean }

/** A revision as stored; `before`: each key's previous revision, 0 where the key is new. */
export type Stored = Revision & { readonly before: readonly number[] }

/**
 * The value that the revision put under the key. Throws DamagedLedger where the revision did not put the key.
 */
export function valueIn({ revision, puts }: Stored, key: string): Uint8Array | null {
  const put = puts.find((each) => each.key === key)
  if (!put) throw new DamagedLedger(`revision ${revision} does not hold ${key}`)
  return put.value
}

// Record: crc32 u32 · puts u16 · for each: key length u16, revision before f64, value length u32 (2^32 - 1:
// removed), key, value. The checksum covers the revision number and everything after the checksum.
const REMOVED = 0xffff_ffff

export function encodeRecord(
  revision: number,
  puts: readonly LedgerPut[],
  before: readonly number[],
): Uint8Array {
  assert(before.length === puts.length, 'a record has the previous revision of each of its keys')
  const size = puts.reduce((sum, put) => sum + 14 + put.key.length + (put.value?.length ?? 0), 6)
  const bytes = Buffer.allocUnsafe(size)
  bytes.writeUInt16BE(puts.length, 4)
  let at = 6
  for (const [i, { key, value }] of puts.entries()) {
    bytes.writeUInt16BE(key.length, at)
    bytes.writeDoubleBE(before[i], at + 2)
    bytes.writeUInt32BE(value === null ? REMOVED : value.length, at + 10)
    bytes.write(key, at + 14, 'latin1')
    at += 14 + key.length
    if (value === null) continue
    bytes.set(value, at)
    at += value.length
  }
  bytes.writeUInt32BE(crc32(bytes.subarray(4), crc32(String(revision))), 0)
  return bytes
}

export function decodeRecord(revision: number, source: Uint8Array): Stored {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length)
  if (bytes.length < 6 || bytes.readUInt32BE(0) !== crc32(bytes.subarray(4), crc32(String(revision)))) {
    throw new DamagedLedger(`revision ${revision} does not match its checksum`)
  }
  const puts: LedgerPut[] = []
  const before: number[] = []
  let at = 6
  for (let i = bytes.readUInt16BE(4); i > 0; i--) {
    const keyLength = bytes.readUInt16BE(at)
    before.push(bytes.readDoubleBE(at + 2))
    const length = bytes.readUInt32BE(at + 10)
    const key = bytes.toString('latin1', at + 14, at + 14 + keyLength)
    at += 14 + keyLength
    puts.push({ key, value: length === REMOVED ? null : bytes.subarray(at, at + length) })
    if (length !== REMOVED) at += length
  }
  return { revision, puts, before }
}

export function encodeLatest(key: string, latest: Latest): Uint8Array {
  const bytes = Buffer.allocUnsafe(13)
  bytes.writeDoubleBE(latest.revision, 4)
  bytes[12] = latest.removed ? 1 : 0
  bytes.writeUInt32BE(crc32(bytes.subarray(4), crc32(key)), 0)
  return bytes
}

export function decodeLatest(key: string, source: Uint8Array): Latest {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length)
  if (bytes.length !== 13 || bytes.readUInt32BE(0) !== crc32(bytes.subarray(4), crc32(key))) {
    throw new DamagedLedger(`the key ${key} does not match its checksum`)
  }
  return { revision: bytes.readDoubleBE(4), removed: bytes[12] === 1 }
}
