// Root keys wrap epoch keys and data keys. A keyring has one or more root keys; the active root key wraps new
// keys. To change the active root key: add the new root key on every node, activate, rewrap, remove the old
// root key.
import { createHash, createSecretKey, type KeyObject } from 'node:crypto'
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { OperatorError } from '../errors.ts'
import { isId } from '../wire.ts'
import { NONCE_BYTES, open, seal } from './aead.ts'
import { EpochKey } from './epoch-key.ts'

const WRAP_VERSION = 2
/** Every node names all its root keys in the ledger. */
const MOST_ROOT_KEYS = 1000

type RootKey = { readonly id: string; readonly key: Uint8Array; readonly createdAt: string }

/** The keyring file is not of the documented form. */
export class KeyringError extends OperatorError {
  override readonly name = 'KeyringError'
}

/** The keyring lacks the root key of a wrapped key. */
export class UnknownRootKey extends OperatorError {
  override readonly name = 'UnknownRootKey'
  readonly rootKey: string
  constructor(rootKey: string) {
    super(`the keyring has no root key ${rootKey}`)
    this.rootKey = rootKey
  }
}

/** A wrapped key does not open: other bytes, another root key under the same id, or other parts. */
export class UnwrapError extends OperatorError {
  override readonly name = 'UnwrapError'
}

export class Keyring {
  readonly active: string
  /** True where the operator asks for a rewrap of all keys by the active root key. */
  readonly rewrap: boolean
  readonly #keys: ReadonlyMap<string, RootKey>
  /** Key objects: a cipher takes an object four times faster than bytes. */
  readonly #objects: ReadonlyMap<string, KeyObject>

