// Query parameters: what is not known, stands twice or makes no sense is refused, and told by its name.
import type { FastifyRequest } from 'fastify'
import { badRequest } from './form.ts'

/** What a parameter may be: one of these, or what a pattern takes; `expected` says it in words. */
export type Parameter = { readonly is: RegExp; readonly expected: string }

/** Throws Problem invalid-request. */
export function checkQuery(
  request: FastifyRequest,
  known: Readonly<Record<string, Parameter>> = {},
): Record<string, string> {
  const at = queryAt(request)
  if (at < 0) return {}
  const result: Record<string, string> = {}
  for (const [name, value] of new URLSearchParams(request.url.slice(at + 1))) {
    const path = name.slice(0, 100)
    if (!Object.hasOwn(known, name)) throw badRequest(path, 'no such parameter', 'unknown query parameter')
    if (Object.hasOwn(result, name)) throw badRequest(path, 'the parameter once', 'repeated query parameter')
    if (!known[name].is.test(value)) throw badRequest(path, known[name].expected, 'senseless query parameter')
    result[name] = value
  }
  return result
}

export function pathOf(request: FastifyRequest): string {
  const at = queryAt(request)
  return at < 0 ? request.url : request.url.slice(0, at)
}

/** The router takes a `#` for the end of the path too. */
function queryAt(request: FastifyRequest): number {
  return request.url.search(/[?#]/)
}
