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

export type Operation = 'tokenize' | 'detokenize' | 'retokenize'

/** The contract's form of a token; the group is the epoch. */
export const TOKEN = /^tok_([1-9][0-9]{0,9})_[0-9a-hjkmnp-tv-z]{32}$/

/** Bytes of UTF-8 in a value; a node may allow fewer. */
export const VALUE_BYTES = 32 * 1024
