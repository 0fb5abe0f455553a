// The HTTP side: request ids, authentication, the calls of the contract, problems, metrics. Instances are handed in.
import { randomUUID } from 'node:crypto'
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { FatalError, Problem } from '../errors.ts'
import type { EventLog } from '../events/log.ts'
import type { Logger } from '../log.ts'
import type { ApiKeys, Identity } from './auth.ts'
import { BodyReader } from './body.ts'
import { badRequest } from './form.ts'
import type { Metrics } from './metrics.ts'
import { ALLOWED, describe, OPEN_PATHS, SCHEMAS } from './openapi.ts'
import { problemPage, refuseRaw, sendProblem, toProblem } from './problems.ts'
import { checkQuery, pathOf } from './query.ts'
import type { SecretCalls } from './secret-calls.ts'
import { json, secretRoutes } from './secret-routes.ts'
import type { TokenCalls, Told } from './token-calls.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who it is from; undefined where the path needs no key. */
    identity: Identity | undefined
  }
}

export type NodeStatus = {
  /** Why requests cannot be served fully; empty when they can. `forReads`: why known tokens cannot be. */
  notReady(forReads: boolean): readonly string[]
  /** The answer of `GET /status`. */
  status(): Record<string, unknown>
}

export type AppOptions = {
  readonly keys: ApiKeys
  readonly tokens: TokenCalls
  readonly secrets: SecretCalls
  readonly node: NodeStatus
  readonly events: EventLog
  readonly metrics: Metrics
  readonly log: Logger
  readonly version: string
  readonly limits: { readonly body_bytes: number; readonly bodies_in_work_bytes: number }
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer }
  /** Called when a request has met a broken invariant: the node ends. */
  readonly fatal: (error: Error) => void
}

/** Routes of the reference page, which are not ours. */
const DOCS = /^\/docs(\/|$)/
/** Longer than any request of the contract takes, with or without quorum. */
const DRAIN_MS = 10_000
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/

