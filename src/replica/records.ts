// Versions of secrets and receipts are stored as records, numbered in order of arrival. The state has the
// numbers of versions; the index here has the numbers of receipts.
import { assert } from '../assert.ts'
import type { Receipt } from '../state/receipt.ts'
import type { SecretVersion } from '../state/version.ts'
import type { Batch, StoredEntry } from './store.ts'

/** Record numbers of receipts by a part of their hash: short keys, since receipts may be many. */
export class ReceiptIndex {
  readonly #numbers = new Map<string, number>()

  get(key: string): number | undefined {
    return this.#numbers.get(shortOf(key))
  }

  set(key: string, number: number): void {
    assert(number >= 0, 'a receipt is a record')
    this.#numbers.set(shortOf(key), number)
  }

  delete(key: string): void {
    this.#numbers.delete(shortOf(key))
  }

  /** Oldest first. Receipts may be added or deleted during the iteration. */
  numbers(): Iterable<number> {
    return this.#numbers.values()
  }
}

/** 16 bytes of a keyed hash, as latin1: collisions are not expected. */
function shortOf(key: string): string {
  return Buffer.from(key.slice(-64, -32), 'hex').toString('latin1')
}

/** The records of a transaction. */
export class Records {
  readonly list: Batch['records'][number][] = []
  next: number
  readonly #known: (key: string, entry?: SecretVersion) => number | undefined
  /** Record numbers of the transaction by key; undefined for a removed record. */
  readonly #own = new Map<string, number | undefined>()

  /** `known` returns the stored record of a version (`entry`) or of a receipt. */
  constructor(next: number, known: (key: string, entry?: SecretVersion) => number | undefined) {
    this.next = next
    this.#known = known
  }

  /** Replaces the record of the same key, or adds a record. Returns the number. */
  put(stored: StoredEntry, entry: SecretVersion | Receipt): number {
    const { key } = stored
    const number = this.#find(key, entry.kind === 'version' ? entry : undefined) ?? this.next++
    assert(number < this.next, 'record numbers ascend')
    this.#own.set(key, number)
    this.list.push({ number, entry: stored })
    return number
  }

  /** Removes the record of a receipt. */
  remove(key: string): void {
    const number = this.#find(key)
    this.#own.set(key, undefined)
    if (number !== undefined) this.list.push({ number, entry: undefined })
  }

  #find(key: string, entry?: SecretVersion): number | undefined {
    return this.#own.has(key) ? this.#own.get(key) : this.#known(key, entry)
  }
}
