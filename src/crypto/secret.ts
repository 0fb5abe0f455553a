// Seals a version of a secret: AES-256-GCM with a fresh data key, wrapped by the keyring. The wrapped data
// key and the sealed value are bound to all that the version tells in clear: neither opens for another
// version, or with another time or author.
import { createSecretKey } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { NONCE_BYTES, open, seal } from './aead.ts'
import { type Keyring, UnwrapError } from './keyring.ts'

const KEY_BYTES = 32

/** The part of a version in clear. */
export type SecretVersionId = {
  readonly owner: string
  readonly name: string
  readonly version: number
  /** Milliseconds since 1970. */
  readonly validFrom: number
  readonly keyId: string
  readonly requestId: string
}
type SealedSecret = { readonly wrapped: Uint8Array; readonly sealed: Uint8Array }

/** The parts of the associated data of the data key and of the value. */
export function dataKeyContext(id: SecretVersionId): readonly string[] {
  return ['secret', id.owner, id.name, String(id.version), String(id.validFrom), id.keyId, id.requestId]
}

export function sealSecret(
  ring: Keyring,
  id: SecretVersionId,
  value: Uint8Array,
  clock: Clock,
): SealedSecret {
  const parts = dataKeyContext(id)
  const random = clock.random(KEY_BYTES + NONCE_BYTES)
  const key = random.subarray(0, KEY_BYTES)
  const sealed = seal(value, random.subarray(KEY_BYTES), { key: createSecretKey(key), parts })
  return { wrapped: ring.wrap(key, parts, clock), sealed }
}

/** Throws UnknownRootKey, UnwrapError. */
export function openSecret(ring: Keyring, id: SecretVersionId, { wrapped, sealed }: SealedSecret): Buffer {
  const parts = dataKeyContext(id)
  const key = createSecretKey(ring.unwrap(wrapped, parts))
  const value = open(sealed, { key, parts })
  if (!value) throw new UnwrapError(`version ${id.version} of a secret does not open under its data key`)
  return value
}
