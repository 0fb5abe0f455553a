// What an Idempotency-Key got. The answer is this and what the same request says again: a receipt holds no name and no
// value.
import { LAST_TIME } from '../clock.ts'
import { CorruptEntry, encodeWriter, WRITER_BYTES, type Writer } from './writer.ts'

const RECORD_FORMAT = 1
const MAC_BYTES = 32
const RECORD_BYTES = 1 + MAC_BYTES + 3 * 8

export type Receipt = {
  readonly kind: 'receipt'
  readonly owner: string
  /** Keyed hash of the Idempotency-Key, 64 hex digits. */
  readonly hash: string
  /** Keyed hash of method, path, `If-Match` and body. */
  readonly mac: Uint8Array
  /** When it was made, by the clock of its node: milliseconds since 1970. */
  readonly at: number
  /** Of what the request wrote. */
  readonly version: number
  readonly validFrom: number
}

export function encodeReceipt({ mac, at, version, validFrom }: Receipt, writer: Writer): Uint8Array {
  const out = Buffer.from(encodeWriter(writer, RECORD_BYTES).buffer)
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
  if (at > LAST_TIME || validFrom > LAST_TIME || version < 1)
    throw new CorruptEntry('a receipt has no valid numbers')
  return { ...name, mac: record.subarray(1, 1 + MAC_BYTES), at, version, validFrom }
}
