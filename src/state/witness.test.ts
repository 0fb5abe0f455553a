import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Random, seeded } from '../../test/sim/seed.ts'
import { decodeEntry, type Entry, encodeEntry, type Genesis } from './entries.ts'
import { ledgerKey } from './ledger-keys.ts'
import { encodeSegment } from './segment.ts'
import { contradiction, type Witness, type Witnesses, witnessesAfter } from './witness.ts'
import { decodeWriter, LEDGER_FORMAT, type Writer } from './writer.ts'

type Put = { key: string; revision: number; created: number; value: Uint8Array; entry: Entry }
/** A change of a ledger: keys with their bytes, null for a removal. */
type Change = readonly (readonly [key: string, value: Uint8Array | null])[]
/** Whether a change creates keys or rotates; the others only put again, or are no witnesses. */
type Step = { readonly creates: boolean; readonly change: Change }

const OWNERS = ['clinic-a', 'clinic-b']
const NAMES = ['db', 'db/prod']
const ABSENT = { revision: 0, created: 0, value: null }

function bytes(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.below(256))
}

/** As crypto/keyring.ts wraps: a version byte, the id of the root key, the rest. */
function wrapped(random: Random): Uint8Array {
  return Uint8Array.from([2, 4, ...Buffer.from('rk-1'), ...bytes(random, 60)])
}

/** A ledger in memory, with what a witness is compared with. */
class History {
  readonly log: (readonly Put[])[] = []
  readonly live = new Map<string, Put>()
  readonly #boot: string
  #commit = 0

  constructor(random: Random, before?: History) {
    this.#boot = Buffer.from(bytes(random, 16)).toString('hex')
    for (const [key, put] of before?.live ?? []) this.live.set(key, put)
    this.log.push(...(before?.log ?? []))
  }

  get head(): number {
    return this.log.length
  }

