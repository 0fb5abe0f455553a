// The bytes of a backup file, the same for every kind of ledger (docs/format.md, "Backup").
//
//   magic · head frame · entry frames · end frame · SHA-256 of all bytes before the hash
//
// A frame is kind u8, length u32, crc32 u32, body; big-endian. The checksum covers kind, length and body, and
// its initial value is the frame's number: damage, a missing frame and a moved frame are all found at their
// position. A file without a SHA-256 at the end was cut off.
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import { OperatorError } from '../errors.ts'
import { COMMIT_BYTES, KEY_BYTES } from '../ledger/ledger.ts'

const MAGIC = Buffer.from('coffer backup 1\n')
const HEAD = 1
const ENTRY = 2
const END = 3
const HEAD_TEXT = new RegExp(
  '^\\{"revision":([1-9]\\d{0,15}),"identity":"([0-9a-f]{32})",' +
    '"format":([1-9]\\d{0,8}),"made_at":"([\\dT:.Z-]+)"\\}$',
)
const FRAME_HEAD_BYTES = 9
const END_BYTES = 48
const HASH_BYTES = 32
/** The largest body of a frame. An entry is written, and restored, by a single commit. */
const BODY_BYTES = 2 + KEY_BYTES + COMMIT_BYTES
const BLOCK_BYTES = 1024 * 1024

export type BackupHead = {
  /** The entries are the live entries of the ledger at the revision. */
  readonly revision: number
  /** Identity of the backed-up ledger, 32 hex digits. */
  readonly identity: string
  /** Format number of the ledger, from its genesis. */
  readonly format: number
  /** RFC 3339. */
  readonly madeAt: string
}
export type BackupEntry = { readonly key: string; readonly value: Uint8Array }
export type BackupEnd = {
  readonly entries: number
  readonly mappings: number
  /** Digest of the entries by `State.digest`: 64 hex digits. */
  readonly digest: string
}

type BackupPart =
  | ({ readonly kind: 'head' } & BackupHead)
  | ({ readonly kind: 'entry' } & BackupEntry)
  | ({ readonly kind: 'end'; readonly bytes: number } & BackupEnd)

/** The file is not a backup, or was changed since it was written; the message says where. */
export class DamagedBackup extends OperatorError {
  override readonly name = 'DamagedBackup'
}

/** Writes the file's bytes in order. The sink owns each buffer: the writer never changes the buffer again. */
export type Sink = (bytes: Uint8Array) => Promise<unknown>

export class BackupWriter {
  readonly #sink: Sink
  readonly #hash = createHash('sha256')
  #frames = 0
  #ended = false
  #pending: Uint8Array[] = [MAGIC]
  #pendingBytes = MAGIC.length
  /** Length of the file so far, buffered bytes included. */
  bytes = MAGIC.length

  constructor(sink: Sink) {
    this.#sink = sink
  }

