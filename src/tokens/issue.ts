// Group commit: all mappings waiting at the node for an owner and epoch leave as a single segment under a
// single guard. A segment of a single mapping costs some 250 bytes of ledger; a full segment costs 33 bytes a
// mapping.
import { assert } from '../assert.ts'
import { Deadline } from '../clock.ts'
import { CommitDelay } from '../commit-delay.ts'
import { units, type Values } from '../crypto/canonical.ts'
import type { EpochKey } from '../crypto/epoch-key.ts'
import { asReached } from '../replica/commit.ts'
import { LedgerUnavailable, type Replica, UnknownOutcome } from '../replica/replica.ts'
import { TokenTable, WARM_BODIES } from '../replica/table.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { encodeSegment, mappingBytes, type Run, SEGMENT_BYTES, segmentHeadBytes } from '../state/segment.ts'
import { PendingMappings } from './pending.ts'

/**
 * Full segments of one group that may be in flight at once. A segment with room waits for the segments before
 * it.
 */
const IN_FLIGHT = 4

/** Of every segment. */
const SEGMENT_KEY_BYTES = ledgerKey.segment('0'.repeat(32), 0).length

/** The epoch was closed before the mappings were committed: start again at the new epoch. */
export class EpochMoved extends Error {
  override readonly name = 'EpochMoved'
}

/** A segment, from its first waiting mapping until the replica has applied the segment. */
class SegmentCommit {
  stage: 'waiting' | 'sent' | 'accepted' | 'gone' = 'waiting'
  readonly runs: Run[] = []
  /** How many requests wait for the segment. */
  requests = 0
  /** Size of the encoded segment so far. */
  bytes: number
  /** Bytes counted as on their way (replica/quota.ts). */
  counted = 0
  /** The earliest deadline of the requests that have joined before the segment was sent. */
  deadline = Deadline.never
  readonly #leave: () => void
  readonly #done = Promise.withResolvers<void>()
  #endWatch: () => void = () => undefined

  /** `leave` is called when the deadline passes before the segment is sent. */
  constructor(owner: string, leave: (segment: SegmentCommit) => void) {
    this.bytes = segmentHeadBytes(owner)
    this.#leave = () => leave(this)
    this.#done.promise.catch(() => undefined) // reported to the requests that joined; there may be none
  }

  /** A request waits for the segment, and the segment for no longer than the request. */
  join(deadline: Deadline): void {
    assert(this.stage === 'waiting', 'a request joins a segment before the segment is sent')
    this.requests++
    if (!deadline.isBefore(this.deadline)) return
    this.deadline = deadline
    this.#endWatch()
    this.#endWatch = deadline.onPass(this.#leave)
  }

  /** Resolves when the commit is acknowledged. */
  get done(): Promise<void> {
    return this.#done.promise
  }

  send(): void {
    assert(this.stage === 'waiting', 'a segment is sent once')
    assert(this.runs.length > 0, 'a segment has at least one mapping')
    this.#endWatch()
    this.stage = 'sent'
  }

  accept(): void {
    assert(this.stage === 'sent', 'a segment is accepted after it was sent')
    this.stage = 'accepted'
    this.#done.resolve()
  }

  fail(error: Error): void {
    this.stage = 'gone'
    this.#done.reject(error)
  }
}

/** The values of a request, with their token bodies. */
type AskedValues = { readonly values: Values; readonly bodies: Uint8Array; readonly deadline: Deadline }

/** The commits of a request. */
type Issued = {
  /**
   * Resolves when every mapping of the request is acknowledged. Throws EpochMoved, LedgerUnavailable,
   * UnknownOutcome.
   */
  readonly acknowledged: Promise<void>
  /** True where a commit leaves after the call: its accepted guard proves the epoch. */
  readonly proves: boolean
  /** How many mappings were new here. */
  readonly fresh: number
}

const NOTHING: Issued = { acknowledged: Promise.resolve(), proves: false, fresh: 0 }

/** The pending mappings and segments of an owner and epoch. */
class Group {
  readonly key: EpochKey
  readonly #replica: Replica
  /** Revision of `epoch/<owner>`, the guard of every commit of the group. */
  readonly #guard: number
  readonly #pending = new PendingMappings<SegmentCommit>()
  readonly #waiting: SegmentCommit[] = []
  #inFlight = 0
  /** Holds the next commit back while more requests are expected. */
  readonly #delay = new CommitDelay(() => this.#send())

  constructor(replica: Replica, key: EpochKey, guard: number) {
    this.#replica = replica
    this.key = key
    this.#guard = guard
  }

  /** Drops commits that are gone. Returns true when nothing is pending. */
  sweep(): boolean {
    return this.#pending.sweep() && this.#waiting.length === 0 && this.#inFlight === 0
  }