  constructor(keys: readonly RootKey[], active: string, rewrap = false) {
    this.#keys = new Map(keys.map((key) => [key.id, key]))
    this.#objects = new Map(keys.map(({ id, key }) => [id, createSecretKey(key)]))
    if (keys.length > MOST_ROOT_KEYS)
      throw new KeyringError(
        `the keyring has more than ${MOST_ROOT_KEYS} root keys: rewrap, and remove old ones`,
      )
    if (this.#keys.size !== keys.length) throw new KeyringError('two root keys have the same id')
    if (!this.#keys.has(active)) throw new KeyringError(`the active root key ${active} is not in the keyring`)
    this.active = active
    this.rewrap = rewrap
  }

  static create(clock: Clock): Keyring {
    const key = newRootKey(clock)
    return new Keyring([key], key.id)
  }

  get ids(): readonly string[] {
    return [...this.#keys.keys()]
  }

  get rootKeys(): readonly RootKey[] {
    return [...this.#keys.values()]
  }

  add(key: RootKey): Keyring {
    return new Keyring([...this.#keys.values(), key], this.active, this.rewrap)
  }

  activate(id: string): Keyring {
    return new Keyring([...this.#keys.values()], id, this.rewrap)
  }

  askRewrap(rewrap: boolean): Keyring {
    return new Keyring([...this.#keys.values()], this.active, rewrap)
  }

  remove(id: string): Keyring {
    if (id === this.active)
      throw new KeyringError(`root key ${id} is active: activate another root key first`)
    if (!this.#keys.has(id)) throw new KeyringError(`the keyring has no root key ${id}`)
    return new Keyring(
      [...this.#keys.values()].filter((key) => key.id !== id),
      this.active,
      this.rewrap,
    )
  }

  /** Seals a key under the active root key, bound to `parts` and to the root key's id. */
  wrap(secret: Uint8Array, parts: readonly string[], clock: Clock): Uint8Array {
    const key = this.#objects.get(this.active)
    assert(key, 'the keyring has its active root key')
    const id = Buffer.from(this.active, 'latin1')
    const sealed = seal(secret, clock.random(NONCE_BYTES), { key, parts: [this.active, ...parts] })
    return Buffer.concat([Uint8Array.of(WRAP_VERSION, id.length), id, sealed])
  }

  /** Throws UnknownRootKey, UnwrapError. */
  unwrap(wrapped: Uint8Array, parts: readonly string[]): Uint8Array {
    const id = wrappedBy(wrapped)
    const key = this.#objects.get(id)
    if (!key) throw new UnknownRootKey(id)
    const secret = open(wrapped.subarray(2 + wrapped[1]), { key, parts: [id, ...parts] })
    if (!secret) throw new UnwrapError(`root key ${id} does not open the wrapped key of ${parts.join(' ')}`)
    return new Uint8Array(secret)
  }

  /** The keys of an epoch, from the wrapped key of the epoch. Throws UnknownRootKey, UnwrapError. */
  epochKey(owner: string, epoch: number, wrapped: Uint8Array): EpochKey {
    return new EpochKey(owner, epoch, this.unwrap(wrapped, ['epoch', owner, String(epoch)]))
  }

  /** The keyring file: JSON, to be kept at mode 0600. */
  serialize(): string {
    const keys = [...this.#keys.values()].map((key) => ({
      id: key.id,
      key: Buffer.from(key.key).toString('base64'),
      created_at: key.createdAt,
    }))
    const rewrap = this.rewrap ? { rewrap: true } : {}
    return `${JSON.stringify({ format: 1, active: this.active, ...rewrap, root_keys: keys }, null, 2)}\n`
  }

  /** As `parse`, of the text of a file: the message names the file, and the next step. */
  static parseFile(text: string, path: string): Keyring {
    try {
      return Keyring.parse(text)
    } catch (error) {
      if (!(error instanceof KeyringError)) throw error
      const hint =
        'put the right file in place, from where it is kept safe or from keyring.json.old beside it'
      throw new KeyringError(`${path}: ${error.message}`, { cause: error, hint })
    }
  }

  /** Throws KeyringError; its text never holds a key. */
  static parse(text: string): Keyring {
    let file: unknown
    try {
      file = JSON.parse(text)
    } catch {
      throw new KeyringError('the keyring is not JSON')
    }
    if (!isRecord(file) || file.format !== 1) throw new KeyringError('the keyring has no "format": 1')
    if (!Array.isArray(file.root_keys)) throw new KeyringError('the keyring has no list "root_keys"')
    if (typeof file.active !== 'string') throw new KeyringError('the keyring names no "active" root key')
    if (file.rewrap !== undefined && file.rewrap !== true)
      throw new KeyringError('the keyring\'s "rewrap" is not true: remove it or make it true')
    checkMembers(file, ['format', 'active', 'rewrap', 'root_keys'], 'the keyring')
    return new Keyring(file.root_keys.map(parseRootKey), file.active, file.rewrap === true)
  }
}

export function newRootKey(clock: Clock): RootKey {
  const key = new Uint8Array(clock.random(32))
  // The id is a hash of the key, so that two different keys never have the same id.
  const hash = createHash('sha256').update('coffer/1/root-key-id\0').update(key).digest('hex')
  return { id: `rk-${hash.slice(0, 12)}`, key, createdAt: new Date(clock.now()).toISOString() }
}

/** The id of the root key of a wrapped key. Throws UnwrapError for bytes of another form. */
export function wrappedBy(wrapped: Uint8Array): string {
  const length = wrapped[1]
  if (wrapped[0] !== WRAP_VERSION || length === 0 || wrapped.length < 2 + length) {
    throw new UnwrapError('the wrapped key is not of a known form')
  }
  if (!isLastRootKey(wrapped)) {
    const bytes = Buffer.from(wrapped.subarray(2, 2 + length))
    lastRootKey = { id: bytes.toString('latin1'), bytes }
  }
  return lastRootKey.id
}

/**
 * The last id: wrapped keys mostly have the root key of the wrapped key before, and millions of versions of
 * secrets then share a single text in memory.
 */
let lastRootKey = { id: '', bytes: Buffer.alloc(0) }

function isLastRootKey(wrapped: Uint8Array): boolean {
  const { bytes } = lastRootKey
  if (wrapped[1] !== bytes.length) return false
  for (let i = 0; i < bytes.length; i++) if (wrapped[i + 2] !== bytes[i]) return false
  return true
}

function parseRootKey(entry: unknown, index: number): RootKey {
  const where = `root_keys[${index}]`
  if (!isRecord(entry)) throw new KeyringError(`${where} is not an object`)
  const { id, key, created_at: createdAt } = entry
  if (typeof id !== 'string' || !isId(id)) throw new KeyringError(`${where}.id is not an id`)
  if (typeof createdAt !== 'string' || Number.isNaN(Date.parse(createdAt)))
    throw new KeyringError(`${where}.created_at is not a time`)
  const bytes = typeof key === 'string' ? Buffer.from(key, 'base64') : Buffer.alloc(0)
  // Buffer.from skips characters outside of base64, so the text is compared with the text of the bytes.
  if (bytes.length !== 32 || bytes.toString('base64') !== key)
    throw new KeyringError(`${where}.key is not 32 bytes of base64`)
  checkMembers(entry, ['id', 'key', 'created_at'], where)
  return { id, key: new Uint8Array(bytes), createdAt }
}

/**
 * The next write of the file would lose a misspelt member. The error does not repeat the name, which may be a
 * key.
 */
function checkMembers(record: Record<string, unknown>, known: readonly string[], where: string): void {
  if (Object.keys(record).some((name) => !known.includes(name)))
    throw new KeyringError(`${where} has a member beside ${known.join(', ')}: remove it`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
