// The record number of every receipt of an owner, by a part of its hash: short keys, since receipts may be
// many.
import { assert } from '../assert.ts'

export class ReceiptIndex {
  readonly #numbers = new Map<string, number>()

  get(id: string): number | undefined {
    return this.#numbers.get(id)
  }

  set(id: string, number: number): void {
    assert(number >= 0, 'a receipt is a record')
    this.#numbers.set(id, number)
  }

  delete(id: string): void {
    this.#numbers.delete(id)
  }

  get size(): number {
    return this.#numbers.size
  }

  /** Ids and record numbers. Receipts may be added or deleted during the iteration. */
  entries(): Iterable<[string, number]> {
    return this.#numbers.entries()
  }
}

/** 16 bytes of the keyed hash (64 hex digits) in the key of a receipt: collisions are not expected. */
export function receiptId(hash: string): string {
  return Buffer.from(hash.slice(0, 32), 'hex').toString('latin1')
}
