// A relay in front of an etcd that understands gRPC: reads and watches come through while commits get no answer.
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'

const UNARY = ['KV/Range', 'KV/Txn', 'Maintenance/Status', 'Cluster/MemberList']
const raw = (bytes: Buffer): Buffer => bytes

function method(name: string, stream: boolean): object {
  return {
    path: `/etcdserverpb.${name}`,
    requestStream: stream,
    responseStream: stream,
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw,
  }
}

export class GrpcRelay {
  /** `lost`: commits do not reach the member; `unanswered`: only their answers are lost; by turns. */
  commits: 'answered' | 'lost and unanswered' = 'answered'
  url = ''
  readonly #far: Client
  readonly #server = new Server()
  #count = 0

  private constructor(target: string) {
    this.#far = new Client(new URL(target).host, credentials.createInsecure())
    const unary = UNARY.map((name) => [name, method(name, false)])
    const methods = Object.fromEntries([...unary, ['Watch/Watch', method('Watch/Watch', true)]])
    const handlers = UNARY.map((name) => [
      name,
      (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) =>
        this.#unary(name, call, answer),
    ])
    const watch = (call: ServerDuplexStream<Buffer, Buffer>): void => this.#watch(call)
    this.#server.addService(methods, { ...Object.fromEntries(handlers), 'Watch/Watch': watch })
  }

  static async before(target: string): Promise<GrpcRelay> {
    const relay = new GrpcRelay(target)
    const port = await new Promise<number>((resolve, reject) => {
      relay.#server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      )
    })
    relay.url = `http://127.0.0.1:${port}`
    return relay
  }

  #unary(name: string, call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>): void {
    const silent = name === 'KV/Txn' && this.commits !== 'answered'
    if (silent && this.#count++ % 2 === 0) return
    const options = { deadline: call.getDeadline() }
    this.#far.makeUnaryRequest(
      `/etcdserverpb.${name}`,
      raw,
      raw,
      call.request,
      call.metadata,
      options,
      (error, response) => {
        if (!silent) answer(error, response)
      },
    )
  }

  #watch(call: ServerDuplexStream<Buffer, Buffer>): void {
    const far = this.#far.makeBidiStreamRequest('/etcdserverpb.Watch/Watch', raw, raw, call.metadata)
    call.on('data', (bytes: Buffer) => far.write(bytes))
    call.on('end', () => far.end())
    call.on('cancelled', () => far.cancel())
    far.on('data', (bytes: Buffer) => call.write(bytes))
    far.on('end', () => call.end())
    far.on('error', ({ message }: Error) =>
      call.emit('error', { code: status.UNAVAILABLE, details: message, metadata: new Metadata() }),
    )
  }

  close(): void {
    this.#server.forceShutdown()
    this.#far.close()
  }
}
