// The digest of a set of live entries: the steps that a replica takes for a snapshot of the entries, with the
// pages left out. So backup, restore and replica agree by construction.
import { Tables } from '../replica/tables.ts'
import { type Decoded, decodePuts } from '../state/puts.ts'
import { State } from '../state/state.ts'
import { step } from '../state/step.ts'

/** Every key is added at most once, so neither revisions nor pages influence the result. */
const REVISION = 1
const LEDGER = 'a set of entries'
/** Entries and bytes of a step. */
const STEP_ENTRIES = 1000
const STEP_BYTES = 1024 * 1024

export class EntryDigest {
  readonly #state = new State()
  readonly #tables = new Tables()
  #waiting: Decoded[] = []
  #waitingBytes = 0
  /** Number of entries added. */
  entries = 0
  /** Number of foreign keys. */
  foreign = 0

  /**
   * Adds each key at most once, in the order of a snapshot. Returns false for a foreign key. Throws
   * CorruptEntry.
   */
  add(key: string, value: Uint8Array): boolean {
    const { decoded, foreign } = decodePuts(REVISION, [{ key, value, created: REVISION }])
    this.foreign += foreign
    if (decoded.length === 0) return false
    this.entries++
    this.#waiting.push(...decoded)
    this.#waitingBytes += value.length
    if (this.#waiting.length >= STEP_ENTRIES || this.#waitingBytes >= STEP_BYTES) this.#step()
    return true
  }

  #step(): void {
    if (this.#waiting.length === 0) return
    const part = { revision: REVISION, decoded: this.#waiting, removed: [], snapshot: 'part' } as const
    const { effects } = step(this.#state, { revisions: [part], ledger: LEDGER })
    for (const effect of effects) this.#state.apply(effect, this.#tables)
    this.#waiting = []
    this.#waitingBytes = 0
  }

  /** The state of the entries added so far. */
  get state(): State {
    this.#step()
    return this.#state
  }

  /** Number of distinct mappings: equal mappings of several segments count once. */
  get mappings(): number {
    this.#step()
    return this.#tables.mappings
  }

  /** SHA-256 in hex, equal to the digest of a replica with the same entries. */
  digest(): string {
    return this.state.digest()
  }
}
