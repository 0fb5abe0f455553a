// Query parameters: an unknown, repeated or senseless parameter is refused by its name.
import { badRequest } from './problems.ts'

/** The valid values of a parameter; `expected` says the pattern in words. */
export type Parameter = { readonly is: RegExp; readonly expected: string }

/** Parameters by name. Throws Problem invalid-request. */
export function readQuery(
  url: string,
  known: Readonly<Record<string, Parameter>> = {},
): Record<string, string> {
  const end = endOfPath(url)
  if (end < 0) return {}
  const result: Record<string, string> = {}
  // URLSearchParams passes over a `?` at the beginning: a second `?` of the URL is a part of a name.
  for (const [name, value] of new URLSearchParams(`&${url.slice(end + 1)}`)) {
    const path = name.slice(0, 100)
    if (!Object.hasOwn(known, name)) throw badRequest(path, 'no such parameter', 'unknown query parameter')
    if (Object.hasOwn(result, name)) throw badRequest(path, 'the parameter once', 'repeated query parameter')
    if (!known[name].is.test(value)) throw badRequest(path, known[name].expected, 'senseless query parameter')
    result[name] = value
  }
  return result
}

export function pathOf(url: string): string {
  const end = endOfPath(url)
  return end < 0 ? url : url.slice(0, end)
}

/** Index of `?` or `#`; -1 where the URL is a path only. Fastify's router ends a path at `#`, too. */
export function endOfPath(url: string): number {
  return url.search(/[?#]/)
}
