// The routes of secrets: what of a request the calls need, and what of their results is told.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Problem } from '../errors.ts'
import type { EventLog } from '../events/log.ts'
import { NAME_PART, SECRET_NAME_LENGTH } from '../wire.ts'
import type { Identity } from './auth.ts'
import type { BodyReader } from './body.ts'
import { idempotencyKey, ifMatch } from './conditional.ts'
import type { Metrics } from './metrics.ts'
import { checkQuery, type Parameter } from './query.ts'
import type { SecretCalls, WriteAnswer, Writing } from './secret-calls.ts'

export type SecretRoutes = {
  readonly secrets: SecretCalls
  readonly body: BodyReader
  readonly events: EventLog
  readonly metrics: Metrics
  /** Who a request is from. Throws Problem. */
  readonly caller: (request: FastifyRequest) => Identity
}

type Named = { Params: { name: string } }

const PART: Parameter = {
  is: NAME_PART,
  expected: `characters of a name, at most ${SECRET_NAME_LENGTH}`,
}
const LIST: Readonly<Record<string, Parameter>> = {
  prefix: PART,
  after: PART,
  limit: { is: /^([1-9]\d{0,2}|1000)$/, expected: '1 to 1000' },
}
const READ: Readonly<Record<string, Parameter>> = {
  version: { is: /^[1-9]\d{0,9}$/, expected: 'the number of a version: 1, 2, …' },
  at: { is: /^/, expected: '' }, // the call says what it should be
}

export function secretRoutes(app: FastifyInstance, options: SecretRoutes): void {
  const { secrets, body, events, metrics } = options

  /** Everything but who asks and how waits until it is certain that the request is no repetition. */
  const write = async (
    request: FastifyRequest,
    work: (writing: Writing) => Promise<WriteAnswer>,
  ): Promise<WriteAnswer> => {
    const { owner, keyId } = options.caller(request)
    const key = idempotencyKey(request.raw)
    const started = performance.now()
    const created = request.method === 'POST'
    const writing = (bytes: Uint8Array, refusal: Problem | undefined): Writing => ({
      caller: { owner, keyId, request: String(request.id) },
      idempotencyKey: key,
      asked: { method: request.method, path: request.url, ifMatch: request.headers['if-match'], body: bytes },
      check: () => {
        checkQuery(request)
        if (refusal) throw refusal
      },
    })
    const answer = await body.withAny(request.raw, (bytes, refusal) => work(writing(bytes, refusal)))
    const { written, count } = answer
    if (!written.replayed && count > 0) {
      const ms = Math.round(performance.now() - started)
      const who = { owner, key_id: keyId, request: String(request.id) }
      const about = { ...who, revision: written.revision, count, ms }
      if (created) events.emit('secret.created', about)
      else events.emit('secret.updated', about)
      metrics.secrets(created ? 'created' : 'updated', count)
    }
    return answer
  }

  const tellRead = (request: FastifyRequest, count: number, started: number): void => {
    const { owner, keyId } = options.caller(request)
    const ms = Math.round(performance.now() - started)
    events.emit('secret.read', { owner, key_id: keyId, request: String(request.id), count, ms })
    metrics.secrets('read', count)
  }

  app.post('/secrets', async (request, reply) => {
    const answer = await write(request, (writing) => secrets.create(writing))
    return told(reply.code(201), answer)
  })
  app.put<Named>('/secrets/:name', async (request, reply) => {
    const matches = (): ReturnType<typeof ifMatch> => ifMatch(request.headers['if-match'])
    const answer = await write(request, (writing) => secrets.update(writing, request.params.name, matches))
    return told(reply, answer)
  })
  app.get('/secrets', async (request, reply) => {
    const { owner } = options.caller(request)
    return json(reply, await secrets.list(owner, checkQuery(request, LIST)))
  })
  app.get<Named>('/secrets/:name', async (request, reply) => {
    const started = performance.now()
    const { owner } = options.caller(request)
    const answer = await secrets.read(owner, request.params.name, checkQuery(request, READ))
    tellRead(request, 1, started)
    return json(reply.header('etag', answer.etag), answer.body)
  })
  app.get<Named>('/secrets/:name/history', async (request, reply) => {
    const { owner } = options.caller(request)
    checkQuery(request)
    return json(reply, await secrets.history(owner, request.params.name))
  })
  app.post('/secrets/resolve', async (request, reply) => {
    const started = performance.now()
    const { owner } = options.caller(request)
    checkQuery(request)
    const answer = await body.with(request.raw, (bytes) => secrets.resolve(owner, bytes))
    tellRead(request, answer.count, started)
    return json(reply, answer.body)
  })
}

function told(reply: FastifyReply, { body, etag, written }: WriteAnswer): FastifyReply {
  if (etag !== undefined) reply.header('etag', etag)
  if (written.replayed) reply.header('idempotency-replayed', 'true')
  return json(reply, body)
}

export function json(reply: FastifyReply, body: string | Buffer): FastifyReply {
  return reply
    .header('content-type', 'application/json')
    .send(typeof body === 'string' ? Buffer.from(body, 'utf8') : body)
}