export async function buildApp(options: AppOptions): Promise<FastifyInstance> {
  const app = newServer(options)
  const body = new BodyReader(options.limits)
  options.metrics.watchBodies(() => body.inWork)
  app.decorateRequest('identity', undefined)

  // Before the plugins: what is registered earlier would keep Fastify's own.
  app.setErrorHandler((error, request, reply) => {
    const { identity } = request
    let problem = toProblem(error) ?? fastifyProblem(error)
    if (!problem) {
      options.log.error(
        { request: request.id, error: String((error as Error).stack ?? error) },
        'internal error',
      )
      problem = new Problem('internal', 'a fault of ours: the log has it under this request id')
      if (error instanceof FatalError) options.fatal(error)
    }
    // Probes of /ready come every second: their answer is no event, the change of it is.
    if (!isOpen(request)) {
      options.events.emit('request.refused', {
        ...named(identity),
        request: String(request.id),
        reason: problem.slug,
      })
    }
    return sendProblem(request, reply, problem)
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  // Schemas document: they neither check (the scan does, and names the place) nor write answers (those are bytes).
  app.setValidatorCompiler(() => () => true)
  app.setSerializerCompiler(() => (data) => JSON.stringify(data))
  app.addHook('onRoute', (route) => {
    const schema = SCHEMAS[`${String(route.method)} ${route.url}`]
    if (schema) route.schema = schema
  })
  await app.register(fastifySwagger, { openapi: describe(options.version) })
  await app.register(fastifySwaggerUi, { routePrefix: '/docs', uiConfig: { url: '/openapi.json' } })

  const closing = drainOnClose(app)
  const admit = (request: FastifyRequest): void => {
    if (!isOpen(request)) {
      const identity = options.keys.identify(request.headers.authorization)
      if (!identity) throw unauthorized()
      request.identity = identity
    }
    if (request.headers.host === undefined && request.raw.httpVersion === '1.1') {
      throw badRequest('host', 'a Host header', 'HTTP/1.1 needs a Host header')
    }
    if (DOCS.test(pathOf(request))) checkQuery(request)
  }
  // Hooks of every request call back: a promise for each would only cost.
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    try {
      admit(request)
      done()
    } catch (error) {
      done(error as Error) // only Problems are thrown here
    }
  })
  app.addHook('onResponse', (request, reply, done) => {
    options.metrics.request(
      request.routeOptions.url ?? 'none',
      request.method,
      reply.statusCode,
      reply.elapsedTime,
    )
    done()
  })
  app.setNotFoundHandler((request) => {
    const allowed = ALLOWED.find(([pattern]) => pattern.test(pathOf(request)))?.[1]
    if (!allowed) throw new Problem('not-found', 'there is no such route')
    throw new MethodNotAllowed(allowed)
  })

  const caller = (request: FastifyRequest): Identity => {
    const { identity } = request
    if (!identity) throw unauthorized()
    if (closing()) throw new Problem('stopping', 'the node is stopping')
    return identity
  }
  const call = (
    url: string,
    work: (owner: string, body: Uint8Array) => Promise<Told>,
    event: 'issued' | 'resolved' | 'rotated',
  ) =>
    app.post(url, async (request, reply) => {
      const identity = caller(request)
      const started = performance.now()
      checkQuery(request)
      const told = await body.with(request.raw, (bytes) => work(identity.owner, bytes))
      tell(options, { identity, request, event, told, ms: performance.now() - started })
      return reply.header('content-type', 'application/json').send(told.answer)
    })
  const { tokens } = options
  call('/tokenize', (owner, bytes) => tokens.tokenize(owner, bytes), 'issued')
  call('/detokenize', (owner, bytes) => tokens.detokenize(owner, bytes), 'resolved')
  call('/retokenize', (owner, bytes) => tokens.retokenize(owner, bytes), 'issued')
  call('/rotate-epoch', (owner, bytes) => tokens.rotate(owner, bytes), 'rotated')
  app.get('/epochs', async (request, reply) => {
    checkQuery(request)
    return json(reply, await tokens.epochs(caller(request).owner))
  })
  secretRoutes(app, { ...options, body, caller })
  nodeRoutes(app, options)
  return app
}

function newServer(options: AppOptions): FastifyInstance {
  const app = fastify({
    logger: false,
    genReqId: (request) => {
      const given = request.headers['x-request-id']
      return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID()
    },
    // The body is read by body.ts; Fastify's own limit must not be the smaller one.
    bodyLimit: Number.MAX_SAFE_INTEGER,
    requestTimeout: 120_000,
    keepAliveTimeout: 72_000,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    // Longer than a URL can be: what is too long is not found.
    routerOptions: { maxParamLength: 65_536 },
    // A URL that no route can be looked up for. Hooks do not run here.
    frameworkErrors: (_error, request, reply) => {
      reply.header('x-request-id', request.id)
      const known = options.keys.identify(request.headers.authorization) !== undefined
      sendProblem(
        request,
        reply,
        known ? badRequest('', 'a well-formed URL', 'malformed URL') : unauthorized(),
      )
    },
    clientErrorHandler: refuseRaw,
    // Checked by us: node:http would refuse without a request id and a problem.
    ...(options.tls
      ? { https: { ...options.tls, requireHostHeader: false } }
      : { http: { requireHostHeader: false } }),
  })
  // What else is expected than `100-continue` may be ignored (RFC 9110, 10.1.1).
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
  return app
}

/**
 * Closing finishes what has begun: every answer from then on ends its connection, else one that is kept alive would
 * hold the server for as long. What is not done after DRAIN_MS is cut. Returns whether the server is closing.
 */
function drainOnClose(app: FastifyInstance): () => boolean {
  let closing = false
  app.addHook('preClose', async () => {
    closing = true
    const cut = setTimeout(() => app.server.closeAllConnections(), DRAIN_MS)
    app.server.once('close', () => clearTimeout(cut))
  })
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (closing) reply.header('connection', 'close')
    done()
  })
  return () => closing
}

