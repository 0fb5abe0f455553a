// The servers of node:http under Fastify, one for each address: half-close, `Expect` and CONNECT as the
// contract has them.
import { once } from 'node:events'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  ServerResponse,
} from 'node:http'
import { createServer as createTlsServer, type ServerOptions, Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { createSecureContext } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import { assert } from '../assert.ts'
import type { Logger } from '../log.ts'
import { afterAnswers } from './answers-before.ts'
import type { Connections } from './connections.ts'
import { withUnknownMethod } from './head.ts'
import { refuseRaw } from './problems.ts'

export type TlsFiles = { readonly cert: Buffer; readonly key: Buffer }

/** Longer than transfers.ts lets a body take: for bodies that nobody reads. */
const REQUEST_TIMEOUT_MS = 310_000
/** TLS 1.3, and of TLS 1.2 the suites with forward secrecy whose cipher also authenticates (AEAD). */
const TLS = {
  minVersion: 'TLSv1.2',
  ciphers: [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
  ].join(':'),
} as const
/** A connection without a handshake holds a descriptor, and the end of a stop. */
const HANDSHAKE_MS = 10_000

export type ListenerOptions = {
  readonly tls: TlsFiles | undefined
  readonly connections: Connections
  /** How long a connection may rest between two requests. */
  readonly keepAliveMs: number
  /** HANDSHAKE_MS but for tests. */
  readonly handshakeMs?: number
}

export function newListener(
  listener: RequestListener,
  { tls, connections, keepAliveMs, handshakeMs = HANDSHAKE_MS }: ListenerOptions,
): Server {
  // A missing Host header is refused by app.ts: node:http would refuse without a request id and a problem.
  const options = { requireHostHeader: false, insecureHTTPParser: false }
  const server = tls
    ? tlsListener(listener, { ...options, ...TLS, ...tls, handshakeTimeout: handshakeMs })
    : createServer(options, listener)
  connections.watch(server)
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.keepAliveTimeout = keepAliveMs
  // A client that ends its sending side after the request gets its answer.
  Object.assign(server, { httpAllowHalfOpen: true })
  // app.ts sends `100 Continue`, after the head of the request has been judged. Other expectations may be
  // ignored (RFC 9110, 10.1.1).
  server.on('checkContinue', listener)
  server.on('checkExpectation', listener)
  const answerLast = (request: IncomingMessage, socket: Socket): void => {
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.on('finish', () => socket.destroySoon())
    socket.on('error', () => socket.destroy()) // node:http listens no longer
    // A socket has one answer at a time: another answer is an error that would end the process.
    afterAnswers(socket, () => {
      response.assignSocket(socket)
      listener(request, response)
    })
  }
  server.on('connect', answerLast)
  server.on('clientError', (error, socket: Socket) => {
    const request = socket.writable ? withUnknownMethod(error, socket) : undefined
    if (request) answerLast(request, socket)
    else refuseRaw(error, socket)
  })
  return server
}

function tlsListener(listener: RequestListener, options: ServerOptions): Server {
  // node:https passes `allowHalfOpen` on to node:net.
  const server = createTlsServer(Object.assign(options, { allowHalfOpen: true }), listener)
  // After `clientError`: without a handshake no answer is ever flushed, and an end waits for the flush.
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  return server
}

/**
 * New connections get the certificate; open connections go on. Throws errors of OpenSSL where the two are no
 * pair; then nothing has changed.
 */
export function replaceCertificate(app: FastifyInstance, tls: TlsFiles): void {
  const options = { ...TLS, ...tls }
  createSecureContext(options)
  for (const server of [app.server, ...app.otherServers])
    if (server instanceof TlsServer) server.setSecureContext(options)
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The servers of the addresses after the first. Closed with the app. */
    otherServers: Server[]
  }
}

type Listening = ListenerOptions & { readonly port: number; readonly log: Logger }

/**
 * A host name may have several addresses, as `localhost` has. Fastify listens on the first; the others get
 * whole servers with the same routes and the same port. One of the others that cannot be listened on is
 * logged. Throws errors of the system for the first address.
 */
export async function listenOn(
  app: FastifyInstance,
  [first, ...others]: readonly string[],
  { port, log, ...options }: Listening,
): Promise<void> {
  await app.listen({ host: first, port })
  const bound = app.server.address()
  assert(bound !== null && typeof bound === 'object', 'a server that listens on a port has an address')
  for (const host of others) {
    const server = newListener(app.routing, options)
    try {
      await once(server.listen({ host, port: bound.port }), 'listening')
      app.otherServers.push(server)
    } catch (error) {
      log.warn({ host, error: String(error) }, 'an address of the host cannot be listened on')
    }
  }
}
