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

type Matches = {
  /** Byte spans [start, end) of the values, for strings with the quotes. */
  readonly start: Uint32Array
  readonly end: Uint32Array
  /** A Kind each. */
  readonly kinds: Uint8Array
  /** Index of the path in the list of paths. */
  readonly leaf: Uint16Array
}

/** A top-level member: name (unescaped), kind, and byte span [start, end) of the value. */
export type Member = { name: string; kind: Kind; start: number; end: number }

/**
 * The result of a scan. Matches are in document order, and their arrays are valid up to `count`. A match that
 * is an object or an array comes before the matches inside.
 */
export type Scan = Matches & {
  /** The first MEMBERS_MAX top-level members in order; empty if the body is not an object. */
  readonly members: readonly Member[]
  /** The kind of the body itself. */
  readonly kind: Kind
  readonly count: number
  /** Objects that were counted and not listed. */
  readonly objects: number
}

/**
 * The largest number of matches of the paths from index `leaf` on, with their name for errors. For scans of
 * little memory whatever the body: objects at the path with index `counted` are counted, not listed, and of
 * all paths before `leaf` together the first `before` matches are listed (by default all).
 */
export type ScanLimit = {
  readonly leaf: number
  readonly matches: number
  readonly what: string
  readonly counted?: number | undefined
  readonly before?: number | undefined
}

export const UNLIMITED: ScanLimit = { leaf: 0, matches: Number.POSITIVE_INFINITY, what: '' }

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
