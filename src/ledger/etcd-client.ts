// A thin etcd client on @grpc/grpc-js: the calls of Coffer, with deadlines. No call is repeated (npm's etcd3
// repeats Txn, which can apply a write twice), and a failed call says whether etcd may have executed the
// call.
import { isIP } from 'node:net'
import { join } from 'node:path'
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import {
  type ClientDuplexStream,
  type ClientUnaryCall,
  connectivityState,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

/** Pages of a snapshot are larger than the 4 MiB of grpc-js's default. */
const MESSAGE_BYTES = 64 * 1024 * 1024
const CHANNEL = {
  'grpc.enable_retries': 0,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': MESSAGE_BYTES,
  'grpc.max_send_message_length': MESSAGE_BYTES,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  // A channel that is opened anew must not get the connection of the one before.
  'grpc.use_local_subchannel_pool': 1,
}
/**
 * For so long a channel tries to become ready. grpc-js waits without end for a server that has accepted a
 * connection and sends nothing, as one behind a relay that has swallowed the first bytes.
 */
const CHANNEL_MS = 10_000

const loaded = loadPackageDefinition(
  loadSync(join(import.meta.dirname, 'etcd.proto'), {
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  }),
)
// The loader returns an untyped tree; etcd.proto declares the four services in the package `etcdserverpb`.
const { KV, Watch, Cluster, Maintenance } = loaded.etcdserverpb as unknown as Record<
  'KV' | 'Watch' | 'Cluster' | 'Maintenance',
  ServiceClientConstructor
>

export type Header = {
  readonly cluster_id: string
  readonly member_id: string
  readonly revision: string
  readonly raft_term: string
}
export type KeyValue = {
  readonly key: Buffer
  readonly value: Buffer
  readonly create_revision: string
  readonly mod_revision: string
}
export type RangeResponse = {
  readonly header: Header
  readonly kvs: readonly KeyValue[]
  readonly more: boolean
  /** All keys in the range, also beyond the limit of the request. */
  readonly count: string
}
export type ResponseOp = { readonly response_range?: RangeResponse; readonly response_txn?: TxnResponse }
export type TxnResponse = {
  readonly header: Header
  readonly succeeded: boolean
  readonly responses: readonly ResponseOp[]
}
export type StatusResponse = {
  readonly header: Header
  readonly version: string
  /** The leader's id; "0": no leader. */
  readonly leader: string
  readonly isLearner: boolean
  readonly dbSize: string
  /** Of `dbSize`, without pages that are free for new entries. */
  readonly dbSizeInUse: string
  /** "0": the release does not report the quota. */
  readonly dbSizeQuota: string
  /** Alarms, in words. */
  readonly errors: readonly string[]
}
export type MemberEntry = {
  readonly ID: string
  /** Empty until the member has started for the first time. */
  readonly name: string
  readonly peerURLs: readonly string[]
  readonly isLearner: boolean
}
type MembersResponse = { readonly header: Header; readonly members: readonly MemberEntry[] }
export type WatchResponse = {
  readonly header: Header
  readonly created: boolean
  readonly canceled: boolean
  readonly compact_revision: string
  readonly cancel_reason: string
  readonly fragment: boolean
  readonly events: readonly { readonly type: 'PUT' | 'DELETE'; readonly kv: KeyValue }[]
}

export type Tls = { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer }

/** A call failed. `executed`: `no` where the call certainly had no effect. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError'
  readonly executed: 'no' | 'unknown'
  constructor(message: string, executed: 'no' | 'unknown') {
    super(message)
    this.executed = executed
  }
}

const COMPACTED = 'required revision has been compacted'

/**
 * Refusals of etcd before a proposal. After any other error the call may have been executed, NOSPACE
 * included.
 */
const REFUSALS: readonly string[] = [
  'etcdserver: no leader',
  'etcdserver: too many requests',
  'etcdserver: request is too large',
  'etcdserver: too many operations',
  'etcdserver: rpc not supported for learner',
  COMPACTED,
]

const isRefusal = (details: string): boolean => REFUSALS.some((text) => details.includes(text))

/** The answer is larger than a message may be; gRPC's words, by the client or by the member. */
export const isTooLarge = (error: unknown): boolean =>
  error instanceof EtcdError && / message larger than max /.test(error.message)

export const isCompacted = (error: unknown): boolean =>
  error instanceof EtcdError && error.message.includes(COMPACTED)

type Client = InstanceType<ServiceClientConstructor>

/** The clients of a member's services, which share a channel. */
type Clients = {
  readonly channel: ReturnType<Client['getChannel']>
  readonly kv: Client
  readonly watch: Client
  readonly cluster: Client
  readonly maintenance: Client
}

function openClients(url: string, tls: Tls | undefined): Clients {
  const { host, hostname, protocol } = new URL(url)
  const secure = protocol === 'https:' && tls
  const address = hostname.replace(/^\[|\]$/g, '')
  // TLS cannot name a server by its address (RFC 6066); the certificate is compared with the address all
  // the same.
  const named = isIP(address) > 0 ? { 'grpc.ssl_target_name_override': 'localhost' } : {}
  const verify = {
    checkServerIdentity: (_: string, cert: PeerCertificate) => checkServerIdentity(address, cert),
  }
  const secrets = secure
    ? credentials.createSsl(tls.ca, tls.key, tls.cert, verify)
    : credentials.createInsecure()
  const kv = new KV(host, secrets, { ...CHANNEL, ...named })
  const channel = kv.getChannel()
  const shared = { channelOverride: channel }
  return {
    channel,
    kv,
    watch: new Watch(host, secrets, shared),
    cluster: new Cluster(host, secrets, shared),
    maintenance: new Maintenance(host, secrets, shared),
  }
}

/**
 * One member of the cluster, over one connection. grpc-js connects again when the connection breaks; a
 * channel that does not become ready is replaced.
 */
export class EtcdEndpoint {
  readonly url: string
  readonly #tls: Tls | undefined
  #clients: Clients
  #connections = 0
  /** Since when the channel is not ready, by `performance.now()`; undefined: the channel is ready. */
  #unreadySince: number | undefined = performance.now()
  #closed = false

  constructor(url: string, tls?: Tls) {
    this.url = url
    this.#tls = tls
    this.#clients = openClients(url, tls)
    this.#watchState(this.#clients)
  }

  #watchState(clients: Clients, state = clients.channel.getConnectivityState(false)): void {
    clients.channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => {
      if (this.#closed || clients !== this.#clients) return
      const next = clients.channel.getConnectivityState(false)
      if (next === connectivityState.READY) {
        this.#connections++
        this.#unreadySince = undefined
      } else this.#unreadySince ??= performance.now()
      this.#watchState(clients, next)
    })
  }

  /** Ends the calls that wait on the channel before. */
  #renew(): void {
    const before = this.#clients
    this.#clients = openClients(this.url, this.#tls)
    this.#unreadySince = performance.now()
    this.#watchState(this.#clients)
    before.kv.close()
  }

  get connected(): boolean {
    return this.#unreadySince === undefined
  }

  /** The number of the current connection: grows with every connection. */
  get connections(): number {
    return this.#connections
  }

  /**
   * Resolves when calls can be sent. Throws EtcdError, with nothing sent, after `ms`, and at once where the
   * last try to connect has failed (grpc-js tries again in the background).
   */
  async ready(ms: number): Promise<void> {
    const until = deadline(ms)
    for (;;) {
      if (this.#closed) throw new EtcdError(`${this.url} is closed`, 'no')
      if (this.#unreadySince !== undefined && performance.now() - this.#unreadySince > CHANNEL_MS)
        this.#renew()
      const { channel } = this.#clients
      const state = channel.getConnectivityState(true)
      if (state === connectivityState.READY) return
      if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN)
        throw new EtcdError(`${this.url} cannot be reached`, 'no')
      await new Promise<void>((resolve, reject) => {
        channel.watchConnectivityState(state, until, (error) => {
          if (error) reject(new EtcdError(`${this.url} cannot be reached`, 'no'))
          else resolve()
        })
      })
    }
  }

  /** `signal` gives the call up. */
  range(request: object, ms: number, signal?: AbortSignal): Promise<RangeResponse> {
    return call(this.#clients.kv, 'Range', request, ms, signal)
  }

  /** `signal` gives the call up: the Txn may or may not have been executed then. */
  txn(request: object, ms: number, signal?: AbortSignal): Promise<TxnResponse> {
    return call(this.#clients.kv, 'Txn', request, ms, signal)
  }

  /** Forgets the history up to a revision, in etcd's count. */
  compact(revision: number, ms: number): Promise<unknown> {
    return call(this.#clients.kv, 'Compact', { revision: String(revision), physical: true }, ms)
  }

  /** The member's own status, also without a leader. */
  status(ms: number): Promise<StatusResponse> {
    return call(this.#clients.maintenance, 'Status', {}, ms)
  }

  /** The members as known to the asked member, without a linearizable read. */
  members(ms: number): Promise<MembersResponse> {
    return call(this.#clients.cluster, 'MemberList', { linearizable: false }, ms)
  }

  addLearner(peer: string, ms: number): Promise<MembersResponse> {
    return call(this.#clients.cluster, 'MemberAdd', { peerURLs: [peer], isLearner: true }, ms)
  }

  removeMember(id: string, ms: number): Promise<MembersResponse> {
    return call(this.#clients.cluster, 'MemberRemove', { ID: id }, ms)
  }

  /** Throws EtcdError while the learner is not in sync with its leader. */
  promote(id: string, ms: number): Promise<MembersResponse> {
    return call(this.#clients.cluster, 'MemberPromote', { ID: id }, ms)
  }

  /** A stream of watch responses; a member without a leader refuses or ends the stream. */
  watch(): ClientDuplexStream<object, WatchResponse> {
    return this.#clients.watch.Watch(leaderNeeded())
  }

  close(): void {
    this.#closed = true
    this.#clients.kv.close() // closes the channel, which all four clients share
  }
}

/**
 * gRPC takes a deadline as wall time and compares the deadline with `Date.now()`: Coffer's clock does not
 * fit.
 */
function deadline(ms: number): number {
  return Date.now() + ms
}

function leaderNeeded(): Metadata {
  const metadata = new Metadata()
  metadata.set('hasleader', 'true')
  return metadata
}

/** Calls that a member without a leader answers. */
const LEADERLESS = ['Status', 'MemberList']

function call<T>(
  client: InstanceType<ServiceClientConstructor>,
  name: string,
  request: object,
  ms: number,
  signal?: AbortSignal,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const answered = (error: ServiceError | null, response: T): void => {
      signal?.removeEventListener('abort', cancel)
      if (error) reject(new EtcdError(error.details, isRefusal(error.details) ? 'no' : 'unknown'))
      else resolve(response)
    }
    const metadata = LEADERLESS.includes(name) ? new Metadata() : leaderNeeded()
    let sent: ClientUnaryCall
    const cancel = (): void => sent.cancel()
    try {
      sent = client[name](request, metadata, { deadline: deadline(ms) }, answered)
    } catch (error) {
      // A closed channel throws at once.
      return reject(new EtcdError(error instanceof Error ? error.message : String(error), 'no'))
    }
    signal?.addEventListener('abort', cancel)
  })
}
