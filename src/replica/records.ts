// Where versions of secrets and receipts are stored: records, numbered as they come. A version's number is in
// the state; a receipt's is here.
import type { Receipt } from '../state/receipt.ts'
import type { SecretVersion } from '../state/version.ts'
import type { Batch, StoredEntry } from './store.ts'

/** Receipts by a part of their hash: a short key, since there may be many. */
export class ReceiptIndex {
  readonly #numbers = new Map<string, number>()

  get(key: string): number | undefined {
    return this.#numbers.get(shortOf(key))
  }

  set(key: string, number: number): void {
    this.#numbers.set(shortOf(key), number)
  }

  delete(key: string): void {
    this.#numbers.delete(shortOf(key))
  }

  /** Oldest first; one that is deleted or added meanwhile does no harm. */
  numbers(): Iterable<number> {
    return this.#numbers.values()
  }
}

/** 16 bytes of a keyed hash: no two meet. */
function shortOf(key: string): string {
  return Buffer.from(key.slice(-64, -32), 'hex').toString('latin1')
}

/** The records of one transaction. */
export class Records {
  readonly list: Batch['records'][number][] = []
  next: number
  readonly #known: (key: string, entry?: SecretVersion) => number | undefined
  /** Of this transaction; undefined: removed in it. */
  readonly #own = new Map<string, number | undefined>()

  /** `known`: the record that a version (`entry`) or a receipt has already. */
  constructor(next: number, known: (key: string, entry?: SecretVersion) => number | undefined) {
    this.next = next
    this.#known = known
  }

  /** Takes the place of the record under the same key, if there is one. Returns its number. */
  put(stored: StoredEntry, entry: SecretVersion | Receipt): number {
    const { key } = stored
    const number = this.#find(key, entry.kind === 'version' ? entry : undefined) ?? this.next++
    this.#own.set(key, number)
    this.list.push({ number, entry: stored })
    return number
  }

  /** Of a receipt. */
  remove(key: string): void {
    const number = this.#find(key)
    this.#own.set(key, undefined)
    if (number !== undefined) this.list.push({ number, entry: undefined })
  }

  #find(key: string, entry?: SecretVersion): number | undefined {
    return this.#own.has(key) ? this.#own.get(key) : this.#known(key, entry)
  }
}
