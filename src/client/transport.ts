// A request to a node over keep-alive sockets: bytes out, bytes in, or the reason of the failure.
import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { errorCode } from '../errors.ts'

export type Request = {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  /** Beside the headers of every request. */
  readonly headers?: Readonly<Record<string, string>>
  /** JSON; sent as `application/json`. */
  readonly body?: Buffer
  /** For the whole exchange. */
  readonly timeoutMs: number
  /** For the connection. */
  readonly connectMs: number
}

/** The address of a node, as sockets need it. */
export type Target = {
  readonly origin: string
  readonly secure: boolean
  readonly hostname: string
  readonly port: string
}

export function targetOf(url: URL): Target {
  // URLs have IPv6 addresses in brackets, sockets need the bare address.
  const hostname = url.hostname.replace(/^\[|\]$/g, '')
  return { origin: url.origin, secure: url.protocol === 'https:', hostname, port: url.port }
}

export type Answer = {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly body: Buffer
}

/** Codes of OpenSSL and Node for a refused certificate. */
const CERTIFICATE = /CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE|HOSTNAME_MISMATCH/

/** No answer came. The node may or may not have served the request. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
  /** `timeoutMs` passed. */
  readonly timeout: boolean
  /** The socket was kept from an earlier request: the node may have closed the idle socket. */
  readonly stale: boolean
  /** The node's certificate was refused: the request was not sent, and another try changes nothing. */
  readonly distrusted: boolean
  constructor(reason: string, about: { readonly timeout?: boolean; readonly stale?: boolean } = {}) {
    super(reason)
    this.distrusted = CERTIFICATE.test(reason)
    this.timeout = about.timeout ?? false
    this.stale = about.stale ?? false
  }
}

type TransportOptions = {
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
      // Not `once`: a destroyed call emits an error of its own, after `fail`.
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

/** The code of a system error, as `ECONNREFUSED`: the error's text may hold sent bytes. */
function reasonOf(error: Error): string {
  // Several addresses of a name fail as an AggregateError with the code of the first address.
  return errorCode(error) ?? error.message
}
