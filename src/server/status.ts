// What a node tells of itself: /ready, /status, metrics, the events of its ledger. It asks the ledger once a second.
import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Clock } from '../clock.ts'
import type { Keyring } from '../crypto/keyring.ts'
import type { EventLog } from '../events/log.ts'
import type { NodeNumbers } from '../http/metrics.ts'
import type { TokenCalls } from '../http/token-calls.ts'
import { DRIVERS } from '../ledger/drivers.ts'
import type { Health, Ledger } from '../ledger/ledger.ts'
import type { Logger } from '../log.ts'
import type { Config } from '../node/config.ts'
import type { Member } from '../node/member.ts'
import { disagreements } from './agreement.ts'
import type { Vault } from './services.ts'

export const VERSION = '0.1.0'
const PROBE_MS = 1000
const RECORDS_BEFORE_WARNING = 100
const DAY_MS = 24 * 60 * 60 * 1000
/** Certificates that end sooner are warned of, once a day. */
const ENDING_MS = 30 * DAY_MS
/** From this part of its room on the ledger is told to be filling. */
const FILLING = 0.6

export type Observed = {
  readonly config: Config
  readonly events: EventLog
  readonly log: Logger
  readonly clock: Clock
  readonly calls: TokenCalls
  readonly keyring: () => Keyring
  readonly ledger: () => Ledger | undefined
  readonly member: () => Member | undefined
  /** Undefined until what is known can be served. */
  readonly vault: () => Vault | undefined
}

const UNKNOWN: Health = { problems: [], quorum: false, leader: undefined, members: [], used: 0 }

export class Observer {
  /** What the node waits for before it is ready for the first time; '' when it has been. */
  waitingFor = 'the replica is being read'
  stopping = false
  readonly #observed: Observed
  #health: Health = UNKNOWN
  #leader: string | undefined
  #warned = { unmatched: false, filling: false, certificatesAt: Number.NEGATIVE_INFINITY }
  #probing: Promise<void> | undefined
  readonly #timer: NodeJS.Timeout

  constructor(observed: Observed) {
    this.#observed = observed
    this.#timer = setInterval(() => void this.probe(), PROBE_MS)
  }

  /** Asks the ledger how it is; never throws. */
  probe(): Promise<void> {
    this.#probing ??= this.#probe().finally(() => {
      this.#probing = undefined
    })
    return this.#probing
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#probing
  }

  async #probe(): Promise<void> {
    const { ledger, log, events } = this.#observed
    this.#warnUnmatched()
    this.#warnCertificates()
    const health = await ledger()?.health()
    if (!health || this.stopping) return
    this.#health = health
    if (health.leader !== undefined && health.leader !== this.#leader) {
      const from = this.#leader === undefined ? {} : { from: this.#leader }
      events.emit('ledger.leader', { ...from, to: health.leader })
      this.#leader = health.leader
    }
    const filling = health.used >= FILLING
    if (filling && !this.#warned.filling)
      log.warn({ used: health.used }, 'the ledger is filling: make room before it refuses new tokens')
    this.#warned.filling = filling
  }

  /** Why requests cannot be served fully, or, `forReads`, why known tokens cannot be. */
  notReady(forReads: boolean): readonly string[] {
    if (this.stopping) return ['the node is stopping']
    const { vault, config, member } = this.#observed
    const replica = vault()?.replica
    if (forReads && replica) return []
    const { problems } = this.#health
    const why = member()?.problem
    const own = why !== undefined && problems.length > 0 ? [why] : []
    if (this.waitingFor !== '') return [...new Set([this.waitingFor, ...problems, ...own])]
    const agreed = replica ? disagreements(config.node, replica.state.nodes) : []
    return [...new Set([...problems, ...(replica?.problems ?? []), ...own, ...agreed])]
  }

  /** The answer of `GET /status`. */
  status(): Record<string, unknown> {
    const { config, keyring, vault } = this.#observed
    const replica = vault()?.replica
    const { revision, digest } = replica?.digest() ?? { revision: 0, digest: '' }
    const head = Math.max(replica?.head ?? 0, revision)
    const { quorum, leader, members } = this.#health
    return {
      node: config.node,
      version: VERSION,
      ledger: { kind: config.ledger.kind, identity: replica?.identity ?? '', revision: head },
      replica: { revision, lag: head - revision, digest },
      quorum,
      leader: DRIVERS[config.ledger.kind].shared ? (leader ?? null) : config.node,
      members,
      fields: fieldsHash(config),
      root_keys: keyring().ids,
    }
  }

  numbers(): NodeNumbers {
    const { config, keyring, vault, calls, events } = this.#observed
    const { replica, wrapped } = vault() ?? {}
    const { quorum, leader, members, used } = this.#health
    const ring = keyring()
    return {
      revision: replica?.applied ?? 0,
      head: replica?.head ?? 0,
      ...(replica?.contents ?? { mappings: 0, secrets: 0, secretVersions: 0 }),
      ...(replica?.counts ?? { segments: 0, ignoredDuplicates: 0, foreignKeys: 0 }),
      eventsDropped: events.dropped,
      ready: this.notReady(false).length === 0,
      quorum,
      leader,
      members,
      ledgerUsed: used,
      fieldMatches: config.fields.map((field, i) => [field, calls.fieldMatches[i]]),
      records: calls.records,
      rootKeys: ring.ids.map((id) => ({ id, active: id === ring.active })),
      wrappedKeys: wrapped?.counts() ?? new Map(),
    }
  }

  #warnCertificates(): void {
    const { clock, config, log } = this.#observed
    if (clock.monotonic() - this.#warned.certificatesAt < DAY_MS) return
    this.#warned.certificatesAt = clock.monotonic()
    for (const { file, why } of endingCertificates(config, clock.now())) log.warn({ file }, why)
  }

  /** A configured field that matches nothing is probably misspelt: its values stay in clear. Told once. */
  #warnUnmatched(): void {
    const { calls, log } = this.#observed
    if (calls.records < RECORDS_BEFORE_WARNING || this.#warned.unmatched) return
    this.#warned.unmatched = true
    for (const field of calls.unmatched()) {
      log.warn({ field, records: calls.records }, 'a configured field has matched nothing in any record')
    }
  }
}

/** Of the certificates that the node shows others, those that end within 30 days of `now`, or cannot be read. */
export function endingCertificates(
  { tls, ledger }: Pick<Config, 'tls' | 'ledger'>,
  now: number,
): { readonly file: string; readonly why: string }[] {
  const files = [tls?.cert, ledger.tls?.cert]
  return files.flatMap((file) => {
    if (file === undefined) return []
    try {
      const { validTo } = new X509Certificate(readFileSync(file))
      const ends = Date.parse(validTo)
      if (ends > now + ENDING_MS) return []
      return [{ file, why: `a certificate ends at ${new Date(ends).toISOString()}: renew it` }]
    } catch {
      return [{ file, why: 'a certificate cannot be read' }]
    }
  })
}

/** Nodes of one vault must have the same. */
export function fieldsHash({ fields }: Config): string {
  return createHash('sha256')
    .update(JSON.stringify([...fields].sort()))
    .digest('hex')
}
