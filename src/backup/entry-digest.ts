// The digest of a set of live entries, computed without a replica: the entries are applied to a state and
// token tables in memory, as a replica applies them, but no pages are written.
import { assert } from '../assert.ts'
import { Tables } from '../replica/tables.ts'
import { decodeEntry } from '../state/entries.ts'
import { State } from '../state/state.ts'

/** Every key is added at most once, so neither revisions nor pages influence the result. */
const REVISION = 1
const FIRST_PAGE = 0

export class EntryDigest {
  readonly state = new State()
  readonly #tables = new Tables()
  /** Number of entries added. */
  entries = 0
  /** Number of foreign keys. */
  foreign = 0

  /** Adds each key at most once, in any order. Returns false for a foreign key. Throws CorruptEntry. */
  add(key: string, value: Uint8Array): boolean {
    const entry = decodeEntry(key, value)
    if (entry === undefined) {
      this.foreign++
      return false
    }
    this.entries++
    if (entry.kind === 'segment') {
      const { owner, epoch } = entry
      if (!this.#tables.get(owner, epoch)) this.#tables.add(this.#tables.nextId, owner, epoch)
      const inserted = this.#tables.insertSegment(entry, FIRST_PAGE)
      assert(inserted <= entry.count, 'a segment inserts at most its own mappings')
    } else {
      this.state.apply(REVISION, key, entry)
    }
    return true
  }

  /** Number of distinct mappings: equal mappings of several segments count once. */
  get mappings(): number {
    return this.#tables.mappings
  }

  /** SHA-256 in hex, equal to the digest of a replica with the same entries. */
  digest(): string {
    return this.state.digest(this.#tables.sums())
  }
}
