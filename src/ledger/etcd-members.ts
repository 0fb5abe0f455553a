// The members of an etcd cluster: choosing the member to ask, checking each connection before its answers are
// believed, and the cluster's health. The verdict of a check belongs to the connection: a member of another
// cluster, or of another ledger, is not used and says nothing about the cluster.
import { FatalError } from '../errors.ts'
import { withDeadline } from '../waiting.ts'
import {
  EtcdEndpoint,
  EtcdError,
  type Header,
  type MemberEntry,
  type RangeResponse,
  type StatusResponse,
  type Tls,
} from './etcd-client.ts'
import { foundIn, fromEtcd, keyBytes } from './etcd-messages.ts'
import { RIGHT_VERSIONS, versionIsRight } from './etcd-version.ts'
import { type Health, LedgerUnavailable, type Reader } from './ledger.ts'

const READY_MS = 700
const CHECK_MS = 1000
const STATUS_MS = 1000
const LED_MS = 300
/** For so long a member that failed is asked after all others. */
const AVOID_MS = 10_000
/** For so long a failed check counts for its connection. */
const VERDICT_MS = 2000
/** Bounds of `health`. */
const OPEN_MS = 1500
const HEAD_MS = 2500
/** etcd's own default. Releases 3.5 do not report the quota. */
const DEFAULT_QUOTA = 2 * 1024 ** 3

type Member = {
  readonly endpoint: EtcdEndpoint
  /** The number of the last connection that passed the check; -1: none. */
  checked: number
  /** A connection that has not passed the check, and until when the verdict counts. */
  refused: { readonly connection: number; readonly until: number; readonly error: unknown } | undefined
  checking: Promise<void> | undefined
  avoidUntil: number
}

/** Whether the member's current connection has passed the check. */
const isRight = ({ checked, endpoint }: Member): boolean => checked === endpoint.connections

export class EtcdMembers {
  readonly #members: readonly Member[]
  readonly #closing = new AbortController()
  #check: ((reader: Reader) => Promise<void>) | undefined
  #entries: readonly MemberEntry[] = []

