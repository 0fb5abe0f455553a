// A backup's bytes: one file for every kind of ledger (docs/format.md, "Backup").
//
//   magic · frame of the head · a frame for every entry · frame of the end · SHA-256 of all bytes before it
//
// A frame is kind u8, length u32, crc32 u32, body; big-endian. The checksum goes over kind, length and body and begins
// at the frame's number, so that damage is found where it is, and a frame that is missing or in another place too.
// A file that does not end with its SHA-256 was cut off.
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { OperatorError } from '../errors.ts'
import { COMMIT_BYTES, KEY_BYTES } from '../ledger/ledger.ts'

const MAGIC = Buffer.from('coffer backup 1\n')
const HEAD = 1
const ENTRY = 2
const END = 3
const HEAD_TEXT =
  /^\{"revision":([1-9]\d{0,15}),"identity":"([0-9a-f]{32})","format":([1-9]\d{0,8}),"made_at":"([\dT:.Z-]+)"\}$/
const FRAME_HEAD_BYTES = 9
const END_BYTES = 48
const HASH_BYTES = 32
/** An entry came by a commit, and has to go by one. */
const BODY_BYTES = 2 + KEY_BYTES + COMMIT_BYTES
const BLOCK_BYTES = 1024 * 1024

export type BackupHead = {
  /** All entries are those that were live at this revision of the ledger with this identity. */
  readonly revision: number
  readonly identity: string
  /** The ledger's format. */
  readonly format: number
  /** RFC 3339. */
  readonly madeAt: string
}
export type BackupEntry = { readonly key: string; readonly value: Uint8Array }
export type BackupEnd = { readonly entries: number; readonly mappings: number; readonly digest: string }

export type BackupPart =
  | ({ readonly kind: 'head' } & BackupHead)
  | ({ readonly kind: 'entry' } & BackupEntry)
  | ({ readonly kind: 'end'; readonly bytes: number } & BackupEnd)

/** The file is no backup, or not as it was written; the text says where. */
export class DamagedBackup extends OperatorError {
  override readonly name = 'DamagedBackup'
}

/** Takes the file's bytes in order; they are its own. */
export type Sink = (bytes: Uint8Array) => Promise<unknown>

export class BackupWriter {
  readonly #sink: Sink
  readonly #hash = createHash('sha256')
  #number = 0
  #waiting: Uint8Array[] = [MAGIC]
  #waitingBytes = MAGIC.length
  /** Bytes of the file so far. */
  bytes = MAGIC.length

  constructor(sink: Sink) {
    this.#sink = sink
  }

  async head(head: BackupHead): Promise<void> {
    await this.#frame(HEAD, encodeHead(head))
  }

  async entry({ key, value }: BackupEntry): Promise<void> {
    const body = Buffer.allocUnsafe(2 + key.length + value.length)
    body.writeUInt16BE(key.length)
    body.write(key, 2, 'latin1')
    body.set(value, 2 + key.length)
    await this.#frame(ENTRY, body)
  }

  /** The last frame, and the hash. */
  async end({ entries, mappings, digest }: BackupEnd): Promise<void> {
    const body = Buffer.alloc(END_BYTES)
    body.writeBigUInt64BE(BigInt(entries))
    body.writeBigUInt64BE(BigInt(mappings), 8)
    body.write(digest, 16, 'hex')
    await this.#frame(END, body)
    await this.#flush()
    const hash = this.#hash.digest()
    this.bytes += hash.length
    await this.#sink(hash)
  }

