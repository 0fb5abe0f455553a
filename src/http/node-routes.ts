// Handlers of the routes of the node itself.
import type { FastifyRequest } from 'fastify'
import { Problem } from '../errors.ts'
import { RIGHTS } from '../wire.ts'
import type { Identity } from './auth.ts'
import { problemPage } from './problems.ts'
import { readQuery } from './query.ts'
import type { Context, Result } from './route.ts'

export function health(_context: Context, request: FastifyRequest): Result {
  readQuery(request.url)
  return { body: '{"status":"ok"}' }
}

export function ready({ node, warnings }: Context, request: FastifyRequest): Result {
  const query = readQuery(request.url, { for: { is: /^reads$/, expected: 'reads' } })
  const reasons = node.notReady(query.for === 'reads')
  if (reasons.length > 0) throw new Problem('not-ready', 'the node is not ready', { reasons })
  const told = warnings()
  return { body: JSON.stringify({ status: 'ready', ...(told.length > 0 ? { warnings: told } : {}) }) }
}

export function status({ node }: Context, request: FastifyRequest): Result {
  readQuery(request.url)
  return { body: JSON.stringify(node.status()), event: { reason: 'status' } }
}

/** Null stands for limits that the key or its owner does not have. */
export function whoami({ node }: Context, request: FastifyRequest, caller: Identity): Result {
  readQuery(request.url)
  const { owner, keyId, may = RIGHTS, prefix = null, until, resolve_per_day = null } = caller
  const end = until === undefined ? null : new Date(until).toISOString()
  const { quota, used } = node.stored(owner)
  const limits = { may, prefix, until: end, resolve_per_day, quota, used }
  return { body: JSON.stringify({ owner, key_id: keyId, ...limits }), event: {} }
}

export async function metricsText({ metrics }: Context, request: FastifyRequest): Promise<Result> {
  readQuery(request.url)
  return { body: await metrics.text(), type: metrics.contentType }
}

export function openApiDocument({ openApi }: Context, request: FastifyRequest): Result {
  readQuery(request.url)
  return { body: openApi }
}

export function problem(_context: Context, request: FastifyRequest): Result {
  readQuery(request.url)
  const { slug } = request.params as { slug: string } // routed by a path with :slug
  const page = problemPage(slug)
  if (page === undefined) throw new Problem('not-found', 'there is no such problem')
  return { body: page }
}
