// The size of requests to a vault, and smaller requests where the vault refuses the size.
import { type Operation, VALUE_BYTES } from './vault.ts'

/** Asks for the values from `from` to before `to`. */
type Ask = (from: number, to: number) => Promise<void>

export const VALUES_A_REQUEST = 20_000
/** Of JSON, roughly. */
export const BYTES_A_REQUEST = 1024 * 1024
export const REQUESTS_AT_ONCE = 3

/** So many more requests wait while a file is read on. */
export const REQUESTS_WAITING = 3

/** Of files: values may suddenly be longer than all before. */
export const TOKENS_A_REQUEST = 5000
const TOKEN_BYTES = 48
/** Of answers. */
const ANSWER_BYTES = 1024 * 1024

/** How many values a request may have, by the sizes of the answers seen; before the first answer, few. */
export class RequestSize {
  readonly #most: number
  #valueBytes: number
  #isFirst = true

  constructor(operation: Operation, most = VALUES_A_REQUEST) {
    this.#most = most
    this.#valueBytes = operation === 'detokenize' ? VALUE_BYTES : TOKEN_BYTES
  }

  /** The bytes of an answer to a value: up at once, down slowly. */
  get valueBytes(): number {
    return this.#valueBytes
  }

  /** The bytes of an answer on its way: `valueBytes`, but 0 while no size was seen. */
  get expectedBytes(): number {
    return this.#isFirst ? 0 : this.#valueBytes
  }

  /** 1 at least. */
  get values(): number {
    return Math.max(1, Math.min(this.#most, Math.floor(ANSWER_BYTES / this.#valueBytes)))
  }

  /** Takes the answers to some values into account. */
  seen(values: number, bytes: number): void {
    const mean = bytes / Math.max(1, values)
    const slowly = this.#isFirst ? mean : (3 * this.#valueBytes + mean) / 4
    this.#valueBytes = Math.max(1, mean, slowly)
    this.#isFirst = false
  }
}

/** Calls `ask` for parts of [from, to), one after another, each of the size that is known by then. */
export async function inParts(ask: Ask, from: number, to: number, size: RequestSize): Promise<void> {
  for (let at = from; at < to; ) {
    const end = Math.min(to, at + size.values)
    await inHalves(ask, at, end)
    at = end
  }
}

/** A node may have lower limits; the size of an answer is known only to the node. */
const TOO_LARGE: readonly string[] = ['answer-too-large', 'too-large', 'too-many-values']

/**
 * Calls `ask` for the values from `from` to before `to`, and for halves, one after the other, where the vault
 * refuses the size. Throws the first other error, and a refusal of a single value.
 */
async function inHalves(ask: Ask, from: number, to: number): Promise<void> {
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
