// Who is a member of the etcd cluster, and taking one's place anew: what `coffer member` does.
import { readFileSync } from 'node:fs'
import { OperatorError } from '../errors.ts'
import type { LedgerSettings } from '../ledger/drivers.ts'
import { EtcdEndpoint, EtcdError, type MemberEntry, type StatusResponse } from '../ledger/etcd-client.ts'
import { retry, sleep } from '../waiting.ts'

const CALL_MS = 3000
const TRY_AGAIN_MS = 250
/** etcd changes nothing until its leader has been in touch with a majority for five seconds. */
const SETTLE_MS = 15_000

/** The cluster cannot be asked, or refuses; the text says why and what to do. */
export class MembershipError extends OperatorError {
  override readonly name = 'MembershipError'
}

export type MemberInfo = {
  /** Hexadecimal, as etcd writes it. */
  readonly id: string
  /** The node's name; '' for a member that has never started. */
  readonly node: string
  readonly peer: string
  readonly learner: boolean
  readonly ready: boolean
  readonly leader: boolean
}

export class Membership {
  readonly #endpoints: readonly EtcdEndpoint[]

  /** `without`: an endpoint that is not to be asked. */
  constructor({ endpoints, tls }: LedgerSettings, without?: string) {
    const files = tls && {
      ca: readFileSync(tls.ca),
      cert: readFileSync(tls.cert),
      key: readFileSync(tls.key),
    }
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

  async #entries(): Promise<readonly MemberEntry[]> {
    return (await this.#ask('asked', (endpoint) => endpoint.members(CALL_MS))).members
  }

  /**
   * Takes the member of this name, or at this peer address, out of the cluster, where it is in. What the
   * cluster decides needs a majority of its members. Throws MembershipError.
   */
  async remove(name: string, peer: string): Promise<void> {
    for (const { ID, name: of, peerURLs } of await this.#entries()) {
      if (of !== name && !peerURLs.includes(peer)) continue
      await this.#change((endpoint) => endpoint.removeMember(ID, CALL_MS))
    }
  }

  /** Adds a member that has no vote until it is promoted. Throws MembershipError. */
  async addLearner(peer: string): Promise<void> {
    await this.#change((endpoint) => endpoint.addLearner(peer, CALL_MS))
  }

  /**
   * Gives the member at this peer address its vote, as soon as it has what the others have. Throws
   * MembershipError.
   */
  async promote(peer: string, ms: number): Promise<void> {
    for (const until = performance.now() + ms; ; ) {
      const entry = (await this.#entries()).find(({ peerURLs }) => peerURLs.includes(peer))
      if (!entry) throw new MembershipError(`the cluster has no member at ${peer} any more`)
      if (!entry.isLearner) return
      try {
        await this.#ask('changed', (endpoint) => endpoint.promote(entry.ID, CALL_MS))
      } catch (error) {
        if (!(error instanceof MembershipError) || performance.now() > until) throw error
        await sleep(TRY_AGAIN_MS)
      }
    }
  }

  /** Waits out what a cluster needs after a member has come or gone. */
  async #change(call: (endpoint: EtcdEndpoint) => Promise<unknown>): Promise<void> {
    await retry(() => this.#ask('changed', call), {
      every: TRY_AGAIN_MS,
      within: SETTLE_MS,
      when: (error) => error instanceof MembershipError && /unhealthy cluster/.test(error.message),
    })
  }

  /** The first that answers; one that refuses is not asked twice, another one may know better. */
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
