// A store in memory: the twin of lmdb-store.ts for simulations, and every legal misbehaviour of a disk on
// demand.
import { pageTable } from '../state/page.ts'
import type { SegmentRange } from '../state/segment-ranges.ts'
import type { Batch, Meta, OwnerBytes, StoredEntry, StoredTable } from '../state/stored.ts'
import { type CheckpointFiles, type Store, WriteFailed } from './store.ts'

type Content = {
  meta: Meta | undefined
  readonly pages: Map<number, Buffer>
  readonly entries: Map<string, StoredEntry>
  readonly records: Map<number, StoredEntry>
  readonly tables: Map<number, StoredTable>
  readonly ranges: Map<string, SegmentRange>
  readonly owners: Map<string, OwnerBytes>
  readonly checkpoints: Map<string, Buffer>
}

const EMPTY: Content = {
  meta: undefined,
  pages: new Map(),
  entries: new Map(),
  records: new Map(),
  tables: new Map(),
  ranges: new Map(),
  owners: new Map(),
  checkpoints: new Map(),
}

export class MemoryStore implements Store {
  readonly checkpoints: MemoryCheckpoints
  /** How many of the next writes fail, as on a full disk. */
  failures = 0
  /** Takes the time of a disk: before a write can be read, and before its promise resolves. */
  pause = (): Promise<void> => Promise.resolve()
  readonly #content: Content
  #dead = false

  constructor(content: Content = EMPTY) {
    this.#content = structuredCopy(content)
    this.checkpoints = new MemoryCheckpoints(this.#content.checkpoints, () => this.#alive())
  }

  /** A store of the same content. */
  copy(): MemoryStore {
    const copy = new MemoryStore(this.#content)
    copy.pause = this.pause
    return copy
  }

  /** The store that a killed process leaves: writes under way are lost, and so are writes that come after. */
  afterKill(): MemoryStore {
    this.#dead = true
    return this.copy()
  }

  /** Never resolves after a kill. */
  async #alive(): Promise<void> {
    await this.pause()
    if (this.#dead) await new Promise(() => undefined)
  }

  meta(): Meta | undefined {
    return this.#content.meta
  }

  async write(batch: Batch): Promise<void> {
    await this.#alive()
    if (this.failures > 0) {
      this.failures--
      throw new WriteFailed('the disk is full')
    }
    const { pages, entries, records, tables, ranges, owners } = this.#content
    const dropped = new Set(batch.tables.filter((table) => table.dropped).map(({ id }) => id))
    if (dropped.size > 0)
      for (const [number, page] of pages) if (dropped.has(pageTable(page))) pages.delete(number)
    for (const { number, page } of batch.pages) pages.set(number, page)
    for (const entry of batch.entries) entries.set(entry.key, entry)
    for (const { number, entry } of batch.records) {
      if (entry) records.set(number, entry)
      else records.delete(number)
    }
    for (const table of batch.tables) tables.set(table.id, table)
    for (const range of batch.ranges) ranges.set(`${range.boot}/${range.range}`, range)
    for (const owner of batch.owners) owners.set(owner.owner, owner)
    this.#content.meta = batch.meta
    await this.#alive()
  }

  flushed(): Promise<void> {
    return this.#alive()
  }

  page(number: number): Buffer | undefined {
    return this.#content.pages.get(number)
  }

  *pages(from: number, to: number): Iterable<{ number: number; page: Buffer }> {
    const numbers = [...this.#content.pages.keys()].filter((number) => number >= from && number < to)
    for (const number of numbers.sort((a, b) => a - b)) {
      const page = this.#content.pages.get(number)
      if (page) yield { number, page }
    }
  }

  entries(): Iterable<StoredEntry> {
    return this.#content.entries.values()
  }

  *records(): Iterable<StoredEntry & { number: number }> {
    const numbers = [...this.#content.records.keys()].sort((a, b) => a - b)
    for (const number of numbers) {
      const entry = this.#content.records.get(number)
      if (entry) yield { number, ...entry }
    }
  }

  record(number: number): StoredEntry | undefined {
    return this.#content.records.get(number)
  }

  tables(): Iterable<StoredTable> {
    return [...this.#content.tables.values()].sort((a, b) => a.id - b.id)
  }

  ranges(): Iterable<SegmentRange> {
    return this.#content.ranges.values()
  }

  owners(): Iterable<OwnerBytes> {
    return this.#content.owners.values()
  }

  async close(): Promise<void> {}
}

class MemoryCheckpoints implements CheckpointFiles {
  /** Bytes that are free. */
  room = Number.POSITIVE_INFINITY
  readonly #files: Map<string, Buffer>
  readonly #alive: () => Promise<void>

  constructor(files: Map<string, Buffer>, alive: () => Promise<void>) {
    this.#files = files
    this.#alive = alive
  }

  async hasRoom(bytes: number): Promise<boolean> {
    await this.#alive()
    return bytes <= this.room
  }

  async write(name: string, blocks: AsyncIterable<Buffer>): Promise<void> {
    const parts: Buffer[] = []
    for await (const block of blocks) {
      parts.push(block)
      await this.#alive()
    }
    await this.#alive()
    this.#files.set(name, Buffer.concat(parts))
  }

  read(name: string): AsyncIterable<Buffer> | undefined {
    const file = this.#files.get(name)
    return file && each([file])
  }

  async removeOthers(name: string): Promise<void> {
    await this.#alive()
    for (const other of this.#files.keys()) if (other !== name) this.#files.delete(other)
  }
}

function structuredCopy(content: Content): Content {
  const { meta, pages, entries, records, tables, ranges, owners, checkpoints } = content
  return {
    meta,
    pages: new Map(pages),
    entries: new Map(entries),
    records: new Map(records),
    tables: new Map(tables),
    ranges: new Map(ranges),
    owners: new Map(owners),
    checkpoints: new Map(checkpoints),
  }
}

async function* each<T>(items: readonly T[]): AsyncIterable<T> {
  yield* items
}
