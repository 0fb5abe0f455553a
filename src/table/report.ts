// The result of a run over a file, as `--json` prints the result.

export type Report = {
  /** Records, without the header. */
  readonly rows: number
  /** Places in the named columns, without null. */
  readonly values: number
  /** Different values: exact up to a million, then estimated to some tenths of a percent. */
  readonly distinct: number
  /** Places with new content. */
  readonly replaced: number
  /** Places with a token (by its form) that was not found. */
  readonly notFound: number
  /** Records without a place for a path. */
  readonly unmatched: number
  /** Epochs of the tokens: of the new tokens, or (detokenize) of the tokens found; ascending. */
  readonly epochs: readonly number[]
}
