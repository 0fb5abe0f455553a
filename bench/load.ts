// The client: HTTP/1.1 over plain sockets, kept alive, with one request at a time on each socket. A request
// is written as a single buffer and an answer read into another: the client takes a small part of a core and
// distorts little.
import { connect, type Socket } from 'node:net'
import { cpuUsage } from 'node:process'
import { machineSeconds } from './child.ts'

const HEAD_ROOM = 512
const READ_BYTES = 64 * 1024

/** The body of a request, with room for the head in front. */
export class Body {
  bytes = Buffer.allocUnsafeSlow(64 * 1024)
  at = HEAD_ROOM

  clear(): void {
    this.at = HEAD_ROOM
  }

  /** Makes room for `size` more bytes; the caller writes at `at` and advances `at`. */
  reserve(size: number): void {
    if (this.at + size <= this.bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(this.at + size, this.bytes.length * 2))
    this.bytes.copy(larger, 0, 0, this.at)
    this.bytes = larger
  }

  text(ascii: string): void {
    this.reserve(ascii.length)
    this.at += this.bytes.write(ascii, this.at, 'latin1')
  }

  /** The whole request. */
  request(head: string): Buffer {
    const text = `${head}${this.at - HEAD_ROOM}\r\n\r\n`
    if (text.length > HEAD_ROOM) throw new Error('the head of the request is too long')
    const start = HEAD_ROOM - text.length
    this.bytes.write(text, start, 'latin1')
    return this.bytes.subarray(start, this.at)
  }
}

/** A connection. An answer with another status than expected, or without a length, is an error. */
class Connection {
  readonly body = new Body()
  readonly #host: string
  readonly #socket: Socket
  #input = Buffer.allocUnsafeSlow(READ_BYTES)
  #used = 0
  #bodyAt = 0
  #end = 0
  #ok = ''
  #answered: PromiseWithResolvers<Buffer> | undefined
  #broken: Error | undefined

  constructor(url: string) {
    const { hostname, port, host } = new URL(url)
    this.#host = host
    const onread = { buffer: Buffer.allocUnsafeSlow(READ_BYTES), callback: this.#read.bind(this) }
    this.#socket = connect({ host: hostname, port: Number(port), noDelay: true, onread })
    this.#socket.on('error', (error) => this.#fail(error))
    this.#socket.on('close', () => this.#fail(new Error('the node has closed the connection')))
  }

  /** Sends request n of `work`; the answer's bytes are valid until the next call. */
  send(work: Work, n: number): Promise<Buffer> {
    if (this.#broken) return Promise.reject(this.#broken)
    this.#used = 0
    this.#bodyAt = 0
    this.#answered = Promise.withResolvers()
    this.#ok = `HTTP/1.1 ${work.status ?? 200} `
    this.#socket.write(this.body.request(this.#head(work, n)))
    return this.#answered.promise
  }

  #head({ path, method = 'POST', headers, key }: Work, n: number): string {
    const target = typeof path === 'string' ? path : path(n)
    return (
      `${method} ${target} HTTP/1.1\r\nHost: ${this.#host}\r\nAuthorization: Bearer ${key(n)}\r\n` +
      `${headers?.(n) ?? ''}Content-Type: application/json\r\nContent-Length: `
    )
  }

  #read(size: number, buffer: Uint8Array): boolean {
    if (this.#used + size > this.#input.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.#used + size, this.#input.length * 2))
      this.#input.copy(larger, 0, 0, this.#used)
      this.#input = larger
    }
    this.#input.set(size === buffer.length ? buffer : buffer.subarray(0, size), this.#used)
    this.#used += size
    if (this.#bodyAt === 0) this.#readHead()
    if (this.#bodyAt > 0 && this.#used >= this.#end) {
      this.#answered?.resolve(this.#input.subarray(this.#bodyAt, this.#end))
      this.#answered = undefined
    }
    return true
  }

  #readHead(): void {
    const at = this.#input.subarray(0, this.#used).indexOf('\r\n\r\n')
    if (at < 0) return
    const head = this.#input.toString('latin1', 0, at)
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
    if (!head.startsWith(this.#ok) || length === undefined) {
      this.#fail(
        new Error(`an answer that is none: ${this.#input.toString('latin1', 0, Math.min(this.#used, 1000))}`),
      )
      return
    }
    this.#bodyAt = at + 4
    this.#end = this.#bodyAt + Number(length)
  }

