// The text of a token: `tok_<epoch>_` and 20 bytes in Crockford's base32, lower case. Of the 20 bytes 16 are
// the body (the pseudo-random function of the value) and 4 a keyed check.
import { BASE32_DECODE, BASE32_ENCODE } from './base32.ts'

export const BODY_BYTES = 16
export const CHECK_BYTES = 4
export const MAX_EPOCH = 9_999_999_999
const TEXT_CHARS = 32
const TOK = [0x74, 0x6f, 0x6b, 0x5f] // tok_

/** `tok_3_` as bytes. */
export function tokenPrefix(epoch: number): Uint8Array {
  return Buffer.from(`tok_${epoch}_`, 'latin1')
}

/** Length in characters of every token of this epoch. */
export function tokenLength(epoch: number): number {
  return String(epoch).length + 5 + TEXT_CHARS
}

/** Writes body and check as 32 characters at `out[at]`. */
export function writeTokenText(
  out: Uint8Array,
  at: number,
  bodies: Uint8Array,
  bodyAt: number,
  checks: Uint8Array,
  checkAt: number,
): void {
  const table = BASE32_ENCODE
  let to = at
  for (let group = 0; group < 3; group++) {
    const i = bodyAt + group * 5
    const b1 = bodies[i + 1]
    const b3 = bodies[i + 3]
    const b4 = bodies[i + 4]
    to = writeGroup(out, to, table, bodies[i], b1, bodies[i + 2], b3, b4)
  }
  writeGroup(
    out,
    to,
    table,
    bodies[bodyAt + 15],
    checks[checkAt],
    checks[checkAt + 1],
    checks[checkAt + 2],
    checks[checkAt + 3],
  )
}

// Plain numbers instead of an options object: runs for every token.
function writeGroup(
  out: Uint8Array,
  at: number,
  table: Uint8Array,
  b0: number,
  b1: number,
  b2: number,
  b3: number,
  b4: number,
): number {
  out[at] = table[b0 >>> 3]
  out[at + 1] = table[((b0 & 7) << 2) | (b1 >>> 6)]
  out[at + 2] = table[(b1 >>> 1) & 31]
  out[at + 3] = table[((b1 & 1) << 4) | (b2 >>> 4)]
  out[at + 4] = table[((b2 & 15) << 1) | (b3 >>> 7)]
  out[at + 5] = table[(b3 >>> 2) & 31]
  out[at + 6] = table[((b3 & 3) << 3) | (b4 >>> 5)]
  out[at + 7] = table[b4 & 31]
  return at + 8
}

/**
 * Reads the token text at `text[start..end)` (ASCII bytes). Writes the body to `bodies[16 * i]`, the check to
 * `checks[4 * i]`. Returns the epoch; 0 for a text that does not have the form of a token.
 */
export function readTokenText(
  text: Uint8Array,
  start: number,
  end: number,
  bodies: Uint8Array,
  checks: Uint8Array,
  i: number,
): number {
  const epoch = readPrefix(text, start, end)
  if (epoch === 0) return 0
  const from = end - TEXT_CHARS
  const table = BASE32_DECODE
  let bad = 0
  for (let group = 0; group < 4; group++) {
    const at = from + group * 8
    const c0 = table[text[at]]
    const c1 = table[text[at + 1]]
    const c2 = table[text[at + 2]]
    const c3 = table[text[at + 3]]
    const c4 = table[text[at + 4]]
    const c5 = table[text[at + 5]]
    const c6 = table[text[at + 6]]
    const c7 = table[text[at + 7]]
    bad |= c0 | c1 | c2 | c3 | c4 | c5 | c6 | c7
    const b0 = (c0 << 3) | (c1 >>> 2)
    const b1 = (c1 << 6) | (c2 << 1) | (c3 >>> 4)
    const b2 = (c3 << 4) | (c4 >>> 1)
    const b3 = (c4 << 7) | (c5 << 2) | (c6 >>> 3)
    const b4 = (c6 << 5) | c7
    if (group < 3) {
      const to = i * 16 + group * 5
      bodies[to] = b0
      bodies[to + 1] = b1
      bodies[to + 2] = b2
      bodies[to + 3] = b3
      bodies[to + 4] = b4
    } else {
      bodies[i * 16 + 15] = b0
      checks[i * 4] = b1
      checks[i * 4 + 1] = b2
      checks[i * 4 + 2] = b3
      checks[i * 4 + 3] = b4
    }
  }
  return bad > 31 ? 0 : epoch
}

/** The epoch in the prefix; 0 where the length or the prefix is not of a token. */
function readPrefix(text: Uint8Array, start: number, end: number): number {
  const digits = end - start - 5 - TEXT_CHARS
  if (digits < 1 || digits > 10) return 0
  for (let i = 0; i < 4; i++) if (text[start + i] !== TOK[i]) return 0
  let epoch = 0
  for (let i = start + 4; i < start + 4 + digits; i++) {
    const digit = text[i] - 48
    if (digit < 0 || digit > 9 || (digit === 0 && epoch === 0)) return 0
    epoch = epoch * 10 + digit
  }
  return text[start + 4 + digits] === 95 ? epoch : 0
}

/** The text of a token. */
export function tokenText(epoch: number, body: Uint8Array, check: Uint8Array): string {
  const prefix = tokenPrefix(epoch)
  const out = new Uint8Array(prefix.length + TEXT_CHARS)
  out.set(prefix)
  writeTokenText(out, prefix.length, body, 0, check, 0)
  return Buffer.from(out).toString('latin1')
}