  /**
   * Adds every value that neither `known` nor a pending commit has; or adds none and returns undefined, where
   * the quota of the owner has no room.
   */
  add(asked: AskedValues, known: TokenTable | undefined): Issued | undefined {
    const { values, bodies, deadline } = asked
    const words = new Uint32Array(bodies.buffer, bodies.byteOffset, values.count * 4)
    if (!this.#fits(asked, words, known)) return undefined
    const joined = new Set<SegmentCommit>()
    const fresh: number[] = []
    const chosen = new Uint32Array(values.count)
    const shares: { commit: SegmentCommit; from: number; to: number }[] = []
    for (let i = 0; i < values.count; i++) {
      if (i % WARM_BODIES === 0) known?.warm(words, i)
      if (known?.find(words, i * 4)) continue
      const pending = this.#pending.find(words, i * 4)
      if (pending) {
        if (pending.stage !== 'accepted') joined.add(pending)
        continue
      }
      const commit = this.#commitFor(mappingBytes(units(values.length[i])))
      this.#pending.add(words, i * 4, commit)
      if (shares.at(-1)?.commit !== commit) shares.push({ commit, from: fresh.length, to: fresh.length })
      shares[shares.length - 1].to++
      chosen[fresh.length] = i
      fresh.push(i)
      joined.add(commit)
    }
    if (joined.size === 0) return NOTHING
    let proves = false
    for (const commit of joined) {
      if (commit.stage !== 'waiting') continue
      proves = true
      commit.join(deadline)
      this.#count(commit)
    }
    if (fresh.length > 0) {
      const mappings = this.key.seal(values, bodies, chosen.subarray(0, fresh.length))
      for (const { commit, from, to } of shares) commit.runs.push({ mappings, from, to })
    }
    this.#send()
    return { acknowledged: acknowledged(joined, deadline), proves, fresh: fresh.length }
  }

  /** Looks every value up only where the quota is nearly used up. */
  #fits({ values }: AskedValues, words: Uint32Array, known: TokenTable | undefined): boolean {
    const { owner } = this.key
    const { quotas } = this.#replica
    if (quotas.fits(owner, mostBytes(owner, values))) return true
    const head = SEGMENT_KEY_BYTES + segmentHeadBytes(owner)
    const fresh = new TokenTable()
    let bytes = 0
    let segment = this.#waiting.at(-1)?.bytes ?? SEGMENT_BYTES
    for (let i = 0; i < values.count; i++) {
      const at = i * 4
      if (known?.find(words, at) || this.#pending.find(words, at) || !fresh.insert(words, at, 0, 0)) continue
      const mapping = mappingBytes(units(values.length[i]))
      if (segment + mapping > SEGMENT_BYTES) {
        bytes += head
        segment = head - SEGMENT_KEY_BYTES
      }
      bytes += mapping
      segment += mapping
    }
    return bytes === 0 || quotas.fits(owner, bytes)
  }

  /** Counts what was added to a segment. */
  #count(segment: SegmentCommit): void {
    const bytes = SEGMENT_KEY_BYTES + segment.bytes
    this.#replica.quotas.add(this.key.owner, bytes - segment.counted)
    segment.counted = bytes
  }

