// The header of every entry: format u8 · boot (16 bytes) · number of the commit u64, big-endian. By the
// writer a node knows its own write again after an unknown outcome.
import { assert } from '../assert.ts'
import { FatalError } from '../errors.ts'

/** The format of a ledger, of its backups, and of every entry. No other format is read. */
export const LEDGER_FORMAT = 2
/** A higher first byte is not of an entry: text begins above. */
const LAST_FORMAT = 31
export const WRITER_BYTES = 25

/** A run of a node (32 hex digits), and the number of its commit. */
export type Writer = { readonly boot: string; readonly commit: number }

/** An entry under one of our keys does not decode: the node stops before the entry is applied. */
export class CorruptEntry extends FatalError {
  override readonly name = 'CorruptEntry'
}

/** A ledger, or a copy of a ledger, has a format that this version does not read. Nothing was changed. */
export class OtherFormat extends FatalError {
  override readonly name = 'OtherFormat'

  /** `what` has the format: a ledger, a backup. */
  constructor(what: string, format: number) {
    const version = format < LEDGER_FORMAT ? 'an earlier' : 'a later'
    const todo = `go on with the version that wrote ${what}, or begin an empty vault with this version`
    const reads = `this version reads format ${LEDGER_FORMAT} only`
    super(`${what} has format ${format}, written by ${version} version; ${reads}: ${todo}`)
  }
}

/** Whether an error says that an entry cannot be read: the entry is damaged, or of another format. */
export function isUnreadable(error: unknown): error is CorruptEntry | OtherFormat {
  return error instanceof CorruptEntry || error instanceof OtherFormat
}

/**
 * A new entry: the header, then `rest` zero bytes for the content. Small entries share memory
 * (Buffer.poolSize): memory of its own takes several times as long.
 */
export function encodeWriter(writer: Writer, rest: number): Buffer {
  const bytes = Buffer.allocUnsafe(WRITER_BYTES + rest).fill(0)
  assert(/^[0-9a-f]{32}$/.test(writer.boot), 'a boot is 16 bytes in hex')
  assert(Number.isSafeInteger(writer.commit) && writer.commit >= 0, 'commits of a boot are numbered')
  bytes[0] = LEDGER_FORMAT
  bytes.write(writer.boot, 1, 'hex')
  bytes.writeUInt32BE(Math.floor(writer.commit / 2 ** 32), 17)
  bytes.writeUInt32BE(writer.commit % 2 ** 32, 21)
  return bytes
}

/** Throws CorruptEntry where an entry does not begin with a header, OtherFormat. */
export function checkHeader(bytes: Uint8Array): void {
  if (bytes.length < WRITER_BYTES) throw new CorruptEntry('an entry is shorter than its header')
  const [format] = bytes
  if (format < 1 || format > LAST_FORMAT)
    throw new CorruptEntry(`an entry has version ${format}, this node knows ${LEDGER_FORMAT}`)
  if (format !== LEDGER_FORMAT) throw new OtherFormat('the ledger', format)
  // Beyond 2^53 a number has no exact double, and two writers would be the same.
  if (bytes[17] !== 0 || bytes[18] > 31) throw new CorruptEntry('an entry has no valid number of its commit')
}

/** Throws CorruptEntry, OtherFormat. */
export function decodeWriter(bytes: Uint8Array): Writer {
  checkHeader(bytes)
  const header = Buffer.from(bytes.buffer, bytes.byteOffset, WRITER_BYTES)
  const commit = header.readUInt32BE(17) * 2 ** 32 + header.readUInt32BE(21)
  return { boot: header.toString('hex', 1, 17), commit }
}

export function sameWriter(a: Writer, b: Writer): boolean {
  return a.boot === b.boot && a.commit === b.commit
}
