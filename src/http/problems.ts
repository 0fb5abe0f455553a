// Errors on the wire: RFC 9457 problems, all out of the table in errors.ts.
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { errorCode, PROBLEMS, Problem, type Slug } from '../errors.ts'
import { afterAnswers, answerBefore, answerWhileArriving } from './answers-before.ts'
import { drain, isAnswered } from './body.ts'
import { refuseCut } from './cut.ts'
import { endSoon } from './transfers.ts'

export function badRequest(path: string, expected: string, detail: string): Problem {
  return new Problem('invalid-request', detail, { path, expected })
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply {
  const entry = PROBLEMS[problem.slug]
  reply.code(entry.status).header('content-type', 'application/problem+json')
  // Also where no hook has run: Fastify has no hooks for a method that it does not know.
  reply.header('x-request-id', request.id).header('x-content-type-options', 'nosniff')
  if (entry.retryAfter !== undefined) reply.header('retry-after', String(entry.retryAfter))
  if (problem.slug === 'unauthorized') reply.header('www-authenticate', 'Bearer')
  if (!request.raw.complete) drain(request.raw)
  return reply.send(Buffer.from(problemJson(problem, String(request.id)), 'utf8'))
}

/**
 * Answers bytes that are not an HTTP request, and requests cut or too slow to arrive. A request whose head
 * has arrived is refused by its own reply: under its id, and with its event.
 */
export function refuseRaw(error: Error, socket: Socket): void {
  const code = errorCode(error)
  if (code === 'ECONNRESET' || !socket.writable) return
  // A refusal before the answer would be taken for the answer, also where the request had an effect.
  if (answerBefore(socket) !== undefined) {
    if (!waiting.has(socket)) afterAnswers(socket, () => refuseRaw(error, socket))
    waiting.add(socket)
    return
  }
  const answer = answerWhileArriving(socket)
  if (isAnswered(socket) || answer?.headersSent) return void socket.destroySoon()
  const problem = notHttp(code)
  if (answer) answer.shouldKeepAlive = false
  if (answer && refuseCut(answer.req, problem)) return
  const id = randomUUID()
  const json = problemJson(problem, id)
  const headers = [
    'HTTP/1.1 400 Bad Request',
    `x-request-id: ${id}`,
    'x-content-type-options: nosniff',
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(json)}`,
    'connection: close',
  ]
  socket.write(`${headers.join('\r\n')}\r\n\r\n${json}`)
  endSoon(socket)
}

/** Sockets with a refusal that waits: bytes that follow are not HTTP either. */
const waiting = new WeakSet<Socket>()

/** `code`: of the error of node:http. */
function notHttp(code: string | undefined): Problem {
  const [expected, detail] =
    code === 'HPE_HEADER_OVERFLOW'
      ? ['headers of at most 16 KiB', 'the headers are too large']
      : code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['headers within 60 s, a body within 5 minutes', 'the request took too long']
        : code === 'HPE_INVALID_EOF_STATE'
          ? ['the whole request', 'the request ended before its end']
          : ['HTTP', 'this is not an HTTP request']
  return badRequest('', expected, detail)
}

function problemJson(problem: Problem, instance: string): string {
  const { status, title } = PROBLEMS[problem.slug]
  const type = `/problems/${problem.slug}`
  return JSON.stringify({ type, title, status, detail: problem.message, instance, ...problem.members })
}

/** The page behind a problem's `type`. */
export function problemPage(slug: string): string | undefined {
  if (!Object.hasOwn(PROBLEMS, slug)) return undefined
  const { status, title, about, members } = PROBLEMS[slug as Slug] // just checked to be in the table
  return JSON.stringify({ type: `/problems/${slug}`, title, status, about, members })
}
