// The calls of a vault for columns of tables. The client of the API fits by structure.

export type Scalar = string | number | boolean | null

export type Vault = {
  tokenize(
    values: readonly Scalar[],
    options?: { readonly allowTokens?: boolean },
  ): Promise<{ readonly epoch: number; readonly tokens: readonly (string | null)[] }>
  detokenize(
    tokens: readonly (string | null)[],
  ): Promise<{ readonly values: readonly Scalar[]; readonly notFound: readonly number[] }>
  retokenize(tokens: readonly (string | null)[]): Promise<{
    readonly epoch: number
    readonly tokens: readonly (string | null)[]
    readonly notFound: readonly number[]
  }>
}

/** The calls as bytes: the JSON of a body, and the JSON of its answer. */
export type ByteVault = { post(path: `/${Operation}`, body: Buffer): Promise<Buffer> }

export type Operation = 'tokenize' | 'detokenize' | 'retokenize'

/** The contract's form of a token; the group is the epoch. */
export const TOKEN = /^tok_([1-9][0-9]{0,9})_[0-9a-hjkmnp-tv-z]{32}$/

const QUOTE = 0x22
const UNDERSCORE = 0x5f
const TOK = Buffer.from('tok_')
/** 1 for the characters behind the epoch. */
const BASE32 = new Uint8Array(256)
for (const byte of Buffer.from('0123456789abcdefghjkmnpqrstvwxyz')) BASE32[byte] = 1
/** Of a token, without the digits of its epoch. */
const OTHER_BYTES = 37
const MOST_DIGITS = 10

/** The epoch of a token; 0 where the bytes are no token's. */
export function epochOfToken(bytes: Uint8Array, start: number, end: number): number {
  const digits = end - start - OTHER_BYTES
  if (digits < 1 || digits > MOST_DIGITS) return 0
  for (let i = 0; i < TOK.length; i++) if (bytes[start + i] !== TOK[i]) return 0
  const from = start + TOK.length
  let epoch = 0
  for (let i = from; i < from + digits; i++) {
    const digit = bytes[i] - 0x30
    if (digit < 0 || digit > 9 || (digit === 0 && epoch === 0)) return 0
    epoch = epoch * 10 + digit
  }
  if (bytes[from + digits] !== UNDERSCORE) return 0
  for (let i = from + digits + 1; i < end; i++) if (BASE32[bytes[i]] === 0) return 0
  return epoch
}

/** As `epochOfToken`, of a token in quotes. */
export function epochOfQuoted(bytes: Uint8Array, start: number, end: number): number {
  const isQuoted = bytes[start] === QUOTE && bytes[end - 1] === QUOTE
  return isQuoted ? epochOfToken(bytes, start + 1, end - 1) : 0
}

/** Bytes of UTF-8 in a value; a node may allow fewer. */
export const VALUE_BYTES = 32 * 1024
