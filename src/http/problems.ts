// Errors on the wire: RFC 9457 problems, every one out of the table in errors.ts.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { PROBLEMS, Problem, type Slug } from '../errors.ts'
import { LedgerUnavailable, UnknownOutcome } from '../ledger/ledger.ts'
import { DamagedReplica } from '../replica/store.ts'

export function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply {
  const entry = PROBLEMS[problem.slug]
  reply.code(entry.status).header('content-type', 'application/problem+json')
  if (entry.retryAfter !== undefined) reply.header('retry-after', String(entry.retryAfter))
  if (problem.slug === 'unauthorized') reply.header('www-authenticate', 'Bearer')
  // The rest of a body that was refused unread must not be taken for the next request.
  if (!request.raw.complete) reply.header('connection', 'close')
  return reply.send(Buffer.from(problemJson(problem, String(request.id)), 'utf8'))
}

export function problemJson(problem: Problem, instance: string): string {
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

/** What a caller is told of an error; undefined where it is a fault of ours, to be logged. */
export function toProblem(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error
  if (error instanceof UnknownOutcome) {
    return new Problem('no-quorum', 'the outcome is unknown', { outcome: 'unknown' })
  }
  if (error instanceof LedgerUnavailable) {
    if (error.reason === 'closed') return new Problem('stopping', 'the node is stopping')
    if (error.reason === 'no-quorum')
      return new Problem('no-quorum', error.message, { outcome: 'not-applied' })
    return new Problem(error.reason, error.message)
  }
  return undefined
}

/** True where the node must end. */
export function isFatal(error: unknown): boolean {
  return error instanceof DamagedReplica
}
