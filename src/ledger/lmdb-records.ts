// The embedded ledger's records: a revision with its puts in `log`, the revision of a key's latest put in
// `keys`. The format of the file stands in `log` under 0, before the first revision.
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import { FatalError, OperatorError } from '../errors.ts'
import type { Revision, RevisionPut } from './ledger.ts'

/** A record does not match its checksum, or the file is not a ledger. */
export class DamagedLedger extends FatalError {
  override readonly name = 'DamagedLedger'
}

/** Where the format stands in `log`. */
export const FORMAT_AT = 0
const FILE_FORMAT = 2

export function encodeFormat(): Uint8Array {
  return Buffer.from(`coffer ledger ${FILE_FORMAT}`, 'latin1')
}

/**
 * Whether a file with revisions has the format of this version; files of format 1 do not say their format.
 * Throws DamagedLedger where the record is no format.
 */
export function isOwnFormat(record: Uint8Array | undefined): boolean {
  return formatIn(record) === FILE_FORMAT
}

function formatIn(record: Uint8Array | undefined): number {
  if (record === undefined) return 1
  const format = /^coffer ledger (\d{1,9})$/.exec(Buffer.from(record).toString('latin1'))
  if (!format) throw new DamagedLedger('the ledger does not say its format')
  return Number(format[1])
}

/** The error for a file of another format. */
export function otherFormat(record: Uint8Array | undefined): OperatorError {
  const format = formatIn(record)
  const version = format < FILE_FORMAT ? 'an earlier' : 'a later'
  const reads = `this version reads format ${FILE_FORMAT} only`
  return new OperatorError(`the ledger has format ${format}, written by ${version} version; ${reads}`, {
    hint: 'go on with the version that wrote the ledger, or begin an empty vault with this version',
  })
}

/** A key's latest put. `created`: of the key; 0 where the put was a removal. */
export type Latest = { readonly revision: number; readonly created: number }

/** A revision as stored; `before`: each key's previous revision, 0 where the key is new. */
export type Stored = Revision & { readonly before: readonly number[] }

/**
 * The revision's put of the key. Throws DamagedLedger where the revision did not put the key.
 */
export function putIn({ revision, puts }: Stored, key: string): RevisionPut {
  const put = puts.find((each) => each.key === key)
  if (!put) throw new DamagedLedger(`revision ${revision} does not hold ${key}`)
  return put
}

// Record: crc32 u32 · puts u16 · for each: key length u16, revision before f64, created f64, value length u32
// (2^32 - 1: removed), key, value. The checksum covers the revision number and everything after the checksum.
const REMOVED = 0xffff_ffff
const PUT_BYTES = 22

export function encodeRecord({ revision, puts, before }: Stored): Uint8Array {
  assert(before.length === puts.length, 'a record has the previous revision of each of its keys')
  const size = puts.reduce((sum, put) => sum + PUT_BYTES + put.key.length + (put.value?.length ?? 0), 6)
  const bytes = Buffer.allocUnsafe(size)
  bytes.writeUInt16BE(puts.length, 4)
  let at = 6
  for (const [i, { key, value, created }] of puts.entries()) {
    bytes.writeUInt16BE(key.length, at)
    bytes.writeDoubleBE(before[i], at + 2)
    bytes.writeDoubleBE(created, at + 10)
    bytes.writeUInt32BE(value === null ? REMOVED : value.length, at + 18)
    at += PUT_BYTES
    at += bytes.write(key, at, 'latin1')
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
  const puts: RevisionPut[] = []
  const before: number[] = []
  let at = 6
  for (let i = bytes.readUInt16BE(4); i > 0; i--) {
    const keyLength = bytes.readUInt16BE(at)
    before.push(bytes.readDoubleBE(at + 2))
    const created = bytes.readDoubleBE(at + 10)
    const length = bytes.readUInt32BE(at + 18)
    at += PUT_BYTES
    const key = bytes.toString('latin1', at, at + keyLength)
    at += keyLength
    puts.push({ key, created, value: length === REMOVED ? null : bytes.subarray(at, at + length) })
    if (length !== REMOVED) at += length
  }
  return { revision, puts, before }
}

const LATEST_BYTES = 20

export function encodeLatest(key: string, latest: Latest): Uint8Array {
  const bytes = Buffer.allocUnsafe(LATEST_BYTES)
  bytes.writeDoubleBE(latest.revision, 4)
  bytes.writeDoubleBE(latest.created, 12)
  bytes.writeUInt32BE(crc32(bytes.subarray(4), crc32(key)), 0)
  return bytes
}

export function decodeLatest(key: string, source: Uint8Array): Latest {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length)
  if (bytes.length !== LATEST_BYTES || bytes.readUInt32BE(0) !== crc32(bytes.subarray(4), crc32(key))) {
    throw new DamagedLedger(`the key ${key} does not match its checksum`)
  }
  return { revision: bytes.readDoubleBE(4), created: bytes.readDoubleBE(12) }
}
