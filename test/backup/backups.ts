// Ledgers to back up, backups of them, and the frames of a backup to be changed.
import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import { verifyBackup, writeBackup } from '../../src/backup/backup.ts'
import { EntryDigest } from '../../src/backup/entry-digest.ts'
import type { BackupEntry } from '../../src/backup/file.ts'
import { restore } from '../../src/backup/restore.ts'
import { type Clock, Deadline, systemClock } from '../../src/clock.ts'
import { SEAL_BYTES } from '../../src/crypto/aead.ts'
import { backupMac, openBackupKey } from '../../src/crypto/backup-key.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { MemoryLedger } from '../../src/ledger/memory.ts'
import { encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey, snapshotRanges } from '../../src/state/ledger-keys.ts'
import type { Receipt } from '../../src/state/receipt.ts'
import { encodeSegment } from '../../src/state/segment.ts'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'
import { mappingsOf } from '../mappings.ts'

export const BOOT = 'a'.repeat(32)
export const IDENTITY = 'f'.repeat(32)
export const keyring = Keyring.create(systemClock)
export const writer = { boot: BOOT, commit: 7 }
const wrapped = keyring.wrap(systemClock.random(32), ['epoch', 'o', '1'], systemClock)

const receiptKey = keyring.wrap(systemClock.random(32), ['receipts'], systemClock)

export function genesisOf(format: number = LEDGER_FORMAT): Uint8Array {
  const genesis = { kind: 'genesis', identity: IDENTITY, format: LEDGER_FORMAT, receiptKey } as const
  const text = Buffer.from(encodeEntry(genesis, writer)).toString('latin1')
  return Buffer.from(text.replace(`"format":${LEDGER_FORMAT}`, `"format":${format}`), 'latin1')
}

/** Bodies made of `first` and what follows. */
export function segment(owner: string, first: number, count: number): Uint8Array {
  const words = Uint32Array.from({ length: count * 4 }, (_, i) => Math.imul(first * 4 + i + 1, 2654435761))
  const mappings = {
    ...mappingsOf(new Array(count).fill(2)),
    bodies: new Uint8Array(words.buffer),
    bytes: new Uint8Array(count * 16).fill(first & 255),
  }
  return encodeSegment({ owner, epoch: 1, writer }, [{ mappings, from: 0, to: count }])
}

export function epoch(owner: string, active: number): [string, Uint8Array] {
  return [ledgerKey.epoch(owner), encodeEntry({ kind: 'epoch', owner, active }, writer)]
}

/** `sealed`: how many bytes of a value, as if sealed. */
export function version(name: string, number: number, sealed = 40): [string, Uint8Array] {
  const entry = encodeEntry(
    {
      kind: 'version',
      owner: 'o',
      name,
      version: number,
      validFrom: number * 1000,
      keyId: 'k1',
      requestId: `request-${number}`,
      wrapped,
      sealed: systemClock.random(sealed),
    },
    writer,
  )
  return [ledgerKey.version('o', name, number), entry]
}

export async function put(ledger: Ledger, ...puts: (readonly [string, Uint8Array | null])[]): Promise<void> {
  const result = await ledger.commit(
    { if: [], put: puts.map(([key, value]) => ({ key, value })) },
    Deadline.never,
  )
  assert.ok(result.ok)
}

/** A ledger with a genesis, a boot, an epoch and its key; then `segments` of ten mappings each. */
export async function filled(segments = 3, ledger: Ledger = new MemoryLedger()): Promise<Ledger> {
  await put(ledger, [ledgerKey.genesis, genesisOf()])
  await put(ledger, [ledgerKey.boot(BOOT), encodeEntry({ kind: 'boot', boot: BOOT, node: 'n1' }, writer)])
  const openedAt = '2026-01-01T00:00:00.000Z'
  const key = encodeEntry({ kind: 'key', owner: 'o', epoch: 1, wrapped, openedAt }, writer)
  await put(ledger, epoch('o', 1), [ledgerKey.wrappedKey('o', 1), key])
  for (let n = 1; n <= segments; n++)
    await put(ledger, [ledgerKey.segment(BOOT, n), segment('o', n * 10, 10)])
  return ledger
}

/** Small entries of every kind, a tombstone among them, then full segments, then secrets of 64 KiB. */
export async function mixed(ledger: Ledger, { small = 300, large = 40 } = {}): Promise<Ledger> {
  await filled(0, ledger)
  const openedAt = '2026-01-01T00:00:00.000Z'
  for (let i = 0; i < small; i++) {
    const owner = `owner-${i}`
    const hash = String(i).padStart(64, '0')
    const receipt = { kind: 'receipt', owner, hash, mac: new Uint8Array(32), at: i, version: 1, validFrom: i }
    await put(
      ledger,
      epoch(owner, 2),
      [ledgerKey.wrappedKey(owner, 1), encodeEntry({ kind: 'tombstone', owner, epoch: 1, openedAt }, writer)],
      [
        ledgerKey.wrappedKey(owner, 2),
        encodeEntry({ kind: 'key', owner, epoch: 2, wrapped, openedAt }, writer),
      ],
      [ledgerKey.receipt(owner, hash), encodeEntry(receipt as Receipt, writer)],
      version(`small-${i}`, 1),
      [ledgerKey.segment(BOOT, i + 1), segment(owner, i, 1)],
    )
  }
  for (let i = 0; i < large; i++)
    await put(ledger, [ledgerKey.segment(BOOT, small + i + 1), segment('o', 1000 * i, 3900)])
  for (let i = 0; i < large; i++) await put(ledger, version(`large-${i}`, 1, 64 * 1024 + SEAL_BYTES))
  return ledger
}

