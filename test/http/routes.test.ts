// The table of routes: every row has its methods, its key, its schema and its label; targets in all forms; half-close.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { METHODS } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { systemClock } from '../../src/clock.ts'
import { ROUTES } from '../../src/http/routes.ts'
import { createAuthority, issueCertificate } from '../../src/node/certificates.ts'
import { type Answer, KEY_A, until, Vault } from './vault.ts'

const vault = await Vault.start()
after(() => vault[Symbol.asyncDispose]())

const NO_KEY = { authorization: undefined }
const KEY_LINE = `Authorization: Bearer ${KEY_A}\r\n`

/** A path of the pattern. */
const pathOf = (pattern: string): string => pattern.replace(':name', 'a/b').replace(':slug', 'internal')

function slugOf(answer: Answer): unknown {
  return answer.json.type
}

/** Methods of every path of the table; a path may stand in several rows. */
const methodsOf = new Map<string, Set<string>>()
for (const { path, method } of ROUTES) {
  const methods = methodsOf.get(path) ?? new Set()
  methods.add(method)
  if (method === 'GET') methods.add('HEAD')
  methodsOf.set(path, methods)
}
// `resolve` is a name, too.
for (const method of methodsOf.get('/secrets/:name') ?? []) methodsOf.get('/secrets/resolve')?.add(method)

for (const [path, methods] of methodsOf) {
  const url = pathOf(path)
  const open = ROUTES.some((route) => route.path === path && route.open)
  const allow = [...methods].sort().join(', ')

  test(`${path}: ${allow}; every other method is 405 with exactly that`, async () => {
    for (const method of METHODS) {
      if (methods.has(method) || method === 'CONNECT') continue
      const answer = await vault.call(method, url)
      assert.equal(answer.status, 405, method)
      assert.equal(answer.headers.allow, allow, method)
      if (method !== 'HEAD') assert.equal(slugOf(answer), '/problems/method-not-allowed', method)
      assert.equal((await vault.call(method, url, undefined, NO_KEY)).status, open ? 405 : 401, method)
    }
    for (const method of ['CONNECT', 'BREW', 'GETS', 'get', 'M-SEARCHES']) {
      const head = `${method} ${url} HTTP/1.1\r\nHost: x\r\n`
      const answer = await vault.raw(`${head}${KEY_LINE}\r\n`)
      assert.match(answer, /^HTTP\/1\.1 405 /, method)
      assert.ok(answer.includes(`\r\nallow: ${allow}\r\n`), answer)
      assert.match(await vault.raw(`${head}\r\n`), open ? /^HTTP\/1\.1 405 / : /^HTTP\/1\.1 401 /, method)
    }
  })
}

for (const { method, path, open } of ROUTES) {
  test(`${method} ${path}: ${open ? 'needs no key' : '401 without a key'}, is documented, and counted by its pattern`, async () => {
    const answer = await vault.call(method, pathOf(path), method === 'GET' ? undefined : '{}', NO_KEY)
    if (open) assert.equal(answer.status, 200)
    else assert.equal(slugOf(answer), '/problems/unauthorized')
    assert.equal(answer.headers['x-content-type-options'], 'nosniff')
    const label = `coffer_request_seconds_count{route="${path}",method="${method}",status="${answer.status}"} `
    assert.ok((await vault.get('/metrics')).text.includes(label), label)
    const { paths } = (await vault.get('/openapi.json')).json as {
      paths: Record<string, Record<string, { summary: string; responses: object; security?: unknown }>>
    } // as OpenAPI has it
    const operation = paths[path.replace(/:(\w+)/, '{$1}')][method.toLowerCase()]
    assert.ok(operation.summary && operation.responses)
    assert.deepEqual(operation.security, open ? [] : undefined)
  })
}