  async head(head: BackupHead): Promise<void> {
    assert(this.#frames === 0, 'the head is the first frame of a backup')
    await this.#frame(HEAD, encodeHead(head))
  }

  async entry({ key, value }: BackupEntry): Promise<void> {
    assert(this.#frames > 0, 'the entries of a backup follow its head')
    const body = Buffer.allocUnsafe(2 + key.length + value.length)
    body.writeUInt16BE(key.length)
    body.write(key, 2, 'latin1')
    body.set(value, 2 + key.length)
    await this.#frame(ENTRY, body)
  }

  /** Writes the last frame, then the hash, and flushes. */
  async end({ entries, mappings, digest }: BackupEnd): Promise<void> {
    const body = Buffer.alloc(END_BYTES)
    body.writeBigUInt64BE(BigInt(entries))
    body.writeBigUInt64BE(BigInt(mappings), 8)
    body.write(digest, 16, 'hex')
    await this.#frame(END, body)
    this.#ended = true
    await this.#flush()
    const hash = this.#hash.digest()
    this.bytes += hash.length
    await this.#sink(hash)
  }

  async #frame(kind: number, body: Buffer): Promise<void> {
    assert(!this.#ended, 'nothing follows the end of a backup')
    assert(body.length <= BODY_BYTES, 'an entry of a backup fits into one commit')
    const head = Buffer.alloc(FRAME_HEAD_BYTES)
    head[0] = kind
    head.writeUInt32BE(body.length, 1)
    head.writeUInt32BE(checksum(head, body, this.#frames++), 5)
    this.#pending.push(head, body)
    this.#pendingBytes += head.length + body.length
    this.bytes += head.length + body.length
    if (this.#pendingBytes >= BLOCK_BYTES) await this.#flush()
  }

  async #flush(): Promise<void> {
    const block = Buffer.concat(this.#pending)
    this.#pending = []
    this.#pendingBytes = 0
    this.#hash.update(block)
    await this.#sink(block)
  }
}

function checksum(head: Buffer, body: Buffer, number: number): number {
  return crc32(body, crc32(head.subarray(0, 5), number % 2 ** 32))
}

/**
 * The parts in order, each yielded after its check. The end part is yielded only after the SHA-256 of the
 * whole file has matched. Throws DamagedBackup.
 */
export async function* readBackup(source: AsyncIterable<Uint8Array>): AsyncIterable<BackupPart> {
  const bytes = new ByteReader(source)
  const magic = await bytes.take(MAGIC.length)
  if (!magic?.equals(MAGIC)) throw new DamagedBackup('the file is not a backup, or is of a newer version')
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

async function readFrame(bytes: ByteReader, number: number): Promise<{ kind: number; body: Buffer }> {
  const start = bytes.taken
  const taken = await bytes.take(FRAME_HEAD_BYTES)
  if (!taken) throw cutOff(bytes.taken)
  const head = Buffer.from(taken) // a copy: `taken` is valid only until the next take()
  const kind = head[0]
  const length = head.readUInt32BE(1)
  const [least, most] = kind === END ? [END_BYTES, END_BYTES] : [kind === ENTRY ? 3 : 2, BODY_BYTES]
  const where = `${number === 0 ? 'the head' : `part ${number}`}, at byte ${start},`
  // Checked before the body is read: a damaged length must not make the reader buffer 4 GiB.
  if (kind < HEAD || kind > END || length < least || length > most) {
    throw new DamagedBackup(`the backup is damaged: ${where} has a bad kind or length`)
  }
  const body = await bytes.take(length)
  if (!body) throw cutOff(bytes.taken)
  if (checksum(head, body, number) !== head.readUInt32BE(5)) {
    throw new DamagedBackup(`the backup is damaged: ${where} does not match its checksum`)
  }
  return { kind, body }
}

function encodeHead({ revision, identity, format, madeAt }: BackupHead): Buffer {
  return Buffer.from(JSON.stringify({ revision, identity, format, made_at: madeAt }))
}

function decodeHead(body: Buffer): BackupPart {
  const [text, revision, identity, format, madeAt] = HEAD_TEXT.exec(body.toString('latin1')) ?? []
  if (text === undefined) throw new DamagedBackup('the backup is damaged: its head is malformed')
  return { kind: 'head', revision: Number(revision), identity, format: Number(format), madeAt }
}

/** `value` is a copy, because callers keep entries while the next frames are read. */
function decodeEntryBody(body: Buffer, number: number): BackupPart {
  const length = body.readUInt16BE()
  if (length === 0 || length > KEY_BYTES || 2 + length > body.length) throw misplaced(number)
  const key = body.toString('latin1', 2, 2 + length)
  return { kind: 'entry', key, value: new Uint8Array(body.subarray(2 + length)) }
}

async function readEnd(bytes: ByteReader, body: Buffer, number: number): Promise<BackupPart> {
  const entries = Number(body.readBigUInt64BE())
  const mappings = Number(body.readBigUInt64BE(8))
  const digest = body.toString('hex', 16)
  const hash = bytes.hash()
  const found = await bytes.take(HASH_BYTES)
  if (!found) throw cutOff(bytes.taken)
  if (!found.equals(hash)) throw new DamagedBackup('the backup is damaged: it does not match its SHA-256')
  if (entries !== number - 1) throw misplaced(number)
  if (await bytes.more()) throw new DamagedBackup('the backup is damaged: bytes follow its end')
  return { kind: 'end', entries, mappings, digest, bytes: bytes.taken }
}

function misplaced(number: number): DamagedBackup {
  return new DamagedBackup(`the backup is damaged: part ${number} is malformed or misplaced`)
}

function cutOff(length: number): DamagedBackup {
  return new DamagedBackup(
    `the backup is cut off after ${length} bytes: writing or copying the file was not finished`,
  )
}

/** Reads exact lengths from chunks of any length, and hashes all bytes read. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #hash = createHash('sha256')
  #chunk: Uint8Array = new Uint8Array(0)
  #offset = 0
  /** Number of bytes taken so far; after a short read the length of the source. */
  taken = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** The next `length` bytes, valid until the next call; undefined where the source ends before. */
  async take(length: number): Promise<Buffer | undefined> {
    const parts: Uint8Array[] = []
    let missing = length
    while (missing > 0) {
      if (!(await this.more())) {
        this.taken += length - missing
        return undefined
      }
      const part = this.#chunk.subarray(this.#offset, this.#offset + missing)
      this.#offset += part.length
      missing -= part.length
      parts.push(part)
    }
    const bytes =
      parts.length === 1 ? Buffer.from(parts[0].buffer, parts[0].byteOffset, length) : Buffer.concat(parts)
    this.#hash.update(bytes)
    this.taken += length
    return bytes
  }

  /** False at the end of the source. */
  async more(): Promise<boolean> {
    while (this.#offset === this.#chunk.length) {
      const next = await this.#source.next()
      if (next.done) return false
      this.#chunk = next.value
      this.#offset = 0
    }
    return true
  }

  /** SHA-256 of the bytes taken so far. */
  hash(): Buffer {
    return this.#hash.copy().digest()
  }
}
