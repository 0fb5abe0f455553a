// Backups and restores over endpoints of which one leads to another ledger than the others.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  backupOf,
  entriesOf,
  epoch,
  filled,
  type Made,
  put,
  restored,
  segment,
  version,
} from '../../test/backup/backups.ts'
import type { Deadline } from '../clock.ts'
import {
  type Commit,
  type CommitResult,
  type Found,
  type Health,
  type KeyRange,
  type Ledger,
  LedgerUnavailable,
  type Reader,
  type Revision,
  type Snapshot,
  type SnapshotEntry,
} from '../ledger/ledger.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { NotEmpty } from './restore.ts'

/** A driver with a connection to each of several ledgers, as that of etcd: asks the first right one that is up. */
class Endpoints implements Ledger {
  readonly full = false
  readonly right = true
  /** Called before each use of a connection. */
  before: () => void = () => undefined
  readonly down = new Set<Ledger>()
  readonly #ledgers: readonly Ledger[]
  readonly #checked = new Set<Ledger>()
  #check: (reader: Reader) => Promise<void> = async () => undefined

  constructor(...ledgers: readonly Ledger[]) {
    this.#ledgers = ledgers
  }

  async #choose(): Promise<Ledger> {
    this.before()
    let failure = new LedgerUnavailable('no-quorum', 'nothing is up')
    for (const ledger of this.#ledgers) {
      if (this.down.has(ledger)) continue
      try {
        if (!this.#checked.has(ledger)) await this.#check(ledger)
        this.#checked.add(ledger)
        return ledger
      } catch (error) {
        if (!(error instanceof LedgerUnavailable)) throw error
        failure = error
      }
    }
    throw failure
  }

  checkConnections(check: (reader: Reader) => Promise<void>): void {
    this.#check = check
    this.#checked.clear()
  }

  async commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    return (await this.#choose()).commit(commit, deadline)
  }

  async read(key: string): Promise<Found> {
    return (await this.#choose()).read(key)
  }

  async head(): Promise<number> {
    return (await this.#choose()).head()
  }

  /** In pages of one entry, each over the connection that is right then. */
  async snapshot(ranges: readonly KeyRange[]): Promise<Snapshot> {
    const pages = new Map<Ledger, SnapshotEntry[]>()
    const { revision } = await (await this.#choose()).snapshot(ranges)
    for (const ledger of this.#ledgers) {
      const { entries } = await ledger.snapshot(ranges)
      const all = await Array.fromAsync(entries)
      pages.set(
        ledger,
        all.filter((entry) => entry.revision <= revision),
      )
    }
    const choose = (): Promise<Ledger> => this.#choose()
    async function* read(): AsyncGenerator<SnapshotEntry> {
      for (let at = 0; ; at++) {
        const entry = pages.get(await choose())?.[at]
        if (entry === undefined) return
        yield entry
      }
    }
    return { revision, entries: read() }
  }

  follow(): AsyncIterable<Revision> {
    assert.fail('nothing is followed')
  }

  async health(): Promise<Health> {
    assert.fail('nobody asks')
  }

  async close(): Promise<void> {}
}

/** From the nth use on, `ledger` is down, for `uses` uses. */
function outage(endpoints: Endpoints, ledger: Ledger, from: number, uses: number): void {
  let count = 0
  endpoints.before = () => {
    count++
    if (count === from) endpoints.down.add(ledger)
    if (count === from + uses) endpoints.down.delete(ledger)
  }
}

test('entries of two ledgers never get into one backup', async () => {
  const [right, wrong] = [await filled(20), new MemoryLedger()]
  await filled(20, wrong)
  // Another identity, and else as like as can be.
  const { value } = await right.read(ledgerKey.genesis)
  const text = Buffer.from(value ?? []).toString('latin1')
  const other = Buffer.from(text.replace(/"identity":"\w{8}/, '"identity":"00000000'), 'latin1')
  await put(wrong, [ledgerKey.genesis, other], version('of-another-vault', 1))
  for (let from = 4; from < 24; from++) {
    const endpoints = new Endpoints(right, wrong)
    outage(endpoints, right, from, 1000)
    await assert.rejects(backupOf(endpoints), (error) => {
      assert.ok(error instanceof LedgerUnavailable)
      assert.equal(error.reason, 'ledger-changed')
      return true
    })
  }
  const { written } = await backupOf(new Endpoints(right, wrong))
  assert.equal(written.entries, 24)
})

/** Two ledgers of one identity that other nodes have written on, apart, to the same revision. */
async function forked(): Promise<readonly [Ledger, Ledger]> {
  const ledgers = [await filled(20), await filled(20)] as const
  for (const [i, ledger] of ledgers.entries()) {
    await put(ledger, version(`only-in-${i}`, 1))
    const boot = String(i).repeat(32)
    for (let n = 1; n < 20; n++)
      await put(ledger, [ledgerKey.segment(boot, n), segment('o', n * 1000 + i, 10)])
  }
  return ledgers
}

test('an older copy that was written on is another ledger, though its identity is the same', async () => {
  const [right, copy] = await forked()
  assert.equal(await right.head(), await copy.head())
  const whole = [right, copy].map(async (ledger) => (await backupOf(ledger)).written.digest)
  const digests = await Promise.all(whole)
  let refused = 0
  for (let from = 4; from < 40; from++) {
    const endpoints = new Endpoints(right, copy)
    outage(endpoints, right, from, 1000)
    const end = await backupOf(endpoints).catch((error: unknown) => error)
    if (end instanceof LedgerUnavailable) refused++
    else assert.ok(digests.includes((end as Made).written.digest), `a mixture from use ${from} on`)
  }
  assert.ok(refused >= 20, `${refused} refused`)
})

test('a copy of the ledger that ends before the revision of the backup is not read', async () => {
  const [right, older] = [await filled(20), await filled(19)]
  const endpoints = new Endpoints(right, older)
  outage(endpoints, right, 5, 1000)
  await assert.rejects(backupOf(endpoints), /leads to another ledger than the others/)
})

test('nothing of a restore gets into another ledger, empty or not', async () => {
  const source = await filled(1000)
  const { bytes } = await backupOf(source)
  const vault = await filled(3)
  const unfinished = new MemoryLedger()
  await put(unfinished, epoch('of-another-vault', 1))
  for (const wrong of [vault, unfinished, new MemoryLedger()]) {
    const [head, before] = [await wrong.head(), await entriesOf(wrong)]
    const right = new MemoryLedger()
    const endpoints = new Endpoints(right, wrong)
    // After the first batch, for some uses: each of them is another batch.
    outage(endpoints, right, 5, 6)
    await restored(bytes, endpoints)
    assert.equal((await entriesOf(right)).size, (await entriesOf(source)).size)
    assert.deepEqual([await wrong.head(), await entriesOf(wrong)], [head, before])
  }
})

test('another vault gets nothing, though the right ledger goes away before its first entry', async () => {
  const { bytes } = await backupOf(await filled(10))
  const vault = await filled(3)
  const head = await vault.head()
  const ends: string[] = []
  for (let from = 1; from < 5; from++) {
    const right = new MemoryLedger()
    const endpoints = new Endpoints(right, vault)
    outage(endpoints, right, from, 2)
    const end = await restored(bytes, endpoints).catch((error) => error)
    if (end instanceof NotEmpty) assert.equal(await right.head(), 0)
    else assert.equal((await entriesOf(right)).size, 14)
    ends.push(end instanceof NotEmpty ? 'refused' : 'restored')
    assert.equal(await vault.head(), head)
  }
  assert.deepEqual(new Set(ends), new Set(['refused', 'restored']))
})
