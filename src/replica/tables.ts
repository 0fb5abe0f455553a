// All token tables of a replica: a table per owner and epoch, numbered by the replica.
import { assert } from '../assert.ts'
import type { Segment } from '../state/segment.ts'
import type { MappingSum } from '../state/state.ts'
import { PAGE_MAPPINGS } from './page.ts'
import { TokenTable } from './table.ts'

type NumberedTable = {
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

  /** Adds a table, or replaces the table of the number. */
  add(id: number, owner: string, epoch: number, tokens = new TokenTable()): NumberedTable {
    assert(id <= this.#byId.length, 'tables are numbered without gaps')
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

  /** Inserts a segment whose pages begin at `firstPage`. Returns the number of new mappings. */
  insertSegment(segment: Segment, firstPage: number): number {
    assert(segment.bodies.length === 16 * segment.count, 'a token body has 16 bytes')
    const words = new Uint32Array(segment.count * 4)
    new Uint8Array(words.buffer).set(segment.bodies)
    const table = this.get(segment.owner, segment.epoch)
    assert(table, 'a table is added before its first segment')
    let fresh = 0
    for (let i = 0; i < segment.count; i++) {
      const page = firstPage + Math.floor(i / PAGE_MAPPINGS)
      if (table.tokens.insert(words, i * 4, page, i % PAGE_MAPPINGS)) fresh++
    }
    this.mappings += fresh
    return fresh
  }

  /** Inserts the `count` bodies of a page. */
  insertPage(table: NumberedTable, bodies: Uint32Array, count: number, page: number): void {
    assert(count >= 1 && count <= PAGE_MAPPINGS, 'a page holds 1 to 32 mappings')
    for (let slot = 0; slot < count; slot++)
      if (table.tokens.insert(bodies, slot * 4, page, slot)) this.mappings++
  }

  *sums(): Iterable<MappingSum> {
    for (const { owner, epoch, tokens } of this.#byId)
      yield { owner, epoch, count: tokens.count, sum: tokens.sum() }
  }
}
