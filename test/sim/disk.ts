// The disk of a simulated node: a store whose writes can be read before they are durable. A loss of power keeps what was
// flushed, and of what was not, in the order of the writes, as much as chance will have it.

import { MemoryStore } from '../../src/replica/memory-store.ts'
import { type CheckpointFiles, type Store, WriteFailed } from '../../src/replica/store.ts'
import type { Batch } from '../../src/state/stored.ts'
import type { Random } from './seed.ts'
import type { VirtualTime } from './virtual-time.ts'

/** Of a disk that is not disturbed, in milliseconds. */
const WRITE_MS = 1
const FLUSH_MS = 6

/** What outlives a process. */
type Left = { readonly store: MemoryStore; readonly files: Map<string, Buffer> }

export class Disk implements Store {
  readonly checkpoints: Checkpoints
  /** How much slower the disk is than one that is not disturbed. */
  slowness = 1
  full = false
  readonly #time: VirtualTime
  readonly #random: Random
  readonly #files: Map<string, Buffer>
  readonly #live: MemoryStore
  /** As the process found the disk: a loss of power brings it up to date. */
  readonly #durable: MemoryStore
  readonly #flushed: Batch[] = []
  readonly #unflushed: Batch[] = []
  #flushing: Promise<void> | undefined

  constructor(
    time: VirtualTime,
    random: Random,
    left: Left = { store: new MemoryStore(), files: new Map() },
  ) {
    this.#time = time
    this.#random = random
    this.#files = left.files
    this.#live = left.store.copy()
    this.#durable = left.store
    this.checkpoints = new Checkpoints(this, left.files)
  }

  /** What a loss of power leaves, or, where `power` stays, the end of the process alone. */
  async afterCrash(power: 'lost' | 'stays'): Promise<Left> {
    const files = new Map(this.#files)
    if (power === 'stays') return { store: this.#live.afterKill(), files }
    const kept = this.#random.below(this.#unflushed.length + 1)
    for (const batch of [...this.#flushed, ...this.#unflushed.slice(0, kept)])
      await this.#durable.write(batch)
    return { store: this.#durable, files }
  }

  /** Takes a disk's time, which may be none. */
  async take(ms: number): Promise<void> {
    const taken = this.#random.below(1 + ms * this.slowness)
    if (taken > 0) await this.#time.sleep(taken)
  }

  async write(batch: Batch): Promise<void> {
    await this.take(WRITE_MS)
    if (this.full) throw new WriteFailed('the disk is full')
    await this.#live.write(batch)
    this.#unflushed.push(batch)
    this.#flushing ??= this.#flush()
    await this.take(WRITE_MS)
  }

  /** As long as there is something to flush. */
  async #flush(): Promise<void> {
    while (this.#unflushed.length > 0) {
      const count = this.#unflushed.length
      await this.take(FLUSH_MS)
      this.#flushed.push(...this.#unflushed.splice(0, count))
    }
    this.#flushing = undefined
  }

  async flushed(): Promise<void> {
    await this.#flushing
  }

  meta(): ReturnType<Store['meta']> {
    return this.#live.meta()
  }

  page(number: number): Buffer | undefined {
    return this.#live.page(number)
  }

  pages(from: number, to: number): ReturnType<Store['pages']> {
    return this.#live.pages(from, to)
  }

  entries(): ReturnType<Store['entries']> {
    return this.#live.entries()
  }

  records(): ReturnType<Store['records']> {
    return this.#live.records()
  }

  record(number: number): ReturnType<Store['record']> {
    return this.#live.record(number)
  }

  tables(): ReturnType<Store['tables']> {
    return this.#live.tables()
  }

  ranges(): ReturnType<Store['ranges']> {
    return this.#live.ranges()
  }

  owners(): ReturnType<Store['owners']> {
    return this.#live.owners()
  }

  async close(): Promise<void> {
    await this.#flushing
  }
}

/** Files are durable once they are written. */
class Checkpoints implements CheckpointFiles {
  readonly #disk: Disk
  readonly #files: Map<string, Buffer>

  constructor(disk: Disk, files: Map<string, Buffer>) {
    this.#disk = disk
    this.#files = files
  }

  async hasRoom(): Promise<boolean> {
    await this.#disk.take(WRITE_MS)
    return !this.#disk.full
  }

  async write(name: string, blocks: AsyncIterable<Buffer>): Promise<void> {
    const parts: Buffer[] = []
    for await (const block of blocks) {
      parts.push(Buffer.from(block))
      await this.#disk.take(WRITE_MS)
    }
    await this.#disk.take(FLUSH_MS)
    if (this.#disk.full) throw new WriteFailed('the disk is full')
    this.#files.set(name, Buffer.concat(parts))
  }

  read(name: string): AsyncIterable<Buffer> | undefined {
    const file = this.#files.get(name)
    return file && single(file)
  }

  async removeOthers(name: string): Promise<void> {
    await this.#disk.take(WRITE_MS)
    for (const other of this.#files.keys()) if (other !== name) this.#files.delete(other)
  }
}

async function* single(file: Buffer): AsyncIterable<Buffer> {
  yield file
}
