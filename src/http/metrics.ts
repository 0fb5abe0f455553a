// Prometheus metrics of a node. No metric names an owner.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** The node's numbers at a scrape. */
export type NodeNumbers = {
  readonly revision: number
  readonly head: number
  readonly mappings: number
  readonly segments: number
  readonly secrets: number
  readonly secretVersions: number
  readonly ignoredDuplicates: number
  readonly foreignKeys: number
  readonly eventsDropped: number
  readonly ready: boolean
  readonly quorum: boolean
  /** The node whose member leads. */
  readonly leader: string | undefined
  readonly members: readonly { readonly node: string; readonly ready: boolean }[]
  /** The used part of the ledger's quota, 0 to 1. */
  readonly ledgerUsed: number
  readonly fieldMatches: readonly (readonly [path: string, count: number])[]
  readonly records: number
  /** Hash of the owners in force. */
  readonly owners: string
  /** The keyring's root keys; a single key is active. */
  readonly rootKeys: readonly { readonly id: string; readonly active: boolean }[]
  /** How many keys of the ledger each root key wraps. */
  readonly wrappedKeys: ReadonlyMap<string, number>
  /** Revision of the genesis, as applied here. */
  readonly genesis: number
}

/** The text takes milliseconds of the node, and anybody may ask for the text. */
const AGE_MS = 1000

type MetricsOptions = {
  /** How old the text may be. */
  readonly ageMs?: number | undefined
  /** A text with another stamp is not given again, however young. */
  readonly stamp?: () => string
  /** Monotonic, in milliseconds. */
  readonly now?: () => number
}

type Rendered = { readonly text: Promise<string>; readonly stamp: string; readonly at: number }

export class Metrics {
  readonly #registry = new Registry()
  readonly #requests: Histogram<'route' | 'method' | 'status'>
  /** By method, route and status: to look labels up costs more than to observe. */
  readonly #requestsOf = new Map<string, ReturnType<Histogram['labels']>>()
  readonly #issued: Counter
  readonly #fresh: Counter
  readonly #resolved: Counter
  readonly #missing: Counter
  readonly #secrets: Counter<'event'>
  readonly contentType: string

  readonly #ageMs: number
  readonly #stamp: () => string
  readonly #now: () => number
  #rendered: Rendered | undefined

