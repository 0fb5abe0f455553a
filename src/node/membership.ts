// The members of the etcd cluster: list, remove, add and promote, for `coffer member`.
import { OperatorError } from '../errors.ts'
import type { LedgerSettings } from '../ledger/drivers.ts'
import { EtcdEndpoint, EtcdError, type MemberEntry, type StatusResponse } from '../ledger/etcd-client.ts'
import { retry, until } from '../waiting.ts'
import { readLedgerTls } from './tls-files.ts'

const CALL_MS = 3000
const TRY_AGAIN_MS = 250
/** etcd refuses changes until the leader has been in touch with a majority for five seconds. */
const SETTLE_MS = 15_000

/** No member answers, or the cluster refuses; the message says why. */
export class MembershipError extends OperatorError {
  override readonly name = 'MembershipError'
}

type MemberInfo = {
  /** Hexadecimal, as in etcd's own output. */
  readonly id: string
  /** Name of the node; '' for a member that has never started. */
  readonly node: string
  readonly peer: string
  readonly learner: boolean
  readonly ready: boolean
  readonly leader: boolean
}

export class Membership {
  readonly #endpoints: readonly EtcdEndpoint[]

  /** `without`: an endpoint to leave out. */
  constructor({ endpoints, tls }: LedgerSettings, without?: string) {
    const files = tls && readLedgerTls(tls)
    this.#endpoints = endpoints.filter((url) => url !== without).map((url) => new EtcdEndpoint(url, files))
  }

  close(): void {
    for (const endpoint of this.#endpoints) endpoint.close()
  }

  /** Throws MembershipError where no member answers. */
  async list(): Promise<MemberInfo[]> {
    const statuses = await Promise.all(
      this.#endpoints.map(async (endpoint): Promise<StatusResponse | undefined> => {
        try {
          await endpoint.ready(CALL_MS)
          return await endpoint.status(CALL_MS)
        } catch (error) {
          if (error instanceof EtcdError) return undefined
          throw error
        }
      }),
    )
    return (await this.#entries()).map((entry) => {
      const status = statuses.find((each) => each?.header.member_id === entry.ID)
      return {
        id: BigInt(entry.ID).toString(16),
        node: entry.name,
        peer: entry.peerURLs.join(' '),
        learner: entry.isLearner,
        ready: status !== undefined && status.leader !== '0' && !entry.isLearner,
        leader: statuses.some((each) => each?.leader === entry.ID),
      }
    })
  }

  /** The cluster's id, hexadecimal. Throws MembershipError where no member answers. */
  async clusterId(): Promise<string> {
    const { header } = await this.#ask('asked', (endpoint) => endpoint.members(CALL_MS))
    return BigInt(header.cluster_id).toString(16)
  }

  async #entries(): Promise<readonly MemberEntry[]> {
    return (await this.#ask('asked', (endpoint) => endpoint.members(CALL_MS))).members
  }

  /**
   * Removes the member of this name, and the member at this peer address, from the cluster. Every change
   * needs a majority of the members. Throws MembershipError.
   */
  async remove(name: string, peer: string): Promise<void> {
    for (const { ID, name: of, peerURLs } of await this.#entries()) {
      if (of !== name && !peerURLs.includes(peer)) continue
      await this.#change((endpoint) => endpoint.removeMember(ID, CALL_MS))
    }
  }

  /** Adds a member without a vote, until `promote`. Throws MembershipError. */
  async addLearner(peer: string): Promise<void> {
    await this.#change((endpoint) => endpoint.addLearner(peer, CALL_MS))
  }

  /**
   * Gives a vote to the member at this peer address, as soon as the member has the data of the others. Waits
   * at most `ms`, also where a promotion is accepted and the member stays a learner. Throws MembershipError.
   */
  async promote(peer: string, ms: number): Promise<void> {
    let refused: MembershipError | undefined
    const hasVote = async (): Promise<boolean> => {
      const entry = (await this.#entries()).find(({ peerURLs }) => peerURLs.includes(peer))
      if (!entry) throw new MembershipError(`the cluster has no member at ${peer} any more`)
      if (!entry.isLearner) return true
      try {
        await this.#ask('changed', (endpoint) => endpoint.promote(entry.ID, CALL_MS))
      } catch (error) {
        if (!(error instanceof MembershipError)) throw error
        refused = error
      }
      return false
    }
    if (await until(hasVote, { every: TRY_AGAIN_MS, within: ms })) return
    throw refused ?? new MembershipError(`the cluster still lists the member at ${peer} as a learner`)
  }

  /** Retries while the cluster settles after an earlier change. */
  async #change(call: (endpoint: EtcdEndpoint) => Promise<unknown>): Promise<void> {
    await retry(() => this.#ask('changed', call), {
      every: TRY_AGAIN_MS,
      within: SETTLE_MS,
      when: (error) => error instanceof MembershipError && /unhealthy cluster/.test(error.message),
    })
  }

  /**
   * The answer of the first member that gives one. Each member is asked once, also after another's refusal.
   */
  async #ask<T>(what: string, call: (endpoint: EtcdEndpoint) => Promise<T>): Promise<T> {
    let why = 'no member answers'
    for (const endpoint of this.#endpoints) {
      try {
        await endpoint.ready(CALL_MS)
        return await call(endpoint)
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error
        why = error.message
      }
    }
    throw new MembershipError(`the cluster cannot be ${what}: ${why}`)
  }
}
