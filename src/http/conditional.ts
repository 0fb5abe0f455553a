// Headers of writes: `If-Match` (RFC 9110, 13.1.1) and `Idempotency-Key`.
import type { IncomingMessage } from 'node:http'
import { badRequest } from './problems.ts'

/** An element of the list, with the separator behind. Empty elements are allowed. */
const TAG = /[ \t]*(?:(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|$)/y

/**
 * Returns whether `If-Match` names a version; without the header every version matches.
 * Comparison is strong: a weak tag matches nothing. Throws Problem invalid-request.
 */
export function ifMatch(header: string | undefined): (version: number) => boolean {
  if (header === undefined || header.trim() === '*') return () => true
  const strong = new Set<string>()
  let tags = 0
  for (TAG.lastIndex = 0; TAG.lastIndex < header.length; ) {
    const match = TAG.exec(header)
    if (!match) throw notMatchable()
    if (match[2] === undefined) continue
    tags++
    if (match[1] === undefined) strong.add(match[2])
  }
  if (tags === 0) throw notMatchable()
  return (version) => strong.has(String(version))
}

function notMatchable(): Error {
  return badRequest('if-match', '* or a list of entity tags, like "3"', 'If-Match is malformed')
}

/** 1 to 128 printable ASCII characters, without the quotes around them. Throws Problem invalid-request. */
export function idempotencyKey(request: IncomingMessage): string | undefined {
  // Node joins several headers with a comma. Only a text with a comma needs the separate headers.
  const text = request.headers['idempotency-key']
  if (typeof text !== 'string') return undefined
  const once = !text.includes(',') || request.headersDistinct['idempotency-key']?.length === 1
  const key = /^".*"$/.test(text) && text.length > 1 ? text.slice(1, -1) : text
  if (once && /^[\x20-\x7e]{1,128}$/.test(key)) return key
  throw badRequest(
    'idempotency-key',
    '1 to 128 printable ASCII characters, once',
    'the Idempotency-Key cannot be used',
  )
}
