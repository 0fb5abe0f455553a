// One request to one node over keep-alive sockets: bytes out, bytes in, or why not.
import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { errorCode } from '../errors.ts'

export type Request = {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  /** Beside those of every request. */
  readonly headers?: Readonly<Record<string, string>>
  /** JSON; sent as `application/json`. */
  readonly body?: Buffer
  /** Of the whole exchange. */
  readonly timeoutMs: number
  /** Until a connection is there. */
  readonly connectMs: number
}

/** A node as a socket wants it. */
export type Target = {
  readonly origin: string
  readonly secure: boolean
  readonly hostname: string
  readonly port: string
}

export function targetOf(url: URL): Target {
  // A URL has IPv6 in brackets, a socket wants it without.
  const hostname = url.hostname.replace(/^\[|\]$/g, '')
  return { origin: url.origin, secure: url.protocol === 'https:', hostname, port: url.port }
}

export type Answer = {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly body: Buffer
}

/** Codes of OpenSSL and Node for a certificate that is refused. */
const CERTIFICATE = /CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE|HOSTNAME_MISMATCH/

/** No answer came. Nothing is known of what the node did with the request. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
  /** The time was over. */
  readonly timeout: boolean
  /** The socket had served before and the node may have closed it while it was idle. */
  readonly stale: boolean
  /**
   * The node's certificate is not to be trusted: the request was not sent, and another try changes nothing.
   */
  readonly distrusted: boolean
  constructor(why: string, told: { readonly timeout?: boolean; readonly stale?: boolean } = {}) {
    super(why)
    this.distrusted = CERTIFICATE.test(why)
    this.timeout = told.timeout ?? false
    this.stale = told.stale ?? false
  }
}

export type TransportOptions = {
  readonly headers?: Readonly<Record<string, string>>
  readonly tls?: https.AgentOptions
}

export class Transport {
  readonly #headers: Readonly<Record<string, string>>
  readonly #http = new http.Agent({ keepAlive: true })
  readonly #https: https.Agent

  constructor(options: TransportOptions = {}) {
    this.#headers = options.headers ?? {}
    this.#https = new https.Agent({ keepAlive: true, ...options.tls })
  }

  /** Throws NoAnswer. */
  send({ secure, hostname, port }: Target, request: Request): Promise<Answer> {
    const { method, path, body } = request
    const headers: Record<string, string | number> = { ...this.#headers, ...request.headers }
    if (body) {
      headers['content-type'] = 'application/json'
      headers['content-length'] = body.length
    }
    return new Promise((resolve, reject) => {
      const call = (secure ? https : http).request({
        agent: secure ? this.#https : this.#http,
        hostname,
        port,
        method,
        path,
        headers,
      })
      const fail = (error: Error): void => {
        clearTimeout(timer)
        const stale = call.reusedSocket
        reject(error instanceof NoAnswer ? error : new NoAnswer(reasonOf(error), { stale }))
        call.destroy()
      }
      const timer = setTimeout(
        () => fail(new NoAnswer('no answer in time', { timeout: true })),
        request.timeoutMs,
      )
      call.once('socket', (socket) => watchConnect(socket, request.connectMs, fail))
      // To destroy a call gives it an error of its own, which nobody waits for.
      call.on('error', fail)
      call.once('response', (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', fail)
        response.once('end', () => {
          clearTimeout(timer)
          const { statusCode, headers: got } = response
          const whole = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
          resolve({ status: statusCode ?? 0, retryAfter: got['retry-after'], body: whole })
        })
      })
      call.end(body)
    })
  }

  close(): void {
    this.#http.destroy()
    this.#https.destroy()
  }
}

function watchConnect(socket: Socket, ms: number, fail: (error: NoAnswer) => void): void {
  if (!socket.connecting) return
  const timer = setTimeout(() => fail(new NoAnswer('no connection in time')), ms)
  const clear = (): void => clearTimeout(timer)
  socket.once('connect', clear)
  socket.once('close', clear)
}

/** The code of a system error, as `ECONNREFUSED`: its text may hold what was sent. */
function reasonOf(error: Error): string {
  // Several addresses of one name fail as one AggregateError that has the code of the first.
  return errorCode(error) ?? error.message
}