test('targets: absolute form means its path, `//x` is a path, others have none', async () => {
  const cases: [target: string, withKey: number, without: number][] = [
    ['http://host/health', 200, 200],
    ['HTTPS://user@host:1/health?', 200, 200],
    ['http://host/epochs', 200, 401],
    ['http://host', 404, 401],
    ['http://host/nothing', 404, 401],
    ['//x/metrics', 404, 401],
    ['//metrics', 404, 401],
    ['/x/../metrics', 404, 401],
    ['/secrets/a/b', 404, 401],
    ['/secrets/', 400, 401],
    ['ftp://host/health', 405, 401],
    ['*', 405, 401],
  ]
  for (const [target, withKey, without] of cases) {
    for (const method of ['GET', 'HEAD'])
      for (const [key, status] of [
        [KEY_LINE, withKey],
        ['', without],
      ] as const) {
        const answer = await vault.raw(
          `${method} ${target} HTTP/1.1\r\nHost: other\r\nConnection: close\r\n${key}\r\n`,
        )
        assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), `${method} ${target} ${key}`)
      }
  }
  for (const [line, status] of [
    ['OPTIONS *', 405],
    ['CONNECT host:443', 405],
    ['CONNECT /nothing', 404],
    ['QUERY /nothing', 404],
    ['BREW /nothing', 404],
  ] as const) {
    const head = `${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`
    assert.match(await vault.raw(`${head}${KEY_LINE}\r\n`), new RegExp(`^HTTP/1\\.1 ${status} `), line)
    assert.match(await vault.raw(`${head}\r\n`), /^HTTP\/1\.1 401 /, line)
  }
})

test('a percent-encoded letter of a path is that letter, whatever the method and whoever asks', async () => {
  for (const [plain, encoded] of [
    ['/tokenize', '/%74okenize'],
    ['/health', '/h%65alth'],
    ['/rotate-epoch', '/rotate%2Depoch'],
    ['/openapi.json', 'http://host/openapi%2ejson'],
    ['/secrets', '/%73ecrets'],
    ['/secrets/a/b', '/%73ecrets/a/%62'],
    ['/secrets/a/b/history', '/secrets/a/b/%68istory'],
    ['/secrets/resolve', '/secrets/%72esolve'],
    ['/problems/internal', '/%70roblems/inter%6eal'],
    ['/docs', '/%64ocs'],
    ['/nothing', '/%6eothing'],
  ]) {
    for (const method of ['GET', 'DELETE', 'OPTIONS', 'QUERY'])
      for (const key of [KEY_LINE, '']) {
        const told = async (target: string): Promise<(string | undefined)[]> => {
          const text = `${method} ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${key}\r\n`
          const [head, body] = (await vault.raw(text)).split('\r\n\r\n')
          const allow = /\r\nallow: (.*)/.exec(head)?.[1]
          return [head.split('\r\n')[0], allow, /"type":"[^"]*"/.exec(body)?.[0]]
        }
        assert.deepEqual(await told(encoded), await told(plain), `${method} ${encoded} ${key}`)
      }
  }
  await using own = await Vault.start()
  const read = async (path: string): Promise<number> => (await own.get(path)).status
  assert.equal((await own.post('/%73ecrets', { name: 'letters/a', value: 'x' })).status, 201)
  assert.equal(await read('/%73ecrets/letters/%61'), 200)
  // Decoded once, and slashes keep their spelling.
  assert.equal(await read('/secrets/letters%2F%61'), 200)
  for (const path of ['/secrets/letters%252Fa', '/secrets/%256cetters/a', '/secrets/letters/a%2F%68istory'])
    assert.equal(await read(path), 400, path)
  assert.equal(await read('/%2574okenize'), 404)
  assert.equal(await read('/secrets/letters/%2%35'), 400)
})

