// Heads of requests that node:http takes and HTTP/1.1 does not, and heads with a method that node:http does
// not know.
import { IncomingMessage, METHODS } from 'node:http'
import type { Socket } from 'node:net'
import { errorCode, type Problem } from '../errors.ts'
import { badRequest } from './problems.ts'

/** A name, IPv4 or bracketed IPv6 address, with or without a port (RFC 9110, 7.2). */
const HOST = /^(\[[0-9a-f:.]+\]|[\w.~!$&'()*+,;=%-]+)(:\d{0,5})?$/i

/** The fault in the form of a head; undefined where there is none. */
export function formFault({ httpVersion, headers, rawHeaders }: IncomingMessage): Problem | undefined {
  if (httpVersion !== '1.1' && httpVersion !== '1.0')
    return badRequest('', 'HTTP/1.1', 'the request line names no version 1.1 or 1.0 of HTTP')
  const { host } = headers
  if (host === undefined)
    return httpVersion === '1.0'
      ? undefined
      : badRequest('host', 'a Host header', 'HTTP/1.1 needs a Host header')
  // node:http keeps the first of several.
  let hosts = 0
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i].length === 4 && rawHeaders[i].toLowerCase() === 'host') hosts++
  if (hosts > 1) return badRequest('host', 'one Host header', 'the request has several Host headers')
  if (!HOST.test(host)) return badRequest('host', 'host or host:port', 'the Host header is malformed')
  return undefined
}

const HEAD = /^([\w!#$%&'*+.^`|~-]+) (\S+) HTTP\/1\.([01])\r\n((?:[\w!#$%&'*+.^`|~-]+:[^\r\n\0]*\r\n)*)\r\n/

/** A method that no route has stands for those that node:http and Fastify do not know. */
const NO_METHOD = 'TRACE'

/**
 * The request behind an error of the parser, where only its method was unknown; undefined for other errors,
 * and where the bytes that came at once are not the whole head. Without a body, and with NO_METHOD.
 */
export function withUnknownMethod(error: Error, socket: Socket): IncomingMessage | undefined {
  if (errorCode(error) !== 'HPE_INVALID_METHOD') return undefined
  const packet = 'rawPacket' in error && Buffer.isBuffer(error.rawPacket) ? error.rawPacket : undefined
  const [, method = '', url, minor, fields] = HEAD.exec(packet?.toString('latin1') ?? '') ?? []
  // A known method: the parser took this head, and the fault is in the bytes behind its request.
  if (fields === undefined || METHODS.includes(method)) return undefined
  const request = new IncomingMessage(socket)
  for (const line of fields.split('\r\n').slice(0, -1)) {
    const colon = line.indexOf(':')
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).trim()]
    request.rawHeaders.push(name, value)
    request.headers[name.toLowerCase()] ??= value
  }
  Object.assign(request, { method: NO_METHOD, url, httpVersion: `1.${minor}`, complete: true })
  request.push(null)
  return request
}
