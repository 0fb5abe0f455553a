// Authenticated encryption: AES-256-GCM (NIST SP 800-38D). Sealed bytes are nonce, ciphertext and tag.
import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto'

const CIPHER = 'aes-256-gcm'
/** A nonce is used once with a key. */
export const NONCE_BYTES = 12
const TAG_BYTES = 16
/** How much longer sealed bytes are than the bytes in clear. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES

/**
 * The key, and the parts of the associated data: sealed bytes open only with the same key and the same parts.
 */
type SealContext = { readonly key: KeyObject; readonly parts: readonly string[] }

export function seal(clear: Uint8Array, nonce: Uint8Array, { key, parts }: SealContext): Buffer {
  const cipher = createCipheriv(CIPHER, key, nonce)
  cipher.setAAD(associatedData(parts))
  return Buffer.concat([nonce, cipher.update(clear), cipher.final(), cipher.getAuthTag()])
}

/** Returns undefined for bytes that were sealed with another key or other parts, or were changed. */
export function open(sealed: Uint8Array, { key, parts }: SealContext): Buffer | undefined {
  const tagAt = sealed.length - TAG_BYTES
  if (tagAt < NONCE_BYTES) return undefined
  const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, NONCE_BYTES))
  decipher.setAAD(associatedData(parts))
  decipher.setAuthTag(sealed.subarray(tagAt))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, tagAt)), decipher.final()])
  } catch {
    return undefined
  }
}

/** Every part follows its length: different lists of parts never give the same bytes. */
function associatedData(parts: readonly string[]): Uint8Array {
  const texts = ['coffer/2', ...parts]
  const out = Buffer.allocUnsafe(texts.reduce((size, text) => size + 4 + Buffer.byteLength(text), 0))
  let at = 0
  for (const text of texts) {
    const length = out.write(text, at + 4, 'utf8')
    at = out.writeUInt32BE(length, at) + length
  }
  return out
}
