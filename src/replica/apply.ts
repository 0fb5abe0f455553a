// Applies revisions of the ledger: step, write, effects. The machine (state/step.ts) decides what a revision
// does; the store takes the batch of the step in a single transaction; once the batch can be read, the
// effects change the token tables and the state. Meta is put by the batch of a step and by nothing else: a
// checkpoint hands its name to the next step.
import { AssertionError, assert } from '../assert.ts'
import type { Clock } from '../clock.ts'
import { FatalError } from '../errors.ts'
import type { Effect } from '../state/effects.ts'
import { Loader } from '../state/load.ts'
import { bodiesAt, PAGE_MAPPINGS, pageIsWhole, pageTable } from '../state/page.ts'
import type { State } from '../state/state.ts'
import { type DecodedRevision, OpenStep } from '../state/step.ts'
import { type Batch, DamagedReplica, EMPTY_META } from '../state/stored.ts'
import { nextTurn } from '../waiting.ts'
import { CHECKPOINT_MAPPINGS, Checkpointer } from './checkpoint.ts'
import { entriesCost } from './queue.ts'
import { checkBatch, type Store } from './store.ts'
import { Tables } from './tables.ts'

/** Pages read in a turn of the event loop, and in a read transaction. */
const PAGES_A_TURN = 5000
/** Records read in a turn of the event loop. */
const RECORDS_A_TURN = 500
/** Tables whose part of the digest is computed in a turn of the event loop. */
const TABLES_A_TURN = 5000
/** Tables whose part of the digest may be left for the caller that asks for the digest. */
const MOST_UNSETTLED = 500
/** Mappings inserted in a turn of the event loop: where tables grow, an insert costs 2 µs and more. */
const MAPPINGS_A_TURN = 8000
/** What an effect costs, in inserted mappings. */
const EFFECT_MAPPINGS = 8
/** Bytes laid out in a turn of the event loop. */
const BYTES_A_TURN = 1024 * 1024

export type RevisionDigest = { readonly revision: number; readonly digest: string }

type ApplierOptions = {
  readonly store: Store
  readonly clock: Clock
  /** New mappings that are worth a checkpoint. */
  readonly checkpointEvery?: number | undefined
  /** Called where a checkpoint could not be written, or the files of others not removed: all goes on. */
  readonly checkpointFailed: (error: Error) => void
}

type Start = {
  readonly checkpointer: Checkpointer
  readonly pagesRead: number
  readonly checkpointFailed: (error: Error) => void
}

export class Applier {
  readonly state: State
  readonly tables: Tables
  /** Pages read at the start: the pages that no checkpoint covered. */
  readonly pagesRead: number
  readonly #store: Store
  readonly #checkpointer: Checkpointer
  readonly #checkpointFailed: (error: Error) => void
  /** The batch that is written, or about to be, and whose effects are not applied yet. */
  #stepping: Batch | undefined
  /** A durable checkpoint that no step has recorded yet. */
  #handed: string | undefined
  /**
   * The digest as of the cursor, while entries after the cursor are applied: in the middle of a step, or of a
   * snapshot. Without a digest where the process before ended there.
   */
  #settled: RevisionDigest | undefined

  private constructor(store: Store, state: State, tables: Tables, start: Start) {
    this.#store = store
    this.state = state
    this.tables = tables
    this.#checkpointer = start.checkpointer
    this.#checkpointFailed = start.checkpointFailed
    this.pagesRead = start.pagesRead
    if (state.meta.partial > state.applied) this.#settled = { revision: state.applied, digest: '' }
  }

  /**
   * Reads the store into memory. Throws DamagedReplica where a record does not match its checksum, where
   * numbers do not match, or where the store has another format.
   */
  static async open({ store, clock, checkpointEvery, checkpointFailed }: ApplierOptions): Promise<Applier> {
    const tables = new Tables()
    const state = await loadRecords(store, tables)
    const checkpointer = new Checkpointer({
      files: store.checkpoints,
      clock,
      tables,
      every: checkpointEvery ?? CHECKPOINT_MAPPINGS,
      pages: () => state.meta.pages,
      flushed: () => store.flushed(),
      failed: checkpointFailed,
    })
    const loaded = await checkpointer.load(state.meta.checkpoint)
    for (const [id, { tokens, inserted }] of loaded?.tables ?? []) {
      const table = tables.byId(id)
      if (!table || state.isDropped(id)) continue
      tables.add(id, table.owner, table.epoch, tokens)
      state.addMappings(id, inserted)
    }
    const read = await loadPages(store, state, tables, loaded?.covered ?? 0)
    checkpointer.added(read.mappings)
    while (state.settleDigest(TABLES_A_TURN)) await nextTurn()
    return new Applier(store, state, tables, { checkpointer, pagesRead: read.pages, checkpointFailed })
  }

  /** The last revision whose effects can be read. */
  get applied(): number {
    return this.state.applied
  }

  /** Whether a batch is written, or about to be, whose effects are not applied yet. */
  get stepping(): boolean {
    return this.#stepping !== undefined
  }

  /** Whether the epoch has a tombstone, applied or in the step under way: its pages may be gone. */
  isDropped(owner: string, epoch: number): boolean {
    const id = this.tables.get(owner, epoch)?.id
    if (id === undefined) return false
    const dropping = this.#stepping?.tables.some((table) => table.id === id && table.dropped)
    return dropping || this.state.isDropped(id)
  }

  /** The digest and its revision, read together. */
  digest(): RevisionDigest {
    return this.#settled ?? { revision: this.state.applied, digest: this.state.digest() }
  }

