// Random histories of a ledger, and every way to learn them: by revisions in steps of any size, by snapshots that
// are interrupted anywhere, with kills between, and from nothing. The content is always the same, and equal to that
// of a model which is slow and obvious: the live entries of the ledger.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Deadline } from '../../src/clock.ts'
import { MemoryLedger } from '../../src/ledger/memory.ts'
import type { Applier } from '../../src/replica/apply.ts'
import { MemoryStore } from '../../src/replica/memory-store.ts'
import { PageReader } from '../../src/replica/reader.ts'
import { decodeEntry, type Entry } from '../../src/state/entries.ts'
import { parseKey, snapshotRanges } from '../../src/state/ledger-keys.ts'
import { type Decoded, decodePuts } from '../../src/state/puts.ts'
import { receiptId } from '../../src/state/receipt-index.ts'
import type { VersionState } from '../../src/state/state.ts'
import type { DecodedRevision } from '../../src/state/step.ts'
import type { Witness } from '../../src/state/witness.ts'
import { nextTurn } from '../../src/waiting.ts'
import { openApplier } from './applier.ts'
import { contentOf, placeOf } from './content.ts'
import {
  bootOf,
  bootPut,
  epochPut,
  genesisPut,
  keyPut,
  nodePut,
  receiptPut,
  receiptRemoval,
  SOME_TIME,
  sealedOf,
  segmentPut,
  type TestPut,
  tombstonePut,
  versionPut,
} from './puts.ts'
import { type Random, seeded } from './seed.ts'

const HISTORIES = 30
const REVISIONS = 60
const FOLLOWERS = 4
const LEDGER = 'e'.repeat(32)
const OWNERS = ['o', 'p', 'p-2']
const UNITS = 2
const CHECKPOINT_EVERY = 25

type Live = { readonly value: Uint8Array; readonly revision: number; readonly created: number }

/** A ledger whose clients put what nodes may put, in any order that nodes may have. */
class Writers {
  readonly ledger = new MemoryLedger()
  readonly live = new Map<string, Live>()
  readonly #random: Random
  readonly #active = new Map<string, number>()
  readonly #tombstones = new Set<string>()
  readonly #versions = new Map<string, { name: string; text: string; validFrom: number }[]>()
  readonly #receipts = new Set<string>()
  /** Numbers of segments that a boot has sent and that did not arrive yet. */
  readonly #sent = new Map<string, number[]>()
  readonly #next = new Map<string, number>()
  #time = SOME_TIME
  head = 0

  constructor(random: Random) {
    this.#random = random
  }

  async commit(): Promise<void> {
    const puts = new Map<string, TestPut>()
    const count = this.head === 0 ? 1 : 1 + this.#random.below(3)
    while (puts.size < count) {
      const put = this.head === 0 ? genesisPut(LEDGER, 'rk1') : this.#put()
      if (put && !puts.has(put.key)) puts.set(put.key, put)
    }
    const { revision } = await this.ledger.commit({ if: [], put: [...puts.values()] }, Deadline.never)
    assert.equal(revision, ++this.head)
    for (const { key, value } of puts.values()) {
      const created = this.live.get(key)?.created ?? revision
      if (value) this.live.set(key, { value, revision, created })
      else this.live.delete(key)
    }
  }