  #fail(error: Error): void {
    this.#broken ??= error
    this.#answered?.reject(this.#broken)
    this.#answered = undefined
  }

  close(): void {
    this.#socket.destroy()
  }
}

/** Requests of one kind, numbered from 0. */
export type Work = {
  readonly path: string | ((n: number) => string)
  /** Default: POST, 200. */
  readonly method?: 'POST' | 'PUT' | 'GET'
  readonly status?: number
  /** More headers, each with its line end. */
  headers?(n: number): string
  readonly requests: number
  /** Values or tokens in each request. */
  readonly batch: number
  key(n: number): string
  write(n: number, body: Body): void
  /** Throws where the answer is not right. */
  check(n: number, answer: Buffer): void
}

export type Measured = {
  /** Requests answered: always the first ones. */
  readonly requests: number
  readonly values: number
  readonly seconds: number
  readonly perSecond: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  /** Parts of one core. */
  readonly clientCpu: number
  readonly nodeCpu: number
  /** Of the members of a cluster. */
  readonly etcdCpu?: number
  /** Taken by the rest of the machine meanwhile: a large part makes the numbers doubtful. */
  readonly othersCpu: number
}

/** `url`: connections are spread over the URLs. */
export type Target = {
  readonly url: string | readonly string[]
  cpuSeconds(): number
  etcdSeconds?(): number
}

export class Client {
  readonly #target: Target
  readonly #connections: Connection[]

  constructor(target: Target, connections: number) {
    const urls = [target.url].flat()
    this.#target = target
    this.#connections = Array.from({ length: connections }, (_, i) => new Connection(urls[i % urls.length]))
  }

  /** One request in flight on every connection, until `work` is done or `seconds` have passed. */
  async run(work: Work, seconds = Number.POSITIVE_INFINITY): Promise<Measured> {
    let next = 0
    const latencies: number[] = []
    const nodeBefore = this.#target.cpuSeconds()
    const etcdBefore = this.#target.etcdSeconds?.() ?? 0
    const machineBefore = machineSeconds()
    const before = cpuUsage()
    const started = performance.now()
    const until = started + seconds * 1000
    const worker = async (connection: Connection): Promise<void> => {
      while (next < work.requests && performance.now() < until) {
        const n = next++
        connection.body.clear()
        work.write(n, connection.body)
        const sent = performance.now()
        const answer = await connection.send(work, n)
        latencies.push(performance.now() - sent)
        work.check(n, answer)
      }
    }
    await Promise.all(this.#connections.map(worker))
    const took = Math.max(performance.now() - started, 0.001) / 1000
    const used = cpuUsage(before)
    const clientCpu = (used.user + used.system) / 1e6 / took
    const nodeCpu = (this.#target.cpuSeconds() - nodeBefore) / took
    const etcdCpu = ((this.#target.etcdSeconds?.() ?? 0) - etcdBefore) / took
    const machineCpu = (machineSeconds() - machineBefore) / took
    const sorted = Float64Array.from(latencies).sort()
    return {
      requests: next,
      values: next * work.batch,
      seconds: took,
      perSecond: (next * work.batch) / took,
      p50: quantile(sorted, 0.5),
      p99: quantile(sorted, 0.99),
      clientCpu,
      nodeCpu,
      ...(this.#target.etcdSeconds ? { etcdCpu } : {}),
      othersCpu: Math.max(0, machineCpu - clientCpu - nodeCpu - etcdCpu),
    }
  }

  close(): void {
    for (const connection of this.#connections) connection.close()
  }
}

/** Nearest rank; `sorted` ascends. */
export function quantile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? 0
}