test('the form of a head: one well-formed Host, HTTP/1.1 or 1.0; all else is 400, with or without a key', async () => {
  const line = 'GET /whoami HTTP/1.1'
  const cases: readonly (readonly [head: readonly string[], status: number, path?: string])[] = [
    [[line, 'Host: a'], 200],
    [[line, 'Host: 127.0.0.1:8200'], 200],
    [[line, 'Host: [::1]:8200'], 200],
    [[line, 'Host: vault_1.example.'], 200],
    [[line, 'host:a:'], 200],
    [['GET http://b/whoami HTTP/1.1', 'Host: a'], 200],
    [['GET /whoami HTTP/1.0'], 200],
    [['GET /whoami HTTP/1.0', 'Host: a'], 200],
    [[line], 400, 'host'],
    [[line, 'Host: a', 'Host: a'], 400, 'host'],
    [[line, 'Host: a', 'X-Y: z', 'hOsT: b'], 400, 'host'],
    [['GET /whoami HTTP/1.0', 'Host: a', 'Host: b'], 400, 'host'],
    [[line, 'Host:'], 400, 'host'],
    [[line, 'Host: a b'], 400, 'host'],
    [[line, 'Host: a, b'], 400, 'host'],
    [[line, 'Host: user@a'], 400, 'host'],
    [[line, 'Host: http://a'], 400, 'host'],
    [[line, 'Host: a/b'], 400, 'host'],
    [[line, 'Host: a:x'], 400, 'host'],
    [[line, 'Host: a:1:2'], 400, 'host'],
    [[line, 'Host: [::1'], 400, 'host'],
    [[line, 'Host: ::1'], 400, 'host'],
    [[line, 'Host: \u00e4'], 400, 'host'],
    [['BREW /whoami HTTP/1.1', 'Host: a', 'Host: a'], 400, 'host'],
    [['BREW /whoami HTTP/1.1'], 400, 'host'],
    [['GET /%zz HTTP/1.1', 'Host: a', 'Host: a'], 400, 'host'],
    [['GET /whoami'], 400, ''],
    [['GET /whoami HTTP/0.9', 'Host: a'], 400, ''],
    [['GET /whoami HTTP/2.0', 'Host: a'], 400, ''],
    [['GET /health HTTP/2.0', 'Host: a'], 400, ''],
    [['POST /secrets HTTP/2.0', 'Host: a', 'Content-Length: 2'], 400, ''],
    [['GET /whoami HTTP/1.2', 'Host: a'], 400, ''],
    [['GET /whoami HTTP/3.0', 'Host: a'], 400, ''],
    [['GET /whoami HTTPS/1.1', 'Host: a'], 400, ''],
    [['BREW /whoami HTTP/2.0', 'Host: a'], 400, ''],
    [['BREW /whoami', 'Host: a'], 400, ''],
    [['PRI * HTTP/2.0', 'Host: a'], 400, ''],
  ]
  for (const [head, status, path] of cases)
    for (const key of [KEY_LINE, '']) {
      const told = `${head.join(' | ')} ${key}`
      const bare = head.length === 1 && !head[0].includes('HTTP/')
      const answer = await vault.raw(
        `${head.join('\r\n')}\r\n${bare ? '' : `${key}Connection: close\r\n`}\r\n`,
      )
      const expected = status === 200 && key === '' ? 401 : status
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${expected} `), told)
      assert.match(answer, /\r\nx-request-id: /i, told)
      assert.match(answer, /\r\nx-content-type-options: nosniff\r\n/i, told)
      if (path !== undefined) assert.ok(answer.includes(`"path":"${path}"`), `${told}: ${answer}`)
    }
})

test('after CONNECT and after an unknown method the connection ends, and a client that resets ends no node', async () => {
  const { hostname, port } = new URL(vault.node.url)
  for (const line of ['CONNECT a:1', 'BREW /health', 'nonsense']) {
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true })
    socket.write(`${line} HTTP/1.1\r\nHost: a\r\n\r\n`)
    socket.resume()
    await once(socket, 'end') // the client itself does not end
    socket.destroy()
    const rude = connect({ host: hostname, port: Number(port) }).on('error', () => undefined)
    rude.write(`${line} HTTP/1.1\r\nHost: a\r\n\r\n`, () => rude.resetAndDestroy())
    await once(rude, 'close')
  }
  await until('all connections are gone', async () => (await vault.metric('coffer_connections')) <= 1)
})

test('100 Continue comes after key and route have been judged, and not before', async () => {
  const head = (path: string, key: string): string =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${key}Content-Type: application/json\r\n` +
    'Expect: 100-continue\r\nContent-Length: 13\r\n\r\n'
  for (const [path, key, status] of [
    ['/tokenize', '', 401],
    ['/nothing', KEY_LINE, 404],
    ['/epochs', KEY_LINE, 405],
  ] as const)
    assert.match(
      await vault.raw(`${head(path, key)}{"values":[]}`),
      new RegExp(`^HTTP/1\\.1 ${status} `),
      path,
    )
  const answer = await vault.raw(`${head('/tokenize', KEY_LINE)}{"values":[]}`)
  assert.match(answer, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/)
  // RFC 9110, 10.1.1: HTTP/1.0 knows no interim answers.
  const old = head('/tokenize', KEY_LINE).replace('HTTP/1.1', 'HTTP/1.0')
  assert.match(await vault.raw(`${old}{"values":[]}`), /^HTTP\/1\.1 200 OK\r\n/)
})

/** Sends the text and ends the sending side at once; gives what comes until the node closes. */
function halfClosed(text: string, node = vault): Promise<string> {
  const { hostname, port, protocol } = new URL(node.node.url)
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const socket =
    protocol === 'https:'
      ? connectTls({
          host: hostname,
          port: Number(port),
          rejectUnauthorized: false,
          allowHalfOpen: true,
        } as never)
      : connect({ host: hostname, port: Number(port), allowHalfOpen: true })
  let answer = ''
  socket.on('data', (chunk) => {
    answer += chunk.toString('latin1')
  })
  socket.on('end', () => socket.destroy())
  socket.on('error', reject)
  socket.on('close', () => resolve(answer))
  socket.end(text)
  return promise
}

const secretOf = (name: string): string => JSON.stringify({ name, value: 'x' })

function post(body: string, length = body.length): string {
  const head = `POST /secrets HTTP/1.1\r\nHost: x\r\n${KEY_LINE}Content-Type: application/json\r\n`
  return `${head}Content-Length: ${length}\r\n\r\n${body}`
}

async function checkHalfClose(node: Vault): Promise<void> {
  assert.match(await halfClosed('GET /health HTTP/1.1\r\nHost: x\r\n\r\n', node), /^HTTP\/1\.1 200 /)
  assert.match(await halfClosed(post(secretOf('whole')), node), /^HTTP\/1\.1 201 /)
  const cut = await halfClosed(post(secretOf('cut'), 100), node)
  assert.match(cut, /^HTTP\/1\.1 400 [\s\S]*"type":"\/problems\/invalid-request"/)
  const chunked = post('').replace('Content-Length: 0', 'Transfer-Encoding: chunked')
  assert.match(await halfClosed(`${chunked}19\r\n${secretOf('cut')}\r\n`, node), /^HTTP\/1\.1 400 /)
  const refused = await halfClosed(post(secretOf('cut'), 100).replace(KEY_LINE, ''), node)
  assert.match(refused, /^HTTP\/1\.1 40[01] /)
  assert.equal(refused.match(/HTTP\/1\.1/g)?.length, 1, refused)
}

test('a client may end its sending side: it gets its answer; a cut body is 400, and nothing is done', async () => {
  await checkHalfClose(vault)
  const names = (await vault.get('/secrets')).json.names
  assert.deepEqual(names, ['whole'])
  await until('nothing is in work', async () => (await vault.metric('coffer_bodies_in_work_bytes')) === 0)
})

test('the same over TLS', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-tls-'))
  try {
    const authority = await createAuthority(systemClock)
    const { cert, key } = await issueCertificate(authority, { node: 'n1', hosts: ['127.0.0.1'] }, systemClock)
    const tls = { cert: join(dir, 'n1.crt'), key: join(dir, 'n1.key') }
    writeFileSync(tls.cert, cert)
    writeFileSync(tls.key, key, { mode: 0o600 })
    await using node = await Vault.start({ tls })
    await checkHalfClose(node)
    const names = await halfClosed(`GET /secrets HTTP/1.1\r\nHost: x\r\n${KEY_LINE}\r\n`, node)
    assert.match(names, /"names":\["whole"\]/)
  } finally {
    rmSync(dir, { recursive: true })
  }
})