export type Made = { readonly bytes: Buffer; readonly written: Awaited<ReturnType<typeof writeBackup>> }

/** `meanwhile`: called with each part of the file, while the rest of the ledger is still to be read. */
export async function backupOf(
  ledger: Ledger,
  { ring = keyring, meanwhile = async () => undefined as unknown } = {},
): Promise<Made> {
  const chunks: Uint8Array[] = []
  const sink = async (chunk: Uint8Array): Promise<void> => {
    chunks.push(chunk)
    await meanwhile()
  }
  const checked = new CheckedLedger(ledger)
  const written = await writeBackup({ ledger: checked, keyring: ring, sink, clock: systemClock })
  return { bytes: Buffer.concat(chunks), written }
}

/** In pieces, so that nothing lies in one of them by chance. */
export async function* pieces(bytes: Uint8Array, length = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length)
}

export function verified(bytes: Uint8Array, ring = keyring): ReturnType<typeof verifyBackup> {
  return verifyBackup(pieces(bytes), { keyring: ring })
}

/** Verifies, then restores. `again`: the file as it is found after the verification. */
export async function restored(
  bytes: Uint8Array,
  ledger: Ledger,
  { clock = systemClock, again = bytes }: { clock?: Clock; again?: Uint8Array } = {},
): Promise<string> {
  const backup = await verified(bytes)
  return restore({ ledger: new CheckedLedger(ledger), open: () => pieces(again), keyring, backup, clock })
}

/** Key to bytes in hex, without revisions. */
export async function entriesOf(ledger: Ledger): Promise<Map<string, string>> {
  const entries = new Map<string, string>()
  for await (const { key, value } of (await ledger.snapshot(snapshotRanges([]))).entries) {
    entries.set(key, Buffer.from(value).toString('hex'))
  }
  return entries
}

export const MAGIC_BYTES = 16
export const MAC_BYTES = 32
export const KIND = { head: 1, entry: 2, end: 3 } as const

/** `start`: of the frame, in the file. */
export type Frame = { readonly kind: number; readonly start: number; readonly body: Buffer }

export function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = []
  for (let start = MAGIC_BYTES; start < bytes.length - MAC_BYTES; ) {
    const length = bytes.readUInt32BE(start + 1)
    const body = Buffer.from(bytes.subarray(start + 9, start + 9 + length))
    frames.push({ kind: bytes[start], start, body })
    start += 9 + length
  }
  return frames
}

/** A file of the frames, up to its end frame: all that needs no key is computed. */
export function bytesOf(frames: readonly Pick<Frame, 'kind' | 'body'>[]): Buffer {
  const parts = frames.flatMap(({ kind, body }, number) => {
    const head = Buffer.alloc(9)
    head[0] = kind
    head.writeUInt32BE(body.length, 1)
    head.writeUInt32BE(crc32(body, crc32(head.subarray(0, 5), number)), 5)
    return [head, body]
  })
  return Buffer.concat([Buffer.from('coffer backup 2\n'), ...parts])
}

/** The file that a holder of the keyring makes of the frames, under the key in their head. */
export function sealed(frames: readonly Pick<Frame, 'kind' | 'body'>[]): Buffer {
  const { revision, identity, format, made_at: madeAt, key } = JSON.parse(frames[0].body.toString('latin1'))
  const bound = ['2', String(revision), identity, String(format), madeAt]
  const mac = backupMac(openBackupKey(Buffer.from(key, 'base64'), bound, keyring))
  const file = bytesOf(frames)
  return Buffer.concat([file, mac.update(file).digest()])
}

export function entryOf({ body }: Pick<Frame, 'body'>): BackupEntry {
  const length = body.readUInt16BE()
  return { key: body.toString('latin1', 2, 2 + length), value: body.subarray(2 + length) }
}

export function entryFrame({ key, value }: BackupEntry): Pick<Frame, 'kind' | 'body'> {
  const body = Buffer.concat([Buffer.alloc(2), Buffer.from(key, 'latin1'), value])
  body.writeUInt16BE(key.length)
  return { kind: KIND.entry, body }
}

/** The end frame that fits the entries. */
export function endFrame(entries: readonly BackupEntry[]): Pick<Frame, 'kind' | 'body'> {
  const digest = new EntryDigest()
  for (const { key, value } of entries) digest.add(key, value)
  const body = Buffer.alloc(48)
  body.writeBigUInt64BE(BigInt(digest.entries))
  body.writeBigUInt64BE(BigInt(digest.mappings), 8)
  body.write(digest.digest(), 16, 'hex')
  return { kind: KIND.end, body }
}
