// Bytes on a connection that are hardly HTTP, or are not: each request gets an answer or a close, and the node lives on.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import fc from 'fast-check'
import { KEY_A, type Vault } from '../http/vault.ts'
import { checkProblem } from './http.ts'
import { damage, damaged, type Target } from './target.ts'

/** A node that says nothing for so long neither answers nor closes. */
const SILENT_MS = 10_000

const method = fc.oneof(
  fc.constantFrom(
    'GET',
    'POST',
    'PUT',
    'HEAD',
    'OPTIONS',
    'CONNECT',
    'TRACE',
    'QUERY',
    'get',
    'PRI',
    'FOO',
    '',
  ),
  fc.stringMatching(/^[!-~]{1,12}$/),
)
const target = fc.oneof(
  fc.constantFrom(
    '/health',
    '/tokenize',
    '/secrets/a',
    '/secrets/a/history',
    '*',
    '/',
    'x:1',
    'http://x/epochs',
  ),
  fc.constantFrom('http:///health', '//health', '/%', '/%00', '/secrets/%ff', '/health#x', '?', '', '/a b'),
  fc.string({ unit: 'binary', maxLength: 20 }).map((text) => `/${text}`),
  fc.nat(20_000).map((length) => `/${'x'.repeat(length)}`),
)
const version = fc.constantFrom(
  ...Array<string>(8).fill('HTTP/1.1'),
  'HTTP/1.0',
  'HTTP/2.0',
  'HTTP/0.9',
  'X',
  '',
)
const end = fc.constantFrom('\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r', '\r\n ', '\0\r\n')
const line = fc.oneof(
  fc.constantFrom('Content-Length: 11', 'Content-Length: 0', 'Content-Length: +11', 'Content-Length: 11, 11'),
  fc.constantFrom('Content-Length: -1', 'Content-Length: 1e1', `Content-Length: ${'9'.repeat(30)}`),
  fc.constantFrom(
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: gzip, chunked',
    'Transfer-Encoding: xchunked',
  ),
  fc.constantFrom(
    'Transfer-Encoding : chunked',
    'Transfer-Encoding: chunked, identity',
    'Host: y',
    'Host:',
    'Host',
  ),
  fc.constantFrom(
    'Expect: 100-continue',
    'Upgrade: h2c',
    'Connection: upgrade',
    'Connection: close',
    'Trailer: x',
  ),
  fc.constantFrom('Content-Encoding: gzip', ': x', 'A B: c', 'X:\0', ' folded', 'Authorization: Bearer x'),
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc
    .tuple(fc.stringMatching(/^[a-z-]{1,9}$/), fc.nat(9000))
    .map(([name, size]) => `${name}: ${'y'.repeat(size)}`),
  fc.integer({ min: 1, max: 2500 }).map((count) => Array<string>(count).fill('a: b').join('\r\n')),
)
const BODY = '{"values":[]}'
const tail = fc.oneof(
  fc.constantFrom(
    '',
    BODY,
    BODY.slice(2),
    'd\r\n{"values":[]}\r\n0\r\n\r\n',
    'd\r\n{"values":[]}',
    '0\r\nx: y\r\n\r\n',
  ),
  fc.constantFrom(
    'ffffffffffffffffff\r\n',
    '-1\r\n',
    `d;${'x'.repeat(20_000)}\r\n{"values":[]}\r\n0\r\n\r\n`,
    '\r\n\r\n',
  ),
  fc.constantFrom('GET /health HTTP/1.1\r\nHost: x\r\n\r\n', 'GET / HTTP/1.1\r\n', '\x16\x03\x01\0\xff'),
  fc.string({ unit: 'binary', maxLength: 40 }),
)
const lines = fc.array(fc.tuple(line, end), { maxLength: 4 })
const hardly = fc
  .tuple(method, target, version, lines, tail, fc.boolean())
  .map(([verb, where, protocol, list, rest, hasKey]) => {
    const key = hasKey ? `Authorization: Bearer ${KEY_A}\r\nContent-Type: application/json\r\n` : ''
    const head = `${verb} ${where} ${protocol}\r\nHost: x\r\n${key}`
    return Buffer.from(`${head}${list.map(([each, feed]) => each + feed).join('')}\r\n${rest}`, 'latin1')
  })