function unauthorized(): Problem {
  return new Problem('unauthorized', 'the API key is missing, malformed or unknown')
}

/** 405 with its `Allow`. */
class MethodNotAllowed extends Problem {
  readonly allow: readonly string[]
  constructor(allow: readonly string[]) {
    super('method-not-allowed', `the path has ${allow.join(' and ')}`)
    this.allow = allow
  }
}

function nodeRoutes(app: FastifyInstance, options: AppOptions): void {
  app.addHook('onError', async (_request, reply, error) => {
    if (error instanceof MethodNotAllowed) reply.header('allow', error.allow.join(', '))
  })
  app.get('/health', async (request, reply) => {
    checkQuery(request)
    return json(reply, '{"status":"ok"}')
  })
  app.get('/ready', async (request, reply) => {
    const query = checkQuery(request, { for: { is: /^reads$/, expected: 'reads' } })
    const reasons = options.node.notReady(query.for === 'reads')
    if (reasons.length === 0) return json(reply, '{"status":"ready"}')
    throw new Problem('not-ready', 'the node is not ready', { reasons })
  })
  app.get('/status', async (request, reply) => {
    checkQuery(request)
    return json(reply, JSON.stringify(options.node.status()))
  })
  app.get('/metrics', async (request, reply) => {
    checkQuery(request)
    return reply.header('content-type', options.metrics.contentType).send(await options.metrics.text())
  })
  app.get('/openapi.json', async (request, reply) => {
    checkQuery(request)
    return json(reply, JSON.stringify(app.swagger()))
  })
  app.get<{ Params: { slug: string } }>('/problems/:slug', async (request, reply) => {
    checkQuery(request)
    const page = problemPage(request.params.slug)
    if (page === undefined) throw new Problem('not-found', 'there is no such problem')
    return json(reply, page)
  })
}

/** True for the paths that need no key. */
function isOpen(request: FastifyRequest): boolean {
  const path = pathOf(request)
  return OPEN_PATHS.some((open) => open.test(path))
}

function named(identity: Identity | undefined): { owner?: string; key_id?: string } {
  return identity ? { owner: identity.owner, key_id: identity.keyId } : {}
}

/** Fastify's own refusals, in our words. */
function fastifyProblem(error: unknown): Problem | undefined {
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  if (status === 415)
    return new Problem('unsupported-media-type', 'the media type must be application/json', {
      path: 'content-type',
    })
  if (status === 413) return new Problem('too-large', 'the body is too large')
  // A path out of the folder of the reference page.
  if (status === 403) return new Problem('not-found', 'there is no such route')
  if (status === 400) return badRequest('', 'a well-formed request', 'the request is malformed')
  return undefined
}

type Done = {
  readonly identity: Identity
  readonly request: FastifyRequest
  readonly event: 'issued' | 'resolved' | 'rotated'
  readonly told: Told
  readonly ms: number
}

function tell(options: AppOptions, { identity, request, event, told, ms }: Done): void {
  const who = { owner: identity.owner, key_id: identity.keyId, request: String(request.id) }
  const took = Math.round(ms)
  const { count, epoch, missing, fresh, revision } = told
  if (event === 'rotated') {
    if (told.rotated && epoch !== undefined && revision !== undefined) {
      options.events.emit('epoch.rotated', { ...who, epoch, revision, from: epoch - 1, to: epoch, ms: took })
    }
    return
  }
  const numbers = { count, ...(missing === undefined ? {} : { missing }), ms: took }
  if (event === 'resolved') options.events.emit('tokens.resolved', { ...who, ...numbers })
  else options.events.emit('tokens.issued', { ...who, ...(epoch === undefined ? {} : { epoch }), ...numbers })
  options.metrics.tokens(event, count, missing ?? 0, fresh ?? 0)
}
