// Which segments of the ledger have been applied. Segments are immutable and never removed, so a count for
// each range of numbers says enough: where the ledger has as many segments in a range, the ledger has the
// same segments, and a snapshot leaves the range out. The numbers of a boot ascend, but commits may be
// accepted in another order, so a last number alone would not prove that all segments before are here.
//
// A snapshot that was not finished has applied segments after the cursor: Ahead says which.
import { assert } from '../assert.ts'
import { ledgerKey } from './ledger-keys.ts'

/** Numbers in a range: a snapshot reads a range again where a single segment of the range is missing here. */
const RANGE_NUMBERS = 1024

type SegmentId = { readonly boot: string; readonly n: number }

/** The applied segments of a boot with numbers from `range` · 1024 on: how many, and the last number. */
export type SegmentRange = {
  readonly boot: string
  readonly range: number
  readonly last: number
  readonly count: number
}

export class SegmentRanges {
  readonly #boots = new Map<string, Map<number, SegmentRange>>()
  /** Number of ranges. */
  size = 0

  /** Puts a range as stored. */
  set(range: SegmentRange): void {
    let ranges = this.#boots.get(range.boot)
    if (!ranges) {
      ranges = new Map()
      this.#boots.set(range.boot, ranges)
    }
    if (!ranges.has(range.range)) this.size++
    ranges.set(range.range, range)
  }

  get(boot: string, range: number): SegmentRange | undefined {
    return this.#boots.get(boot)?.get(range)
  }

  /** For each range the first key that the range may hold, the last key and the count; in order of keys. */
  known(): { readonly from: string; readonly to: string; readonly count: number }[] {
    const boots = [...this.#boots.keys()].sort()
    return boots.flatMap((boot) =>
      [...(this.#boots.get(boot)?.values() ?? [])]
        .sort((a, b) => a.range - b.range)
        .map(({ range, last, count }) => ({
          from: ledgerKey.segment(boot, range * RANGE_NUMBERS),
          to: ledgerKey.segment(boot, last),
          count,
        })),
    )
  }
}

/** The number of the range of a segment. */
export function rangeOf(n: number): number {
  return Math.floor(n / RANGE_NUMBERS)
}

/** Whether the count may be right: the last number is in the range, and no segment counts twice. */
export function isPossible({ range, last, count }: SegmentRange): boolean {
  return rangeOf(last) === range && count >= 1 && count <= last - range * RANGE_NUMBERS + 1
}

/** The range after a segment has been applied that the range did not count before. */
export function counted(before: SegmentRange | undefined, { boot, n }: SegmentId): SegmentRange {
  const range = rangeOf(n)
  const last = Math.max(before?.last ?? 0, n)
  const after = { boot, range, last, count: (before?.count ?? 0) + 1 }
  assert(isPossible(after), 'a segment is counted once')
  return after
}

/**
 * Every segment with a key up to `to` and a revision up to `revision` is applied. A snapshot brings segments
 * in the order of their keys, so a single key tells how far the snapshot came.
 */
export type Ahead = { readonly to: string; readonly revision: number }

/** The segments ahead after a snapshot of `revision` came to the key `to`. */
export function aheadAfter(ahead: readonly Ahead[], { to, revision }: Ahead): readonly Ahead[] {
  const newest = ahead.at(-1)?.revision ?? 0
  assert(revision >= newest, 'a snapshot is not older than the snapshot before')
  // A part of an older snapshot says more only beyond `to`.
  return [...ahead.filter((each) => each.to > to), { to, revision }]
}

export function isAhead(ahead: readonly Ahead[], key: string, revision: number): boolean {
  return ahead.some((each) => key <= each.to && revision <= each.revision)
}
