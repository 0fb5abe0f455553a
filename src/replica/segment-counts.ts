// Which segments are here, boot by boot: how many up to the cursor, and the last one's number. A boot's
// numbers grow, but its commits may be accepted in another order; so the last number alone does not say that
// all before it are here. The count does: where the ledger has just as many up to that number, a snapshot can
// leave them out.
import type { Known } from '../ledger/ledger.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { Segment } from '../state/segment.ts'
import type { SegmentCount } from './store.ts'

type SegmentId = Pick<Segment, 'boot' | 'n'>

export class SegmentCounts {
  readonly #counts: Map<string, SegmentCount>
  /** Segments of a snapshot that is not whole yet: applied, but not counted as of the cursor. */
  readonly #ahead: Map<string, SegmentId>
  readonly #changed = new Set<string>()

  constructor(counts: Iterable<SegmentCount> = [], ahead: Iterable<readonly [string, SegmentId]> = []) {
    this.#counts = new Map([...counts].map((each) => [each.boot, each]))
    this.#ahead = new Map(ahead)
  }

  copy(): SegmentCounts {
    return new SegmentCounts(this.#counts.values(), this.#ahead)
  }

  /** Takes in a segment that comes in order, or `ahead` of the cursor. False: it is here already. */
  add({ boot, n }: SegmentId, ahead: boolean): boolean {
    const key = ledgerKey.segment(boot, n)
    const here = this.#ahead.has(key)
    if (ahead) {
      if (!here) this.#ahead.set(key, { boot, n })
      return !here
    }
    this.#ahead.delete(key)
    this.#count({ boot, n })
    return !here
  }

  /** The snapshot is whole: what came ahead is within the cursor now. */
  catchUp(): void {
    for (const segment of this.#ahead.values()) this.#count(segment)
    this.#ahead.clear()
  }

  #count({ boot, n }: SegmentId): void {
    const { last, count } = this.#counts.get(boot) ?? { last: 0, count: 0 }
    this.#counts.set(boot, { boot, last: Math.max(last, n), count: count + 1 })
    this.#changed.add(boot)
  }

  /** Those that were counted since the copy was made. */
  changed(): SegmentCount[] {
    return [...this.#counts.values()].filter(({ boot }) => this.#changed.has(boot))
  }

  known(): Known[] {
    return [...this.#counts.values()].map(({ boot, last, count }) => ({
      from: ledgerKey.segment(boot, 0),
      to: ledgerKey.segment(boot, last),
      count,
    }))
  }
}
