// Results of handlers on the wire. Problems are sent by problems.ts.
import type { FastifyReply } from 'fastify'
import type { Result } from './route.ts'

/** `bytes`: the body of the result. */
export function sendResult(
  reply: FastifyReply,
  { status, type = 'application/json', headers }: Result,
  bytes: Buffer,
): FastifyReply {
  if (status !== undefined) reply.code(status)
  if (headers !== undefined) reply.headers(headers)
  return reply.header('content-type', type).send(bytes)
}
