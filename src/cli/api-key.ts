// API keys: `cof_` and 32 random bytes in Crockford's base32, lower case.
import type { Clock } from '../clock.ts'

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'

export function newApiKey(clock: Clock): string {
  const bytes = clock.random(32)
  let text = ''
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(held >>> (bits - 5)) & 31]
    held &= 31
  }
  // 256 bits are 51 characters and one bit.
  return `cof_${text}${ALPHABET[(held << (5 - bits)) & 31]}`
}
