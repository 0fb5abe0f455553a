// A thin etcd client on @grpc/grpc-js: the calls that Coffer uses, with deadlines. It repeats nothing (npm's etcd3
// repeats Txn, which can apply a write twice), and says of a failed call whether it may have been executed.
import { join } from 'node:path'
import {
  type ClientDuplexStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

/** Pages of a snapshot are larger than the 4 MiB that grpc-js takes by itself. */
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
}

const loaded = loadPackageDefinition(
  loadSync(join(import.meta.dirname, 'etcd.proto'), {
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  }),
)
// The loader gives a tree of whatever a file declares; etcd.proto declares these two services in this package.
const { KV, Watch, Maintenance } = loaded.etcdserverpb as unknown as Record<
  'KV' | 'Watch' | 'Maintenance',
  ServiceClientConstructor
>

export type Header = { readonly revision: string; readonly raft_term: string; readonly member_id: string }
export type KeyValue = { readonly key: Buffer; readonly value: Buffer; readonly mod_revision: string }
export type RangeResponse = {
  readonly header: Header
  readonly kvs: readonly KeyValue[]
  readonly more: boolean
}
export type ResponseOp = { readonly response_range?: RangeResponse; readonly response_txn?: TxnResponse }
export type TxnResponse = {
  readonly header: Header
  readonly succeeded: boolean
  readonly responses: readonly ResponseOp[]
}
export type StatusResponse = { readonly header: Header; readonly version: string; readonly leader: string }
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

/** A call failed; `executed` is `no` where it certainly had no effect. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError'
  readonly executed: 'no' | 'unknown'
  constructor(message: string, executed: 'no' | 'unknown') {
    super(message)
    this.executed = executed
  }
}

/** What etcd refuses before it proposes anything. All else may have happened, a full database included. */
const REFUSED =
  /etcdserver: (no leader|too many requests|request is too large)|required revision has been compacted/

/** One member of the cluster. */
export class EtcdEndpoint {
  readonly url: string
  readonly #kv: InstanceType<ServiceClientConstructor>
  readonly #watch: InstanceType<ServiceClientConstructor>
  readonly #maintenance: InstanceType<ServiceClientConstructor>

  constructor(url: string, tls?: Tls) {
    this.url = url
    const { host, protocol } = new URL(url)
    const secure = protocol === 'https:' && tls
    const channel = secure ? credentials.createSsl(tls.ca, tls.key, tls.cert) : credentials.createInsecure()
    this.#kv = new KV(host, channel, CHANNEL)
    this.#watch = new Watch(host, channel, CHANNEL)
    this.#maintenance = new Maintenance(host, channel, CHANNEL)
  }

  /** Resolves when calls can be sent. Throws EtcdError, with nothing sent, when that takes longer. */
  ready(ms: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#kv.waitForReady(deadline(ms), (error) => {
        if (error) reject(new EtcdError(`${this.url} cannot be reached`, 'no'))
        else resolve()
      })
    })
  }

  range(request: object, ms: number): Promise<RangeResponse> {
    return call(this.#kv, 'Range', request, ms)
  }

  txn(request: object, ms: number): Promise<TxnResponse> {
    return call(this.#kv, 'Txn', request, ms)
  }

  status(ms: number): Promise<StatusResponse> {
    return call(this.#maintenance, 'Status', {}, ms)
  }

  /** A stream of watch responses; it is refused, or ends, where the member has no leader. */
  watch(): ClientDuplexStream<object, WatchResponse> {
    return this.#watch.Watch(leaderNeeded())
  }

  close(): void {
    this.#kv.close()
    this.#watch.close()
    this.#maintenance.close()
  }
}

/** gRPC takes a deadline as wall time, and compares it with the wall at once: no clock of ours fits here. */
function deadline(ms: number): number {
  return Date.now() + ms
}

function leaderNeeded(): Metadata {
  const metadata = new Metadata()
  metadata.set('hasleader', 'true')
  return metadata
}

function call<T>(
  client: InstanceType<ServiceClientConstructor>,
  name: string,
  request: object,
  ms: number,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const answered = (error: ServiceError | null, response: T): void => {
      if (error) reject(new EtcdError(error.details, REFUSED.test(error.details) ? 'no' : 'unknown'))
      else resolve(response)
    }
    client[name](request, leaderNeeded(), { deadline: deadline(ms) }, answered)
  })
}
