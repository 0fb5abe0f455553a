// The result of a request with an Idempotency-Key. A retry of the request brings the names and values of its
// answer, so the receipt holds neither. Layout after the header, big-endian:
//
//   format u8 · MAC (32 bytes) · made at u64 · version u64 · valid_from u64
import { assert } from '../assert.ts'
import { LAST_TIME } from '../wire.ts'
import { RECEIPT_PREFIX } from './ledger-keys.ts'
import { CorruptEntry, encodeWriter, WRITER_BYTES, type Writer } from './writer.ts'

const RECORD_FORMAT = 2
const MAC_BYTES = 32
/** Hex digits of the hash in the key of a receipt. */
const HASH_DIGITS = 64
const RECORD_BYTES = 1 + MAC_BYTES + 3 * 8

export type Receipt = {
  readonly kind: 'receipt'
  readonly owner: string
  /** Keyed hash of owner, API key and Idempotency-Key, 64 hex digits. */
  readonly hash: string
  /** Keyed hash of owner, API key, Idempotency-Key, method, name, `If-Match` and body. */
  readonly mac: Uint8Array
  /** Time of the commit by the clock of its node, milliseconds since 1970. */
  readonly at: number
  /** Version and `valid_from` (milliseconds since 1970) of every secret written by the request. */
  readonly version: number
  readonly validFrom: number
}

/** Bytes of the key and the value of a receipt: all receipts of an owner have the same size. */
export function receiptBytes(owner: string): number {
  return RECEIPT_PREFIX.length + owner.length + 1 + HASH_DIGITS + WRITER_BYTES + RECORD_BYTES
}

export function encodeReceipt({ mac, at, version, validFrom }: Receipt, writer: Writer): Uint8Array {
  assert(mac.length === MAC_BYTES, 'the MAC of a receipt has 32 bytes')
  assert(version >= 1, 'versions are numbered from 1')
  assert(at <= LAST_TIME && validFrom <= LAST_TIME, 'the times of a receipt are instants')
  const out = encodeWriter(writer, RECORD_BYTES)
  out[WRITER_BYTES] = RECORD_FORMAT
  out.set(mac, WRITER_BYTES + 1)
  let to = WRITER_BYTES + 1 + MAC_BYTES
  for (const number of [at, version, validFrom]) to = out.writeBigUInt64BE(BigInt(number), to)
  return out
}

/** Throws CorruptEntry. */
export function decodeReceipt(bytes: Uint8Array, name: Pick<Receipt, 'kind' | 'owner' | 'hash'>): Receipt {
  const record = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).subarray(WRITER_BYTES)
  if (record.length !== RECORD_BYTES || record[0] !== RECORD_FORMAT)
    throw new CorruptEntry('a receipt has no valid form')
  const [at, version, validFrom] = [0, 1, 2].map((i) => Number(record.readBigUInt64BE(1 + MAC_BYTES + 8 * i)))
  if (at > LAST_TIME || validFrom > LAST_TIME || version < 1 || !Number.isSafeInteger(version))
    throw new CorruptEntry('a receipt has no valid numbers')
  return { ...name, mac: record.subarray(1, 1 + MAC_BYTES), at, version, validFrom }
}
