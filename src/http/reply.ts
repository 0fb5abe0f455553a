// Results of handlers on the wire. Problems are sent by problems.ts.
import { isUtf8 } from 'node:buffer'
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

/**
 * A small body as text: Node sends head and text in a single write, head and bytes in two joined ones. Bytes
 * other than UTF-8, such as an image, stay bytes.
 */
export function smallAsText(payload: unknown): unknown {
  const isText = payload instanceof Buffer && payload.length <= TEXT_BYTES && isUtf8(payload)
  return isText ? payload.toString('utf8') : payload
}
