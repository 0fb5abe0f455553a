// Checkpoints of the token tables, written in the background. A checkpoint has a random name and is used only
// while the replica's meta record has the name. The name is handed to the next step after the checkpoint is
// durable, so every page and slot in the checkpoint was right at a moment of the store's history. An older,
// foreign or damaged checkpoint is not used: then all pages are read.
//
// File: magic and name · for each part: table u32, depth u32, slots u32, crc32 of these and the words u32,
// words · end mark with the count of parts. Little-endian.
import { crc32 } from 'node:zlib'
import { WRITE_BYTES } from '../appending.ts'
import { assert } from '../assert.ts'
import { type Clock, randomHex } from '../clock.ts'
import { errorCode, OperatorError } from '../errors.ts'
import { addSum, type Inserted } from '../state/digest.ts'
import { nextTurn } from '../waiting.ts'
import type { CheckpointFiles } from './store.ts'
import { PART_SLOTS, Part, SLOT_WORDS, TokenTable } from './table.ts'
import type { Tables } from './tables.ts'

/** The file holds its own name, so that a renamed checkpoint is not used. */
const magic = (name: string): Buffer => Buffer.from(`coffer checkpoint 1 ${name}\n`)
const HEAD_BYTES = 16
const END = 0xffff_ffff
/** Tables measured in a turn of the event loop. */
const TABLES_A_TURN = 5000
/** New mappings since the last checkpoint that are worth another checkpoint. */
export const CHECKPOINT_MAPPINGS = 1_000_000
/** The same as a part of all mappings. */
const LEAST_SHARE = 0.25
/** The pause before a full disk is asked for room again. */
const ROOM_MS = 60_000
const MEBIBYTE = 1024 * 1024

/** The parts of the replica that a checkpoint needs. */
type CheckpointerOptions = {
  readonly files: CheckpointFiles
  readonly clock: Clock
  readonly tables: Tables
  /** New mappings that are worth a checkpoint; CHECKPOINT_MAPPINGS but for tests. */
  readonly every: number
  /** The next page number of the applied steps: a checkpoint covers all pages before. */
  readonly pages: () => number
  /** Resolves when all written pages are durable. */
  readonly flushed: () => Promise<void>
  /** Called where a checkpoint cannot be written or read, or files not removed; once for a full disk. */
  readonly failed: (error: Error) => void
}

export class Checkpointer {
  readonly #options: CheckpointerOptions
  /** New mappings since the last checkpoint was begun. */
  #mappings = 0
  /** Whether the last checkpoint lacks mappings, or failed. */
  #behind = false
  #writing: Promise<void> | undefined
  /** Monotonic time of the next look for room; undefined while the disk has room. */
  #roomAt: number | undefined

  constructor(options: CheckpointerOptions) {
    this.#options = options
  }

  /** Counts mappings on pages that the last checkpoint does not cover, also duplicates: a start reads all. */
  added(mappings: number): void {
    this.#mappings += mappings
    if (mappings > 0) this.#behind = true
  }

  /**
   * The tables of the recorded checkpoint (name, space, pages covered; or empty), and the first page that the
   * checkpoint does not cover; undefined where there is no usable checkpoint. Removes every other checkpoint.
   */
  async load(
    recorded: string,
  ): Promise<{ readonly tables: CheckpointTables; readonly covered: number } | undefined> {
    const { files, failed } = this.#options
    const [name, pages] = recorded.split(' ')
    const covered = Number(pages)
    const tables = name ? await readCheckpoint(files, name, covered).catch(unreadable(failed)) : undefined
    await files.removeOthers(tables ? name : '').catch(failed)
    return tables && { tables, covered }
  }

