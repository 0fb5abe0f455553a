// Secrets: created once, updated in versions. A version is put under the guard that its key is absent: so
// versions have no gaps, and of several writers of the same version a single writer succeeds. Several secrets
// of a request are a single commit, with the receipt of the request. A version is never removed.
import { assert } from '../assert.ts'
import type { Clock, Deadline } from '../clock.ts'
import { type Keyring, UnknownRootKey } from '../crypto/keyring.ts'
import { openSecret, sealSecret } from '../crypto/secret.ts'
import { Problem } from '../errors.ts'
import { checkTime } from '../replica/commit.ts'
import type { CommitResult, LedgerPut, Replica } from '../replica/replica.ts'
import { decodeEntry, encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { entryBytes, type VersionState } from '../state/state.ts'
import type { SecretVersion } from '../state/version.ts'
import type { Writer } from '../state/writer.ts'
import { FairTurns } from '../waiting.ts'
import type { Reference } from '../wire.ts'
import { type Head, Heads } from './heads.ts'
import { type Interval, intervalOf, type VersionSelector } from './intervals.ts'
import type { Claim, WriteResult } from './receipts.ts'
import { type NamesPage, SortedNames } from './sorted-names.ts'
import { UpdateTurns } from './turns.ts'

/** Versions of a history read in a turn of the event loop. */
const READ_A_TURN = 500
/** Bytes of values opened in a turn of the event loop. */
const OPENED_A_TURN = 1024 * 1024
/** An answer has at least so many bytes for a version, beside its ids. */
const LINE_LEAST_BYTES = 80

/**
 * How far the owner's latest `valid_from` may lie ahead of the clock to be followed. A clock years ahead then
 * harms the secrets written by its node, and no others of the owner.
 */
const FOLLOWED_AHEAD_MS = 60_000

/** The owner that asks, and the deadline of the request. */
export type SecretRequest = { readonly owner: string; readonly deadline: Deadline }
/** With the API key and the id of the request, both stored in the versions written. */
export type Caller = SecretRequest & { readonly keyId: string; readonly request: string }
export type NewSecret = { readonly name: string; readonly value: Uint8Array }

type SecretRead = Interval & { readonly value: Buffer }
export type HistoryLine = Interval & { readonly keyId: string; readonly requestId: string }

/** Called with the bytes of an answer so far. Throws Problem where there is no room for so many. */
type RoomForRead = (bytes: number) => void

export class SecretService {
  readonly #replica: Replica
  readonly #keyring: () => Keyring
  readonly #clock: Clock
  readonly #heads: Heads
  readonly #names = new SortedNames()
  readonly #turns = new UpdateTurns()
  readonly #reads = new FairTurns()

  constructor(replica: Replica, keyring: () => Keyring, clock: Clock) {
    this.#replica = replica
    this.#keyring = keyring
    this.#clock = clock
    this.#heads = new Heads(replica)
  }

  /**
   * Puts version 1 of every secret, or nothing. Throws Problem secret-exists with all names that exist or are
   * repeated, quota-exceeded, idempotency-key-reused; LedgerUnavailable, UnknownOutcome.
   */
  create(caller: Caller, secrets: readonly NewSecret[], claim?: Claim): Promise<WriteResult> {
    return this.#create(caller, secrets, claim, false)
  }

  /** `looked`: a barrier was passed, and the quota had no room before. */
  async #create(
    caller: Caller,
    secrets: readonly NewSecret[],
    claim: Claim | undefined,
    looked: boolean,
  ): Promise<WriteResult> {
    const { owner, deadline } = caller
    const names = secrets.map(({ name }) => name)
    const [seen, repeated] = [new Set<string>(), new Set<string>()]
    for (const name of names) (seen.has(name) ? repeated : seen).add(name)
    const exists = (name: string): boolean => this.#heads.of(owner, name) !== undefined
    if (repeated.size > 0 || names.some(exists)) {
      await this.#replica.barrier(deadline)
      throw secretsExist(names.filter((name) => repeated.has(name) || exists(name)))
    }
    const { put, validFrom } = this.#firstVersions(caller, secrets, claim)
    if (!this.#fits(owner, put)) {
      if (looked) throw this.#replica.quotas.exceeded(owner)
      await this.#replica.barrier(deadline)
      return this.#create(caller, secrets, claim, true)
    }
    const result = await this.#commit(caller, put)
    if (result === undefined) return { version: 1, validFrom, revision: 0, replayed: false }
    if (result.ok) {
      this.#heads.accepted(owner, names, { version: 1, validFrom }, result.revision)
      return { version: 1, validFrom, revision: result.revision, replayed: false }
    }
    const before = claim?.amongFound(result.found)
    if (before) return before
    const found = new Set(result.found.filter(({ revision }) => revision > 0).map(({ key }) => key))
    const taken = names.filter((name) => found.has(ledgerKey.version(owner, name, 1)))
    if (taken.length > 0) throw secretsExist(taken)
    checkTime(deadline) // a rewrap was first: again, wrapped by the root key active now
    return this.#create(caller, secrets, claim, looked)
  }

  /**
   * Puts the next version where `matches` holds for the latest version. Throws Problem not-found,
   * version-conflict, quota-exceeded, idempotency-key-reused; LedgerUnavailable, UnknownOutcome.
   */
  async update(
    caller: Caller,
    secret: NewSecret,
    matches: (version: number) => boolean,
    claim?: Claim,
  ): Promise<WriteResult> {
    const key = `${caller.owner}/${secret.name}`
    return this.#turns.take(key, caller.deadline, () => this.#update(caller, secret, matches, claim))
  }

  async #update(
    caller: Caller,
    secret: NewSecret,
    matches: (version: number) => boolean,
    claim: Claim | undefined,
  ): Promise<WriteResult> {
    const { owner, deadline } = caller
    const { name } = secret
    for (let looked = false; ; ) {
      const head = await this.#matchingHead(caller, name, matches)
      const version = head.version + 1
      const validFrom = this.#nextInstant(owner, head.validFrom + 1)
      const writer = this.#replica.nextWriter()
      const receipt = claim?.put(writer, version, validFrom, this.#clock.now())
      const put = withReceipt([this.#put(caller, secret, version, validFrom, writer)], receipt)
      if (!this.#fits(owner, put)) {
        if (looked) throw this.#replica.quotas.exceeded(owner)
        looked = true
        await this.#replica.barrier(deadline)
        continue
      }
      const result = await this.#commit(caller, put)
      assert(result, 'an update puts a version')
      assert(validFrom > head.validFrom, 'valid_from of a secret ascends')
      if (result.ok) {
        this.#heads.accepted(owner, [name], { version, validFrom }, result.revision)
        return { version, validFrom, revision: result.revision, replayed: false }
      }
      const before = claim?.amongFound(result.found)
      if (before) return before
      // Another writer, or a rewrap, was first, and has been applied here: again.
      checkTime(deadline)
    }
  }

  /** The head known here may be old: a refusal needs a barrier before, a commit has its guard. */
  async #matchingHead(
    { owner, deadline }: SecretRequest,
    name: string,
    matches: (version: number) => boolean,
  ): Promise<Head> {
    const here = this.#heads.of(owner, name)
    if (here && matches(here.version)) return here
    await this.#replica.barrier(deadline)
    const head = this.#heads.of(owner, name)
    if (!head) throw absent()
    if (matches(head.version)) return head
    throw new Problem('version-conflict', `the latest version is ${head.version}`, { version: head.version })
  }

  /**
   * Now, but not before `least`, and not before the owner's latest `valid_from` within bounds:
   * clocks of nodes differ.
   */
  #nextInstant(owner: string, least: number): number {
    const now = this.#clock.now()
    const latest = this.#replica.owner(owner)?.latest ?? 0
    return Math.max(now, least, Math.min(latest, now + FOLLOWED_AHEAD_MS))
  }

  #put(
    { owner, keyId, request }: Caller,
    { name, value }: NewSecret,
    version: number,
    validFrom: number,
    writer: Writer,
  ): LedgerPut {
    const about = { owner, name, version, validFrom, keyId, requestId: request }
    const sealed = sealSecret(this.#keyring(), about, value, this.#clock)
    const entry = encodeEntry({ kind: 'version', ...about, ...sealed }, writer)
    return { key: ledgerKey.version(owner, name, version), value: entry }
  }

  /** Version 1 of every secret, and the receipt. */
  #firstVersions(
    caller: Caller,
    secrets: readonly NewSecret[],
    claim: Claim | undefined,
  ): { readonly put: readonly LedgerPut[]; readonly validFrom: number } {
    const validFrom = this.#nextInstant(caller.owner, 0)
    const writer = this.#replica.nextWriter()
    const puts = secrets.map((secret) => this.#put(caller, secret, 1, validFrom, writer))
    return { put: withReceipt(puts, claim?.put(writer, 1, validFrom, this.#clock.now())), validFrom }
  }

  /** Whether the quota of the owner has room for the puts. */
  #fits(owner: string, put: readonly LedgerPut[]): boolean {
    return put.length === 0 || this.#replica.quotas.fits(owner, bytesOf(put))
  }

  /**
   * Commits all puts, each under the guard that its key is absent, and that no rewrap was first. Undefined
   * without puts.
   */
  async #commit(
    { owner, deadline }: SecretRequest,
    put: readonly LedgerPut[],
  ): Promise<CommitResult | undefined> {
    if (put.length === 0) return undefined
    const guards = put.map(({ key }) => ({ key, revision: 0 }))
    const commit = { if: [...guards, this.#replica.wrapGuard], put }
    return this.#replica.quotas.during(owner, bytesOf(put), () =>
      this.#replica.commit(commit, put[0].key, deadline),
    )
  }

  // ---- reading

  /** Throws Problem not-found, invalid-request (`at` in the future), unknown-root-key; LedgerUnavailable. */
  async read({ owner, deadline }: SecretRequest, name: string, which: VersionSelector): Promise<SecretRead> {
    const here = which.version !== undefined && this.#secret(owner, name)?.[which.version - 1]
    if (!here) await this.#replica.barrier(deadline)
    const secret = this.#secret(owner, name)
    if (which.at !== undefined) this.#refuseFuture(which.at, secret)
    const interval = secret && intervalOf(secret, which)
    if (!interval) throw absent()
    const value = await this.#open({ owner, deadline }, name, interval.version)
    if (which.version === undefined || interval.validTo !== null) return { ...interval, value }
    // No barrier was passed, and a later version may be accepted and not applied yet.
    return { ...interval, validTo: this.#heads.validFrom(owner, name, which.version + 1) ?? null, value }
  }

  /** Oldest first. Throws Problem not-found, LedgerUnavailable; errors of `room`. */
  async history(
    { owner, deadline }: SecretRequest,
    name: string,
    room: RoomForRead = () => undefined,
  ): Promise<HistoryLine[]> {
    await this.#replica.barrier(deadline)
    const secret = this.#secret(owner, name)
    if (!secret) throw absent()
    const lines: HistoryLine[] = []
    const last = secret.length
    let bytes = 0
    for (let version = 1; version <= last; version++) {
      const interval = intervalOf(secret, { version })
      assert(interval, 'a secret has all versions up to its latest one')
      const { keyId, requestId } = this.#entry(owner, name, version)
      lines.push({ ...interval, ...(version === last ? { validTo: null } : {}), keyId, requestId })
      bytes += LINE_LEAST_BYTES + keyId.length + requestId.length
      if (version % READ_A_TURN !== 0) continue
      room(bytes)
      await this.#reads.next(owner)
    }
    return lines
  }

  /** In byte order. Throws LedgerUnavailable. */
  async names({ owner, deadline }: SecretRequest, page: NamesPage): Promise<string[]> {
    await this.#replica.barrier(deadline)
    const state = this.#replica.owner(owner)
    return state ? this.#names.page(state, page) : []
  }

  /**
   * The values of all references, or the indices of all missing references; `at` is for references without a
   * version, and bounded for each reference as for `read`. Throws Problem invalid-request (`at` in the
   * future), unknown-root-key; LedgerUnavailable; errors of `room`.
   */
  async resolve(
    { owner, deadline }: SecretRequest,
    refs: readonly Reference[],
    at: number | undefined,
    room: RoomForRead,
  ): Promise<{ readonly values: Buffer[]; readonly missing: number[] }> {
    const here = ({ name, version }: Reference): boolean =>
      version !== undefined && this.#secret(owner, name)?.[version - 1] !== undefined
    if (!refs.every(here)) await this.#replica.barrier(deadline)
    const secrets = refs.map(({ name }) => this.#secret(owner, name))
    for (const [i, { version }] of refs.entries())
      if (at !== undefined && version === undefined) this.#refuseFuture(at, secrets[i])
    const intervals = refs.map(({ version }, i) => {
      const secret = secrets[i]
      return (
        secret &&
        intervalOf(secret, version === undefined ? { ...(at === undefined ? {} : { at }) } : { version })
      )
    })
    const missing = [...intervals.keys()].filter((i) => !intervals[i])
    if (missing.length > 0) return { values: [], missing }
    return { values: await this.#openAll({ owner, deadline }, refs, intervals, room), missing }
  }

  /** In turns: a thousand values are 64 MiB. */
  async #openAll(
    request: SecretRequest,
    refs: readonly Reference[],
    intervals: readonly (Interval | undefined)[],
    room: RoomForRead,
  ): Promise<Buffer[]> {
    const values: Buffer[] = []
    let bytes = 0
    let turnEnd = OPENED_A_TURN
    for (const [i, { name }] of refs.entries()) {
      const interval = intervals[i]
      assert(interval, 'values are opened once all references are found')
      const value = await this.#open(request, name, interval.version)
      values.push(value)
      bytes += value.length
      room(bytes)
      if (bytes < turnEnd) continue
      turnEnd = bytes + OPENED_A_TURN
      await this.#reads.next(request.owner)
    }
    return values
  }

  #secret(owner: string, name: string): readonly VersionState[] | undefined {
    return this.#replica.owner(owner)?.secrets.get(name)
  }

  /** The version of a secret at a future instant is not known yet. Throws Problem invalid-request. */
  #refuseFuture(at: number, secret: readonly VersionState[] | undefined): void {
    if (at <= Math.max(this.#clock.now(), secret?.at(-1)?.validFrom ?? 0)) return
    const expected = 'an instant in the past'
    throw new Problem('invalid-request', '`at` lies in the future', { path: 'at', expected })
  }

  #entry(owner: string, name: string, version: number): SecretVersion {
    const key = ledgerKey.version(owner, name, version)
    const stored = this.#replica.version(owner, name, version)
    const entry = stored && decodeEntry(key, stored.value)
    assert(entry?.kind === 'version', 'a version that is known is stored')
    return entry
  }

  #open({ owner, deadline }: SecretRequest, name: string, version: number): Promise<Buffer> {
    return this.#replica.lookAgain(deadline, () => this.#openHere(owner, name, version))
  }

  #openHere(owner: string, name: string, version: number): Buffer {
    const entry = this.#entry(owner, name, version)
    try {
      return openSecret(this.#keyring(), entry, entry)
    } catch (error) {
      if (!(error instanceof UnknownRootKey)) throw error
      throw new Problem('unknown-root-key', 'the secret is wrapped by a root key that this node lacks')
    }
  }
}

function withReceipt(puts: readonly LedgerPut[], receipt: LedgerPut | undefined): readonly LedgerPut[] {
  return receipt ? [...puts, receipt] : puts
}

function bytesOf(put: readonly LedgerPut[]): number {
  return put.reduce((sum, { key, value }) => sum + (value ? entryBytes(key, value) : 0), 0)
}

function absent(): Problem {
  return new Problem('not-found', 'there is no such secret or version')
}

function secretsExist(names: readonly string[]): Problem {
  const unique = [...new Set(names)]
  return new Problem('secret-exists', 'secrets exist already, or are named twice; nothing was stored', {
    names: unique,
  })
}
