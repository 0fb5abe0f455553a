// The replica of one node: it follows the ledger from its own durable cursor, folds it into LMDB and the token
// tables, and answers all reads. What it does not have it may not have learnt yet: then the barrier decides.
import { assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import {
  type Commit,
  type CommitResult,
  Compacted,
  type Ledger,
  LedgerUnavailable,
  UnknownOutcome,
} from '../ledger/ledger.ts'
import { decodeEntry } from '../state/entries.ts'
import type { Segment } from '../state/segment.ts'
import { type Decoded, decodePuts, type MappingSum, type OwnerState, State } from '../state/state.ts'
import { decodeWriter, sameWriter, type Writer } from '../state/writer.ts'
import { readCheckpoint, removeOtherCheckpoints, writeCheckpoint } from './checkpoint.ts'
import { bodiesAt, encodePages, PAGE_MAPPINGS, pageCount, pageIsWhole, pageTable, sizeOf } from './page.ts'
import {
  type Batch,
  DamagedReplica,
  type Meta,
  REPLICA_FORMAT,
  ReplicaStore,
  type StoredEntry,
} from './store.ts'
import { place, TokenTable } from './table.ts'

/** Bytes of revisions that may wait to be applied, and that go into one transaction. */
const QUEUE_BYTES = 8 * 1024 * 1024
/** New mappings since the last checkpoint that make a new one worth its writing. */
const CHECKPOINT_MAPPINGS = 1_000_000
const RETRY_MS = 200

export type ReplicaEvents = {
  lost(reason: string): void
  recovered(): void
  caughtUp(from: number, to: number, ms: number): void
  rebuilt(reason: string, revision: number, ms: number): void
  /** An epoch of this owner was learnt. */
  epoch(owner: string, epoch: number, revision: number): void
  /** A commit made by another node was applied. */
  applied(node: string, revision: number): void
}

export type ReplicaOptions = {
  readonly path: string
  readonly ledger: Ledger
  readonly identity: string
  readonly boot: string
  readonly clock: Clock
  readonly events: ReplicaEvents
  /** Called when an invariant broke in the background: the node ends. */
  readonly fatal: (error: Error) => void
}

type Queued = { readonly revision: number; readonly decoded: readonly Decoded[]; readonly bytes: number }
type Table = {
  readonly id: number
  readonly owner: string
  readonly epoch: number
  readonly tokens: TokenTable
}

export class Replica {
  readonly state = new State()
  /** The last revision whose effects can be read here. */
  applied = 0
  /** The ledger's head as last seen. */
  head = 0
  /** Counted since the start: mappings that were there already, and puts under keys that are not ours. */
  ignoredDuplicates = 0
  foreignKeys = 0
  segments = 0
  readonly identity: string
  readonly #path: string
  readonly #ledger: Ledger
  readonly #store: ReplicaStore
  readonly #boot: string
  readonly #clock: Clock
  readonly #events: ReplicaEvents
  readonly #fatal: (error: Error) => void
  readonly #tables = new Map<string, Map<number, Table>>()
  #tableCount = 0
  #meta: Meta
  #commits = 0
  #queue: Queued[] = []
  #queueBytes = 0
  /** The revision that is being written. */
  #applying = 0
  #wakeApplier = Promise.withResolvers<void>()
  #room = Promise.withResolvers<void>()
  #waiters: {
    readonly revision: number
    readonly resolve: () => void
    readonly reject: (error: Error) => void
  }[] = []
  #barrier: Promise<void> | undefined
  #nextBarrier: Promise<void> | undefined
  #sinceCheckpoint = 0
  #checkpointing: Promise<void> | undefined
  #closed = false
  readonly #stop = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  #digest: { readonly revision: number; readonly digest: string } | undefined

  private constructor(options: ReplicaOptions, store: ReplicaStore, meta: Meta) {
    this.identity = options.identity
    this.#path = options.path
    this.#ledger = options.ledger
    this.#store = store
    this.#boot = options.boot
    this.#clock = options.clock
    this.#events = options.events
    this.#fatal = options.fatal
    this.#meta = meta
    this.applied = meta.cursor
    this.head = meta.cursor
  }

  /**
   * Opens the replica's file and begins to follow. Throws DamagedReplica where a record does not match its checksum,
   * and where the file follows another ledger.
   */
  static async open(options: ReplicaOptions): Promise<Replica> {
    const store = new ReplicaStore(options.path)
    const meta = store.meta() ?? emptyMeta(options.identity)
    if (meta.format !== REPLICA_FORMAT || meta.ledger !== options.identity) {
      await store.close()
      throw new DamagedReplica('the replica follows another ledger')
    }
    const replica = new Replica(options, store, meta)
    await replica.#load()
    replica.#running = Promise.all([replica.#followForEver(), replica.#applyForEver()]).catch(
      (error: Error) => replica.#end(error),
    )
    return replica
  }

  // ---- loading

  async #load(): Promise<void> {
    for (const { id, owner, epoch } of this.#store.tables()) this.#addTable(id, owner, epoch)
    for (const { key, revision, value } of this.#store.entries()) {
      const entry = decodeEntry(key, value)
      assert(entry && entry.kind !== 'segment', 'segments are stored as pages')
      this.state.apply(revision, key, entry)
    }
    const from = await this.#loadCheckpoint()
    await this.#loadPages(from)
  }

  /** Returns the first page that the checkpoint does not cover. */
  async #loadCheckpoint(): Promise<number> {
    const [name, covered] = this.#meta.checkpoint.split(' ')
    const limit = Number(covered ?? 0)
    const tables = name ? await readCheckpoint(this.#path, name, limit) : undefined
    await removeOtherCheckpoints(this.#path, tables ? name : '')
    if (!tables) {
      if (name) await this.#writeMeta({ checkpoint: '' })
      return 0
    }
    for (const owned of this.#tables.values()) {
      for (const [epoch, table] of owned) {
        const tokens = tables.get(table.id)
        if (tokens) owned.set(epoch, { ...table, tokens })
      }
    }
    return limit
  }

  async #loadPages(from: number): Promise<void> {
    const byId = new Map<number, Table>()
    for (const owned of this.#tables.values()) for (const table of owned.values()) byId.set(table.id, table)
    let expected = from
    const bodies = new Uint32Array(PAGE_MAPPINGS * 4)
    const bodyBytes = Buffer.from(bodies.buffer)
    while (expected < this.#meta.pages) {
      // A range at a time: no read transaction is long, and the event loop turns.
      const stop = expected + 20_000
      for (const { number, page } of this.#store.pages(expected)) {
        if (number >= stop) break
        if (number !== expected || !pageIsWhole(page, page.length, number)) {
          throw new DamagedReplica(`page ${expected} is damaged or missing`)
        }
        const table = byId.get(pageTable(page))
        if (!table) throw new DamagedReplica(`page ${number} belongs to no table`)
        const count = page[8]
        page.copy(bodyBytes, 0, bodiesAt(count), bodiesAt(count) + 16 * count)
        for (let slot = 0; slot < count; slot++) table.tokens.insert(bodies, slot * 4, number, slot)
        expected++
      }
      if (expected < stop && expected < this.#meta.pages)
        throw new DamagedReplica(`page ${expected} is missing`)
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#sinceCheckpoint = (this.#meta.pages - from) * PAGE_MAPPINGS
  }

  #addTable(id: number, owner: string, epoch: number): Table {
    let owned = this.#tables.get(owner)
    if (!owned) {
      owned = new Map()
      this.#tables.set(owner, owned)
    }
    const table: Table = { id, owner, epoch, tokens: new TokenTable() }
    owned.set(epoch, table)
    this.#tableCount = Math.max(this.#tableCount, id + 1)
    return table
  }

  // ---- following

  async #followForEver(): Promise<void> {
    let lost = false
    while (!this.#closed) {
      try {
        this.head = Math.max(this.head, await this.#ledger.head())
        if (lost) this.#events.recovered()
        lost = false
        await this.#follow()
      } catch (error) {
        if (error instanceof Compacted) await this.#resync()
        else if (error instanceof LedgerUnavailable) {
          if (this.#closed) return
          if (!lost) this.#events.lost(error.message)
          lost = true
          await this.#pause()
        } else throw error
      }
    }
  }

  async #follow(): Promise<void> {
    const started = this.#clock.monotonic()
    const from = this.#enqueued()
    const target = this.head
    if (target > from) {
      this.waitApplied(target).then(
        () => this.#events.caughtUp(from, target, Math.round(this.#clock.monotonic() - started)),
        () => undefined, // the node ends, or the stream broke: the next one tells
      )
    }
    for await (const { revision, puts } of this.#ledger.follow(from, this.#stop.signal)) {
      if (this.#closed) return
      this.head = Math.max(this.head, revision)
      const { decoded, foreign } = decodePuts(revision, puts)
      this.foreignKeys += foreign
      const bytes = puts.reduce((sum, put) => sum + put.key.length + (put.value?.length ?? 0), 0)
      await this.#enqueue({ revision, decoded, bytes })
    }
  }

  #enqueued(): number {
    return this.#queue.at(-1)?.revision ?? Math.max(this.applied, this.#applying)
  }

  async #enqueue(entry: Queued): Promise<void> {
    this.#queue.push(entry)
    this.#queueBytes += entry.bytes
    this.#wakeApplier.resolve()
    while (this.#queueBytes > QUEUE_BYTES && !this.#closed) await this.#room.promise
  }

  /** Everything live at one revision, when the history in between is gone. What is known already is ignored. */
  async #resync(): Promise<void> {
    while (this.#queue.length > 0 || this.#applying > this.applied) await this.waitApplied(this.#enqueued())
    const { revision, entries } = await this.#ledger.snapshot()
    let decoded: Decoded[] = []
    let bytes = 0
    for await (const entry of entries) {
      if (entry.revision <= this.applied) continue
      const one = decodePuts(entry.revision, [{ key: entry.key, value: entry.value }])
      this.foreignKeys += one.foreign
      decoded.push(...one.decoded)
      bytes += entry.value.length
      if (bytes < QUEUE_BYTES) continue
      await this.#applyBatch([{ revision: this.applied, decoded, bytes }])
      decoded = []
      bytes = 0
    }
    await this.#applyBatch([{ revision, decoded, bytes }])
  }

  // ---- applying

  async #applyForEver(): Promise<void> {
    while (!this.#closed) {
      if (this.#queue.length === 0) {
        this.#wakeApplier = Promise.withResolvers()
        await this.#wakeApplier.promise
        continue
      }
      const batch = this.#queue
      this.#queue = []
      this.#queueBytes = 0
      this.#room.resolve()
      this.#room = Promise.withResolvers()
      await this.#applyBatch(batch)
      this.#checkpointIfDue()
    }
  }

  /** Writes the revisions in one transaction; when they can be read, lets the tables and the state know of them. */
  async #applyBatch(batch: readonly Queued[]): Promise<void> {
    const last = batch[batch.length - 1].revision
    this.#applying = last
    const { write, segments } = this.#prepare(batch, last)
    await this.#writeRetrying(write)
    this.#meta = write.meta
    for (const { revision, decoded } of batch) {
      for (const put of decoded) {
        if (put.entry.kind === 'segment') this.#insert(put.entry, segments)
        else this.state.apply(put.revision, put.key, put.entry)
        this.#tell(put)
      }
      this.applied = revision
    }
    this.head = Math.max(this.head, last)
    this.#wake()
  }

  #tell({ entry, value, revision }: Decoded): void {
    if (entry.kind === 'epoch') this.#events.epoch(entry.owner, entry.active, revision)
    const { boot } = decodeWriter(value)
    const node = boot === this.#boot ? undefined : this.state.boots.get(boot)
    if (node !== undefined) this.#events.applied(node, revision)
  }

  #prepare(batch: readonly Queued[], last: number): { write: Batch; segments: Map<Segment, number> } {
    const pages: { number: number; page: Buffer }[] = []
    const entries: StoredEntry[] = []
    const tables: { id: number; owner: string; epoch: number }[] = []
    const segments = new Map<Segment, number>()
    let next = this.#meta.pages
    for (const { decoded } of batch) {
      for (const { key, entry, value, revision } of decoded) {
        if (entry.kind !== 'segment') {
          entries.push({ key, revision, value })
          continue
        }
        let table = this.#tables.get(entry.owner)?.get(entry.epoch)
        if (!table) {
          table = this.#addTable(this.#tableCount, entry.owner, entry.epoch)
          tables.push(table)
        }
        segments.set(entry, next)
        for (const page of encodePages(entry, table.id, next)) pages.push({ number: next++, page })
      }
    }
    return { write: { pages, entries, tables, meta: { ...this.#meta, cursor: last, pages: next } }, segments }
  }

  #insert(segment: Segment, segments: ReadonlyMap<Segment, number>): void {
    const first = segments.get(segment)
    const table = this.#tables.get(segment.owner)?.get(segment.epoch)
    assert(first !== undefined && table, 'the segment was prepared')
    const words = new Uint32Array(segment.count * 4)
    new Uint8Array(words.buffer).set(segment.bodies)
    let fresh = 0
    for (let i = 0; i < segment.count; i++) {
      const page = first + Math.floor(i / PAGE_MAPPINGS)
      if (table.tokens.insert(words, i * 4, page, i % PAGE_MAPPINGS)) fresh++
    }
    this.segments++
    this.ignoredDuplicates += segment.count - fresh
    this.#sinceCheckpoint += fresh
    assert(pageCount(segment) > 0, 'a segment has pages')
  }

  /** A full disk is waited out: the ledger has it all, and nothing is lost by being late. */
  async #writeRetrying(batch: Batch): Promise<void> {
    for (let told = false; ; told = true) {
      try {
        await this.#store.write(batch)
        if (told) this.#events.recovered()
        return
      } catch (error) {
        if (this.#closed) throw error
        if (!told)
          this.#events.lost(
            `the replica could not be written: ${error instanceof Error ? error.message : error}`,
          )
        await this.#pause()
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, RETRY_MS))
  }

  // ---- waiting

  /** Resolves once `revision` has been applied here. */
  waitApplied(revision: number): Promise<void> {
    if (this.applied >= revision) return Promise.resolve()
    if (this.#closed) return Promise.reject(new LedgerUnavailable('closed', 'the replica is closed'))
    return new Promise((resolve, reject) => this.#waiters.push({ revision, resolve, reject }))
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) {
      if (waiter.revision <= this.applied) waiter.resolve()
      else this.#waiters.push(waiter)
    }
  }

  /**
   * One linearizable read of the ledger's head, then until it has been applied here. After it, what is not found is
   * not there. Callers share one that has not been sent yet, never one that has. Throws LedgerUnavailable.
   */
  barrier(): Promise<void> {
    if (!this.#barrier) {
      const sent = this.#passBarrier()
      this.#barrier = sent
      const done = (): void => {
        this.#barrier = undefined
      }
      sent.then(done, done)
      return sent
    }
    this.#nextBarrier ??= this.#barrier
      .then(undefined, () => undefined)
      .then(() => {
        this.#nextBarrier = undefined
        return this.barrier()
      })
    return this.#nextBarrier
  }

  async #passBarrier(): Promise<void> {
    const head = await this.#ledger.head()
    this.head = Math.max(this.head, head)
    await this.waitApplied(head)
  }

  // ---- committing

  nextWriter(): Writer {
    return { boot: this.#boot, commit: ++this.#commits }
  }

  /**
   * Commits, and resolves an unknown outcome: `immutable` is the key whose absence the commit guards and which it
   * puts; the same bytes are sent again until the answer is definite. Throws LedgerUnavailable, and UnknownOutcome
   * where `deadlineMs` passes first.
   */
  async commit(commit: Commit, immutable: string, deadlineMs = 5000): Promise<CommitResult> {
    const put = commit.put.find((each) => each.key === immutable)
    assert(put?.value, 'a commit puts its immutable key')
    const writer = decodeWriter(put.value)
    const deadline = this.#clock.monotonic() + deadlineMs
    for (let unknown = false; ; ) {
      try {
        const result = await this.#ledger.commit(commit)
        if (result.ok || !unknown) return result
        const found = result.found.find((each) => each.key === immutable)
        assert(found, 'the immutable key is guarded')
        if (found.value === null || !sameWriter(decodeWriter(found.value), writer)) return result
        return { ok: true, revision: found.revision }
      } catch (error) {
        if (error instanceof UnknownOutcome) unknown = true
        else if (!(error instanceof LedgerUnavailable) || !unknown) throw error
        if (this.#clock.monotonic() > deadline) throw new UnknownOutcome('the outcome of a write is unknown')
        await this.#pause()
      }
    }
  }

  // ---- reading

  owner(owner: string): OwnerState | undefined {
    return this.state.owners.get(owner)
  }

  tokens(owner: string, epoch: number): TokenTable | undefined {
    return this.#tables.get(owner)?.get(epoch)?.tokens
  }

  /**
   * Copies the sealed value at `place` to what `room(size)` gives (a byte position in `target()`, for `size` units).
   * Damage of the page shows when the value is opened: then `checkPage` tells.
   */
  reader(): PageReader {
    return new PageReader(this.#store)
  }

  /** Throws DamagedReplica where the page is damaged. */
  checkPage(number: number): void {
    const page = this.#store.page(number)
    if (!page || !pageIsWhole(page, page.length, number))
      throw new DamagedReplica(`page ${number} is damaged`)
  }

  *mappingSums(): Iterable<MappingSum> {
    for (const owned of this.#tables.values()) {
      for (const { owner, epoch, tokens } of owned.values()) {
        yield { owner, epoch, count: tokens.count, sum: tokens.sum() }
      }
    }
  }

  /** The digest and the revision it belongs to, read together. */
  digest(): { readonly revision: number; readonly digest: string } {
    if (this.#digest?.revision !== this.applied) {
      this.#digest = { revision: this.applied, digest: this.state.digest(this.mappingSums()) }
    }
    return this.#digest
  }

  count(): { mappings: number; tables: number } {
    let mappings = 0
    let tables = 0
    for (const owned of this.#tables.values()) {
      for (const { tokens } of owned.values()) {
        mappings += tokens.count
        tables++
      }
    }
    return { mappings, tables }
  }

  // ---- checkpoint and closing

  #checkpointIfDue(): void {
    const due = Math.max(CHECKPOINT_MAPPINGS, this.#meta.pages * PAGE_MAPPINGS * 0.25)
    if (this.#sinceCheckpoint < due || this.#checkpointing) return
    this.#checkpointing = this.#checkpoint()
      .catch((error: Error) => this.#events.lost(`the checkpoint could not be written: ${error.message}`))
      .finally(() => {
        this.#checkpointing = undefined
      })
  }

  async #checkpoint(): Promise<void> {
    this.#sinceCheckpoint = 0
    const covered = this.#meta.pages
    await this.#store.flushed()
    const name = Buffer.from(this.#clock.random(8)).toString('hex')
    const tables = [...this.#tables.values()].flatMap((owned) => [...owned.values()])
    await writeCheckpoint(
      this.#path,
      name,
      tables.map(({ id, tokens }) => ({ id, table: tokens })),
    )
    await this.#writeMeta({ checkpoint: `${name} ${covered}` })
    await removeOtherCheckpoints(this.#path, name)
  }

  async #writeMeta(change: Partial<Meta>): Promise<void> {
    this.#meta = { ...this.#meta, ...change }
    await this.#store.writeMeta(this.#meta)
  }

  #end(error: Error): void {
    if (this.#closed) return
    for (const waiter of this.#waiters) waiter.reject(error)
    this.#waiters = []
    this.#fatal(error)
  }

  /** Ends following, writes a checkpoint where it is worth it, and closes the file. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#stop.abort()
    this.#wakeApplier.resolve()
    this.#room.resolve()
    for (const waiter of this.#waiters)
      waiter.reject(new LedgerUnavailable('closed', 'the replica is closed'))
    this.#waiters = []
    await this.#running
    await this.#checkpointing
    if (this.#sinceCheckpoint > 0) await this.#checkpoint().catch((error: Error) => this.#events.lost(`no checkpoint: ${error.message}`))
    await this.#store.close()
  }
}

function emptyMeta(ledger: string): Meta {
  return { format: REPLICA_FORMAT, ledger, cursor: 0, pages: 0, checkpoint: '' }
}

/** Reads mappings out of pages; remembers the last page, so that neighbours cost one fetch. */
export class PageReader {
  readonly #store: ReplicaStore
  #number = -1
  #page: Buffer | undefined
  #length = 0
  #nextSlot = 0
  #nextAt = 0

  constructor(store: ReplicaStore) {
    this.#store = store
  }

  /** Points at the sealed value of `slot` on page `number`; returns its size in units, 0 where it is not there. */
  seek(number: number, slot: number): number {
    if (number !== this.#number) {
      this.#page = this.#store.page(number)
      this.#length = this.#page?.length ?? 0
      this.#number = number
      this.#nextSlot = -1
    }
    const page = this.#page
    if (!page || slot >= page[8]) return 0
    let at = this.#nextAt
    let from = this.#nextSlot
    if (from < 0 || from > slot) {
      from = 0
      at = bodiesAt(page[8]) + 16 * page[8]
    }
    for (; from < slot; from++) at += 8 * sizeOf(page, from)
    const size = sizeOf(page, slot)
    this.#nextSlot = slot
    this.#nextAt = at
    return at + 8 * size <= this.#length ? size : 0
  }

  /** Copies the value that `seek` found. */
  copy(target: Uint8Array, at: number, size: number): void {
    const page = this.#page
    assert(page, 'seek comes before copy')
    for (let i = 0, from = this.#nextAt; i < size * 8; i++) target[at + i] = page[from + i]
  }
}

export { place }