  constructor(
    numbers: () => NodeNumbers,
    { ageMs = AGE_MS, stamp = () => '', now = () => performance.now() }: MetricsOptions = {},
  ) {
    this.#ageMs = ageMs
    this.#stamp = stamp
    this.#now = now
    const registers = [this.#registry]
    this.contentType = this.#registry.contentType
    collectDefaultMetrics({ register: this.#registry })
    this.#requests = new Histogram({
      name: 'coffer_request_seconds',
      help: 'Duration of HTTP requests',
      labelNames: ['route', 'method', 'status'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers,
    })
    const counter = (name: string, help: string): Counter => new Counter({ name, help, registers })
    this.#issued = counter('coffer_tokens_issued_total', 'Values answered with a token')
    this.#fresh = counter('coffer_mappings_new_total', 'Mappings that this node committed')
    this.#resolved = counter('coffer_tokens_resolved_total', 'Tokens answered with a value')
    this.#missing = counter('coffer_tokens_missing_total', 'Tokens that were not found')
    this.#secrets = new Counter({
      name: 'coffer_secrets_total',
      help: 'Versions of secrets created, updated and read at this node',
      labelNames: ['event'],
      registers,
    })
    const gauge = (name: string, help: string, read: (now: NodeNumbers) => number): Gauge =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read(numbers()))
        },
      })
    gauge('coffer_ready', 'Whether requests can be served fully', (now) => Number(now.ready))
    gauge('coffer_quorum', 'Whether the ledger answers with a majority', (now) => Number(now.quorum))
    gauge('coffer_ledger_used_ratio', "The part of the ledger's quota that is used", (now) => now.ledgerUsed)
    gauge('coffer_ledger_revision', 'The ledger head as last seen', (now) => now.head)
    gauge('coffer_replica_revision', 'The last revision applied', (now) => now.revision)
    gauge('coffer_replica_mappings', 'Mappings in the token table', (now) => now.mappings)
    gauge('coffer_replica_segments_applied', 'Segments applied since the start', (now) => now.segments)
    gauge('coffer_replica_secrets', 'Secrets', (now) => now.secrets)
    gauge('coffer_replica_secret_versions', 'Versions of secrets', (now) => now.secretVersions)
    gauge(
      'coffer_replica_ignored_duplicates',
      'Equal mappings ignored since the start',
      (now) => now.ignoredDuplicates,
    )
    gauge('coffer_replica_foreign_keys', 'Keys of the ledger that are not ours', (now) => now.foreignKeys)
    gauge('coffer_events_dropped', 'Events that could not be written', (now) => now.eventsDropped)
    gauge('coffer_records', 'Records tokenized since the start', (now) => now.records)
    this.#watchFields(numbers)
    this.#watchMembers(numbers)
    this.#watchReloaded(numbers)
  }

  #watchFields(numbers: () => NodeNumbers): void {
    const registers = [this.#registry]
    new Gauge({
      name: 'coffer_field_matches',
      help: 'Matches of each configured field since the start; one that stays 0 is probably a mistake',
      labelNames: ['path'],
      registers,
      collect() {
        for (const [path, count] of numbers().fieldMatches) this.set({ path }, count)
      },
    })
  }

  #watchMembers(numbers: () => NodeNumbers): void {
    const registers = [this.#registry]
    new Gauge({
      name: 'coffer_ledger_leader',
      help: 'The node whose member leads the ledger',
      labelNames: ['node'],
      registers,
      collect() {
        this.reset()
        const { leader } = numbers()
        if (leader !== undefined) this.set({ node: leader }, 1)
      },
    })
    new Gauge({
      name: 'coffer_ledger_member_ready',
      help: 'Whether each member of the ledger answers, with a leader',
      labelNames: ['node'],
      registers,
      collect() {
        this.reset()
        for (const { node, ready } of numbers().members) this.set({ node }, Number(ready))
      },
    })
  }

  /** What a reload puts into force. */
  #watchReloaded(numbers: () => NodeNumbers): void {
    const registers = [this.#registry]
    new Gauge({
      name: 'coffer_owners',
      help: 'A hash of the owners in force and their keys',
      labelNames: ['hash'],
      registers,
      collect() {
        this.reset()
        this.set({ hash: numbers().owners }, 1)
      },
    })
    new Gauge({
      name: 'coffer_root_keys',
      help: 'The root keys of the keyring as this node has read it',
      labelNames: ['root_key', 'active'],
      registers,
      collect() {
        this.reset()
        for (const { id, active } of numbers().rootKeys) this.set({ root_key: id, active: String(active) }, 1)
      },
    })
    new Gauge({
      name: 'coffer_wrapped_keys',
      help: 'Keys of the ledger that each root key wraps: a root key can go when it wraps none',
      labelNames: ['root_key'],
      registers,
      collect() {
        this.reset()
        const { rootKeys, wrappedKeys } = numbers()
        for (const { id } of rootKeys) this.set({ root_key: id }, 0)
        for (const [id, count] of wrappedKeys) this.set({ root_key: id }, count)
      },
    })
    new Gauge({
      name: 'coffer_genesis_revision',
      help: 'Revision of the genesis: every rewrap puts the genesis anew, and what is late is refused',
      registers,
      collect() {
        this.set(numbers().genesis)
      },
    })
  }

  watchBytes(read: () => number): void {
    new Gauge({
      name: 'coffer_bodies_in_work_bytes',
      help: 'Bytes of bodies as far as they are there, and of answers until they are flushed',
      registers: [this.#registry],
      collect() {
        this.set(read())
      },
    })
  }

  watchConnections(connections: { readonly open: number; readonly refused: number }): void {
    const gauge = (name: string, help: string, read: () => number): Gauge =>
      new Gauge({
        name,
        help,
        registers: [this.#registry],
        collect() {
          this.set(read())
        },
      })
    gauge('coffer_connections', 'Connections of callers', () => connections.open)
    gauge('coffer_connections_refused', 'Connections refused since the start', () => connections.refused)
  }

  request(route: string, method: string, status: number, ms: number): void {
    const name = `${method} ${route} ${status}`
    let child = this.#requestsOf.get(name)
    if (!child) {
      child = this.#requests.labels({ route, method, status })
      this.#requestsOf.set(name, child)
    }
    child.observe(ms / 1000)
  }

  tokens(event: 'issued' | 'resolved', count: number, missing: number, fresh: number): void {
    if (event === 'issued') this.#issued.inc(count - missing)
    else this.#resolved.inc(count - missing)
    this.#fresh.inc(fresh)
    this.#missing.inc(missing)
  }

  secrets(event: 'created' | 'updated' | 'read', count: number): void {
    this.#secrets.inc({ event }, count)
  }

  /** At most AGE_MS old. */
  text(): Promise<string> {
    const [at, stamp] = [this.#now(), this.#stamp()]
    const last = this.#rendered
    if (last && at - last.at < this.#ageMs && last.stamp === stamp) return last.text
    const text = this.#registry.metrics()
    this.#rendered = { text, stamp, at }
    return text
  }
}
