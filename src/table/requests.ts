// The size of requests to a vault, and smaller requests where the vault refuses the size.

export const VALUES_A_REQUEST = 20_000
/** Of JSON, roughly. */
export const BYTES_A_REQUEST = 4 * 1024 * 1024
export const REQUESTS_AT_ONCE = 3

/** A node may have lower limits; the size of an answer is known only to the node. */
const TOO_LARGE: readonly string[] = ['answer-too-large', 'too-large', 'too-many-values']

/**
 * Calls `ask` for the values from `from` to before `to`, and for halves, one after the other, where the vault
 * refuses the size. Throws the first other error, and a refusal of a single value.
 */
export async function inHalves(
  ask: (from: number, to: number) => Promise<void>,
  from: number,
  to: number,
): Promise<void> {
  try {
    await ask(from, to)
  } catch (error) {
    if (to - from < 2 || !isTooLarge(error)) throw error
    const middle = from + Math.ceil((to - from) / 2)
    await inHalves(ask, from, middle)
    await inHalves(ask, middle, to)
  }
}

/** Whether an error refuses the size of a request or of its answer. */
export function isTooLarge(error: unknown): boolean {
  return error instanceof Error && 'slug' in error && TOO_LARGE.some((slug) => slug === error.slug)
}
