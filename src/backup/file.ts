// The bytes of a backup file, the same for every kind of ledger (docs/format.md, "Backup").
//
//   magic · head frame · entry frames · end frame · HMAC-SHA-256 of all bytes before the HMAC
//
// A frame is kind u8, length u32, crc32 u32, body; big-endian. The checksum covers kind, length and body, and
// its initial value is the frame's number: accidental damage, a missing frame and a moved frame are all found
// at their position. The HMAC finds a forger, who can compute every checksum again: its key is wrapped by the
// keyring, in the head.
import { type Hmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { BACKUP_MAC_BYTES, backupMac, newBackupKey, openBackupKey } from '../crypto/backup-key.ts'
import { type Keyring, UnwrapError, wrappedBy } from '../crypto/keyring.ts'
import { OperatorError } from '../errors.ts'
import { COMMIT_BYTES, KEY_BYTES } from '../ledger/ledger.ts'
import { compareKeys } from '../state/ledger-keys.ts'
import { LEDGER_FORMAT, OtherFormat } from '../state/writer.ts'
import { isId } from '../wire.ts'

const MAGIC = Buffer.from(`coffer backup ${LEDGER_FORMAT}\n`)
const ANY_MAGIC = /^coffer backup (\d)\n$/
const HEAD = 1
const ENTRY = 2
const END = 3
const HEAD_TEXT = new RegExp(
  '^\\{"revision":([1-9]\\d{0,15}),"identity":"([0-9a-f]{32})","format":([1-9]\\d{0,8}),' +
    '"made_at":"([\\dT:.Z-]+)","key":"([A-Za-z0-9+/]+={0,2})"\\}$',
)
const FRAME_HEAD_BYTES = 9
const END_BYTES = 48
/** Bounds of a frame's body, by kind. An entry is written, and restored, by a single commit. */
const BODY_BYTES: Readonly<Record<number, { readonly least: number; readonly most: number }>> = {
  [HEAD]: { least: 2, most: 512 },
  [ENTRY]: { least: 3, most: 2 + KEY_BYTES + COMMIT_BYTES },
  [END]: { least: END_BYTES, most: END_BYTES },
}
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
/** `wrappedKey`: the key of the HMAC, wrapped by the keyring; another key in every backup. */
export type SealedHead = BackupHead & { readonly wrappedKey: Uint8Array }
export type BackupEntry = { readonly key: string; readonly value: Uint8Array }
export type BackupEnd = {
  readonly entries: number
  readonly mappings: number
  /** Digest of the entries by `State.digest`: 64 hex digits. */
  readonly digest: string
}

/** `bytes`: length of the file. */
export type AuthenticEnd = BackupEnd & { readonly bytes: number }

type BackupPart =
  | { readonly kind: 'head'; readonly head: SealedHead }
  | { readonly kind: 'entry'; readonly entry: BackupEntry }
  | { readonly kind: 'end'; readonly end: AuthenticEnd }

/** A ledger cannot be backed up, or a backup cannot be restored; the message says why and what to do. */
export class BackupError extends OperatorError {
  override readonly name: string = 'BackupError'
  declare readonly hint: string

  constructor(message: string, hint: string) {
    super(message, { hint })
  }
}

/** The file is not a backup, or was changed since it was written; the message says where. */
export class DamagedBackup extends BackupError {
  override readonly name = 'DamagedBackup'

  constructor(message: string, hint = 'use another copy of the backup') {
    super(message, hint)
  }
}

/** Writes the file's bytes in order. The sink owns each buffer: the writer never changes the buffer again. */
export type Sink = (bytes: Uint8Array) => Promise<unknown>

export class BackupWriter {
  readonly #sink: Sink
  #mac: Hmac | undefined
  #frames = 0
  #lastKey = ''
  #ended = false
  #pending: Uint8Array[] = [MAGIC]
  #pendingBytes = MAGIC.length
  /** Length of the file so far, buffered bytes included. */
  bytes = MAGIC.length

  constructor(sink: Sink) {
    this.#sink = sink
  }

  /** The backup can be read with the active root key of the keyring alone. */
  async head(head: BackupHead, keyring: Keyring, clock: Clock): Promise<void> {
    assert(this.#frames === 0, 'the head is the first frame of a backup')
    const { key, wrapped } = newBackupKey(keyring, boundParts(head), clock)
    this.#mac = backupMac(key)
    await this.#frame(HEAD, encodeHead({ ...head, wrappedKey: wrapped }))
  }

  async entry({ key, value }: BackupEntry): Promise<void> {
    assert(this.#frames > 0, 'the entries of a backup follow its head')
    assert(follows(key, this.#lastKey), 'the entries of a backup stand in the order of a snapshot')
    this.#lastKey = key
    const body = Buffer.allocUnsafe(2 + key.length + value.length)
    body.writeUInt16BE(key.length)
    body.write(key, 2, 'latin1')
    body.set(value, 2 + key.length)
    await this.#frame(ENTRY, body)
  }

  /** Writes the last frame, then the HMAC, and flushes. */
  async end({ entries, mappings, digest }: BackupEnd): Promise<void> {
    const body = Buffer.alloc(END_BYTES)
    body.writeBigUInt64BE(BigInt(entries))
    body.writeBigUInt64BE(BigInt(mappings), 8)
    body.write(digest, 16, 'hex')
    await this.#frame(END, body)
    this.#ended = true
    const mac = (await this.#flush()).digest()
    this.bytes += mac.length
    await this.#sink(mac)
  }

  async #frame(kind: number, body: Buffer): Promise<void> {
    assert(!this.#ended, 'nothing follows the end of a backup')
    assert(body.length <= BODY_BYTES[kind].most, 'an entry of a backup fits into one commit')
    const head = Buffer.alloc(FRAME_HEAD_BYTES)
    head[0] = kind
    head.writeUInt32BE(body.length, 1)
    head.writeUInt32BE(checksum(head, body, this.#frames++), 5)
    this.#pending.push(head, body)
    this.#pendingBytes += head.length + body.length
    this.bytes += head.length + body.length
    if (this.#pendingBytes >= BLOCK_BYTES) await this.#flush()
  }

  async #flush(): Promise<Hmac> {
    assert(this.#mac, 'the head of a backup brings the key of its HMAC')
    const block = Buffer.concat(this.#pending)
    this.#pending = []
    this.#pendingBytes = 0
    this.#mac.update(block)
    await this.#sink(block)
    return this.#mac
  }
}

/** `last`: the key before; '' for the first key. */
function follows(key: string, last: string): boolean {
  return last === '' || compareKeys(last, key) < 0
}

function checksum(head: Buffer, body: Buffer, number: number): number {
  return crc32(body, crc32(head.subarray(0, 5), number % 2 ** 32))
}

/**
 * The parts in order, each yielded after its checksum. The end part is yielded only after the HMAC of the
 * whole file has matched: until then nothing is known to be authentic. Throws DamagedBackup, OtherFormat,
 * UnknownRootKey where the keyring lacks the root key of the backup.
 */
export async function* readBackup(
  source: AsyncIterable<Uint8Array>,
  keyring: Keyring,
): AsyncIterable<BackupPart> {
  const bytes = new ByteReader(source)
  try {
    checkMagic(await bytes.take(MAGIC.length))
    for (let number = 0, last = ''; ; number++) {
      const { kind, body } = await readFrame(bytes, number)
      if ((kind === HEAD) !== (number === 0)) throw misplaced(number)
      if (kind === HEAD) {
        const head = decodeHead(body)
        bytes.authenticate(keyOf(head, keyring))
        yield { kind: 'head', head }
      } else if (kind === ENTRY) {
        const entry = decodeEntryBody(body, number)
        if (!follows(entry.key, last)) throw misplaced(number)
        last = entry.key
        yield { kind: 'entry', entry }
      } else {
        yield { kind: 'end', end: await readEnd(bytes, body, number) }
        return
      }
    }
  } finally {
    await bytes.close()
  }
}

function checkMagic(magic: Buffer | undefined): void {
  if (magic?.equals(MAGIC)) return
  const [, format] = ANY_MAGIC.exec(magic?.toString('latin1') ?? '') ?? []
  if (format === undefined)
    throw new DamagedBackup('the file is not a backup', 'name a file that `coffer backup` has written')
  throw new OtherFormat('the backup', Number(format))
}

async function readFrame(bytes: ByteReader, number: number): Promise<{ kind: number; body: Buffer }> {
  const start = bytes.taken
  const taken = await bytes.take(FRAME_HEAD_BYTES)
  if (!taken) throw cutOff(bytes.taken)
  const head = Buffer.from(taken) // a copy: `taken` is valid only until the next take()
  const kind = head[0]
  const length = head.readUInt32BE(1)
  const where = `${number === 0 ? 'the head' : `part ${number}`}, at byte ${start},`
  // Checked before the body is read: a damaged length must not make the reader buffer 4 GiB.
  if (!(kind in BODY_BYTES) || length < BODY_BYTES[kind].least || length > BODY_BYTES[kind].most) {
    throw new DamagedBackup(`the backup is damaged: ${where} has a bad kind or length`)
  }
  const body = await bytes.take(length)
  if (!body) throw cutOff(bytes.taken)
  if (checksum(head, body, number) !== head.readUInt32BE(5)) {
    throw new DamagedBackup(`the backup is damaged: ${where} does not match its checksum`)
  }
  return { kind, body }
}

/** The associated data of the wrapped key: whatever the head says cannot be changed. */
function boundParts({ revision, identity, format, madeAt }: BackupHead): readonly string[] {
  return [String(LEDGER_FORMAT), String(revision), identity, String(format), madeAt]
}

/** Throws DamagedBackup, UnknownRootKey. */
function keyOf(head: SealedHead, keyring: Keyring): KeyObject {
  try {
    return openBackupKey(head.wrappedKey, boundParts(head), keyring)
  } catch (error) {
    if (!(error instanceof UnwrapError)) throw error
    throw new DamagedBackup('the backup was changed: its head matches its checksum, but not its wrapped key')
  }
}

function encodeHead({ revision, identity, format, madeAt, wrappedKey }: SealedHead): Buffer {
  const key = Buffer.from(wrappedKey).toString('base64')
  return Buffer.from(JSON.stringify({ revision, identity, format, made_at: madeAt, key }))
}

function decodeHead(body: Buffer): SealedHead {
  const [text, revision, identity, format, madeAt, key] = HEAD_TEXT.exec(body.toString('latin1')) ?? []
  const wrappedKey = Buffer.from(key ?? '', 'base64')
  if (text === undefined || wrappedKey.toString('base64') !== key || !hasRootKey(wrappedKey))
    throw new DamagedBackup('the backup is damaged: its head is malformed')
  return { revision: Number(revision), identity, format: Number(format), madeAt, wrappedKey }
}

/** Whether the id of the root key may be printed: nothing is authentic yet. */
function hasRootKey(wrappedKey: Uint8Array): boolean {
  try {
    return isId(wrappedBy(wrappedKey))
  } catch (error) {
    if (error instanceof UnwrapError) return false
    throw error
  }
}

/** `value` is a copy, because callers keep entries while the next frames are read. */
function decodeEntryBody(body: Buffer, number: number): BackupEntry {
  const length = body.readUInt16BE()
  if (length === 0 || length > KEY_BYTES || 2 + length > body.length) throw misplaced(number)
  const key = body.toString('latin1', 2, 2 + length)
  return { key, value: new Uint8Array(body.subarray(2 + length)) }
}

async function readEnd(bytes: ByteReader, body: Buffer, number: number): Promise<AuthenticEnd> {
  const entries = Number(body.readBigUInt64BE())
  const mappings = Number(body.readBigUInt64BE(8))
  const digest = body.toString('hex', 16)
  const mac = bytes.mac()
  const found = await bytes.takeLast(BACKUP_MAC_BYTES)
  if (!found) throw cutOff(bytes.taken)
  if (!timingSafeEqual(found, mac))
    throw new DamagedBackup(
      'the backup was changed: its parts match their checksums, but not the authentication code at its end',
    )
  if (await bytes.more()) throw new DamagedBackup('the backup is damaged: bytes follow its end')
  if (number !== entries + 1) throw misplaced(number)
  return { entries, mappings, digest, bytes: bytes.taken }
}

function misplaced(number: number): DamagedBackup {
  return new DamagedBackup(`the backup is damaged: part ${number} is malformed or misplaced`)
}

function cutOff(length: number): DamagedBackup {
  return new DamagedBackup(
    `the backup is cut off after ${length} bytes: writing or copying the file was not finished`,
  )
}

/** Reads exact lengths from chunks of any length, and authenticates all bytes read. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>
  #mac: Hmac | undefined
  /** Bytes taken before the key of the HMAC is known. */
  readonly #before: Buffer[] = []
  #chunk: Uint8Array = new Uint8Array(0)
  #offset = 0
  /** Number of bytes taken so far; after a short read the length of the source. */
  taken = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** The key of the HMAC over all bytes from the first byte on. */
  authenticate(key: KeyObject): void {
    assert(!this.#mac, 'a backup has one head')
    this.#mac = backupMac(key)
    for (const bytes of this.#before.splice(0)) this.#mac.update(bytes)
  }

  /** The next `length` bytes, valid until the next call; undefined where the source ends before. */
  async take(length: number): Promise<Buffer | undefined> {
    const bytes = await this.takeLast(length)
    if (bytes === undefined) return undefined
    if (this.#mac) this.#mac.update(bytes)
    else this.#before.push(Buffer.from(bytes))
    return bytes
  }

  /** As `take`, but the bytes do not count for the HMAC: the HMAC itself. */
  async takeLast(length: number): Promise<Buffer | undefined> {
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
    this.taken += length
    return parts.length === 1
      ? Buffer.from(parts[0].buffer, parts[0].byteOffset, length)
      : Buffer.concat(parts)
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

  /** HMAC of the bytes taken by `take`; called once. */
  mac(): Buffer {
    assert(this.#mac, 'the key of a backup is in its head, before its end')
    return this.#mac.digest()
  }

  async close(): Promise<void> {
    await this.#source.return?.()
  }
}
