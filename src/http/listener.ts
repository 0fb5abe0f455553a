// The server of node:http under Fastify: half-close, `Expect` and CONNECT as the contract has them.
import { createServer, type RequestListener, type Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Socket } from 'node:net'

export type TlsFiles = { readonly cert: Buffer; readonly key: Buffer }

const REQUEST_TIMEOUT_MS = 120_000
const KEEP_ALIVE_MS = 72_000

export function newListener(listener: RequestListener, tls: TlsFiles | undefined): Server {
  // A missing Host header is refused by app.ts: node:http would refuse without a request id and a problem.
  const server = tls
    ? createTlsServer({ ...tls, requireHostHeader: false, allowHalfOpen: true } as typeof tls, listener)
    : createServer({ requireHostHeader: false }, listener)
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.keepAliveTimeout = KEEP_ALIVE_MS
  // A client that ends its sending side after the request gets its answer.
  Object.assign(server, { httpAllowHalfOpen: true })
  // app.ts sends `100 Continue`, after the head of the request has been judged. Other expectations may be
  // ignored (RFC 9110, 10.1.1).
  server.on('checkContinue', listener)
  server.on('checkExpectation', listener)
  server.on('connect', (request, socket: Socket) => {
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket)
    response.on('finish', () => socket.end())
    listener(request, response)
  })
  return server
}
