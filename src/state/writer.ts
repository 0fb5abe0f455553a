// The header of every entry: version u8 · boot (16 bytes) · number of the commit u64, big-endian. By the
// writer a node knows its own write again after an unknown outcome.
import { assert } from '../assert.ts'
import { FatalError } from '../errors.ts'

const ENTRY_VERSION = 1
export const WRITER_BYTES = 25

/** A run of a node (32 hex digits), and the number of its commit. */
export type Writer = { readonly boot: string; readonly commit: number }

/** An entry under one of our keys does not decode: the node stops before the entry is applied. */
export class CorruptEntry extends FatalError {
  override readonly name = 'CorruptEntry'
}

/** A new entry: the header, then `rest` zero bytes for the content. */
export function encodeWriter(writer: Writer, rest: number): Uint8Array {
  const bytes = new Uint8Array(WRITER_BYTES + rest)
  assert(/^[0-9a-f]{32}$/.test(writer.boot), 'a boot is 16 bytes in hex')
  assert(Number.isSafeInteger(writer.commit) && writer.commit >= 0, 'commits of a boot are numbered')
  bytes[0] = ENTRY_VERSION
  bytes.set(Buffer.from(writer.boot, 'hex'), 1)
  const view = new DataView(bytes.buffer)
  view.setUint32(17, Math.floor(writer.commit / 2 ** 32))
  view.setUint32(21, writer.commit % 2 ** 32)
  return bytes
}

/** Throws CorruptEntry where an entry does not begin with the header. */
export function checkHeader(bytes: Uint8Array): void {
  if (bytes.length < WRITER_BYTES) throw new CorruptEntry('an entry is shorter than its header')
  if (bytes[0] !== ENTRY_VERSION)
    throw new CorruptEntry(`an entry has version ${bytes[0]}, this node knows ${ENTRY_VERSION}`)
}

/** Throws CorruptEntry. */
export function decodeWriter(bytes: Uint8Array): Writer {
  checkHeader(bytes)
  const header = Buffer.from(bytes.buffer, bytes.byteOffset, WRITER_BYTES)
  const commit = header.readUInt32BE(17) * 2 ** 32 + header.readUInt32BE(21)
  return { boot: header.toString('hex', 1, 17), commit }
}

export function sameWriter(a: Writer, b: Writer): boolean {
  return a.boot === b.boot && a.commit === b.commit
}