  /**
   * Begins a checkpoint in the background when enough mappings are new, unless another checkpoint is being
   * written. `hand` gets the value of `Meta.checkpoint` for the next step.
   */
  beginIfDue(hand: (checkpoint: string) => void): void {
    const { clock, every, failed, tables } = this.#options
    const due = Math.max(every, tables.mappings * LEAST_SHARE)
    if (this.#mappings < due || this.#writing !== undefined) return
    if (this.#roomAt !== undefined && clock.monotonic() < this.#roomAt) return
    this.#writing = this.write()
      .then((checkpoint) => {
        if (checkpoint !== undefined) hand(checkpoint)
      })
      .catch(failed)
      .finally(() => {
        this.#writing = undefined
      })
  }

  /**
   * Writes a checkpoint. Returns the value of `Meta.checkpoint`, to be recorded by the next step; undefined
   * where no mapping is new since the last checkpoint, or the disk has no room.
   */
  async write(): Promise<string | undefined> {
    if (!this.#behind || !(await this.#hasRoom())) return undefined
    const { clock, files, flushed, pages, tables } = this.#options
    this.#mappings = 0
    this.#behind = false
    const covered = pages()
    assert(covered > 0, 'mappings are on pages')
    const name = randomHex(clock, 8)
    try {
      await flushed()
      const numbered = tables.all().map(({ id, tokens }) => ({ id, table: tokens }))
      await writeCheckpoint(files, name, numbered)
    } catch (error) {
      // Due again after as many new mappings, or at the stop: a full disk is not filled by every step.
      this.#behind = true
      throw error
    }
    assert(covered <= pages(), 'page numbers ascend')
    assert(name.length === 16, 'the name of a checkpoint is 8 bytes in hex')
    return `${name} ${covered}`
  }

  /** The older checkpoint stays until the new checkpoint is recorded, so its room does not count. */
  async #hasRoom(): Promise<boolean> {
    const { clock, failed, files, tables } = this.#options
    const bytes = await checkpointBytes(tables)
    const isFirst = this.#roomAt === undefined
    this.#roomAt = clock.monotonic() + ROOM_MS // also where the system does not answer
    if (await files.hasRoom(bytes)) {
      this.#roomAt = undefined
      return true
    }
    const full = `the disk has no room for ${Math.ceil(bytes / MEBIBYTE)} MiB beside what must stay free`
    if (isFirst) failed(new OperatorError(`${full}: make room, or the next start takes longer`))
    return false
  }

  /** Removes every checkpoint but the recorded checkpoint. */
  async removeOthers(recorded: string): Promise<void> {
    await this.#options.files.removeOthers(recorded.split(' ')[0])
  }

  /** Resolves when no checkpoint is being written in the background. */
  async idle(): Promise<void> {
    await this.#writing
  }
}

/** A table with the replica's own number. */
type Numbered = { readonly id: number; readonly table: TokenTable }

/**
 * Writes the tables. A part is copied in a turn of the event loop, so later parts may already hold mappings
 * of pages after the covered pages: such mappings are dropped on loading.
 */
export function writeCheckpoint(
  files: CheckpointFiles,
  name: string,
  tables: Iterable<Numbered>,
): Promise<void> {
  return files.write(name, blocksOf(name, tables))
}

async function* blocksOf(name: string, tables: Iterable<Numbered>): AsyncIterable<Buffer> {
  let parts = 0
  let records: Buffer[] = [magic(name)]
  let waiting = 0
  for (const { id, table } of tables) {
    for (const part of table.parts()) {
      const record = encodePart(id, part)
      if (waiting + record.length > WRITE_BYTES) {
        yield Buffer.concat(records)
        records = []
        waiting = 0
      }
      records.push(record)
      waiting += record.length
      parts++
    }
  }
  yield Buffer.concat([...records, head(END, parts, 0, 0)])
}

/** The size of a checkpoint of the tables as they are. */
async function checkpointBytes(tables: Tables): Promise<number> {
  let bytes = 0
  for (const [i, { tokens }] of tables.all().entries()) {
    for (const { words } of tokens.parts()) bytes += HEAD_BYTES + words.byteLength
    if (i % TABLES_A_TURN === TABLES_A_TURN - 1) await nextTurn()
  }
  return bytes
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

/** The tables of a checkpoint by number, each with the sum of its mappings, modulo 2^128. */
type CheckpointTables = Map<number, { readonly tokens: TokenTable; readonly inserted: Inserted }>

/**
 * The tables of a checkpoint, without mappings at or after page `limit`; undefined where the checkpoint is
 * absent or damaged.
 */
export async function readCheckpoint(
  files: CheckpointFiles,
  name: string,
  limit: number,
): Promise<CheckpointTables | undefined> {
  const file = files.read(name)
  if (!file) return undefined
  const blocks = new Blocks(file)
  const read = await readParts(blocks, magic(name), limit).finally(() => blocks.end())
  if (!read) return undefined
  const tables: CheckpointTables = new Map()
  for (const [id, { parts, inserted }] of read) {
    if (parts.reduce((sum, part) => sum + 2 ** -part.depth, 0) !== 1) return undefined
    const tokens = TokenTable.fromParts(parts)
    assert(tokens.count === inserted.count, 'a table holds what its parts hold')
    tables.set(id, { tokens, inserted })
  }
  return tables
}

/** A file that the system cannot read counts as no checkpoint. Other errors are thrown again. */
function unreadable(failed: (error: Error) => void): (error: Error) => undefined {
  return (error) => {
    if (errorCode(error) === undefined) throw error
    failed(error)
    return undefined
  }
}

/** The parts of a table as read, and the sum of their mappings. */
type TableParts = { readonly parts: Part[]; readonly inserted: { count: number; readonly sum: Float64Array } }

/** A part is checked and settled while its bytes are in the processor's caches. */
async function readParts(
  blocks: Blocks,
  first: Buffer,
  limit: number,
): Promise<Map<number, TableParts> | undefined> {
  const start = Buffer.alloc(first.length)
  if (!(await blocks.fill(start)) || !start.equals(first)) return undefined
  const tables = new Map<number, TableParts>()
  const record = Buffer.alloc(HEAD_BYTES)
  for (let read = 0; ; read++) {
    if (!(await blocks.fill(record))) return undefined
    const [id, depth, slots, checksum] = [0, 4, 8, 12].map((at) => record.readUInt32LE(at))
    if (id === END) return depth === read && slots === 0 && checksum === 0 ? tables : undefined
    if (slots < 64 || slots > PART_SLOTS || (slots & (slots - 1)) !== 0 || depth > 24) return undefined
    const bytes = Buffer.allocUnsafeSlow(slots * SLOT_WORDS * 4) // filled at once
    if (!(await blocks.fill(bytes)) || partChecksum(id, depth, slots, bytes) !== checksum) return undefined
    const part = new Part(slots, depth, new Uint32Array(bytes.buffer))
    const table = tables.get(id) ?? { parts: [], inserted: { count: 0, sum: new Float64Array(4) } }
    const { count, sum } = part.settle(limit)
    table.parts.push(part)
    table.inserted.count += count
    addSum(table.inserted.sum, sum)
    tables.set(id, table)
  }
}

/** Takes a file's bytes in pieces of any length. */
class Blocks {
  readonly #source: AsyncIterator<Buffer>
  #block: Buffer = Buffer.alloc(0)
  #at = 0

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** Fills the target with the next bytes. Returns false where the file ends before. */
  async fill(target: Buffer): Promise<boolean> {
    for (let done = 0; done < target.length; ) {
      if (this.#at === this.#block.length) {
        const next = await this.#source.next()
        if (next.done) return false
        this.#block = next.value
        this.#at = 0
      }
      const copied = this.#block.copy(target, done, this.#at)
      assert(copied > 0, 'a block has bytes')
      this.#at += copied
      done += copied
    }
    return true
  }

  /** Ends the source, also where not all of the file was taken. */
  async end(): Promise<void> {
    await this.#source.return?.()
  }
}
