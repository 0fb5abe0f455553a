// The HTTP side: request ids, authentication, the order of checks, the routes, problems, metrics.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Clock, Deadline } from '../clock.ts'
import { FatalError, Problem } from '../errors.ts'
import type { EventLog } from '../events/log.ts'
import type { Logger } from '../log.ts'
import type { Right } from '../wire.ts'
import { answerTooLarge } from './answer.ts'
import { type ApiKeys, checkRight, type Identity } from './auth.ts'
import { answeredEarly, BodyReader } from './body.ts'
import { Budgets } from './budgets.ts'
import { BytesInWork, type Share } from './bytes-in-work.ts'
import type { Connections } from './connections.ts'
import { whenCut } from './cut.ts'
import { formFault } from './head.ts'
import { type ListenerOptions, newListener } from './listener.ts'
import type { Metrics } from './metrics.ts'
import { openApiDocument } from './openapi.ts'
import { PathMethods } from './path-methods.ts'
import { badRequest, sendProblem } from './problems.ts'
import { pathOf, readQuery } from './query.ts'
import { registerReferencePage } from './reference-page.ts'
import { sendResult, smallAsText } from './reply.ts'
import type { Context, Emit, NodeStatus, Route } from './route.ts'
import { ROUTES } from './routes.ts'
import type { SecretCalls } from './secret-calls.ts'
import { NO_PATH, routedTarget } from './target.ts'
import type { TokenCalls } from './token-calls.ts'
import { clientOf, Trail } from './trail.ts'
import { Transfers } from './transfers.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The owner and the key; undefined where the path needs no key. */
    identity: Identity | undefined
    /** As `clientOf`. */
    client: string
    /** The bytes in work; undefined where the path needs no key, and before the head has been judged. */
    share: Share | undefined
  }
  interface FastifyContextConfig {
    /** The row of the table; undefined for the reference page. */
    readonly row?: Route
  }
}

type AppOptions = ListenerOptions & {
  /** The deadline of a request whose last byte has arrived. */
  readonly deadline: () => Deadline
  /** For the days of budgets, and the times of bodies and answers. */
  readonly clock: Pick<Clock, 'now' | 'monotonic'>
  readonly keys: ApiKeys
  readonly tokens: TokenCalls
  readonly secrets: SecretCalls
  readonly node: NodeStatus
  readonly events: EventLog
  readonly metrics: Metrics
  readonly log: Logger
  readonly version: string
  readonly limits: Readonly<Record<'body_bytes' | 'answer_bytes' | 'bodies_in_work_bytes', number>>
  /** The problem for an error of the services; undefined where the error is an internal fault. */
  readonly problemOf: (error: unknown) => Problem | undefined
  /** Called when a request has met a broken invariant: the node ends. */
  readonly fatal: (error: Error) => void
}

/** The reference page and its files: a plugin's routes. */
const DOCS = /^\/docs(\/|$)/
/** Longer than any request of the contract takes, with or without quorum. */
const DRAIN_MS = 10_000
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/

export async function buildApp(options: AppOptions): Promise<FastifyInstance> {
  const { deadline, metrics, limits } = options
  const trail = new Trail(options.events)
  const paths = new PathMethods()
  const transfers = new Transfers(options.clock)
  const app = newServer(options, { trail, paths, transfers })
  app.addHook('onClose', async () => trail.close())
  const callers: Callers = new WeakMap()
  const judge = (request: IncomingMessage): Identity => judgeAgain(options.keys, callers, request)
  const bytes = new BytesInWork(limits.bodies_in_work_bytes)
  watchTransfers(app, transfers)
  const body = new BodyReader({ limits, deadline, judge, transfers })
  metrics.watchBytes(() => bytes.total)
  metrics.watchConnections(options.connections)
  app.decorateRequest('identity', undefined)
  app.decorateRequest('client', '')
  app.decorateRequest('share', undefined)
  // Handlers read bodies by themselves: Fastify parses none.
  for (const method of ['POST', 'PUT']) app.addHttpMethod(method, { hasBody: false, overrideExisting: true })
  app.addHook('onRoute', ({ method, url, config }) => {
    const row = config?.row
    for (const each of [method].flat()) paths.add(each, url, row === undefined || row.open)
  })
  app.decorate('otherServers', [])
  const closing = drainOnClose(app, options.connections)
  // Before the plugins: a plugin keeps the handlers that are set when the plugin is registered.
  app.setErrorHandler((error, request, reply) =>
    refuse({ ...options, trail, paths }, { error, request, reply }),
  )
  judgeHeads(app, options, { paths, closing, callers })
  app.addHook('onResponse', (request, reply, done) => {
    metrics.request(request.routeOptions.url ?? 'none', request.method, reply.statusCode, reply.elapsedTime)
    done()
  })
  app.setNotFoundHandler(() => {
    throw new Problem('not-found', 'there is no such route')
  })
  const document = openApiDocument({
    version: options.version,
    routes: ROUTES,
    fields: options.tokens.fields,
  })
  await registerReferencePage(app, document)
  const { tokens, secrets, node } = options
  const openApi = JSON.stringify(document)
  const budgets = new Budgets(options.clock)
  const warnings = (): readonly string[] => trail.warnings()
  const context: Context = { tokens, secrets, node, metrics, body, budgets, deadline, warnings, openApi }
  for (const route of ROUTES) register(app, route, context, { trail, bytes, most: limits.answer_bytes })
  return app
}

