// Floors: what the parts of a vault do by themselves, without HTTP, queues or promises. The bare functions
// follow docs/architecture.md with the project's own parts, so the distance from a floor to its row is what
// the rest costs.
import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Values } from '../src/crypto/canonical.ts'
import { EpochKey } from '../src/crypto/epoch-key.ts'
import { readTokenText, tokenPrefix, writeTokenText } from '../src/crypto/token.ts'
import { LmdbStore } from '../src/replica/lmdb-store.ts'
import { PageReader } from '../src/replica/reader.ts'
import { lastFound, TokenTable } from '../src/replica/table.ts'
import { encodePages, PAGE_MAPPINGS } from '../src/state/page.ts'
import {
  decodeSegment,
  encodeSegment,
  mappingBytes,
  SEGMENT_BYTES,
  segmentHeadBytes,
} from '../src/state/segment.ts'
import { EMPTY_META } from '../src/state/stored.ts'
import { type Order, VALUE_BYTES, writeValue } from './values.ts'

const OWNER = 'bench'
const EPOCH = 1
const BOOT = '0'.repeat(32)
const TOKEN_CHARS = 38

/** The values of a request, as in its body. */
type Batch = { readonly bytes: Buffer; readonly start: Uint32Array; readonly end: Uint32Array }

function makeBatch(first: number, count: number): Batch {
  const bytes = Buffer.allocUnsafeSlow(count * (VALUE_BYTES + 3))
  const start = new Uint32Array(count)
  const end = new Uint32Array(count)
  for (let i = 0, at = 0; i < count; i++, at = end[i - 1] + 3) {
    start[i] = at
    end[i] = writeValue(bytes, at, first + i)
  }
  return { bytes, start, end }
}

/** Seconds by step. */
export type Steps = Record<string, number>

/** The steps of a request, each over the whole batch, with a clock between them. */
export class Pipeline {
  readonly steps: Steps = {}
  readonly #key = new EpochKey(OWNER, EPOCH, randomBytes(32))
  readonly #table = new TokenTable()
  readonly #prefix = tokenPrefix(EPOCH)
  readonly #segments: Uint8Array[] = []
  readonly #texts: Buffer[] = []
  #commits = 0
  #pages = 0

