// All token tables of a replica: a table per owner and epoch, numbered by the replica.
import { assert } from '../assert.ts'
import type { Inserted } from '../state/digest.ts'
import type { TokenTables } from '../state/effects.ts'
import { PAGE_MAPPINGS } from '../state/page.ts'
import { tableName } from '../state/state.ts'
import { TokenTable, WARM_BODIES } from './table.ts'

type NumberedTable = {
  readonly id: number
  readonly owner: string
  readonly epoch: number
  readonly tokens: TokenTable
}

export class Tables implements TokenTables {
  readonly #byName = new Map<string, NumberedTable>()
  readonly #byId: NumberedTable[] = []
  mappings = 0

  /** Adds a table; of equal numbers the last table counts. */
  add(id: number, owner: string, epoch: number, tokens = new TokenTable()): void {
    assert(id <= this.#byId.length, 'tables are numbered without gaps')
    const table: NumberedTable = { id, owner, epoch, tokens }
    this.#byName.set(tableName(owner, epoch), table)
    this.mappings += tokens.count - (this.#byId[id]?.tokens.count ?? 0)
    this.#byId[id] = table
  }

  /** Empties a table: the epoch never resolves again. */
  drop(id: number): void {
    const { owner, epoch } = this.#table(id)
    this.add(id, owner, epoch)
  }

  #table(id: number): NumberedTable {
    const table = this.#byId[id]
    assert(table, 'a table is added before its first mapping')
    return table
  }

  get(owner: string, epoch: number): NumberedTable | undefined {
    return this.#byName.get(tableName(owner, epoch))
  }

  byId(id: number): NumberedTable | undefined {
    return this.#byId[id]
  }

  all(): readonly NumberedTable[] {
    return this.#byId
  }

  insert(id: number, bodies: Uint8Array, count: number, firstPage: number): Inserted {
    assert(bodies.length === 16 * count, 'a token body has 16 bytes')
    const words = new Uint32Array(count * 4)
    new Uint8Array(words.buffer).set(bodies)
    const { tokens } = this.#table(id)
    let [fresh, w0, w1, w2, w3] = [0, 0, 0, 0, 0]
    for (let i = 0; i < count; i++) {
      if (i % WARM_BODIES === 0) tokens.warm(words, i)
      const page = firstPage + Math.floor(i / PAGE_MAPPINGS)
      if (!tokens.insert(words, i * 4, page, i % PAGE_MAPPINGS)) continue
      fresh++
      w0 += words[i * 4]
      w1 += words[i * 4 + 1]
      w2 += words[i * 4 + 2]
      w3 += words[i * 4 + 3]
    }
    assert(fresh <= count, 'a segment brings at most its own mappings')
    this.mappings += fresh
    return { count: fresh, sum: Float64Array.of(w0, w1, w2, w3) }
  }
}