type ServerParts = { readonly trail: Trail; readonly paths: PathMethods; readonly transfers: Transfers }

function newServer(options: AppOptions, { trail, paths, transfers }: ServerParts): FastifyInstance {
  return fastify({
    logger: false,
    genReqId: (request) => {
      const given = request.headers['x-request-id']
      return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID()
    },
    serverFactory: (listener) => newListener(listener, options),
    rewriteUrl: ({ url }) => routedTarget(url ?? ''),
    // body.ts reads bodies: a limit of Fastify's own must not be the smaller one.
    bodyLimit: Number.MAX_SAFE_INTEGER,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    // Longer than a URL can be: a path too long for a route is not found.
    routerOptions: { maxParamLength: 65_536 },
    // The router cannot decode the URL. Hooks do not run here.
    frameworkErrors: (_error, request, reply) => {
      setHeaders(request, reply)
      const open = isOpenPath(request.url, paths)
      const identity = open ? undefined : options.keys.identify(request.headers.authorization)
      const malformed = badRequest('', 'a well-formed URL', 'malformed URL')
      const problem = formFault(request.raw) ?? (open || identity ? malformed : unauthorized())
      const client = clientOf(request.raw.socket)
      if (!open) trail.refused({ id: request.id, identity, client }, problem.slug)
      watchAnswer(transfers, request, reply)
      sendProblem(request, reply, problem)
    },
    clientErrorHandler: () => undefined, // listener.ts answers
  })
}

/**
 * On close, requests under way are finished, and every answer ends its connection: a connection kept alive
 * would hold the server. Requests longer than DRAIN_MS are cut. Returns whether the server is
 * closing.
 */
function drainOnClose(app: FastifyInstance, connections: Connections): () => boolean {
  let closing = false
  let closed: Promise<unknown> | undefined
  app.addHook('preClose', async () => {
    closing = true
    closed = Promise.all(app.otherServers.map((server) => once(server.close(), 'close')))
    for (const server of [app.server, ...app.otherServers]) {
      const cut = setTimeout(() => connections.cut(server), DRAIN_MS)
      server.once('close', () => clearTimeout(cut))
    }
  })
  app.addHook('onClose', async () => {
    await closed
  })
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (closing) reply.header('connection', 'close')
    done()
  })
  return () => closing
}

function watchTransfers(app: FastifyInstance, transfers: Transfers): void {
  app.addHook('onSend', (request, reply, payload, done) => {
    watchAnswer(transfers, request, reply)
    done(null, smallAsText(payload))
  })
  app.addHook('onClose', (_app, done) => {
    transfers.close()
    done()
  })
}

/** Every answer is watched until the answer is flushed, and a refused body until its end. */
function watchAnswer(transfers: Transfers, request: FastifyRequest, reply: FastifyReply): void {
  const { raw } = request
  if (!raw.complete) {
    raw.once('close', transfers.body(raw))
    answeredEarly(raw)
  }
  transfers.answer(reply.raw, () => request.share?.release())
}

/** The caller of each request, as judged by the head, and the right that the route needs. */
type Callers = WeakMap<IncomingMessage, { readonly caller: Identity; readonly right: Right | undefined }>

type Surroundings = {
  readonly paths: PathMethods
  readonly closing: () => boolean
  readonly callers: Callers
}

/** The contract's order of checks for the head of a request; the handler checks the rest. */
function judgeHeads(
  app: FastifyInstance,
  { keys }: AppOptions,
  { paths, closing, callers }: Surroundings,
): void {
  const judge = (request: FastifyRequest, reply: FastifyReply): void => {
    const { headers, is404 } = request
    const fault = formFault(request.raw)
    if (fault) throw fault
    if (!isOpen(request, paths)) {
      request.identity = keys.identify(headers.authorization)
      if (!request.identity) throw unauthorized()
    }
    if (is404) refuseRoute(request, reply, paths)
    const { row } = request.routeOptions.config
    if (row?.open === false && request.identity) {
      const { right } = row
      if (right !== undefined && closing()) throw new Problem('stopping', 'the node is stopping')
      checkRight(request.identity, right)
      callers.set(request.raw, { caller: request.identity, right })
    }
    if (row === undefined) readQuery(request.url)
  }
  // Hooks of every request call back: a promise for each would only cost.
  app.addHook('onRequest', (request, reply, done) => {
    setHeaders(request, reply)
    request.client = clientOf(request.raw.socket) // an ended connection has no address any more
    whenCut(request.raw, (problem) => void reply.send(problem))
    try {
      judge(request, reply)
      if (expectsContinue(request.raw)) reply.raw.writeContinue()
      done()
    } catch (error) {
      done(error as Error) // judge throws Problems only
    }
  })
}