  #put(): TestPut | undefined {
    const random = this.#random
    const owner = random.pick(OWNERS)
    switch (random.below(12)) {
      case 0:
        return this.#rotate(owner)
      case 1:
        return this.#tombstone(owner)
      case 2:
        return random.pick([
          genesisPut(LEDGER, this.#rootKey()),
          nodePut(random.pick(['n1', 'n2']), [this.#rootKey()]),
        ])
      case 3:
        return this.#boot()
      case 4:
        return { key: `foreign/${random.below(5)}`, value: Buffer.from('x') }
      case 5:
      case 6:
        return this.#receipt(owner)
      case 7:
      case 8:
        return this.#version(owner)
      default:
        return this.#segment(owner)
    }
  }

  #rootKey(): string {
    return this.#random.pick(['rk1', 'rk2', 'a-longer-root-key'])
  }

  /** The key of the next epoch, or an epoch that has its key, or a key again. */
  #rotate(owner: string): TestPut | undefined {
    const active = this.#active.get(owner) ?? 0
    const next = keyPut(owner, active + 1, this.#rootKey())
    if (active > 0 && this.#random.chance(0.4)) {
      const epoch = 1 + this.#random.below(active)
      return this.#tombstones.has(`${owner}@${epoch}`) ? undefined : keyPut(owner, epoch, this.#rootKey())
    }
    if (!this.live.has(next.key)) return next
    this.#active.set(owner, active + 1)
    return epochPut(owner, active + 1)
  }

  #tombstone(owner: string): TestPut | undefined {
    const active = this.#active.get(owner) ?? 0
    if (active < 2) return undefined
    const epoch = 1 + this.#random.below(active - 1)
    if (this.#tombstones.has(`${owner}@${epoch}`)) return undefined
    this.#tombstones.add(`${owner}@${epoch}`)
    return tombstonePut(owner, epoch)
  }

  #boot(): TestPut | undefined {
    const put = bootPut(this.#random.pick(['a', 'b', 'c', 'd']), 'n1')
    return this.live.has(put.key) ? undefined : put
  }

  #receipt(owner: string): TestPut {
    const name = `r${this.#random.below(6)}`
    const known = `${owner}/${name}`
    if (this.#receipts.delete(known)) return receiptRemoval(owner, name)
    this.#receipts.add(known)
    return receiptPut(owner, name)
  }

  #version(owner: string): TestPut {
    const name = this.#random.pick(['a', 'a/1', 'a/0000000001'])
    const versions = this.#versions.get(`${owner}/${name}`) ?? []
    this.#versions.set(`${owner}/${name}`, versions)
    const again = versions.length > 0 && this.#random.chance(0.4)
    if (!again) versions.push({ name, text: `text${this.#random.below(1000)}`, validFrom: ++this.#time })
    const version = again ? 1 + this.#random.below(versions.length) : versions.length
    return versionPut({ owner, version, ...versions[version - 1], rootKey: this.#rootKey() })
  }

  /** Segments of a boot arrive in another order than they were sent in. */
  #segment(owner: string): TestPut {
    const random = this.#random
    const boot = random.pick(['a', 'b', 'c', 'd'])
    const sent = this.#sent.get(boot) ?? []
    this.#sent.set(boot, sent)
    while (sent.length < 4) {
      // Now and then a range of numbers later.
      const n = (this.#next.get(boot) ?? 0) + (random.chance(0.05) ? 1000 : 0)
      sent.push(n)
      this.#next.set(boot, n + 1)
    }
    const [n] = sent.splice(random.below(sent.length), 1)
    const epoch = 1 + random.below(Math.max(1, this.#active.get(owner) ?? 1))
    const first = random.below(60)
    const ids = Array.from({ length: 1 + random.below(40) }, (_, i) => first + i)
    return segmentPut({ boot, n, owner, epoch, ids, units: UNITS })
  }

  entries(): { readonly key: string; readonly entry: Entry; readonly live: Live }[] {
    return [...this.live].flatMap(([key, live]) => {
      const entry = decodeEntry(key, live.value)
      return entry ? [{ key, entry, live }] : []
    })
  }
}

/** A replica without its loop: learns the ledger in a random way, in parts, with kills between. */
class Learner {
  applier!: Applier
  store = new MemoryStore()
  readonly #ledger: MemoryLedger
  readonly #random: Random
  readonly #revisions: DecodedRevision[]

  constructor(ledger: MemoryLedger, revisions: DecodedRevision[], random: Random) {
    this.#ledger = ledger
    this.#revisions = revisions
    this.#random = random
  }

  async restart(): Promise<void> {
    this.store = this.store.afterKill()
    const { store } = this
    // Checkpoints are written while revisions are applied, and have mappings of later pages.
    store.pause = async () => {
      for (let turns = this.#random.below(3); turns > 0; turns--) await nextTurn()
    }
    this.applier = await openApplier(store, CHECKPOINT_EVERY)
  }

  async #apply(revisions: readonly DecodedRevision[]): Promise<void> {
    await this.applier.apply(revisions, LEDGER)
    this.applier.beginCheckpointIfDue(() => undefined)
  }

  /** Up to `count` revisions, in steps of any size. */
  async follow(count: number): Promise<void> {
    const { applied } = this.applier
    const list = this.#revisions.slice(applied, applied + count)
    while (list.length > 0) await this.#apply(list.splice(0, 1 + this.#random.below(8)))
  }

  /** As follow.ts reads a snapshot. Not interrupted where `parts` is not given. */
  async snapshot(parts = Number.POSITIVE_INFINITY): Promise<void> {
    const { applied, state } = this.applier
    const { revision, entries } = await this.#ledger.snapshot(snapshotRanges(state.ranges.known()))
    let decoded: Decoded[] = []
    let done = 0
    for await (const entry of entries) {
      const puts = decodePuts(entry.revision, [entry]).decoded
      decoded.push(...puts.filter(({ entry: { kind } }) => entry.revision > applied || kind === 'receipt'))
      if (this.#random.chance(0.8)) continue
      if (done++ >= parts) return
      await this.#apply([{ revision, decoded, removed: [], snapshot: 'part' }])
      decoded = []
    }
    if (parts !== Number.POSITIVE_INFINITY) return
    const whole: DecodedRevision = { revision, decoded, removed: [], snapshot: 'whole' }
    // A snapshot's end and the next revisions may be a single step.
    await this.#apply([whole, ...this.#revisions.slice(revision, revision + this.#random.below(3))])
  }

  async learn(): Promise<void> {
    switch (this.#random.below(6)) {
      case 0:
        return this.snapshot()
      case 1:
      case 2:
        return this.snapshot(this.#random.below(12))
      case 3:
        return this.restart()
      default:
        return this.follow(1 + this.#random.below(15))
    }
  }
}

/** The content of a replica against the live entries. */
function checkModel(learner: Learner, writers: Writers): void {
  const { applier, store } = learner
  const { state, tables } = applier
  const entries = writers.entries()
  checkWitnesses(learner, entries)
  const ownerOf = ({ entry }: { entry: Entry }): string => ('owner' in entry ? entry.owner : '')
  for (const owner of OWNERS) {
    const mine = entries.filter((each) => ownerOf(each) === owner)
    const found = state.owners.get(owner)
    if (mine.length === 0) {
      assert.equal(found?.bytes ?? 0, 0)
      continue
    }
    assert.ok(found)
    assert.equal(
      found.bytes,
      mine.reduce((sum, { key, live }) => sum + key.length + live.value.length, 0),
    )
    const epoch = mine.find(({ entry }) => entry.kind === 'epoch')
    assert.equal(found.active, epoch?.entry.kind === 'epoch' ? epoch.entry.active : 0)
    assert.equal(found.revision, epoch?.live.revision ?? 0)
    const receipts = mine.flatMap(({ entry }) => (entry.kind === 'receipt' ? [receiptId(entry.hash)] : []))
    assert.deepEqual([...found.receipts.entries()].map(([id]) => id).sort(), receipts.sort())
    for (const [id, number] of found.receipts.entries()) {
      const name = parseKey(store.record(number)?.key ?? '')
      assert.ok(name?.kind === 'receipt' && receiptId(name.hash) === id && name.owner === owner)
    }
    let versions = 0
    for (const { key, entry, live } of mine) {
      if (entry.kind !== 'version') continue
      versions++
      const known: VersionState | undefined = found.secrets.get(entry.name)?.[entry.version - 1]
      assert.ok(known)
      assert.deepEqual([known.validFrom, known.revision], [entry.validFrom, live.revision])
      const stored = store.record(known.record)
      assert.deepEqual([stored?.key, stored?.revision], [key, live.revision])
      assert.ok(Buffer.from(live.value).equals(stored?.value ?? Buffer.of()))
    }
    assert.equal(
      [...found.secrets.values()].reduce((sum, list) => sum + list.length, 0),
      versions,
    )
  }
  checkMappings({ applier, store }, entries)
  const numbers = (boot: string): number[] =>
    entries.flatMap(({ entry }) => (entry.kind === 'segment' && entry.boot === boot ? [entry.n] : []))
  for (const boot of ['a', 'b', 'c', 'd'].map(bootOf)) {
    for (const range of new Set(numbers(boot).map((n) => Math.floor(n / 1024)))) {
      const inRange = numbers(boot).filter((n) => Math.floor(n / 1024) === range)
      assert.deepEqual(state.ranges.get(boot, range), {
        boot,
        range,
        last: Math.max(...inRange),
        count: inRange.length,
      })
    }
  }
  assert.equal(
    tables.mappings,
    [...state.tables.values()].reduce((sum, { id }) => sum + (tables.byId(id)?.tokens.count ?? 0), 0),
  )
}

/** Of each kind the last entry put, and of keys and versions the last one created. */
function checkWitnesses({ applier }: Learner, entries: ReturnType<Writers['entries']>): void {
  const kinds = {
    genesis: 'genesis',
    boot: 'boot',
    epoch: 'epoch',
    key: 'key',
    tombstone: 'key',
    version: 'version',
  }
  const slots: Record<string, string> = { ...kinds, segment: 'segment' }
  const { witnesses } = applier.state.meta
  for (const slot of new Set(Object.values(slots))) {
    const mine = entries
      .filter(({ entry }) => slots[entry.kind] === slot)
      .map(({ key, live }) => ({ key, revision: live.revision, created: live.created }))
    const plain = ({ key, revision, created } = { key: '', revision: 0, created: 0 }): unknown => [
      key,
      revision,
      created,
    ]
    const last = mine.toSorted((a, b) => a.revision - b.revision || (a.key < b.key ? -1 : 1)).at(-1)
    const found: Readonly<Record<string, Witness | undefined>> = witnesses
    assert.deepEqual(plain(found[slot]), plain(last), slot)
    if (slot !== 'key' && slot !== 'version') continue
    const newest = mine
      .toSorted((a, b) => a.created - b.created || a.revision - b.revision || (a.key < b.key ? -1 : 1))
      .at(-1)
    assert.deepEqual(plain(found[`newest-${slot}`]), plain(newest), `newest ${slot}`)
  }
}

function checkMappings(
  { applier, store }: Pick<Learner, 'applier' | 'store'>,
  entries: ReturnType<Writers['entries']>,
): void {
  const { tables } = applier
  const bodies = new Map<string, Set<string>>()
  const gone = new Set<string>()
  for (const { entry } of entries) {
    if (entry.kind === 'tombstone') gone.add(`${entry.owner}@${entry.epoch}`)
    if (entry.kind !== 'segment') continue
    const name = `${entry.owner}@${entry.epoch}`
    const set = bodies.get(name) ?? new Set()
    bodies.set(name, set)
    for (let i = 0; i < entry.count; i++)
      set.add(Buffer.from(entry.bodies.subarray(i * 16, i * 16 + 16)).toString('hex'))
  }
  const reader = new PageReader(store)
  for (const [name, set] of bodies) {
    const [owner, epoch] = name.split('@')
    const count = tables.get(owner, Number(epoch))?.tokens.count
    assert.equal(count, gone.has(name) ? 0 : set.size, `mappings of ${name}`)
    if (gone.has(name)) continue
    for (let id = 0, seen = 0; seen < set.size; id++) {
      const place = placeOf(tables, owner, Number(epoch), id)
      if (!place) continue
      seen++
      assert.equal(reader.seek(place.page, place.slot), UNITS)
      const value = Buffer.alloc(8 * UNITS)
      reader.copy(value, 0, UNITS)
      assert.ok(value.equals(sealedOf(id, UNITS)), `mapping ${id} of ${name}`)
    }
  }
}

async function revisionsOf(ledger: MemoryLedger, head: number): Promise<DecodedRevision[]> {
  const revisions: DecodedRevision[] = []
  if (head === 0) return revisions
  for await (const { revision, puts } of ledger.follow(0)) {
    const { decoded, removed } = decodePuts(revision, puts)
    revisions.push({ revision, decoded, removed })
    if (revision === head) break
  }
  return revisions
}

async function history(random: Random): Promise<void> {
  const writers = new Writers(random)
  const revisions: DecodedRevision[] = []
  const learners = Array.from({ length: FOLLOWERS }, () => new Learner(writers.ledger, revisions, random))
  for (const learner of learners) await learner.restart()
  while (writers.head < REVISIONS) {
    for (let commits = 1 + random.below(8); commits > 0; commits--) await writers.commit()
    const known = revisions.length
    revisions.push(...(await revisionsOf(writers.ledger, writers.head)).slice(known))
    for (const learner of learners) if (random.chance(0.6)) await learner.learn()
  }
  const [byStream, bySnapshot] = [1, 2].map(() => new Learner(writers.ledger, revisions, random))
  await byStream.restart()
  await byStream.follow(Number.POSITIVE_INFINITY)
  await bySnapshot.restart()
  await bySnapshot.snapshot()
  for (const learner of learners) {
    if (random.chance(0.5)) await learner.snapshot()
    await learner.follow(Number.POSITIVE_INFINITY)
  }
  const all = [byStream, bySnapshot, ...learners]
  const content = contentOf(byStream.applier.state, byStream.applier.tables, { places: false })
  for (const learner of all) {
    checkModel(learner, writers)
    const { state, tables } = learner.applier
    assert.deepEqual(contentOf(state, tables, { places: false }), content)
    await learner.restart()
    checkModel(learner, writers)
    const loaded = learner.applier
    assert.deepEqual(contentOf(loaded.state, loaded.tables, { places: false }), content)
  }
}

test('the content is a function of the live entries, however they were learnt', async (t) => {
  const first = seeded().seed
  t.diagnostic(`COFFER_SEED=${first}`)
  for (let i = 0; i < HISTORIES; i++) {
    const random = seeded(first + i)
    await history(random).catch((error: unknown) => {
      throw new Error(`COFFER_SEED=${random.seed}`, { cause: error })
    })
  }
})
