// What a set of live entries holds: folded as a replica folds it, in memory and without its pages, for the digest.

import { Tables } from '../replica/tables.ts'
import { decodeEntry } from '../state/entries.ts'
import { State } from '../state/state.ts'

export class Contents {
  readonly state = new State()
  readonly #tables = new Tables()
  entries = 0
  /** Keys that are not ours. */
  foreign = 0

  /** Every key once, in any order. Returns false, and only counts, where the key is none of ours. Throws CorruptEntry. */
  add(key: string, value: Uint8Array): boolean {
    const entry = decodeEntry(key, value)
    if (entry === undefined) {
      this.foreign++
      return false
    }
    this.entries++
    // No key comes twice, so nothing here depends on the revision or the page.
    if (entry.kind !== 'segment') this.state.apply(1, key, entry)
    else {
      const { owner, epoch } = entry
      if (!this.#tables.get(owner, epoch)) this.#tables.add(this.#tables.nextId, owner, epoch)
      this.#tables.insertSegment(entry, 0)
    }
    return true
  }

  /** Equal ones counted once. */
  get mappings(): number {
    return this.#tables.mappings
  }

  digest(): string {
    return this.state.digest(this.#tables.sums())
  }
}
