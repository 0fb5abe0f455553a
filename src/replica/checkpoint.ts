// Checkpoints of the token tables, written in the background. A checkpoint has a random name and is used only
// while the replica's LMDB file records the name. The name is recorded after the checkpoint is durable, so
// every page and slot in the checkpoint was right at a moment of the LMDB file's history. An older, foreign
// or damaged checkpoint is not used: then all pages are read.
//
// File: magic and name · for each part: table u32, depth u32, slots u32, crc32 of these and the words u32,
// words · end mark with the count of parts. Little-endian.
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { assert } from '../assert.ts'
import { type Clock, randomHex } from '../clock.ts'
import { syncDirectory } from '../files.ts'
import { PART_SLOTS, Part, SLOT_WORDS, TokenTable } from './table.ts'
import type { Tables } from './tables.ts'

/** The file holds its own name, so that a renamed checkpoint is not used. */
const magic = (name: string): Buffer => Buffer.from(`coffer checkpoint 1 ${name}\n`)
const HEAD_BYTES = 16
const END = 0xffff_ffff
const BLOCK_BYTES = 4 * 1024 * 1024
/** New mappings since the last checkpoint that are worth another checkpoint. */
const LEAST_MAPPINGS = 1_000_000
/** The same as a part of all mappings. */
const LEAST_SHARE = 0.25

/** The parts of the replica that a checkpoint needs. */
type Source = {
  readonly tables: Tables
  /** The next page number: a checkpoint covers all pages before. */
  readonly pages: () => number
  /** Resolves when all written pages are durable. */
  readonly flushed: () => Promise<void>
  /** Stores the name of the checkpoint that belongs to the file's history. */
  readonly record: (checkpoint: string) => Promise<void>
}

export class Checkpointer {
  readonly #path: string
  readonly #clock: Clock
  readonly #source: Source
  #mappings = 0
  #writing: Promise<void> | undefined

  constructor(path: string, clock: Clock, source: Source) {
    this.#path = path
    this.#clock = clock
    this.#source = source
  }

  /** Counts mappings that the last checkpoint does not have. */
  added(mappings: number): void {
    this.#mappings += mappings
  }

