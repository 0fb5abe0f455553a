// Results of handlers on the wire. Problems are sent by problems.ts.
import type { FastifyReply } from 'fastify'
import type { Result } from './route.ts'

const TEXT_BYTES = 4096

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

/** A small body as text: Node sends head and text in a single write, head and bytes in two joined ones. */
export function smallAsText(payload: unknown): unknown {
  return payload instanceof Buffer && payload.length <= TEXT_BYTES ? payload.toString('utf8') : payload
}