  constructor(urls: readonly string[], tls?: Tls) {
    this.#members = urls.map((url) => ({
      endpoint: new EtcdEndpoint(url, tls),
      checked: -1,
      refused: undefined,
      checking: undefined,
      avoidUntil: 0,
    }))
  }

  get count(): number {
    return this.#members.length
  }

  get closing(): AbortSignal {
    return this.#closing.signal
  }

  /** Whether a member is right and connected. */
  get right(): boolean {
    return this.#members.some((member) => isRight(member) && member.endpoint.connected)
  }

  set check(check: (reader: Reader) => Promise<void>) {
    this.#check = check
    for (const member of this.#members) {
      member.checked = -1
      member.refused = undefined
    }
  }

  /**
   * The member to ask: the first in the list that has not failed lately, is connected, has a right version,
   * and passes the check. Throws LedgerUnavailable, or the error of a check, where no member is right.
   */
  async choose(): Promise<EtcdEndpoint> {
    let failure: unknown
    for (const member of this.#byPreference()) {
      if (this.closing.aborted) throw new LedgerUnavailable('closed', 'the ledger is closed')
      try {
        await this.#open(member)
        return member.endpoint
      } catch (error) {
        if (weight(error) === 0 && !(error instanceof EtcdError)) throw error
        this.avoid(member.endpoint)
        if (weight(error) > weight(failure)) failure = error
      }
    }
    throw failure ?? new LedgerUnavailable('no-quorum', 'no member of the ledger can be reached')
  }

  #byPreference(now = performance.now()): Member[] {
    // A member that is right is not kept waiting by the check of another; `health` checks all of them.
    const rank = (member: Member): number => {
      if (member.avoidUntil > now) return member.avoidUntil
      return isRight(member) ? -2 : -1
    }
    return this.#members.toSorted((a, b) => rank(a) - rank(b))
  }

  /** For a while the other members are asked first. */
  avoid(endpoint: EtcdEndpoint): void {
    const member = this.#members.find((each) => each.endpoint === endpoint)
    if (member) member.avoidUntil = performance.now() + AVOID_MS
  }

  async #open(member: Member): Promise<void> {
    const { endpoint } = member
    await endpoint.ready(READY_MS)
    while (!isRight(member)) {
      const { refused } = member
      if (refused?.connection === endpoint.connections && performance.now() < refused.until)
        throw refused.error
      member.checking ??= this.#checkConnection(member).finally(() => {
        member.checking = undefined
      })
      await member.checking // of an earlier connection, or by an earlier check, perhaps
    }
  }

  async #checkConnection(member: Member): Promise<void> {
    const { endpoint } = member
    const connection = endpoint.connections
    const check = this.#check
    try {
      const { version } = await endpoint.status(CHECK_MS)
      if (!versionIsRight(version))
        throw new LedgerUnavailable(
          'no-quorum',
          `etcd ${version} can answer stale reads: use ${RIGHT_VERSIONS}`,
        )
      await check?.(readerOf(endpoint))
      if (check === this.#check) member.checked = connection
    } catch (error) {
      if (weight(error) > 1) member.refused = { connection, until: performance.now() + VERDICT_MS, error }
      throw error
    }
  }

  /** Headers of the right members that have a leader now. */
  async ledHeaders(): Promise<readonly Header[]> {
    const statuses = await this.#askRight(({ endpoint }) => endpoint.status(LED_MS))
    return statuses.flatMap(({ leader, header }) => (leader !== '0' ? [header] : []))
  }

  /** The answers of the members that are right, before and after the call; without those that fail. */
  async #askRight<T>(call: (member: Member) => Promise<T>): Promise<readonly T[]> {
    const answers = this.#members.filter(isRight).map(async (member) => {
      try {
        const answer = await call(member)
        return isRight(member) ? [answer] : []
      } catch (error) {
        if (error instanceof EtcdError) return []
        throw error
      }
    })
    return (await Promise.all(answers)).flat()
  }

  /** Checks the connections, and asks all right members at once. `head`: a linearizable read under way. */
  async health(head: Promise<unknown>): Promise<Health> {
    const late = (): Error => new LedgerUnavailable('no-quorum', 'no member of the ledger answers')
    const failure = withDeadline(head, HEAD_MS, late).then(
      () => undefined,
      (error: unknown) => error,
    )
    const opened = this.#members.map((member) => withDeadline(this.#open(member), OPEN_MS, late))
    await Promise.allSettled(opened)
    const [statuses, lists] = await Promise.all([
      this.#askRight(({ endpoint }) => endpoint.status(STATUS_MS)),
      this.#askRight(({ endpoint }) => endpoint.members(STATUS_MS)),
    ])
    if (lists.length > 0) this.#entries = lists[0].members
    return this.#healthOf(statuses, await failure)
  }

  #healthOf(statuses: readonly StatusResponse[], failure: unknown): Health {
    const name = (id: string): string | undefined => this.#entries.find(({ ID }) => ID === id)?.name
    const newest = [...statuses].sort((a, b) => Number(b.header.raft_term) - Number(a.header.raft_term))[0]
    const problems = new Set<string>()
    if (failure !== undefined)
      problems.add(failure instanceof Error ? failure.message : 'the ledger cannot be asked')
    for (const alarm of statuses.flatMap(({ errors }) => errors))
      problems.add(/NOSPACE/.test(alarm) ? 'the ledger has no room left' : `etcd raises an alarm: ${alarm}`)
    const well = new Set(
      statuses
        .filter(({ leader, isLearner }) => leader !== '0' && !isLearner)
        .map(({ header }) => header.member_id),
    )
    return {
      problems: [...problems],
      quorum: failure === undefined,
      leader: failure === undefined && newest ? name(newest.leader) : undefined,
      members: this.#entries.map(({ ID, name: node, peerURLs }) => ({
        node: node || peerURLs.join(' '),
        ready: well.has(ID),
      })),
      used: Math.max(0, ...statuses.map(({ dbSize, dbSizeQuota }) => partOf(dbSize, dbSizeQuota))),
      occupied: Math.max(
        0,
        ...statuses.map(({ dbSizeInUse, dbSizeQuota }) => partOf(dbSizeInUse, dbSizeQuota)),
      ),
    }
  }

  close(): void {
    this.#closing.abort()
    for (const { endpoint } of this.#members) endpoint.close()
  }
}

/**
 * Of the errors of several members the heaviest is told: another ledger says more than a member out of reach.
 * Above 1 the error is a verdict on the ledger behind the connection. 0: an error of neither kind.
 */
function weight(error: unknown): number {
  if (error instanceof FatalError) return 2
  if (error instanceof LedgerUnavailable) return error.reason === 'ledger-changed' ? 3 : 1
  return 0
}

function partOf(bytes: string, quota: string): number {
  return Number(bytes) / (Number(quota) || DEFAULT_QUOTA)
}

/** Reads over one connection, for its check: other callers do not use the connection yet. */
function readerOf(endpoint: EtcdEndpoint): Reader {
  const range = async (query: object): Promise<RangeResponse> => {
    try {
      return await endpoint.range(query, CHECK_MS)
    } catch (error) {
      throw unavailable(error)
    }
  }
  return {
    head: async () => headOf(await range(HEAD)),
    read: async (key) => foundIn(key, await range({ key: keyBytes(key) })),
  }
}

/** The cheapest linearizable read: of a key that is never put. */
export const HEAD = { key: Buffer.of(0), keys_only: true }

export const headOf = ({ header }: { readonly header: Header }): number => fromEtcd(header.revision)

/** The ledger's error for a failed call that changes nothing, as a read. */
export function unavailable(error: unknown): unknown {
  return error instanceof EtcdError ? new LedgerUnavailable('no-quorum', error.message) : error
}
