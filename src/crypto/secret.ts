// Sealing one version of a secret: AES-256-GCM under a data key of its own, which the keyring wraps. Both are bound to
// owner, name and version, so that neither opens in another place.
import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { associatedData, type Keyring, UnwrapError } from './keyring.ts'

const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** How much longer a sealed value is than the value. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES

export type SecretPlace = { readonly owner: string; readonly name: string; readonly version: number }
export type SealedSecret = { readonly wrapped: Uint8Array; readonly sealed: Uint8Array }

/** What a data key is wrapped for: the associated data of its wrapping, and, with it, of the sealed value. */
export function dataKeyPlace({ owner, name, version }: SecretPlace): readonly string[] {
  return ['secret', owner, name, String(version)]
}

/** `sealed` is nonce, ciphertext, tag. */
export function sealSecret(ring: Keyring, where: SecretPlace, value: Uint8Array, clock: Clock): SealedSecret {
  const random = clock.random(KEY_BYTES + NONCE_BYTES)
  const key = random.subarray(0, KEY_BYTES)
  const nonce = random.subarray(KEY_BYTES)
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), nonce)
  cipher.setAAD(associatedData(dataKeyPlace(where)))
  const sealed = Buffer.concat([nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()])
  return { wrapped: ring.wrap(key, dataKeyPlace(where), clock), sealed }
}

/** Throws UnknownRootKey, UnwrapError. */
export function openSecret(ring: Keyring, where: SecretPlace, { wrapped, sealed }: SealedSecret): Buffer {
  const key = createSecretKey(ring.unwrap(wrapped, dataKeyPlace(where)))
  const tagAt = sealed.length - TAG_BYTES
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES))
  decipher.setAAD(associatedData(dataKeyPlace(where)))
  decipher.setAuthTag(sealed.subarray(tagAt))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, tagAt)), decipher.final()])
  } catch {
    throw new UnwrapError(`version ${where.version} of a secret does not open under its data key`)
  }
}
