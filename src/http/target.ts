// Request targets for the router: a path in one spelling, with the name of a secret as one segment.
import { endOfPath } from './query.ts'

const SECRETS = '/secrets/'
const HISTORY = '/history'
/**
 * Of targets without a path, such as `*` and those of CONNECT: no route has the path, and no request can
 * contain a space.
 */
export const NO_PATH = '/ '
/** `http://host:port` of a target in absolute form (RFC 9112, 3.2.2). */
const AUTHORITY = /^https?:\/\/[^/?#]*/i

/** A `%` without its two digits: nothing in the path is decoded, and the router refuses the path. */
const MALFORMED = /%(?![\da-f]{2})/i
const ESCAPE = /%[\da-f]{2}/gi
/** Mean the same with and without percent-encoding (RFC 3986, 2.3). */
const UNRESERVED = /^[\w.~-]$/

/**
 * The path and query of a request target. Unreserved characters of the path stand as they are, whatever their
 * spelling, for the router and for all who look at the path. Slashes within the name of a secret become
 * `%2F`, so that `/secrets/a/b/history` is routed like `/secrets/a%2Fb/history`. An empty name becomes `%2F`:
 * an invalid name, with a route all the same.
 */
export function routedTarget(target: string): string {
  let url = target
  if (url.charCodeAt(0) !== 0x2f) {
    url = url.replace(AUTHORITY, '')
    if (url.length === target.length) return NO_PATH
    if (!url.startsWith('/')) url = `/${url}`
  }
  if (url.includes('%')) url = withPlainLetters(url)
  if (!url.startsWith(SECRETS)) return url
  const end = endOfPath(url)
  const path = end < 0 ? url : url.slice(0, end)
  const tail = path.endsWith(HISTORY) && path.length >= SECRETS.length + HISTORY.length ? HISTORY : ''
  const name = path.slice(SECRETS.length, path.length - tail.length)
  const segment = name === '' ? '%2F' : name.replaceAll('/', '%2F')
  return `${SECRETS}${segment}${tail}${end < 0 ? '' : url.slice(end)}`
}

/** Decodes the unreserved characters of the path (RFC 3986, 6.2.2.2), and no others. */
function withPlainLetters(url: string): string {
  const end = endOfPath(url)
  const path = end < 0 ? url : url.slice(0, end)
  if (MALFORMED.test(path)) return url
  const plain = path.replace(ESCAPE, (triple) => {
    const character = String.fromCharCode(Number.parseInt(triple.slice(1), 16))
    return UNRESERVED.test(character) ? character : triple
  })
  return plain + url.slice(path.length)
}
