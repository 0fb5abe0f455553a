// Wraps any driver: the duties of every driver, checked in one place, so that the drivers stay simple.
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import {
  COMMIT_BYTES,
  type Commit,
  type CommitResult,
  commitBytes,
  type Found,
  type Health,
  KEY_BYTES,
  type KeyRange,
  type Ledger,
  LedgerUnavailable,
  type Reader,
  type Revision,
  type Snapshot,
  type SnapshotEntry,
} from './ledger.ts'
import { overdue } from './pending-commit.ts'

const KEY = /^[\x21-\x7e]+$/

export class CheckedLedger implements Ledger {
  readonly #driver: Ledger
  #closed = false

  constructor(driver: Ledger) {
    this.#driver = driver
  }

  async commit(commit: Commit, deadline: Deadline): Promise<CommitResult> {
    this.#open()
    checkCommit(commit)
    if (deadline.passed) throw overdue()
    const result = await this.#driver.commit(commit, deadline)
    assert(Number.isSafeInteger(result.revision) && result.revision >= 0, 'a revision is a whole number')
    if (result.ok) assert(result.revision > 0, 'an accepted commit has a revision')
    else checkRefusal(commit, result.found)
    return result
  }

  async read(key: string): Promise<Found> {
    this.#open()
    const found = await this.#driver.read(key)
    checkFound(found, key)
    return found
  }

  async head(): Promise<number> {
    this.#open()
    const revision = await this.#driver.head()
    assert(Number.isSafeInteger(revision) && revision >= 0, 'a revision is a whole number')
    return revision
  }

  async *follow(after: number, signal?: AbortSignal): AsyncIterable<Revision> {
    this.#open()
    let last = after
    for await (const revision of this.#driver.follow(after, signal)) {
      assert(revision.revision === last + 1, `the ledger went from revision ${last} to ${revision.revision}`)
      assert(revision.puts.length > 0, 'a revision puts something')
      for (const { value, created } of revision.puts) {
        assert(value !== null || created === 0, 'a removed key has no creation')
        assert(value === null || (created >= 1 && created <= revision.revision), 'a key is created once')
      }
      last = revision.revision
      yield revision
    }
  }

  async snapshot(ranges: readonly KeyRange[], signal?: AbortSignal): Promise<Snapshot> {
    this.#open()
    for (const range of ranges) checkRange(range)
    const { revision, entries } = await this.#driver.snapshot(ranges, signal)
    return { revision, entries: checkEntries(entries, revision, ranges) }
  }

  checkConnections(check: (reader: Reader) => Promise<void>): void {
    this.#driver.checkConnections(check)
  }

  async health(): Promise<Health> {
    if (!this.#closed) return this.#driver.health()
    return {
      problems: ['the ledger is closed'],
      quorum: false,
      leader: undefined,
      members: [],
      used: 0,
      occupied: 0,
    }
  }

  get right(): boolean {
    return this.#driver.right
  }

  get full(): boolean {
    return this.#driver.full
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#driver.close()
  }

  #open(): void {
    if (this.#closed) throw new LedgerUnavailable('closed', 'the ledger is closed')
  }
}

/** A range, and its known parts: ascending, apart and within the range. */
function checkRange({ from, to, largest, known = [] }: KeyRange): void {
  assert(to === '' || from < to, 'a range has room for a key')
  assert(largest > 0, 'the largest entry of a range has a length')
  let next = from
  for (const part of known) {
    assert(part.from >= next && part.from <= part.to, 'known parts of a range ascend and stand apart')
    assert(part.count > 0, 'a known part has entries')
    next = `${part.to}\0`
  }
  assert(known.length === 0 || to === '' || next <= to, 'known parts are within their range')
}

/** Memory does not grow with the entries: range after range, the keys of a range ascend. */
async function* checkEntries(
  entries: AsyncIterable<SnapshotEntry>,
  revision: number,
  ranges: readonly KeyRange[],
): AsyncIterable<SnapshotEntry> {
  const within = ({ from, to }: KeyRange, key: string): boolean => key >= from && (to === '' || key < to)
  let range = 0
  let last: string | undefined
  for await (const entry of entries) {
    const { key, created } = entry
    while (range < ranges.length && !within(ranges[range], key)) {
      range++
      last = undefined
    }
    assert(range < ranges.length, 'a snapshot holds the keys of its ranges, in the order of the ranges')
    assert(last === undefined || key > last, 'a snapshot holds every key of a range once, in ascending order')
    last = key
    assert(
      entry.revision >= 1 && entry.revision <= revision,
      'a snapshot holds nothing newer than its revision',
    )
    assert(created >= 1 && created <= entry.revision, 'a key is created before it is put again')
    yield entry
  }
}

/** A refusal names every guarded key, in the order of the guards, and at least one guard does not hold. */
function checkRefusal({ if: guards }: Commit, found: readonly Found[]): void {
  assert(found.length === guards.length, 'a refusal names every guarded key')
  for (const [i, each] of found.entries()) checkFound(each, guards[i].key)
  const holds = found.every(({ revision }, i) => revision === guards[i].revision)
  assert(!holds, 'a commit is refused only where a guard does not hold')
}

function checkFound({ key, revision, created, value }: Found, wanted: string): void {
  assert(key === wanted, 'a driver answers about the key that was asked for')
  assert((revision === 0) === (value === null), 'a key is absent exactly where its revision is 0')
  assert((revision === 0) === (created === 0) && created <= revision, 'a key that is there was created')
}

function checkCommit(commit: Commit): void {
  assert(commit.put.length > 0, 'a commit puts something')
  const keys = new Set<string>()
  for (const { key } of commit.put) {
    assert(key.length <= KEY_BYTES && KEY.test(key), 'a key is printable ASCII of a bounded length')
    assert(!keys.has(key), 'a commit puts every key once')
    keys.add(key)
  }
  const guarded = new Set<string>()
  for (const { key, revision } of commit.if) {
    assert(Number.isSafeInteger(revision) && revision >= 0, 'a guard names a revision')
    assert(!guarded.has(key), 'a commit guards every key once')
    guarded.add(key)
  }
  assert(commitBytes(commit) <= COMMIT_BYTES, `a commit is at most ${COMMIT_BYTES} bytes`)
}
