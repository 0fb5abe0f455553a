// A segment: new mappings of a single owner and epoch, packed into a ledger entry, about 33 bytes a mapping.
//
//   header (25 bytes, writer.ts) · format u8 · epoch u32 · count u32 · length of owner u8 · owner ·
//   bodies (16 bytes each) · sizes (LEB128 each, units of 8 bytes) · sealed values
//
// Big-endian. The size of a sealed value is at least 1; no bytes may follow the last sealed value.
import { assert } from '../assert.ts'
import { isId } from '../wire.ts'
import { assertLength, ledgerKey } from './ledger-keys.ts'
import { CorruptEntry, checkHeader, encodeWriter, WRITER_BYTES, type Writer } from './writer.ts'

export const SEGMENT_BYTES = 128 * 1024
const SEGMENT_FORMAT = 1
/** Bytes before the owner. */
const HEAD_BYTES = WRITER_BYTES + 10

/**
 * Mappings to be packed: bodies of 16 bytes, consecutive sealed values in `bytes`; sizes and offsets in units
 * of 8 bytes.
 */
export type Mappings = {
  readonly count: number
  readonly bodies: Uint8Array
  readonly sizes: Uint32Array
  readonly offset: Uint32Array
  readonly bytes: Uint8Array
}

export type Segment = {
  readonly kind: 'segment'
  readonly boot: string
  readonly n: number
  readonly owner: string
  readonly epoch: number
  readonly count: number
  /** 16 bytes each, as in the entry. */
  readonly bodies: Uint8Array
  /** Units of 8 bytes each. */
  readonly sizes: Uint32Array
  /** Consecutive sealed values. */
  readonly sealed: Uint8Array
}

/** Bytes of a mapping of `size` units in a segment. */
export function mappingBytes(size: number): number {
  return 16 + (size < 128 ? 1 : size < 16384 ? 2 : 3) + size * 8
}

/** Bytes of an empty segment of the owner. */
export function segmentHeadBytes(owner: string): number {
  return HEAD_BYTES + owner.length
}

/** Mappings `from` to `to` (exclusive) of a list. */
export type Run = { readonly mappings: Mappings; readonly from: number; readonly to: number }

/** The bytes of a segment with the mappings of all runs. */
export function encodeSegment(
  head: { readonly owner: string; readonly epoch: number; readonly writer: Writer },
  runs: readonly Run[],
): Uint8Array {
  let count = 0
  let size = segmentHeadBytes(head.owner)
  for (const { mappings, from, to } of runs) {
    count += to - from
    for (let i = from; i < to; i++) size += mappingBytes(mappings.sizes[i])
  }
  assert(count >= 1, 'a segment has at least one mapping')
  assertLength('segment', size)
  assert(head.epoch >= 1, 'epochs are numbered from 1')
  const bytes = encodeWriter(head.writer, size - WRITER_BYTES)
  bytes[WRITER_BYTES] = SEGMENT_FORMAT
  bytes.writeUInt32BE(head.epoch, WRITER_BYTES + 1)
  bytes.writeUInt32BE(count, WRITER_BYTES + 5)
  bytes[WRITER_BYTES + 9] = head.owner.length
  bytes.set(Buffer.from(head.owner, 'latin1'), HEAD_BYTES)
  let bodyAt = segmentHeadBytes(head.owner)
  let sizeAt = bodyAt + 16 * count
  for (const { mappings, from, to } of runs) {
    bytes.set(mappings.bodies.subarray(from * 16, to * 16), bodyAt)
    bodyAt += (to - from) * 16
    for (let i = from; i < to; i++) sizeAt = writeVarint(bytes, sizeAt, mappings.sizes[i])
  }
  let sealedAt = sizeAt
  for (const { mappings, from, to } of runs) {
    // Sealed values are consecutive, so a run of mappings is a run of bytes.
    const last = to - 1
    const sealed = mappings.bytes.subarray(
      mappings.offset[from] * 8,
      (mappings.offset[last] + mappings.sizes[last]) * 8,
    )
    bytes.set(sealed, sealedAt)
    sealedAt += sealed.length
  }
  assert(sealedAt === bytes.length, 'a segment has the size that was computed')
  return bytes
}

/** Throws CorruptEntry, OtherFormat. The result's arrays are views of `bytes`. */
export function decodeSegment(bytes: Uint8Array, boot: string, n: number): Segment {
  const where = ledgerKey.segment(boot, n)
  checkHeader(bytes)
  if (bytes.length < HEAD_BYTES) throw new CorruptEntry(`${where} is too short`)
  if (bytes[WRITER_BYTES] !== SEGMENT_FORMAT) throw new CorruptEntry(`${where} has no known format`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const epoch = view.getUint32(WRITER_BYTES + 1)
  const count = view.getUint32(WRITER_BYTES + 5)
  const ownerEnd = HEAD_BYTES + bytes[WRITER_BYTES + 9]
  const bodiesEnd = ownerEnd + 16 * count
  if (epoch < 1 || count < 1 || bodiesEnd + count > bytes.length)
    throw new CorruptEntry(`${where} has a bad header`)
  const owner = Buffer.from(bytes.subarray(HEAD_BYTES, ownerEnd)).toString('latin1')
  if (!isId(owner)) throw new CorruptEntry(`${where} has no valid owner`)
  const sizes = new Uint32Array(count)
  const sealedAt = readSizes(bytes, bodiesEnd, sizes, where)
  let units = 0
  for (let i = 0; i < count; i++) units += sizes[i]
  if (sealedAt + units * 8 !== bytes.length)
    throw new CorruptEntry(`${where} does not have the length of its values`)
  const bodies = bytes.subarray(ownerEnd, bodiesEnd)
  return { kind: 'segment', boot, n, owner, epoch, count, bodies, sizes, sealed: bytes.subarray(sealedAt) }
}

function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let to = at
  let rest = value
  while (rest > 127) {
    bytes[to++] = (rest & 127) | 128
    rest >>>= 7
  }
  bytes[to++] = rest
  return to
}

/** Fills `sizes` from the LEB128 numbers at `at`. Returns the end of the last number. Throws CorruptEntry. */
function readSizes(bytes: Uint8Array, at: number, sizes: Uint32Array, where: string): number {
  let from = at
  for (let i = 0; i < sizes.length; i++) {
    let value = 0
    let shift = 0
    let byte = 128
    while (byte > 127) {
      if (from >= bytes.length || shift > 14) throw new CorruptEntry(`${where} has a bad size`)
      byte = bytes[from++]
      value |= (byte & 127) << shift
      shift += 7
    }
    if (value === 0 || (byte === 0 && shift > 7)) throw new CorruptEntry(`${where} has a bad size`)
    sizes[i] = value
  }
  return from
}
