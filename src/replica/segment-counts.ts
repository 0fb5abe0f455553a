// The applied segments of each boot: their count up to the cursor, and the last number. The numbers of a boot
// ascend, but commits may be accepted in another order, so the last number alone does not prove that all
// segments before are here. The count does: where the ledger has as many segments up to the last number, a
// snapshot leaves the segments out.
import { assert } from '../assert.ts'
import type { Known } from '../ledger/ledger.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import type { Segment } from '../state/segment.ts'
import type { SegmentCount } from './store.ts'

type SegmentId = Pick<Segment, 'boot' | 'n'>

export class SegmentCounts {
  readonly #counts: Map<string, SegmentCount>
  /** Segments applied from an unfinished snapshot; counted once the snapshot is complete. */
  readonly #ahead: Map<string, SegmentId>
  readonly #changed = new Set<string>()

  constructor(counts: Iterable<SegmentCount> = [], ahead: Iterable<readonly [string, SegmentId]> = []) {
    this.#counts = new Map([...counts].map((each) => [each.boot, each]))
    this.#ahead = new Map(ahead)
  }

  copy(): SegmentCounts {
    return new SegmentCounts(this.#counts.values(), this.#ahead)
  }

  /** Adds a segment, in order or `ahead` of the cursor. Returns false where the segment is here already. */
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

  /** Counts the segments ahead of the cursor: the snapshot is complete. */
  catchUp(): void {
    for (const segment of this.#ahead.values()) this.#count(segment)
    this.#ahead.clear()
  }

  #count({ boot, n }: SegmentId): void {
    const { last, count } = this.#counts.get(boot) ?? { last: 0, count: 0 }
    assert(count < Math.max(last, n), 'a segment is counted once')
    this.#counts.set(boot, { boot, last: Math.max(last, n), count: count + 1 })
    this.#changed.add(boot)
  }

  /** Counts that have changed since the copy was made. */
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