  async #frame(kind: number, body: Buffer): Promise<void> {
    const head = Buffer.alloc(FRAME_HEAD_BYTES)
    head[0] = kind
    head.writeUInt32BE(body.length, 1)
    head.writeUInt32BE(checksum(head, body, this.#number++), 5)
    this.#waiting.push(head, body)
    this.#waitingBytes += head.length + body.length
    this.bytes += head.length + body.length
    if (this.#waitingBytes >= BLOCK_BYTES) await this.#flush()
  }

  async #flush(): Promise<void> {
    const block = Buffer.concat(this.#waiting)
    this.#waiting = []
    this.#waitingBytes = 0
    this.#hash.update(block)
    await this.#sink(block)
  }
}

function checksum(head: Buffer, body: Buffer, number: number): number {
  return crc32(body, crc32(head.subarray(0, 5), number % 2 ** 32))
}

/**
 * The parts in order, each after its checks; the end comes only where the whole file was as it was written. Throws
 * DamagedBackup.
 */
export async function* readBackup(source: AsyncIterable<Uint8Array>): AsyncIterable<BackupPart> {
  const bytes = new Bytes(source)
  const magic = await bytes.take(MAGIC.length)
  if (!magic?.equals(MAGIC)) throw new DamagedBackup('this is no backup, or one of a newer version')
  for (let number = 0; ; number++) {
    const { kind, body } = await readFrame(bytes, number)
    if ((kind === HEAD) !== (number === 0)) throw misplaced(number)
    if (kind === HEAD) yield decodeHead(body)
    else if (kind === ENTRY) yield decodeEntryBody(body, number)
    else {
      yield await readEnd(bytes, body, number)
      return
    }
  }
}

async function readFrame(bytes: Bytes, number: number): Promise<{ kind: number; body: Buffer }> {
  const at = bytes.at
  const head = await bytes.take(FRAME_HEAD_BYTES)
  if (!head) throw cutOff(bytes.at)
  const kind = head[0]
  const length = head.readUInt32BE(1)
  const [least, most] = kind === END ? [END_BYTES, END_BYTES] : [kind === ENTRY ? 3 : 2, BODY_BYTES]
  const where = `${number === 0 ? 'the head' : `part ${number}`}, at byte ${at},`
  // The length is looked at before anything of that length is read.
  if (kind < HEAD || kind > END || length < least || length > most) {
    throw new DamagedBackup(`the backup is damaged: ${where} has a bad kind or length`)
  }
  const expected = head.readUInt32BE(5)
  const first = Buffer.from(head) // outlives the next call
  const body = await bytes.take(length)
  if (!body) throw cutOff(bytes.at)
  if (checksum(first, body, number) !== expected) {
    throw new DamagedBackup(`the backup is damaged: ${where} does not match its checksum`)
  }
  return { kind, body }
}

function encodeHead({ revision, identity, format, madeAt }: BackupHead): Buffer {
  return Buffer.from(JSON.stringify({ revision, identity, format, made_at: madeAt }))
}

function decodeHead(body: Buffer): BackupPart {
  const [text, revision, identity, format, madeAt] = HEAD_TEXT.exec(body.toString('latin1')) ?? []
  if (text === undefined) throw new DamagedBackup('the head of the backup is not of its form')
  return { kind: 'head', revision: Number(revision), identity, format: Number(format), madeAt }
}

/** `value` is a copy: it is kept while the next parts are read. */
function decodeEntryBody(body: Buffer, number: number): BackupPart {
  const length = body.readUInt16BE()
  if (length === 0 || length > KEY_BYTES || 2 + length > body.length) throw misplaced(number)
  const key = body.toString('latin1', 2, 2 + length)
  return { kind: 'entry', key, value: new Uint8Array(body.subarray(2 + length)) }
}

async function readEnd(bytes: Bytes, body: Buffer, number: number): Promise<BackupPart> {
  const entries = Number(body.readBigUInt64BE())
  const mappings = Number(body.readBigUInt64BE(8))
  const digest = body.toString('hex', 16)
  const hash = bytes.hash()
  const found = await bytes.take(HASH_BYTES)
  if (!found) throw cutOff(bytes.at)
  if (!found.equals(hash)) throw new DamagedBackup('the backup is damaged: it does not match its SHA-256')
  if (entries !== number - 1) throw misplaced(number)
  if (await bytes.more()) throw new DamagedBackup('the backup is damaged: something follows its end')
  return { kind: 'end', entries, mappings, digest, bytes: bytes.at }
}

function misplaced(number: number): DamagedBackup {
  return new DamagedBackup(`the backup is damaged: part ${number} is not of its form, or not in its place`)
}

function cutOff(at: number): DamagedBackup {
  return new DamagedBackup(
    `the backup is cut off after ${at} bytes: it was not finished, or not copied whole`,
  )
}

/** Exact lengths out of pieces of any length. */
class Bytes {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #hash = createHash('sha256')
  #piece: Uint8Array = new Uint8Array(0)
  #from = 0
  /** Bytes taken so far. */
  at = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** The next bytes, valid until the next call; undefined where the source ends before, and then `at` is where. */
  async take(length: number): Promise<Buffer | undefined> {
    const parts: Uint8Array[] = []
    let missing = length
    while (missing > 0) {
      if (!(await this.more())) {
        this.at += length - missing
        return undefined
      }
      const part = this.#piece.subarray(this.#from, this.#from + missing)
      this.#from += part.length
      missing -= part.length
      parts.push(part)
    }
    const bytes =
      parts.length === 1 ? Buffer.from(parts[0].buffer, parts[0].byteOffset, length) : Buffer.concat(parts)
    this.#hash.update(bytes)
    this.at += length
    return bytes
  }

  async more(): Promise<boolean> {
    while (this.#from === this.#piece.length) {
      const next = await this.#source.next()
      if (next.done) return false
      this.#piece = next.value
      this.#from = 0
    }
    return true
  }

  /** SHA-256 of all that was taken. */
  hash(): Buffer {
    return this.#hash.copy().digest()
  }
}
