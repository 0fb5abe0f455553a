// The header of every entry: a version byte and its writer. By the writer an unknown outcome is told from
// another's write.
import { assert } from '../assert.ts'
import { FatalError } from '../errors.ts'

export const ENTRY_VERSION = 1
export const WRITER_BYTES = 25

/** One run of a node, and the number of its commit. */
export type Writer = { readonly boot: string; readonly commit: number }

/** An entry of ours that does not decode: the node stops before it applies it. */
export class CorruptEntry extends FatalError {
  override readonly name = 'CorruptEntry'
}

export function encodeWriter(writer: Writer, rest: number): Uint8Array {
  const bytes = new Uint8Array(WRITER_BYTES + rest)
  bytes[0] = ENTRY_VERSION
  bytes.set(bootBytes(writer.boot), 1)
  const view = new DataView(bytes.buffer)
  view.setUint32(17, Math.floor(writer.commit / 2 ** 32))
  view.setUint32(21, writer.commit % 2 ** 32)
  return bytes
}

/** Throws CorruptEntry. */
export function decodeWriter(bytes: Uint8Array): Writer {
  if (bytes.length < WRITER_BYTES) throw new CorruptEntry('an entry is shorter than its header')
  if (bytes[0] !== ENTRY_VERSION)
    throw new CorruptEntry(`an entry has version ${bytes[0]}, this node knows ${ENTRY_VERSION}`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return { boot: bootText(bytes), commit: view.getUint32(17) * 2 ** 32 + view.getUint32(21) }
}

/** The boot met last, both ways: entries one after the other are mostly of the same one. */
let met = { text: '', bytes: Buffer.alloc(0) }

function bootBytes(text: string): Uint8Array {
  if (met.text !== text) {
    assert(/^[0-9a-f]{32}$/.test(text), 'a boot is 16 bytes in hex')
    met = { text, bytes: Buffer.from(text, 'hex') }
  }
  return met.bytes
}

function bootText(entry: Uint8Array): string {
  const { bytes, text } = met
  for (let i = 0; i < 16; i++) {
    if (entry[i + 1] === bytes[i]) continue
    const other = Buffer.from(entry.subarray(1, 17))
    met = { text: other.toString('hex'), bytes: other }
    return met.text
  }
  return text
}

export function sameWriter(a: Writer, b: Writer): boolean {
  return a.boot === b.boot && a.commit === b.commit
}
