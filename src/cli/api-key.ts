// API keys: `cof_` and 32 random bytes in base32.
import type { Clock } from '../clock.ts'
import { base32 } from '../crypto/base32.ts'

export function newApiKey(clock: Clock): string {
  return `cof_${base32(clock.random(32))}`
}