const bytes = fc.oneof(
  { weight: 6, arbitrary: hardly },
  { weight: 3, arbitrary: fc.tuple(hardly, damage).map(([request, steps]) => damaged(request, steps)) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }).map((list) => Buffer.from(list)) },
)

type Over = 'TCP' | 'TLS'

/** Sends all parts, then ends the sending side; resolves with what came when the node has closed. */
function exchange(url: string, sent: readonly Uint8Array[], over: Over): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const { hostname, port } = new URL(url)
  const plain = connect({ host: hostname, port: Number(port), allowHalfOpen: true })
  const socket = over === 'TLS' ? connectTls({ socket: plain, rejectUnauthorized: false }) : plain
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('end', () => socket.end())
  socket.on('error', () => undefined) // a reset is a close
  socket.on('close', () => resolve(Buffer.concat(chunks)))
  socket.setTimeout(SILENT_MS, () => {
    reject(new Error('neither an answer nor a close'))
    socket.destroy()
  })
  for (const part of sent) socket.write(part)
  socket.end()
  return promise
}

/** The answers, one after the other; a HEAD has a length and no body. */
function checkAnswers(received: Buffer): void {
  for (let at = 0; at < received.length; ) {
    const headEnd = received.indexOf('\r\n\r\n', at)
    const head = received.toString('latin1', at, headEnd < 0 ? received.length : headEnd)
    const [first, ...rest] = head.split('\r\n')
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1])
    assert.ok(headEnd >= 0 && status >= 100 && status < 500, head)
    at = headEnd + 4
    if (status < 200) continue
    const headers = Object.fromEntries(
      rest.map((each) => [each.slice(0, each.indexOf(':')).toLowerCase(), each.slice(each.indexOf(':') + 2)]),
    )
    const length = Number(headers['content-length'])
    assert.ok(headers['x-request-id'] !== undefined && headers['x-content-type-options'] === 'nosniff', head)
    assert.ok(Number.isSafeInteger(length) || headers['transfer-encoding'] === 'chunked', head)
    const isHead = received.length === at || received.toString('latin1', at, at + 7) === 'HTTP/1.'
    if (isHead || Number.isNaN(length)) return
    assert.ok(received.length >= at + length, 'the answer is whole')
    if (status >= 400) checkProblem(status, headers, received.subarray(at, at + length))
    at += length
  }
}

const JSON_HEAD = `Host: x\r\nAuthorization: Bearer ${KEY_A}\r\nContent-Type: application/json\r\n`

/** A request that creates the secret. */
function creates(secret: string): Buffer {
  const body = JSON.stringify({ name: secret, value: 'x' })
  return Buffer.from(`POST /secrets HTTP/1.1\r\n${JSON_HEAD}Content-Length: ${body.length}\r\n\r\n${body}`)
}

/** `over`: what the node speaks. */
export function rawTargets(vault: Vault, over: Over): readonly Target[] {
  let created = 0
  return [
    {
      name: `bytes behind a request over ${over}: the first answer is the answer to the first request`,
      inputs: over === 'TLS' ? 50 : 300,
      property: () =>
        fc.asyncProperty(bytes, fc.boolean(), async (behind, inParts) => {
          const first = creates(`behind/${over}/${created++}`)
          const parts = inParts ? [first, behind] : [Buffer.concat([first, behind])]
          const received = await exchange(vault.node.url, parts, over)
          assert.match(received.toString('latin1'), /^HTTP\/1\.1 201 /)
          checkAnswers(received)
        }),
    },
    {
      name: `bytes over ${over}: each request gets an answer or a close, and the node lives on`,
      inputs: over === 'TLS' ? 300 : 5000,
      property: () =>
        fc.asyncProperty(bytes, async (request) => {
          checkAnswers(await exchange(vault.node.url, [request], over))
        }),
    },
  ]
}
