// Request targets for the router: a path, with the name of a secret as one segment.
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

/**
 * The path and query of a request target. Slashes within the name of a secret become `%2F`, so that
 * `/secrets/a/b/history` is routed like `/secrets/a%2Fb/history`. An empty name becomes `%2F`: an invalid
 * name, with a route all the same.
 */
export function routedTarget(target: string): string {
  let url = target
  if (url.charCodeAt(0) !== 0x2f) {
    url = url.replace(AUTHORITY, '')
    if (url.length === target.length) return NO_PATH
    if (!url.startsWith('/')) url = `/${url}`
  }
  if (!url.startsWith(SECRETS)) return url
  const end = endOfPath(url)
  const path = end < 0 ? url : url.slice(0, end)
  const tail = path.endsWith(HISTORY) && path.length >= SECRETS.length + HISTORY.length ? HISTORY : ''
  const name = path.slice(SECRETS.length, path.length - tail.length)
  const segment = name === '' ? '%2F' : name.replaceAll('/', '%2F')
  return `${SECRETS}${segment}${tail}${end < 0 ? '' : url.slice(end)}`
}
