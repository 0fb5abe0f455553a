// The header of every entry: a version byte and its writer. By the writer an unknown outcome is told from
// another's write.
import { assert } from '../assert.ts'

export const ENTRY_VERSION = 1
export const WRITER_BYTES = 25

/** One run of a node, and the number of its commit. */
export type Writer = { readonly boot: string; readonly commit: number }

/** An entry of ours that does not decode: the node stops before it applies it. */
export class CorruptEntry extends Error {
  override readonly name = 'CorruptEntry'
}

export function encodeWriter(writer: Writer, rest: number): Uint8Array {
  assert(/^[0-9a-f]{32}$/.test(writer.boot), 'a boot is 16 bytes in hex')
  const bytes = new Uint8Array(WRITER_BYTES + rest)
  bytes[0] = ENTRY_VERSION
  bytes.set(Buffer.from(writer.boot, 'hex'), 1)
  new DataView(bytes.buffer).setBigUint64(17, BigInt(writer.commit))
  return bytes
}

/** Throws CorruptEntry. */
export function decodeWriter(bytes: Uint8Array): Writer {
  if (bytes.length < WRITER_BYTES) throw new CorruptEntry('an entry is shorter than its header')
  if (bytes[0] !== ENTRY_VERSION)
    throw new CorruptEntry(`an entry has version ${bytes[0]}, this node knows ${ENTRY_VERSION}`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return { boot: Buffer.from(bytes.subarray(1, 17)).toString('hex'), commit: Number(view.getBigUint64(17)) }
}

export function sameWriter(a: Writer, b: Writer): boolean {
  return a.boot === b.boot && a.commit === b.commit
}