  #timed<T>(step: string, work: () => T): T {
    const started = performance.now()
    const result = work()
    this.steps[step] = (this.steps[step] ?? 0) + (performance.now() - started) / 1000
    return result
  }

  /** New tokens, all but the durable put: their segments and texts stay for `open`. */
  issue(batch: Batch): void {
    const values = this.#timed('canonical', () => this.#canonical(batch))
    const bodies = this.#timed('bodies', () => this.#key.bodies(values))
    const checks = this.#timed('checks', () => this.#key.checkBlocks(bodies, values.count))
    const chosen = this.#timed('look up', () => this.#unknown(bodies, values.count))
    if (chosen.length !== values.count) throw new Error('a value of the floor is there already')
    const sealed = this.#timed('seal', () => this.#key.seal(values, bodies, chosen))
    this.#timed('segments', () => this.#encode(sealed))
    this.#timed('index', () => this.#insert(bodies, values.count))
    this.#texts.push(this.#timed('text', () => this.#text(bodies, checks, values.count)))
  }

  /** Tokens that exist. */
  recognise(batch: Batch): void {
    const values = this.#timed('canonical', () => this.#canonical(batch))
    const bodies = this.#timed('bodies', () => this.#key.bodies(values))
    const checks = this.#timed('checks', () => this.#key.checkBlocks(bodies, values.count))
    const unknown = this.#timed('look up', () => this.#unknown(bodies, values.count))
    if (unknown.length > 0) throw new Error('a value of the floor is not there')
    this.#timed('text', () => this.#text(bodies, checks, values.count))
  }

  #canonical({ bytes, start, end }: Batch): Values {
    const values = new Values(start.length, start.length * 24)
    for (let i = 0; i < start.length; i++) values.pushUtf8(bytes, start[i], end[i], 32 * 1024)
    return values
  }

  #unknown(bodies: Uint8Array, count: number): Uint32Array {
    const words = new Uint32Array(bodies.buffer, bodies.byteOffset, count * 4)
    const chosen = new Uint32Array(count)
    let unknown = 0
    for (let i = 0; i < count; i++) if (!this.#table.find(words, i * 4)) chosen[unknown++] = i
    return chosen.subarray(0, unknown)
  }

  #encode(mappings: ReturnType<EpochKey['seal']>): void {
    let from = 0
    let bytes = segmentHeadBytes(OWNER)
    for (let to = 0; to <= mappings.count; to++) {
      const more = to < mappings.count ? mappingBytes(mappings.sizes[to]) : SEGMENT_BYTES
      if (bytes + more > SEGMENT_BYTES && to > from) {
        const where = { owner: OWNER, epoch: EPOCH, writer: { boot: BOOT, commit: ++this.#commits } }
        this.#segments.push(encodeSegment(where, [{ mappings, from, to }]))
        from = to
        bytes = segmentHeadBytes(OWNER)
      }
      bytes += more
    }
  }

  #insert(bodies: Uint8Array, count: number): void {
    const words = new Uint32Array(bodies.buffer, bodies.byteOffset, count * 4)
    for (let i = 0; i < count; i++) {
      this.#table.insert(words, i * 4, this.#pages + Math.floor(i / PAGE_MAPPINGS), i % PAGE_MAPPINGS)
    }
    this.#pages += Math.ceil(count / PAGE_MAPPINGS)
  }

  #text(bodies: Uint8Array, checks: Uint8Array, count: number): Buffer {
    const out = Buffer.allocUnsafeSlow(count * TOKEN_CHARS)
    for (let i = 0, at = 0; i < count; i++, at += TOKEN_CHARS) {
      for (let j = 0; j < this.#prefix.length; j++) out[at + j] = this.#prefix[j]
      writeTokenText(out, at + this.#prefix.length, bodies, i * 16, checks, i * 16)
    }
    return out
  }

  /** What was issued, in a replica's file. */
  async store(dir: string): Promise<Opener> {
    mkdirSync(dir)
    const store = new LmdbStore(dir)
    const table = new TokenTable()
    let pages = 0
    for (const [n, bytes] of this.#segments.entries()) {
      const segment = decodeSegment(bytes, BOOT, n)
      const words = new Uint32Array(segment.count * 4)
      new Uint8Array(words.buffer).set(segment.bodies)
      for (let i = 0; i < segment.count; i++) {
        table.insert(words, i * 4, pages + Math.floor(i / PAGE_MAPPINGS), i % PAGE_MAPPINGS)
      }
      const encoded = encodePages(segment, 0, pages).map((page, i) => ({ number: pages + i, table: 0, page }))
      pages += encoded.length
      const rest = { entries: [], records: [], tables: [], ranges: [], owners: [] }
      await store.write({ ...rest, pages: encoded, meta: { ...EMPTY_META, cursor: n, pages } })
    }
    return new Opener(this.#key, table, store, Buffer.concat(this.#texts))
  }
}

/** Opening stored values: from the texts of tokens to the texts of values. */
export class Opener {
  readonly steps: Steps = {}
  readonly #key: EpochKey
  readonly #table: TokenTable
  readonly #store: LmdbStore
  readonly #texts: Buffer

  constructor(key: EpochKey, table: TokenTable, store: LmdbStore, texts: Buffer) {
    this.#key = key
    this.#table = table
    this.#store = store
    this.#texts = texts
  }

  open(order: Order, first: number, count: number): void {
    const bodies = new Uint8Array(count * 16)
    const checks = new Uint8Array(count * 4)
    for (let i = 0; i < count; i++) {
      const at = order(first + i) * TOKEN_CHARS
      const epoch = readTokenText(this.#texts, at, at + TOKEN_CHARS, bodies, checks, i)
      if (epoch !== EPOCH) throw new Error('a token of the floor has not its form')
    }
    const valid = new Uint8Array(count)
    this.#key.verifyChecks(bodies, checks, count, valid)
    const words = new Uint32Array(bodies.buffer)
    const reader = new PageReader(this.#store)
    const values = new Values(count, count * 16)
    const sizes = new Uint32Array(count)
    for (let i = 0; i < count; i++) {
      if (valid[i] === 0 || !this.#table.find(words, i * 4)) throw new Error('a token of the floor is lost')
      sizes[i] = reader.seek(lastFound.page, lastFound.slot)
      const at = values.pushRoom(sizes[i])
      reader.copy(values.bytes, at, sizes[i])
    }
    if (this.#key.open(values, sizes, bodies) !== count) throw new Error('a value of the floor does not open')
    this.#write(values)
  }

  #write(values: Values): void {
    const out = Buffer.allocUnsafe(values.used * 8 + values.count * 3)
    let at = 0
    for (let i = 0; i < values.count; i++) {
      const from = values.offset[i] * 8
      for (let j = 1; j < values.length[i]; j++) out[at++] = values.bytes[from + j]
      at += 3
    }
  }

  close(): Promise<void> {
    return this.#store.close()
  }
}

/** Values or tokens a second of each bare function, in batches of `batch`. */
export type Bare = {
  readonly issue: number
  readonly recognise: number
  readonly openInOrder: number
  readonly openAtRandom: number
  /** Microseconds a value by step of `issue`. */
  readonly steps: Steps
}

/** Measures over `count` values, after a third as many to warm up. */
export async function bareFunctions(
  dir: string,
  batch: number,
  count: number,
  random: (size: number) => Order,
): Promise<Bare> {
  const pipeline = new Pipeline()
  const warm = Math.ceil(count / 3 / batch)
  const measured = Math.ceil(count / batch)
  const batches = Array.from({ length: warm + measured }, (_, i) => makeBatch(i * batch, batch))
  const rate = (work: (n: number) => void): number => {
    for (let n = 0; n < warm; n++) work(n)
    const started = performance.now()
    for (let n = warm; n < warm + measured; n++) work(n)
    return (measured * batch * 1000) / (performance.now() - started)
  }
  const issue = rate((n) => {
    if (n === warm) for (const step of Object.keys(pipeline.steps)) pipeline.steps[step] = 0
    pipeline.issue(batches[n])
  })
  const steps: Steps = {}
  for (const [step, seconds] of Object.entries(pipeline.steps))
    steps[step] = (seconds * 1e6) / (measured * batch)
  const recognise = rate((n) => pipeline.recognise(batches[n]))
  const opener = await pipeline.store(join(dir, `floor-${batch}`))
  try {
    const inOrder = rate((n) => opener.open((i) => i, n * batch, batch))
    const order = random(batches.length * batch)
    const atRandom = rate((n) => opener.open(order, n * batch, batch))
    return { issue, recognise, openInOrder: inOrder, openAtRandom: atRandom, steps }
  } finally {
    await opener.close()
  }
}