/** HTTP/1.0 has no interim answers: its clients take such an answer for the last one (RFC 9110, 10.1.1). */
function expectsContinue({ headers, httpVersion }: IncomingMessage): boolean {
  return headers.expect?.toLowerCase() === '100-continue' && httpVersion === '1.1'
}

/**
 * A body may take minutes to arrive, and the owners may have been reloaded meanwhile. Returns the caller with
 * the limits in force now. Throws Problem unauthorized where the key is not the caller's any more, forbidden
 * where the key has lost the right.
 */
function judgeAgain(keys: ApiKeys, callers: Callers, request: IncomingMessage): Identity {
  const before = callers.get(request)
  const now = keys.identifyAgain(before?.caller, request.headers.authorization)
  if (!now || before?.caller.owner !== now.owner || before.caller.keyId !== now.keyId) throw unauthorized()
  checkRight(now, before.right)
  return now
}

function setHeaders(request: FastifyRequest, reply: FastifyReply): void {
  reply.header('x-request-id', request.id)
  reply.header('x-content-type-options', 'nosniff')
}

/** Throws Problem: 405 where the path has other methods, else 404. */
function refuseRoute(request: FastifyRequest, reply: FastifyReply, paths: PathMethods): void {
  const path = pathOf(request.url)
  const allowed = paths.methodsOf(path)
  if (allowed.length === 0 && path !== NO_PATH) throw new Problem('not-found', 'there is no such route')
  reply.header('allow', allowed.join(', '))
  throw new Problem('method-not-allowed', `the methods of the path: ${allowed.join(', ') || 'none'}`)
}

/** True where no key is needed. */
function isOpen(request: FastifyRequest, paths: PathMethods): boolean {
  if (!request.is404) return request.routeOptions.config.row?.open ?? true
  return isOpenPath(request.url, paths)
}

function isOpenPath(url: string, paths: PathMethods): boolean {
  const path = pathOf(url)
  return DOCS.test(path) || paths.isOpen(path)
}

type Refused = { readonly error: unknown; readonly request: FastifyRequest; readonly reply: FastifyReply }

function refuse(
  {
    log,
    fatal,
    problemOf,
    trail,
    paths,
  }: AppOptions & { readonly trail: Trail; readonly paths: PathMethods },
  { error, request, reply }: Refused,
): FastifyReply {
  request.share?.release()
  let problem = problemOf(error) ?? fastifyProblem(error)
  if (!problem) {
    log.error({ request: request.id, error: String((error as Error).stack ?? error) }, 'internal error')
    problem = new Problem('internal', 'a fault of ours: the log has it under this request id')
    if (error instanceof FatalError) fatal(error)
  }
  // Probes of /ready come every second: a change of their answer is an event, an answer is not.
  if (!isOpen(request, paths)) trail.refused(request, problem.slug)
  return sendProblem(request, reply, problem)
}

type Registered = {
  readonly trail: Trail
  readonly bytes: BytesInWork
  /** The most bytes of an answer. */
  readonly most: number
}

function register(
  app: FastifyInstance,
  route: Route,
  context: Context,
  { trail, bytes, most }: Registered,
): void {
  // Of owners' data, and without effect: calls with a body make room for their answers before their effects.
  const bounded = !route.open && route.right !== undefined && route.method === 'GET'
  app.route({
    method: route.method,
    url: route.path,
    config: { row: route },
    handler: async (request, reply) => {
      const started = performance.now()
      const emit: Emit = (event, fields) => trail.emit(request, event, fields)
      if (!route.open) request.share = bytes.share(callerOf(request).owner)
      const result = await (route.open
        ? route.handle(context, request)
        : route.handle(context, request, callerOf(request), emit))
      if (reply.sent) return reply // cut and refused meanwhile: a request whose body nobody reads
      const answer = typeof result.body === 'string' ? Buffer.from(result.body, 'utf8') : result.body
      if (bounded && answer.length > most) throw answerTooLarge(most)
      request.share?.answered(answer.length)
      trail.answered(request, route, result, Math.round(performance.now() - started))
      if (!route.open) reply.header('cache-control', 'no-store')
      return sendResult(reply, result, answer)
    },
  })
}

function callerOf({ identity }: FastifyRequest): Identity {
  if (!identity) throw unauthorized()
  return identity
}

function unauthorized(): Problem {
  return new Problem('unauthorized', 'the API key is missing, malformed or unknown')
}

/** Problems for Fastify's own refusals. */
function fastifyProblem(error: unknown): Problem | undefined {
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  // The files of the reference page: a path out of their folder, or an absent file.
  if (status === 403 || status === 404) return new Problem('not-found', 'there is no such route')
  if (status === 400) return badRequest('', 'a well-formed request', 'the request is malformed')
  return undefined
}
