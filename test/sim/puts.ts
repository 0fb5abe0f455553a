// Entries of every kind as bytes, made of a few words: the same words always make the same bytes.
import { createHash } from 'node:crypto'
import type { Clock } from '../../src/clock.ts'
import { SEAL_BYTES } from '../../src/crypto/aead.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { type Entry, encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { encodeSegment } from '../../src/state/segment.ts'
import { LEDGER_FORMAT } from '../../src/state/writer.ts'

/** A null value removes the key. */
export type TestPut = { readonly key: string; readonly value: Uint8Array | null }

/** 1 January 2026, milliseconds since 1970. */
export const SOME_TIME = 1_767_225_600_000

/** `length` bytes that look random, made of a text. */
export function bytesOf(text: string, length: number): Buffer {
  return createHash('shake256', { outputLength: length }).update(text).digest()
}

/** A boot of a short name: hex digits. */
export const bootOf = (name: string): string => name.repeat(32).slice(0, 32)

/** The token body of mapping number `id`. */
export const bodyOf = (id: number): Buffer => bytesOf(`body ${id}`, 16)

/** The hash of a receipt of a short name. */
export const hashOf = (name: string): string => bytesOf(`receipt ${name}`, 32).toString('hex')

/** The sealed value of mapping number `id`, of `units` times 8 bytes. */
export const sealedOf = (id: number, units: number): Buffer => bytesOf(`sealed ${id}`, 8 * units)

/** A key of 32 bytes, wrapped by the root key of the id. */
function wrappedBy(rootKey: string, what: string): Uint8Array {
  const clock: Clock = { now: () => 0, monotonic: () => 0, random: (length) => bytesOf(what, length) }
  const keyring = new Keyring([{ id: rootKey, key: bytesOf(rootKey, 32), createdAt: '' }], rootKey)
  return keyring.wrap(bytesOf(`key ${what}`, 32), [what], clock)
}

type SegmentOf = {
  readonly boot: string
  readonly n: number
  readonly owner: string
  readonly epoch: number
  /** Numbers of the mappings. */
  readonly ids: readonly number[]
  readonly units?: number
}

export function segmentPut({ boot, n, owner, epoch, ids, units = 2 }: SegmentOf): TestPut {
  const mappings = {
    count: ids.length,
    bodies: new Uint8Array(Buffer.concat(ids.map(bodyOf))),
    sizes: new Uint32Array(ids.length).fill(units),
    offset: Uint32Array.from(ids, (_, i) => i * units),
    bytes: new Uint8Array(Buffer.concat(ids.map((id) => sealedOf(id, units)))),
  }
  const writer = { boot: bootOf(boot), commit: n }
  const value = encodeSegment({ owner, epoch, writer }, [{ mappings, from: 0, to: ids.length }])
  return { key: ledgerKey.segment(writer.boot, n), value }
}

type VersionOf = {
  readonly owner: string
  readonly name: string
  readonly version: number
  readonly validFrom: number
  readonly rootKey: string
  readonly text: string
}

export function versionPut({ text, rootKey, ...place }: VersionOf): TestPut {
  const key = ledgerKey.version(place.owner, place.name, place.version)
  const sealed = bytesOf(`${key} ${text}`, SEAL_BYTES + text.length)
  const wrapped = wrappedBy(rootKey, key)
  return put(key, { kind: 'version', ...place, keyId: 'k1', requestId: `r-${text}`, wrapped, sealed })
}

export function receiptPut(owner: string, name: string): TestPut {
  const hash = hashOf(name)
  const mac = bytesOf(`mac ${name}`, 32)
  const entry = {
    kind: 'receipt',
    owner,
    hash,
    mac,
    at: SOME_TIME,
    version: 1,
    validFrom: SOME_TIME,
  } as const
  return put(ledgerKey.receipt(owner, hash), entry)
}

export function receiptRemoval(owner: string, name: string): TestPut {
  return { key: ledgerKey.receipt(owner, hashOf(name)), value: null }
}

export function epochPut(owner: string, active: number): TestPut {
  return put(ledgerKey.epoch(owner), { kind: 'epoch', owner, active })
}

const openedAt = (epoch: number): string => new Date(SOME_TIME + epoch * 1000).toISOString()

export function keyPut(owner: string, epoch: number, rootKey: string): TestPut {
  const key = ledgerKey.wrappedKey(owner, epoch)
  const wrapped = wrappedBy(rootKey, key)
  return put(key, { kind: 'key', owner, epoch, wrapped, openedAt: openedAt(epoch) })
}

export function tombstonePut(owner: string, epoch: number): TestPut {
  const key = ledgerKey.wrappedKey(owner, epoch)
  return put(key, { kind: 'tombstone', owner, epoch, openedAt: openedAt(epoch) })
}

export function genesisPut(identity: string, rootKey: string): TestPut {
  const receiptKey = wrappedBy(rootKey, 'receipts')
  return put(ledgerKey.genesis, { kind: 'genesis', identity, format: LEDGER_FORMAT, receiptKey })
}

export function bootPut(boot: string, node: string): TestPut {
  return put(ledgerKey.boot(bootOf(boot)), { kind: 'boot', boot: bootOf(boot), node })
}

export function nodePut(node: string, rootKeys: readonly string[]): TestPut {
  const fields = bytesOf('fields', 32).toString('hex')
  return put(ledgerKey.node(node), { kind: 'node', node, fields, rootKeys, active: rootKeys[0] })
}

function put(key: string, entry: Exclude<Entry, { kind: 'segment' }>): TestPut {
  return { key, value: encodeEntry(entry, { boot: bootOf('0'), commit: 1 }) }
}
