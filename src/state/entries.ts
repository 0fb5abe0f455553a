// The ledger's entries and their bytes. Every entry begins with the header of writer.ts. Segments, versions
// of secrets and receipts follow in binary (segment.ts, version.ts, receipt.ts), all other kinds as JSON with
// exactly the members listed here. Decoding refuses every form that encoding never writes.
import { assert, unreachable } from '../assert.ts'
import { wrappedBy } from '../crypto/keyring.ts'
import { assertLength, type LedgerKey, parseKey } from './ledger-keys.ts'
import { decodeReceipt, encodeReceipt, type Receipt } from './receipt.ts'
import { decodeSegment, type Segment } from './segment.ts'
import { decodeVersion, encodeVersion, type SecretVersion } from './version.ts'
import {
  CorruptEntry,
  checkHeader,
  encodeWriter,
  LEDGER_FORMAT,
  OtherFormat,
  WRITER_BYTES,
  type Writer,
} from './writer.ts'

export type Genesis = {
  readonly kind: 'genesis'
  /** Random, 32 hex digits, never reused. */
  readonly identity: string
  /** LEDGER_FORMAT: a genesis of another format is not read. */
  readonly format: number
  /** Wrapped key for receipts' MACs. The right keyring is the keyring that unwraps the key. */
  readonly receiptKey: Uint8Array
}
type Boot = { readonly kind: 'boot'; readonly boot: string; readonly node: string }
/** The configuration that a node has read last: all nodes of a vault must agree. */
export type NodeEntry = {
  readonly kind: 'node'
  readonly node: string
  /** Hash of its configured fields. */
  readonly fields: string
  /** Ids of the root keys in its keyring; `active` is one of them. */
  readonly rootKeys: readonly string[]
  readonly active: string
}
export type ActiveEpoch = { readonly kind: 'epoch'; readonly owner: string; readonly active: number }
export type WrappedEpochKey = {
  readonly kind: 'key'
  readonly owner: string
  readonly epoch: number
  readonly wrapped: Uint8Array
  /** RFC 3339, by the clock of the node that opened the epoch. */
  readonly openedAt: string
}
/** Stands in place of a wrapped epoch key: the epoch never resolves again. */
export type Tombstone = {
  readonly kind: 'tombstone'
  readonly owner: string
  readonly epoch: number
  /** As in the wrapped key before. */
  readonly openedAt: string
}

export type Entry =
  | Genesis
  | Boot
  | NodeEntry
  | ActiveEpoch
  | WrappedEpochKey
  | Tombstone
  | SecretVersion
  | Receipt
  | Segment

/** Bytes of an entry; segments are packed by segment.ts. */
export function encodeEntry(entry: Exclude<Entry, Segment>, writer: Writer): Uint8Array {
  const bytes = encode(entry, writer)
  assertLength(entry.kind === 'tombstone' ? 'key' : entry.kind, bytes.length)
  return bytes
}

function encode(entry: Exclude<Entry, Segment>, writer: Writer): Uint8Array {
  if (entry.kind === 'version') return encodeVersion(entry, writer)
  if (entry.kind === 'receipt') return encodeReceipt(entry, writer)
  const text = Buffer.from(JSON.stringify(body(entry)), 'utf8')
  const bytes = encodeWriter(writer, text.length)
  bytes.set(text, WRITER_BYTES)
  return bytes
}

type JsonEntry = Exclude<Entry, Segment | SecretVersion | Receipt>

function body(entry: JsonEntry): Record<string, unknown> {
  switch (entry.kind) {
    case 'genesis':
      assert(entry.format === LEDGER_FORMAT, 'a new entry has the format of this version')
      return { identity: entry.identity, format: entry.format, receipt_key: base64(entry.receiptKey) }
    case 'boot':
      return { node: entry.node }
    case 'node':
      return { fields: entry.fields, root_keys: entry.rootKeys.join(' '), active: entry.active }
    case 'epoch':
      return { active: entry.active }
    case 'key':
      assert(isInstant(entry.openedAt), 'an epoch is opened at an instant')
      return { wrapped: base64(entry.wrapped), opened_at: entry.openedAt }
    case 'tombstone':
      assert(isInstant(entry.openedAt), 'an epoch is opened at an instant')
      return { tombstone: true, opened_at: entry.openedAt }
    default:
      return unreachable(entry)
  }
}