  writer(): Writer {
    return { boot: this.#boot, commit: ++this.#commit }
  }

  commit(change: Change): void {
    const revision = this.head + 1
    const puts: Put[] = []
    for (const [key, value] of change) {
      if (value === null) this.live.delete(key)
      else {
        const entry = decodeEntry(key, value)
        assert.ok(entry)
        const put = { key, revision, created: this.live.get(key)?.created ?? revision, value, entry }
        this.live.set(key, put)
        puts.push(put)
      }
    }
    this.log.push(puts)
  }

  of<K extends Entry['kind']>(kind: K): (Put & { entry: Extract<Entry, { kind: K }> })[] {
    return [...this.live.values()].filter(
      (put): put is Put & { entry: Extract<Entry, { kind: K }> } => put.entry.kind === kind,
    )
  }

  /** Why a replica with the witnesses refuses this ledger. */
  refusals(witnesses: Witnesses, cursor: number): string[] {
    return Object.values(witnesses).flatMap((witness: Witness) => {
      const why = contradiction(witness, this.live.get(witness.key) ?? ABSENT, cursor)
      return why === undefined ? [] : [why]
    })
  }
}

const steps: { readonly [name: string]: (ledger: History, random: Random) => Step } = {
  segment(ledger, random) {
    const writer = ledger.writer()
    const mappings = {
      count: 1,
      bodies: bytes(random, 16),
      sizes: Uint32Array.of(1),
      offset: Uint32Array.of(0),
      bytes: bytes(random, 8),
    }
    const head = { owner: random.pick(OWNERS), epoch: 1, writer }
    const value = encodeSegment(head, [{ mappings, from: 0, to: 1 }])
    return { creates: true, change: [[ledgerKey.segment(writer.boot, writer.commit), value]] }
  },
  boot(ledger, random) {
    const boot = Buffer.from(bytes(random, 16)).toString('hex')
    const value = encodeEntry({ kind: 'boot', boot, node: 'n1' }, ledger.writer())
    return { creates: true, change: [[ledgerKey.boot(boot), value]] }
  },
  rotation(ledger, random) {
    const owner = random.pick(OWNERS)
    const before = ledger.of('epoch').find(({ entry }) => entry.owner === owner)?.entry.active ?? 0
    const epoch = before + 1
    const openedAt = new Date(random.below(2 ** 40)).toISOString()
    const key = { kind: 'key' as const, owner, epoch, wrapped: wrapped(random), openedAt }
    const writer = ledger.writer()
    return {
      creates: true,
      change: [
        [ledgerKey.epoch(owner), encodeEntry({ kind: 'epoch', owner, active: epoch }, writer)],
        [ledgerKey.wrappedKey(owner, epoch), encodeEntry(key, writer)],
      ],
    }
  },
  version(ledger, random) {
    const [owner, name] = [random.pick(OWNERS), random.pick(NAMES)]
    const known = ledger.of('version').filter(({ entry }) => entry.owner === owner && entry.name === name)
    const version = known.length + 1
    const about = { owner, name, version, validFrom: random.below(2 ** 40), keyId: 'k', requestId: 'r' }
    const sealed = bytes(random, 40)
    const entry = { kind: 'version' as const, ...about, wrapped: wrapped(random), sealed }
    const value = encodeEntry(entry, ledger.writer())
    return { creates: true, change: [[ledgerKey.version(owner, name, version), value]] }
  },
  rewrap(ledger, random) {
    const all = [...ledger.of('key'), ...ledger.of('version'), ...ledger.of('genesis')]
    const chosen = random.chance(0.3) ? all : [random.pick(all)]
    return { creates: false, change: chosen.map((put) => rewrapped(put, ledger, random)) }
  },
  tombstone(ledger, random) {
    const all = ledger.of('key')
    if (all.length === 0) return steps.node(ledger, random)
    const { key, entry } = random.pick(all)
    const { owner, epoch, openedAt } = entry
    const value = encodeEntry({ kind: 'tombstone', owner, epoch, openedAt }, ledger.writer())
    return { creates: false, change: [[key, value]] }
  },
  node(ledger) {
    const entry = { kind: 'node' as const, node: 'n1', fields: 'f', rootKeys: ['rk-1'], active: 'rk-1' }
    return { creates: false, change: [[ledgerKey.node('n1'), encodeEntry(entry, ledger.writer())]] }
  },
  receipt(ledger, random) {
    const [owner, hash] = [random.pick(OWNERS), Buffer.from(bytes(random, 32)).toString('hex')]
    const about = { owner, hash, mac: bytes(random, 32), at: 1, version: 1, validFrom: 1 }
    const value = encodeEntry({ kind: 'receipt', ...about }, ledger.writer())
    return { creates: false, change: [[ledgerKey.receipt(owner, hash), value]] }
  },
  sweep(ledger, random) {
    const all = ledger.of('receipt')
    if (all.length === 0) return steps.node(ledger, random)
    return { creates: false, change: all.map(({ key }) => [key, null]) }
  },
}

function rewrapped(
  { key, value, entry }: Put,
  ledger: History,
  random: Random,
): readonly [string, Uint8Array] {
  // As keys/rewrap.ts: a version keeps its writer.
  if (entry.kind === 'version')
    return [key, encodeEntry({ ...entry, wrapped: wrapped(random) }, decodeWriter(value))]
  if (entry.kind === 'key') return [key, encodeEntry({ ...entry, wrapped: wrapped(random) }, ledger.writer())]
  assert.ok(entry.kind === 'genesis')
  return [key, encodeEntry({ ...entry, receiptKey: wrapped(random) }, ledger.writer())]
}

function genesis(random: Random): History {
  const ledger = new History(random)
  const entry: Genesis = {
    kind: 'genesis',
    identity: 'ab'.repeat(16),
    format: LEDGER_FORMAT,
    receiptKey: wrapped(random),
  }
  ledger.commit([[ledgerKey.genesis, encodeEntry(entry, ledger.writer())]])
  return ledger
}

function live(ledger: History, random: Random, count: number, names = Object.keys(steps)): string[] {
  const done = Array.from({ length: count }, () => random.pick(names))
  for (const name of done) ledger.commit(steps[name](ledger, random).change)
  return done
}

/** The witnesses of a replica that has applied everything up to `cursor`, some revisions at a time. */
function followed({ log }: History, cursor: number, random: Random): Witnesses {
  let witnesses: Witnesses = {}
  for (let from = 0; from < cursor; ) {
    const to = Math.min(cursor, from + 1 + random.below(4))
    witnesses = witnessesAfter(witnesses, log.slice(from, to).flat())
    from = to
  }
  // Stored as JSON.
  return JSON.parse(JSON.stringify(witnesses))
}

/** The same from a snapshot, in any order and in parts. */
function rebuilt(ledger: History, random: Random): Witnesses {
  const puts = [...ledger.live.values()].sort(() => random.below(3) - 1)
  const cut = random.below(puts.length)
  return witnessesAfter(witnessesAfter({}, puts.slice(0, cut)), puts.slice(cut))
}

function isPutAgain({ entry, created, revision }: Put): boolean {
  return created < revision && entry.kind !== 'epoch' && entry.kind !== 'node'
}

test('a ledger is accepted however it goes on, and a snapshot has the witnesses of a stream', (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  for (let round = 0; round < 300; round++) {
    const ledger = genesis(random)
    live(ledger, random, random.below(30))
    const cursor = 1 + random.below(ledger.head)
    assert.deepEqual(followed(ledger, ledger.head, random), { ...rebuilt(ledger, random) })
    const witnesses = followed(ledger, cursor, random)
    live(ledger, random, random.below(30))
    assert.deepEqual(ledger.refusals(witnesses, cursor), [], `round ${round}`)
  }
})

test('a ledger put back and written on is refused by each replica that applied what it lacks', (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  let refused = 0
  for (let round = 0; round < 1500; round++) {
    const lost = genesis(random)
    live(lost, random, random.below(15))
    const back = new History(random, lost)
    const fork = lost.head
    // Few kinds at a time: so each kind is at times the only one to tell.
    const names = Object.keys(steps).filter(() => random.chance(0.4))
    const done = live(lost, random, 1 + random.below(8), names.length === 0 ? ['rewrap'] : names)
    const cursor = fork + 1 + random.below(done.length)
    // The other history does the same, or anything else, and is longer than what was applied.
    if (random.chance(0.5)) for (const name of done) back.commit(steps[name](back, random).change)
    live(back, random, random.below(10))
    while (back.head < cursor) back.commit(steps.rewrap(back, random).change)
    const applied = done.slice(0, cursor - fork)
    const creates = applied.some((name) => ['segment', 'boot', 'rotation', 'version'].includes(name))
    const hidden = back.log.slice(cursor).flat().some(isPutAgain)
    const why = back.refusals(followed(lost, cursor, random), cursor)
    if (creates || (applied.includes('rewrap') && !hidden))
      assert.notDeepEqual(why, [], `round ${round}: ${done}, applied up to ${cursor - fork}`)
    if (why.length > 0) refused++
  }
  assert.ok(refused > 500)
})

for (const only of ['segment', 'boot', 'rotation', 'version', 'rewrap']) {
  test(`a ledger that lacks only the last ${only} is refused`, () => {
    const random = seeded()
    const lost = genesis(random)
    for (const name of ['rotation', 'version', 'segment', 'boot']) live(lost, random, 1, [name])
    const back = new History(random, lost)
    live(lost, random, 1, [only])
    live(back, random, 4, ['node', 'receipt'])
    const why = back.refusals(followed(lost, lost.head, random), lost.head)
    assert.ok(why.length > 0)
    for (const text of why) assert.doesNotMatch(text, /clinic|db|@/, 'neither an owner nor a secret is named')
  })
}

test('what both histories rewrapped since hides nothing that was created before', () => {
  const random = seeded()
  const lost = genesis(random)
  live(lost, random, 1, ['rotation'])
  live(lost, random, 1, ['version'])
  const back = new History(random, lost)
  const rewrap = (ledger: History): void => {
    const old = [...lost.of('key'), ...lost.of('version')].filter(({ created }) => created <= 3)
    ledger.commit(old.map((put) => rewrapped(put, ledger, random)))
  }
  live(lost, random, 2, ['version'])
  rewrap(lost)
  live(back, random, 4, ['node'])
  rewrap(back)
  assert.equal(back.refusals(followed(lost, lost.head, random), lost.head).length, 1)
})

test('each rule: put again, created later, changed for ever, absent', () => {
  const random = seeded()
  const ledger = genesis(random)
  live(ledger, random, 1, ['rotation'])
  const witnesses = followed(ledger, ledger.head, random)
  const { epoch, key } = witnesses
  assert.ok(epoch && key)
  const put = ledger.live.get(key.key)
  const at = ledger.live.get(epoch.key)
  assert.ok(put?.entry.kind === 'key' && at?.entry.kind === 'epoch')
  const again = encodeEntry({ ...put.entry, wrapped: wrapped(random) }, ledger.writer())
  const opened = encodeEntry({ ...put.entry, openedAt: '2000-01-01T00:00:00.000Z' }, ledger.writer())
  const holds = (found: Partial<Put>, cursor = 2): boolean =>
    contradiction(key, { ...put, ...found }, cursor) === undefined
  assert.ok(holds({}))
  assert.ok(holds({ value: again, revision: 9 }), 'rewrapped')
  assert.ok(!holds({ value: again, revision: 9 }, 9), 'rewrapped before the cursor, and not applied')
  assert.ok(!holds({ value: again }), 'other bytes at the same revision')
  assert.ok(!holds({ revision: put.revision - 1, created: put.created - 1 }), 'put before')
  assert.ok(!holds({ value: again, revision: 9, created: 8 }), 'created later')
  assert.ok(!holds({ value: opened, revision: 9 }), 'opened at another time')
  assert.ok(!holds({ value: Uint8Array.of(1, 2), revision: 9 }), 'no entry at all')
  assert.notEqual(contradiction(key, ABSENT, 2), undefined)
  const next = (active: number): Uint8Array =>
    encodeEntry({ ...at.entry, kind: 'epoch', owner: 'clinic-a', active }, ledger.writer())
  const moves = (active: number): boolean =>
    contradiction(epoch, { ...at, revision: 9, value: next(active) }, 2) === undefined
  assert.ok(moves(2))
  assert.ok(!moves(1), 'only a rotation puts an epoch again')
})

test('a wrapped key may become a tombstone, and a tombstone nothing else', () => {
  const key = ledgerKey.wrappedKey('clinic-a', 1)
  const openedAt = '2026-01-01T00:00:00.000Z'
  const writer = { boot: 'ab'.repeat(16), commit: 1 }
  const about = { owner: 'clinic-a', epoch: 1, openedAt }
  const [wrappedKey, tombstone] = [
    { kind: 'key', ...about, wrapped: Uint8Array.of(2, 1, 97) } as const,
    { kind: 'tombstone', ...about } as const,
  ].map((entry) => ({ entry, value: encodeEntry(entry, writer) }))
  const witnessAfter = ({ entry, value }: typeof wrappedKey, revision: number): Witness =>
    witnessesAfter({}, [{ key, revision, created: 3, value, entry }]).key ?? assert.fail('a witness')
  const found = (revision: number, { value }: typeof wrappedKey) => ({ revision, created: 3, value })
  assert.equal(contradiction(witnessAfter(wrappedKey, 3), found(9, tombstone), 5), undefined)
  assert.equal(contradiction(witnessAfter(tombstone, 9), found(9, tombstone), 9), undefined)
  for (const later of [wrappedKey, tombstone])
    assert.match(
      contradiction(witnessAfter(tombstone, 9), found(12, later), 9) ?? '',
      /epoch key of revision 9/,
    )
  const other = encodeEntry({ kind: 'tombstone', ...about, openedAt: '2026-01-02T00:00:00.000Z' }, writer)
  assert.ok(contradiction(witnessAfter(wrappedKey, 3), found(9, { ...tombstone, value: other }), 5))
})
