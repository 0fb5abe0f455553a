// Reads mappings out of pages. The last page is remembered, so that neighbours cost a single fetch.
import { assert } from '../assert.ts'
import { bodiesAt, sizeOf } from '../state/page.ts'
import type { Store } from './store.ts'

/** Valid for a single turn of the event loop: the remembered page lasts until the store's next read. */
export class PageReader {
  readonly #store: Store
  #number = -1
  #page: Buffer | undefined
  #length = 0
  #slot = -1
  #at = 0

  constructor(store: Store) {
    this.#store = store
  }

  /**
   * Points at the sealed value of `slot` on page `number`; returns its size in units of 8 bytes, 0 where the
   * page has no such slot. The checksum is not compared: opening the value shows whether the value is
   * authentic.
   */
  seek(number: number, slot: number): number {
    if (number !== this.#number) {
      this.#page = this.#store.page(number)
      this.#length = this.#page?.length ?? 0
      this.#number = number
      this.#slot = -1
    }
    const page = this.#page
    if (!page || slot >= page[8]) return 0
    let at = this.#at
    let from = this.#slot
    if (from < 0 || from > slot) {
      from = 0
      at = bodiesAt(page[8]) + 16 * page[8]
    }
    for (; from < slot; from++) at += 8 * sizeOf(page, from)
    const size = sizeOf(page, slot)
    this.#slot = slot
    this.#at = at
    return at + 8 * size <= this.#length ? size : 0
  }

  /** Copies the value at which `seek` points. */
  copy(target: Uint8Array, at: number, size: number): void {
    const page = this.#page
    assert(page, 'seek comes before copy')
    for (let i = 0, from = this.#at; i < size * 8; i++) target[at + i] = page[from + i]
  }
}