  #fail(segment: SegmentCommit, error: Error): void {
    this.#replica.quotas.free(this.key.owner, segment.counted)
    segment.fail(error)
  }

  #commitFor(bytes: number): SegmentCommit {
    const last = this.#waiting.at(-1)
    if (last && last.bytes + bytes <= SEGMENT_BYTES) {
      last.bytes += bytes
      return last
    }
    const commit = new SegmentCommit(this.key.owner, (segment) => this.#drop(segment))
    commit.bytes += bytes
    this.#waiting.push(commit)
    return commit
  }

  /** A segment that has waited for the ledger up to its deadline is not sent any more. */
  #drop(segment: SegmentCommit): void {
    const at = this.#waiting.indexOf(segment)
    assert(at >= 0, 'a segment waits in its group until it is sent')
    this.#waiting.splice(at, 1)
    const late = 'earlier writes are still waiting for the ledger'
    this.#fail(segment, new LedgerUnavailable('no-quorum', late))
  }

  #send(): void {
    while (this.#waiting.length > 0) {
      // The last segment may still grow: no send while others are in flight, or while more requests are
      // expected.
      if (this.#inFlight > 0 && (this.#waiting.length === 1 || this.#inFlight >= IN_FLIGHT)) return
      if (this.#waiting.length === 1 && this.#delay.expectsMore(this.#waiting[0].requests)) return
      this.#delay.end()
      const commit = this.#waiting.shift()
      assert(commit, 'the list of waiting segments is not empty')
      this.#inFlight++
      assert(this.#inFlight <= IN_FLIGHT, 'at most IN_FLIGHT segments of a group are in flight')
      commit.send()
      const sent = performance.now()
      this.#commit(commit)
        .catch((error: Error) => this.#fail(commit, error))
        .finally(() => {
          this.#inFlight--
          const waiting = this.#waiting.length === 1 ? this.#waiting[0].requests : 0
          if (this.#inFlight === 0) this.#delay.answered(commit.requests, waiting, performance.now() - sent)
          this.#send()
        })
    }
  }

  async #commit(segment: SegmentCommit): Promise<void> {
    const { owner, epoch } = this.key
    const writer = this.#replica.nextWriter()
    const key = ledgerKey.segment(writer.boot, writer.commit)
    const value = encodeSegment({ owner, epoch, writer }, segment.runs)
    segment.runs.length = 0
    assert(value.length === segment.bytes, 'the size of a segment is the size that was counted')
    assert(value.length <= SEGMENT_BYTES, 'a segment is at most SEGMENT_BYTES long')
    assert(key.length + value.length === segment.counted, 'all bytes of a segment are counted')
    const result = await this.#replica.commit(
      {
        if: [
          { key: ledgerKey.epoch(owner), revision: this.#guard },
          { key, revision: 0 },
        ],
        put: [{ key, value }],
      },
      key,
      segment.deadline,
    )
    if (!result.ok) throw new EpochMoved(`epoch ${epoch} was closed`)
    segment.accept()
    this.#replica.quotas.freeApplied(owner, segment.counted, result.revision)
    this.#replica.waitApplied(result.revision, Deadline.never).then(
      () => {
        segment.stage = 'gone'
      },
      () => undefined, // the replica is closed, and there are no more look-ups
    )
  }
}

/** An upper bound of the bytes that values take in the ledger, without a look at the values. */
function mostBytes(owner: string, { count, used }: Values): number {
  const mappings = 8 * used + count * mappingBytes(0) + 2 * count // sizes have up to 3 bytes instead of 1
  // A segment is closed where a mapping of at most a quarter of a segment does not fit any more.
  const segments = 1 + Math.ceil(mappings / (SEGMENT_BYTES / 2))
  return mappings + segments * (SEGMENT_KEY_BYTES + segmentHeadBytes(owner))
}

/**
 * Segments settle by their own deadlines, which are not later than the deadlines of the requests that joined
 * before the segments were sent. Else as `all`; throws UnknownOutcome at the deadline of the request.
 */
function acknowledged(segments: ReadonlySet<SegmentCommit>, deadline: Deadline): Promise<void> {
  const inTime = [...segments].every((segment) => !deadline.isBefore(segment.deadline))
  if (inTime) return all(segments)
  const late = (): Error => new UnknownOutcome('the ledger has not answered a write in time')
  return deadline.race(all(segments), late)
}

/**
 * Waits for every commit. Throws EpochMoved only where no commit failed otherwise, and UnknownOutcome where
 * one of several may have been accepted.
 */
async function all(commits: ReadonlySet<SegmentCommit>): Promise<void> {
  const results = await Promise.allSettled([...commits].map((commit) => commit.done))
  const failed = results
    .filter((result) => result.status === 'rejected')
    .map((result): unknown => result.reason)
  if (failed.length === 0) return
  const error = failed.find((reason) => !(reason instanceof EpochMoved))
  if (error === undefined) throw failed[0] // EpochMoved only: the caller starts again
  const reached = failed.length < results.length || failed.some((reason) => reason instanceof UnknownOutcome)
  throw reached ? asReached(error) : error
}

export class Issuer {
  readonly #replica: Replica
  readonly #groups = new Map<string, Group>()

  constructor(replica: Replica) {
    this.#replica = replica
  }

  /**
   * Puts the mapping of every new value on its way to the ledger; or puts none and returns undefined, where
   * the quota of the owner has no room. Throws LedgerUnavailable when the replica is closed.
   */
  issue(key: EpochKey, guard: number, asked: AskedValues): Issued | undefined {
    const name = `${key.owner}@${key.epoch}`
    let group = this.#groups.get(name)
    if (!group) {
      if (this.#groups.size > 64) this.#sweep()
      group = new Group(this.#replica, key, guard)
      this.#groups.set(name, group)
    } else if (group.sweep()) {
      this.#groups.delete(name)
      group = new Group(this.#replica, key, guard)
      this.#groups.set(name, group)
    }
    return group.add(asked, this.#replica.tokens(key.owner, key.epoch))
  }

  #sweep(): void {
    for (const [name, group] of this.#groups) if (group.sweep()) this.#groups.delete(name)
  }
}
