// All token tables of a replica: one per owner and epoch, each with the replica's own number of it.
import { assert } from '../assert.ts'
import type { Segment } from '../state/segment.ts'
import type { MappingSum } from '../state/state.ts'
import { PAGE_MAPPINGS } from './page.ts'
import { TokenTable } from './table.ts'

export type NumberedTable = {
  readonly id: number
  readonly owner: string
  readonly epoch: number
  readonly tokens: TokenTable
}

export class Tables {
  readonly #byOwner = new Map<string, Map<number, NumberedTable>>()
  readonly #byId: NumberedTable[] = []
  mappings = 0

  get nextId(): number {
    return this.#byId.length
  }

  add(id: number, owner: string, epoch: number, tokens = new TokenTable()): NumberedTable {
    const table: NumberedTable = { id, owner, epoch, tokens }
    const owned = this.#byOwner.get(owner)
    if (owned) owned.set(epoch, table)
    else this.#byOwner.set(owner, new Map([[epoch, table]]))
    this.mappings += tokens.count - (this.#byId[id]?.tokens.count ?? 0)
    this.#byId[id] = table
    return table
  }

  get(owner: string, epoch: number): NumberedTable | undefined {
    return this.#byOwner.get(owner)?.get(epoch)
  }

  byId(id: number): NumberedTable | undefined {
    return this.#byId[id]
  }

  all(): readonly NumberedTable[] {
    return this.#byId
  }

  /** Inserts a segment whose pages begin at `firstPage`; returns how many of its mappings were new. */
  insertSegment(segment: Segment, firstPage: number): number {
    const words = new Uint32Array(segment.count * 4)
    new Uint8Array(words.buffer).set(segment.bodies)
    const table = this.get(segment.owner, segment.epoch)
    assert(table, 'a table is there before its first segment')
    let fresh = 0
    for (let i = 0; i < segment.count; i++) {
      const page = firstPage + Math.floor(i / PAGE_MAPPINGS)
      if (table.tokens.insert(words, i * 4, page, i % PAGE_MAPPINGS)) fresh++
    }
    this.mappings += fresh
    return fresh
  }

  /** Inserts `count` bodies of one page. */
  insertPage(table: NumberedTable, bodies: Uint32Array, count: number, page: number): void {
    for (let slot = 0; slot < count; slot++)
      if (table.tokens.insert(bodies, slot * 4, page, slot)) this.mappings++
  }

  *sums(): Iterable<MappingSum> {
    for (const { owner, epoch, tokens } of this.#byId)
      yield { owner, epoch, count: tokens.count, sum: tokens.sum() }
  }
}
