// Crockford's base32 in lower case: 0-9 and a-z without i, l, o and u. Five bytes are eight characters.

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'

/** Character codes by value. */
export const BASE32_ENCODE = new Uint8Array(32)
/** Values by character code; 255 for characters outside of the alphabet. */
export const BASE32_DECODE = new Uint8Array(256).fill(255)
for (let i = 0; i < 32; i++) {
  BASE32_ENCODE[i] = ALPHABET.charCodeAt(i)
  BASE32_DECODE[ALPHABET.charCodeAt(i)] = i
}

/** The text of any number of bytes; the last character is padded with zero bits. */
export function base32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(held >>> (bits - 5)) & 31]
    held &= 31
  }
  return bits === 0 ? text : text + ALPHABET[(held << (5 - bits)) & 31]
}
