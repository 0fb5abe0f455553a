// The members of an etcd cluster: choosing the member to ask, checking each connection before its answers are
// believed, and the cluster's health.
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
/** etcd's own default. Releases 3.5 do not report the quota. */
const DEFAULT_QUOTA = 2 * 1024 ** 3

type Member = {
  readonly endpoint: EtcdEndpoint
  /** The number of the last connection that passed the check; -1: none. */
  checked: number
  checking: Promise<void> | undefined
  avoidUntil: number
}

export class EtcdMembers {
  readonly #members: readonly Member[]
  readonly #closing = new AbortController()
  #check: ((reader: Reader) => Promise<void>) | undefined
  #entries: readonly MemberEntry[] = []

  constructor(urls: readonly string[], tls?: Tls) {
    this.#members = urls.map((url) => ({
      endpoint: new EtcdEndpoint(url, tls),
      checked: -1,
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

  set check(check: (reader: Reader) => Promise<void>) {
    this.#check = check
    for (const member of this.#members) member.checked = -1
  }

  /**
   * The member to ask: the first in the list that has not failed lately, is connected, has a right version,
   * and holds the followed ledger. Throws LedgerUnavailable.
   */
  async choose(): Promise<EtcdEndpoint> {
    let failure: LedgerUnavailable | undefined
    for (const member of this.#byPreference()) {
      if (this.closing.aborted) throw new LedgerUnavailable('closed', 'the ledger is closed')
      try {
        await this.#open(member)
        return member.endpoint
      } catch (error) {
        if (!(error instanceof EtcdError) && !(error instanceof LedgerUnavailable)) throw error
        this.avoid(member.endpoint)
        // `ledger-changed` says more than a member out of reach.
        if (error instanceof LedgerUnavailable && failure?.reason !== 'ledger-changed') failure = error
      }
    }
    throw failure ?? new LedgerUnavailable('no-quorum', 'no member of the ledger can be reached')
  }

  #byPreference(now = performance.now()): Member[] {
    const from = ({ avoidUntil }: Member): number => (avoidUntil <= now ? 0 : avoidUntil)
    return [...this.#members].sort((a, b) => from(a) - from(b))
  }

  /** For a while the other members are asked first. */
  avoid(endpoint: EtcdEndpoint): void {
    const member = this.#members.find((each) => each.endpoint === endpoint)
    if (member) member.avoidUntil = performance.now() + AVOID_MS
  }

  async #open(member: Member): Promise<void> {
    await member.endpoint.ready(READY_MS)
    if (member.checked === member.endpoint.connections) return
    member.checking ??= this.#checkConnection(member).finally(() => {
      member.checking = undefined
    })
    await member.checking
  }

  async #checkConnection(member: Member): Promise<void> {
    const { endpoint } = member
    const connection = endpoint.connections
    const { version } = await endpoint.status(CHECK_MS)
    if (!versionIsRight(version))
      throw new LedgerUnavailable(
        'no-quorum',
        `etcd ${version} can answer stale reads: use ${RIGHT_VERSIONS}`,
      )
    await this.#check?.(readerOf(endpoint))
    member.checked = connection
  }

  /** Headers of the members that have a leader now. */
  async ledHeaders(): Promise<readonly Header[]> {
    const asked = this.#members.map(({ endpoint }) => ask(endpoint, () => endpoint.status(LED_MS), LED_MS))
    const statuses = await Promise.all(asked)
    return statuses.flatMap((each) => (each && each.leader !== '0' ? [each.header] : []))
  }

  /** Asks all members at once. `head`: a linearizable read under way. */
  async health(head: Promise<unknown>): Promise<Health> {
    const failure = head.then(
      () => undefined,
      (error: unknown) => error,
    )
    const asked = this.#members.map(({ endpoint }) => ask(endpoint, () => endpoint.status(STATUS_MS)))
    const listed = this.#members.map(({ endpoint }) => ask(endpoint, () => endpoint.members(STATUS_MS)))
    const statuses = (await Promise.all(asked)).filter((each) => each !== undefined)
    const entries = (await Promise.all(listed)).find((each) => each !== undefined)
    if (entries) this.#entries = entries.members
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
      used: Math.max(0, ...statuses.map(usedOf)),
    }
  }

  close(): void {
    this.#closing.abort()
    for (const { endpoint } of this.#members) endpoint.close()
  }
}

async function ask<T>(
  endpoint: EtcdEndpoint,
  call: () => Promise<T>,
  ms = STATUS_MS,
): Promise<T | undefined> {
  try {
    await endpoint.ready(ms)
    return await call()
  } catch (error) {
    if (error instanceof EtcdError) return undefined
    throw error
  }
}

function usedOf({ dbSize, dbSizeQuota }: StatusResponse): number {
  return Number(dbSize) / (Number(dbSizeQuota) || DEFAULT_QUOTA)
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
