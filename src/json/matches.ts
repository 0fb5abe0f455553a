// The values that a scan has found at the configured paths: parallel arrays, in document order.

/** The kind of a value. `escaped`: a string with at least one backslash. */
export const KIND = {
  string: 1,
  escaped: 2,
  number: 3,
  true: 4,
  false: 5,
  null: 6,
  object: 7,
  array: 8,
} as const
export type Kind = (typeof KIND)[keyof typeof KIND]

export type Matches = {
  /** Byte spans [start, end) of the values, for strings with the quotes. */
  readonly start: Uint32Array
  readonly end: Uint32Array
  /** A Kind each. */
  readonly kinds: Uint8Array
  /** Index of the path in the list of paths. */
  readonly leaf: Uint16Array
}

/** Arrays with room for `size` matches. */
export function matchesOf(size: number): Matches {
  return {
    start: new Uint32Array(size),
    end: new Uint32Array(size),
    kinds: new Uint8Array(size),
    leaf: new Uint16Array(size),
  }
}

/** The first `count` matches, in arrays of that size. */
export function copyOf({ start, end, kinds, leaf }: Matches, count: number): Matches {
  return {
    start: start.slice(0, count),
    end: end.slice(0, count),
    kinds: kinds.slice(0, count),
    leaf: leaf.slice(0, count),
  }
}

/**
 * The same matches in larger arrays. `done` is the part of the body that was read, 0 to 1: matches are mostly
 * spread evenly, so the size for the whole body is known early, and saves copies and slack.
 */
export function grown(from: Matches, done: number): Matches {
  const now = from.start.length
  const to = matchesOf(Math.ceil(Math.min(Math.max((now * 1.05) / done, now * 2), now * 16)))
  to.start.set(from.start)
  to.end.set(from.end)
  to.kinds.set(from.kinds)
  to.leaf.set(from.leaf)
  return to
}
