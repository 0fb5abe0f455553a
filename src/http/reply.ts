// Results of handlers on the wire. Problems are sent by problems.ts.
import type { FastifyReply } from 'fastify'
import type { Result } from './route.ts'

export function sendResult(
  reply: FastifyReply,
  { body, status, type = 'application/json', headers }: Result,
): FastifyReply {
  if (status !== undefined) reply.code(status)
  if (headers !== undefined) reply.headers(headers)
  return reply.header('content-type', type).send(typeof body === 'string' ? Buffer.from(body, 'utf8') : body)
}