/** The entry under a key; undefined under a foreign key. Throws CorruptEntry, OtherFormat. */
export function decodeEntry(key: string, bytes: Uint8Array): Entry | undefined {
  const name = parseKey(key)
  if (name === undefined) return undefined
  checkHeader(bytes)
  if (name.kind === 'segment') return decodeSegment(bytes, name.boot, name.n)
  if (name.kind === 'version') return decodeVersion(bytes, name)
  if (name.kind === 'receipt') return decodeReceipt(bytes, name)
  return decodeJson(name, bytes, key)
}

type JsonKey = Exclude<LedgerKey, { kind: 'segment' | 'version' | 'receipt' }>

function decodeJson(name: JsonKey, bytes: Uint8Array, key: string): Entry {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).subarray(WRITER_BYTES)
  let json: unknown
  try {
    json = JSON.parse(text.toString('utf8'))
  } catch {
    throw new CorruptEntry(`the entry ${key} is not JSON`)
  }
  const entry = readMembers(name, new Members(json, key))
  // No other white space, order or member; as bytes, since those that are no UTF-8 are read as U+FFFD.
  if (!Buffer.from(JSON.stringify(body(entry))).equals(text))
    throw new CorruptEntry(`the entry ${key} is not as entries are written`)
  return entry
}

function readMembers(name: JsonKey, read: Members): JsonEntry {
  switch (name.kind) {
    case 'genesis': {
      const format = read.integer('format')
      // Before the other members, which may differ.
      if (format !== LEDGER_FORMAT) throw new OtherFormat('the ledger', format)
      return { ...name, identity: read.text('identity'), format, receiptKey: read.wrappedKey('receipt_key') }
    }
    case 'boot':
      return { ...name, node: read.text('node') }
    case 'node': {
      const rootKeys = read.text('root_keys').split(' ')
      return { ...name, fields: read.text('fields'), rootKeys, active: read.text('active') }
    }
    case 'epoch':
      return { ...name, active: read.integer('active') }
    case 'key': {
      const openedAt = read.instant('opened_at')
      if (read.has('tombstone')) return { ...name, kind: 'tombstone', openedAt }
      return { ...name, wrapped: read.wrappedKey('wrapped'), openedAt }
    }
    default:
      return unreachable(name)
  }
}

/** Reader of a JSON object. Throws CorruptEntry where a member is missing or has another type. */
class Members {
  readonly #members: Record<string, unknown>
  readonly #key: string

  constructor(json: unknown, key: string) {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      throw new CorruptEntry(`the entry ${key} is not an object`)
    }
    this.#members = json as Record<string, unknown> // just checked: a plain JSON object
    this.#key = key
  }

  text(name: string): string {
    const value = this.#members[name]
    if (typeof value !== 'string') throw this.#bad(name)
    return value
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#members, name)
  }

  instant(name: string): string {
    const text = this.text(name)
    if (!isInstant(text)) throw this.#bad(name)
    return text
  }

  integer(name: string): number {
    const value = this.#members[name]
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) throw this.#bad(name)
    return value
  }

  wrappedKey(name: string): Uint8Array {
    const bytes = new Uint8Array(Buffer.from(this.text(name), 'base64'))
    try {
      wrappedBy(bytes)
    } catch {
      throw this.#bad(name)
    }
    return bytes
  }

  #bad(name: string): CorruptEntry {
    return new CorruptEntry(`the entry ${this.#key} has no valid ${name}`)
  }
}

/** As a Date writes an instant. */
function isInstant(text: string): boolean {
  const time = Date.parse(text)
  return !Number.isNaN(time) && new Date(time).toISOString() === text
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