  /**
   * Loads the tables of the recorded checkpoint (name, space, pages covered; or empty), and removes every
   * other checkpoint. Returns the first page that the checkpoint does not cover.
   */
  async load(recorded: string): Promise<number> {
    const [name, covered] = recorded.split(' ')
    const tables = name ? await readCheckpoint(this.#path, name, Number(covered)) : undefined
    await removeOtherCheckpoints(this.#path, tables ? name : '')
    if (!tables) {
      if (name) await this.#source.record('')
      return 0
    }
    for (const [id, tokens] of tables) {
      const table = this.#source.tables.byId(id)
      if (table) this.#source.tables.add(id, table.owner, table.epoch, tokens)
    }
    return Number(covered)
  }

  /**
   * Begins a checkpoint in the background when enough mappings are new, unless another checkpoint is being
   * written.
   */
  beginIfDue(failed: (error: Error) => void): void {
    const due = Math.max(LEAST_MAPPINGS, this.#source.tables.mappings * LEAST_SHARE)
    if (this.#mappings < due || this.#writing !== undefined) return
    this.#writing = this.write()
      .catch(failed)
      .finally(() => {
        this.#writing = undefined
      })
  }

  /** Writes a checkpoint, unless no mapping is new since the last checkpoint. */
  async write(): Promise<void> {
    if (this.#mappings === 0) return
    this.#mappings = 0
    const covered = this.#source.pages()
    await this.#source.flushed()
    const name = randomHex(this.#clock, 8)
    await writeCheckpoint(
      this.#path,
      name,
      this.#source.tables.all().map(({ id, tokens }) => ({ id, table: tokens })),
    )
    assert(covered <= this.#source.pages(), 'page numbers ascend')
    await this.#source.record(`${name} ${covered}`)
    await removeOtherCheckpoints(this.#path, name)
  }

  /** Waits for a checkpoint in the background, then writes a last checkpoint. */
  async close(failed: (error: Error) => void): Promise<void> {
    await this.#writing
    await this.write().catch(failed)
  }
}

/** A table with the replica's own number. */
type Numbered = { readonly id: number; readonly table: TokenTable }

const fileOf = (dir: string, name: string): string => join(dir, `checkpoint-${name}`)

/**
 * Writes the tables. A part is copied in a turn of the event loop, so later parts may already hold mappings
 * of pages after the covered pages: such mappings are dropped on loading.
 */
export async function writeCheckpoint(dir: string, name: string, tables: Iterable<Numbered>): Promise<void> {
  const temporary = `${fileOf(dir, name)}.new`
  const file = await open(temporary, 'wx', 0o600)
  try {
    await file.write(magic(name))
    let parts = 0
    let records: Buffer[] = []
    let waiting = 0
    for (const { id, table } of tables) {
      for (const part of table.parts()) {
        const record = encodePart(id, part)
        records.push(record)
        waiting += record.length
        parts++
        if (waiting < BLOCK_BYTES) continue
        await file.write(Buffer.concat(records))
        records = []
        waiting = 0
      }
    }
    await file.write(Buffer.concat([...records, head(END, parts, 0, 0)]))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, fileOf(dir, name))
  await syncDirectory(dir)
}

function encodePart(id: number, part: Part): Buffer {
  const bytes = Buffer.from(part.words.buffer, part.words.byteOffset, part.words.byteLength)
  const checksum = partChecksum(id, part.depth, part.mask + 1, bytes)
  return Buffer.concat([head(id, part.depth, part.mask + 1, checksum), bytes])
}

function partChecksum(id: number, depth: number, slots: number, bytes: Buffer): number {
  return crc32(bytes, crc32(`${id} ${depth} ${slots}`))
}

function head(table: number, depth: number, slots: number, checksum: number): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES)
  for (const [i, word] of [table, depth, slots, checksum].entries()) bytes.writeUInt32LE(word, i * 4)
  return bytes
}

/**
 * The tables of a checkpoint, without mappings at or after page `limit`; undefined where the checkpoint is
 * absent or damaged.
 */
export async function readCheckpoint(
  dir: string,
  name: string,
  limit: number,
): Promise<Map<number, TokenTable> | undefined> {
  let file: FileHandle
  try {
    file = await open(fileOf(dir, name), 'r')
  } catch {
    return undefined
  }
  try {
    const parts = await readParts(file, magic(name))
    if (!parts) return undefined
    const tables = new Map<number, TokenTable>()
    for (const [id, list] of parts) {
      const whole = list.reduce((sum, part) => sum + 2 ** -part.depth, 0)
      if (whole !== 1) return undefined
      tables.set(id, TokenTable.fromParts(list, limit))
    }
    return tables
  } finally {
    await file.close()
  }
}

async function readParts(file: FileHandle, first: Buffer): Promise<Map<number, Part[]> | undefined> {
  const blocks = new Blocks(file)
  if (!(await blocks.take(first.length))?.equals(first)) return undefined
  const tables = new Map<number, Part[]>()
  for (let count = 0; ; count++) {
    const record = await blocks.take(HEAD_BYTES)
    if (!record) return undefined
    const [id, depth, slots, checksum] = [0, 4, 8, 12].map((at) => record.readUInt32LE(at))
    if (id === END) return depth === count && slots === 0 && checksum === 0 ? tables : undefined
    if (slots < 64 || slots > PART_SLOTS || (slots & (slots - 1)) !== 0 || depth > 24) return undefined
    const words = new Uint32Array(slots * SLOT_WORDS)
    const bytes = Buffer.from(words.buffer)
    const source = await blocks.take(bytes.length)
    if (!source || partChecksum(id, depth, slots, source) !== checksum) return undefined
    source.copy(bytes)
    const list = tables.get(id)
    if (list) list.push(new Part(slots, depth, words))
    else tables.set(id, [new Part(slots, depth, words)])
  }
}

/** Reads a file in large blocks: ten thousand small owners have ten thousand small parts. */
class Blocks {
  readonly #file: FileHandle
  #block = Buffer.alloc(0)
  #at = 0

  constructor(file: FileHandle) {
    this.#file = file
  }

  /** The next bytes, valid until the next call; undefined at the end of the file. */
  async take(length: number): Promise<Buffer | undefined> {
    if (this.#block.length - this.#at < length) {
      const rest = this.#block.subarray(this.#at)
      const next = Buffer.allocUnsafe(Math.max(BLOCK_BYTES, length))
      rest.copy(next)
      let filled = rest.length
      while (filled < length) {
        const { bytesRead } = await this.#file.read(next, filled, next.length - filled)
        if (bytesRead === 0) return undefined
        filled += bytesRead
      }
      this.#block = next.subarray(0, filled)
      this.#at = 0
    }
    this.#at += length
    return this.#block.subarray(this.#at - length, this.#at)
  }
}

/** Removes every checkpoint but `name`. */
export async function removeOtherCheckpoints(dir: string, name: string): Promise<void> {
  for (const file of await readdir(dir)) {
    if (file.startsWith('checkpoint-') && file !== `checkpoint-${name}`)
      await rm(join(dir, file), { force: true })
  }
}
