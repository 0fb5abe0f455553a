// A version of a secret as stored, in binary, since hundreds of versions share a commit. The wrapped data key
// stands apart from the sealed value: rewrapping replaces only the key and keeps the writer, by which the
// node that put the version knows its own write again. Layout after the header, big-endian:
//
//   format u8 · algorithm u8 · valid_from u64 · length u8 and key id · length u8 and request id ·
//   length u16 and wrapped data key · sealed value
import { assert } from '../assert.ts'
import { SEAL_BYTES } from '../crypto/aead.ts'
import { wrappedBy } from '../crypto/keyring.ts'
import { LAST_TIME } from '../wire.ts'
import { CorruptEntry, encodeWriter, WRITER_BYTES, type Writer } from './writer.ts'

/** Format of the record, and the algorithm of its sealed value: AES-256-GCM (crypto/secret.ts). */
const RECORD_FORMAT = 2
const ALGORITHM = 1
const FIXED_BYTES = 14

export type SecretVersion = {
  readonly kind: 'version'
  readonly owner: string
  readonly name: string
  readonly version: number
  /** Milliseconds since 1970. */
  readonly validFrom: number
  /** The API key and the request that wrote the version. */
  readonly keyId: string
  readonly requestId: string
  /** The data key, wrapped by a root key. */
  readonly wrapped: Uint8Array
  readonly sealed: Uint8Array
}

export function encodeVersion(entry: SecretVersion, writer: Writer): Uint8Array {
  const { keyId, requestId, wrapped, sealed } = entry
  assert(entry.version >= 1, 'versions are numbered from 1')
  assert(entry.validFrom <= LAST_TIME, 'valid_from is an instant')
  assert(sealed.length >= SEAL_BYTES, 'a value is stored sealed')
  const size = FIXED_BYTES + keyId.length + requestId.length + wrapped.length + sealed.length
  const out = encodeWriter(writer, size)
  let at = WRITER_BYTES
  at = out.writeUInt8(RECORD_FORMAT, at)
  at = out.writeUInt8(ALGORITHM, at)
  at = out.writeBigUInt64BE(BigInt(entry.validFrom), at)
  at = out.writeUInt8(keyId.length, at)
  at += out.write(keyId, at, 'latin1')
  at = out.writeUInt8(requestId.length, at)
  at += out.write(requestId, at, 'latin1')
  at = out.writeUInt16BE(wrapped.length, at)
  out.set(wrapped, at)
  out.set(sealed, at + wrapped.length)
  return out
}

/** Throws CorruptEntry. */
export function decodeVersion(
  bytes: Uint8Array,
  name: Pick<SecretVersion, 'kind' | 'owner' | 'name' | 'version'>,
): SecretVersion {
  const corrupt = (what: string): CorruptEntry =>
    new CorruptEntry(`a version of a secret has no valid ${what}`)
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  let at = WRITER_BYTES
  const take = (length: number, what: string): Buffer => {
    if (at + length > data.length) throw corrupt(what)
    at += length
    return data.subarray(at - length, at)
  }
  const [format, algorithm] = take(2, 'format')
  if (format !== RECORD_FORMAT || algorithm !== ALGORITHM) throw corrupt('format')
  const validFrom = Number(take(8, 'time').readBigUInt64BE())
  if (validFrom > LAST_TIME) throw corrupt('time')
  const keyId = take(take(1, 'key id')[0], 'key id').toString('latin1')
  const requestId = take(take(1, 'request id')[0], 'request id').toString('latin1')
  const wrapped = take(take(2, 'data key').readUInt16BE(), 'data key')
  try {
    wrappedBy(wrapped)
  } catch {
    throw corrupt('data key')
  }
  if (name.version < 1) throw corrupt('number')
  const sealed = data.subarray(at)
  if (sealed.length < SEAL_BYTES) throw corrupt('value')
  return { ...name, validFrom, keyId, requestId, wrapped, sealed }
}