  /** Applies the revisions of a ledger in a single transaction. Throws WriteFailed, with nothing applied. */
  async apply(revisions: readonly DecodedRevision[], ledger: string): Promise<void> {
    const { state, tables } = this
    const checkpoint = this.#handed
    const { batch, effects } = (await stepInTurns(state, revisions)).end({ ledger, checkpoint })
    checkBatch(batch, state.meta)
    this.#stepping = batch
    await this.#store.write(batch).catch((error: unknown) => {
      this.#stepping = undefined
      throw error
    })
    assert(this.#store.meta()?.cursor === batch.meta.cursor, 'a written batch can be read')
    const inTurns = effects.reduce((sum, effect) => sum + costOf(effect), 0) > MAPPINGS_A_TURN
    const inPart = batch.meta.partial > batch.meta.cursor
    if (inTurns || inPart) this.#settled ??= { revision: state.applied, digest: state.digest() }
    let cost = 0
    let mappings = 0
    for (const effect of effects) {
      mappings += effect.kind === 'insert' ? effect.segment.count : 0
      cost += costOf(effect)
      // Others may run between two revisions, and before a segment: a commit puts a segment alone.
      const apart = effect.kind === 'insert' || effect.kind === 'applied'
      if (apart && cost > MAPPINGS_A_TURN) {
        cost = 0
        await nextTurn()
      }
      state.apply(effect, tables)
    }
    this.#stepping = undefined
    assert(state.meta === batch.meta, 'the last effect of a step is its meta record')
    if (state.meta.partial <= state.applied) this.#settled = undefined
    if (state.unsettled > MOST_UNSETTLED) state.settleDigest(MOST_UNSETTLED)
    this.#checkpointer.added(mappings)
    if (checkpoint === undefined) return
    this.#handed = undefined
    await this.#checkpointer.removeOthers(checkpoint).catch(this.#checkpointFailed)
  }

  /**
   * Begins a checkpoint in the background where enough mappings are new. `durable` is called when the next
   * step can record the checkpoint. Until then no other checkpoint begins: the step that records a checkpoint
   * removes the files of all others.
   */
  beginCheckpointIfDue(durable: () => void): void {
    if (this.#handed !== undefined) return
    this.#checkpointer.beginIfDue((checkpoint) => {
      this.#handed = checkpoint
      durable()
    })
  }

  /** Writes a last checkpoint and closes the store: nothing may be applied any more. */
  async close(): Promise<void> {
    try {
      await this.#checkpointer.idle()
      this.#handed = (await this.#checkpointer.write()) ?? this.#handed
      if (this.#handed !== undefined) await this.apply([], this.state.meta.ledger)
    } catch (error) {
      if (error instanceof FatalError || error instanceof AssertionError) throw error
      this.#checkpointFailed(error instanceof Error ? error : new Error(String(error)))
    } finally {
      await this.#store.close()
    }
  }
}

/** In inserted mappings. */
function costOf(effect: Effect): number {
  return EFFECT_MAPPINGS + (effect.kind === 'insert' ? effect.segment.count : 0)
}

/** Lays out the revisions, some of them in each turn of the event loop. */
async function stepInTurns(state: State, revisions: readonly DecodedRevision[]): Promise<OpenStep> {
  const open = new OpenStep(state)
  let cost = 0
  for (const revision of revisions) {
    const next = entriesCost(revision.decoded)
    if (cost > 0 && cost + next > BYTES_A_TURN) {
      cost = 0
      await nextTurn()
    }
    cost += next
    open.add(revision)
  }
  if (cost > BYTES_A_TURN / 4) await nextTurn() // the writes take as long again
  return open
}

async function loadRecords(store: Store, tables: Tables): Promise<State> {
  const loader = new Loader(store.meta() ?? EMPTY_META, tables)
  const inTurns = async <T>(list: Iterable<T>, use: (each: T) => void): Promise<void> => {
    let read = 0
    for (const each of list) {
      use(each)
      if (++read % RECORDS_A_TURN === 0) await nextTurn()
    }
  }
  await inTurns(store.tables(), (table) => loader.table(table))
  await inTurns(store.ranges(), (range) => loader.range(range))
  await inTurns(store.owners(), (owner) => loader.owner(owner))
  await inTurns(store.entries(), (entry) => loader.entry(entry))
  await inTurns(store.records(), (record) => loader.record(record.number, record))
  return loader.end()
}

/** Inserts the mappings of all pages from `from` on. Returns how many pages and mappings were read. */
async function loadPages(
  store: Store,
  state: State,
  tables: Tables,
  from: number,
): Promise<{ readonly pages: number; readonly mappings: number }> {
  const { pages } = state.meta
  const bodies = Buffer.alloc(PAGE_MAPPINGS * 16)
  let expected = from
  const read = { pages: 0, mappings: 0 }
  for (let start = from; start < pages; start += PAGES_A_TURN) {
    for (const { number, page } of store.pages(start, Math.min(start + PAGES_A_TURN, pages))) {
      if (!pageIsWhole(page, page.length, number)) throw new DamagedReplica(`page ${number} is damaged`)
      const table = pageTable(page)
      if (!tables.byId(table) || state.isDropped(table))
        throw new DamagedReplica(`page ${number} belongs to no table`)
      if (number !== expected && !state.hasDropped) throw new DamagedReplica(`page ${expected} is missing`)
      expected = number + 1
      const count = page[8]
      read.pages++
      read.mappings += count
      page.copy(bodies, 0, bodiesAt(count), bodiesAt(count) + 16 * count)
      state.addMappings(table, tables.insert(table, bodies.subarray(0, 16 * count), count, number))
    }
    await nextTurn()
  }
  if (expected !== pages && !state.hasDropped) throw new DamagedReplica(`page ${expected} is missing`)
  for (const { number } of store.pages(pages, 0xffff_ffff))
    throw new DamagedReplica(`page ${number} is not in meta`)
  return read
}
