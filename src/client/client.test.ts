import assert from 'node:assert/strict'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { after, test } from 'node:test'
import { inspect } from 'node:util'
import { Coffer, CofferError, type CofferOptions } from './index.ts'

type Answer = (request: IncomingMessage, response: ServerResponse) => void
type Fake = { readonly url: string; readonly seen: string[]; answer: Answer; close(): Promise<void> }

const closers: (() => Promise<void> | void)[] = []
after(async () => {
  for (const close of closers) await close()
})

/** A node that answers as `answer` says; `seen` has `METHOD path body` of every request. */
async function fake(answer: Answer, port = 0): Promise<Fake> {
  const sockets = new Set<Socket>()
  const node: Fake = { url: '', seen: [], answer, close: async () => undefined }
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      node.seen.push(`${request.method} ${request.url} ${Buffer.concat(chunks).toString()}`)
      node.answer(request, response)
    })
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      for (const socket of sockets) socket.destroy()
    })
  closers.push(close)
  // A server that listens on TCP has an address of this type.
  return Object.assign(node, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close })
}

const json =
  (body: unknown, status = 200, headers: Record<string, string> = {}): Answer =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(JSON.stringify(body))
  }

function problem(slug: string, status: number, retryAfter?: number, members: object = {}): Answer {
  const headers: Record<string, string> =
    retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }
  const body = { type: `/problems/${slug}`, title: 't', status, detail: 'why', instance: 'req-1', ...members }
  return json(body, status, headers)
}

const TOKENS = { epoch: 3, tokens: ['tok_3_x', null] }

function client(nodes: readonly Fake[], options: Partial<CofferOptions> = {}): Coffer {
  const coffer = new Coffer({ urls: nodes.map((node) => node.url), key: 'cof_secretsecret', ...options })
  closers.push(() => coffer.close())
  return coffer
}

async function failure(call: Promise<unknown>): Promise<CofferError> {
  try {
    await call
  } catch (error) {
    if (error instanceof CofferError) return error
    throw error
  }
  return assert.fail('the call succeeded')
}

/** What a closed port is: nobody listens there. */
async function nobody(): Promise<Fake> {
  const node = await fake(json({}))
  await node.close()
  return node
}

test('every call: its method, path and body, and its answer', async () => {
  const node = await fake(json(TOKENS))
  const coffer = client([node])
  assert.deepEqual(await coffer.tokenize(['a', null]), TOKENS)
  await coffer.tokenize([1], { allowTokens: true })
  node.answer = json({ epoch: 3, records: [{ a: 't' }], replaced: 1 })
  assert.deepEqual(await coffer.tokenizeRecords([{ a: 1 }]), { epoch: 3, records: [{ a: 't' }], replaced: 1 })
  node.answer = json({ values: [1, null], not_found: [1] })
  assert.deepEqual(await coffer.detokenize(['t', 'u']), { values: [1, null], notFound: [1] })
  node.answer = json({ value: false })
  assert.equal(await coffer.detokenizeOne('t'), false)
  node.answer = problem('not-found', 404)
  assert.equal(await coffer.detokenizeOne('t'), undefined)
  node.answer = json({ records: [{}], not_found: [{ record: 0, path: 'a' }] })
  assert.deepEqual((await coffer.detokenizeRecords([{ a: 't' }])).notFound, [{ record: 0, path: 'a' }])
  node.answer = json({ epoch: 4, tokens: ['u'], not_found: [] })
  assert.deepEqual(await coffer.retokenize(['t']), { epoch: 4, tokens: ['u'], notFound: [] })
  node.answer = json({ epoch: 5, rotated: true })
  assert.deepEqual(await coffer.rotateEpoch(5), { epoch: 5, rotated: true })
  await coffer.epochs()
  assert.deepEqual(node.seen, [
    'POST /tokenize {"values":["a",null]}',
    'POST /tokenize {"values":[1],"allow_tokens":true}',
    'POST /tokenize {"records":[{"a":1}]}',
    'POST /detokenize {"tokens":["t","u"]}',
    'POST /detokenize {"token":"t"}',
    'POST /detokenize {"token":"t"}',
    'POST /detokenize {"records":[{"a":"t"}]}',
    'POST /retokenize {"tokens":["t"]}',
    'POST /rotate-epoch {"to":5}',
    'GET /epochs ',
  ])
})

test('a call as bytes: the body is sent and the answer given as they are, and a refusal is an error', async () => {
  const node = await fake((_request, response) => response.end(' { "epoch" : 3 } '))
  const coffer = client([node])
  assert.equal(
    (await coffer.post('/tokenize', Buffer.from('{ "values":[] }'))).toString(),
    ' { "epoch" : 3 } ',
  )
  assert.deepEqual(node.seen, ['POST /tokenize { "values":[] }'])
  node.answer = problem('too-large', 413)
  assert.equal((await failure(coffer.post('/tokenize', Buffer.from('{}')))).slug, 'too-large')
})

test('the key is sent, and shown nowhere', async () => {
  let header: string | undefined
  const node = await fake((request, response) => {
    header = request.headers.authorization
    problem('unauthorized', 401)(request, response)
  })
  const coffer = client([node])
  const error = await failure(coffer.epochs())
  assert.equal(header, 'Bearer cof_secretsecret')
  assert.doesNotMatch(inspect([coffer, error], { depth: 9, showHidden: true }), /secretsecret/)
})

test('arguments that cannot be: told before anything is sent, without repeating them', async () => {
  const options =
    (urls: string | string[], key = 'cof_k') =>
    () =>
      new Coffer({ urls, key })
  for (const urls of ['', 'localhost:1', 'ftp://a', 'http://u:pw@a', 'http://a/x', 'http://a,', []]) {
    assert.throws(
      options(urls),
      (error) => error instanceof TypeError && !/pw|ftp/.test(error.message),
      String(urls),
    )
  }
  for (const key of ['', 'a b', 'a\n', 'ä']) assert.throws(options('http://a', key), TypeError)
  const node = await fake(json(TOKENS))
  const coffer = client([node])
  await assert.rejects(coffer.tokenize([1, Number.NaN]), { name: 'TypeError', message: /values\[1\]/ })
  assert.deepEqual(node.seen, [])
})

test('a problem becomes an error with all that it says', async () => {
  const node = await fake(problem('epoch-conflict', 409, undefined, { epoch: 7 }))
  const error = await failure(client([node]).rotateEpoch(9))
  const { slug, status, detail, instance, retryable, members } = error
  assert.deepEqual(
    { slug, status, detail, instance, retryable, members },
    {
      slug: 'epoch-conflict',
      status: 409,
      detail: 'why',
      instance: 'req-1',
      retryable: false,
      members: { epoch: 7 },
    },
  )
})

test('what is refused for good is asked of one node, once', async () => {
  const refusals = [
    ['invalid-request', 400],
    ['unauthorized', 401],
    ['epoch-conflict', 409],
    ['too-large', 413],
    ['already-a-token', 422],
    ['internal', 500],
  ] as const
  for (const [slug, status] of refusals) {
    const nodes = [await fake(problem(slug, status)), await fake(json(TOKENS))]
    assert.equal((await failure(client(nodes).tokenize(['a']))).slug, slug)
    assert.deepEqual(
      nodes.map((node) => node.seen.length),
      [1, 0],
      slug,
    )
  }
})

test('what is no problem of ours is told as that', async () => {
  const html: Answer = (_request, response) => {
    response.statusCode = 404
    response.end('<html>')
  }
  const node = await fake(html)
  const error = await failure(client([node]).epochs())
  assert.deepEqual([error.slug, error.status, error.retryable], ['unexpected-answer', 404, false])
  assert.match(error.message, /status 404 .* not from a node of Coffer; .* proxy/)
  for (const body of ['ok', '"ok"', 'null', '']) {
    node.answer = (_request, response) => response.end(body)
    const other = await failure(client([node]).epochs())
    assert.equal(other.slug, 'unexpected-answer', body)
    assert.match(other.message, /GET \/epochs is no JSON object: .* proxy/)
  }
})

test('fail-over: a dead node and one that says 503 are left, and the one that works is kept', async () => {
  const nodes = [await nobody(), await fake(problem('stopping', 503, 1)), await fake(json(TOKENS))]
  const coffer = client(nodes)
  const started = performance.now()
  for (let i = 0; i < 3; i++) assert.deepEqual(await coffer.tokenize(['a', null]), TOKENS)
  assert.ok(performance.now() - started < 900, 'nobody waits while there is a node that has not been asked')
  assert.deepEqual(
    nodes.map((node) => node.seen.length),
    [0, 1, 3],
  )
})

test('one node: a 503 is tried again, not before Retry-After', async () => {
  const times: number[] = []
  const node = await fake((request, response) => {
    times.push(performance.now())
    const answer = times.length === 1 ? problem('no-quorum', 503, 1, { outcome: 'unknown' }) : json(TOKENS)
    answer(request, response)
  })
  assert.deepEqual(await client([node]).tokenize(['a', null]), TOKENS)
  assert.equal(times.length, 2)
  assert.ok(times[1] - times[0] >= 990, `${times[1] - times[0]} ms`)
})

test('a Retry-After beyond the deadline is not waited for, and what the node said is told', async () => {
  const nodes = [await fake(problem('ledger-full', 503, 60)), await nobody()]
  const started = performance.now()
  const error = await failure(client(nodes, { timeoutMs: 700 }).tokenize(['a']))
  assert.ok(performance.now() - started < 1500)
  assert.deepEqual(
    [error.slug, error.status, error.retryable, error.retryAfter],
    ['ledger-full', 503, true, 60],
  )
  assert.equal(nodes[0].seen.length, 1)
})

test('a node that comes back within the deadline is found', async () => {
  const dead = await nobody()
  const call = client([dead], { timeoutMs: 5_000 }).tokenize(['a', null])
  await new Promise((resolve) => setTimeout(resolve, 100)) // the first tries are refused
  const late = await fake(json(TOKENS), Number(new URL(dead.url).port))
  assert.deepEqual(await call, TOKENS)
  assert.equal(late.seen.length, 1)
})

test('the deadline: over all tries of one call', async () => {
  const hang = await fake(() => undefined)
  const started = performance.now()
  const error = await failure(client([hang], { timeoutMs: 300 }).tokenize(['a']))
  const took = performance.now() - started
  assert.deepEqual([error.slug, error.status, error.retryable], ['timeout', 0, true])
  assert.ok(took >= 290 && took < 1000, `${took} ms`)
  const refused = performance.now()
  assert.equal((await failure(client([await nobody()], { timeoutMs: 300 }).epochs())).slug, 'unreachable')
  assert.ok(performance.now() - refused < 1000)
})

test('a deadline beyond the longest timer of Node is no deadline of 1 ms', async () => {
  for (const timeoutMs of [Number.POSITIVE_INFINITY, 2 ** 40]) {
    const node = await fake((request, response) => {
      setTimeout(() => json(TOKENS)(request, response), 50)
    })
    assert.deepEqual(await client([node], { timeoutMs }).tokenize(['a', null]), TOKENS)
    assert.equal(node.seen.length, 1)
  }
})

test('a node that hangs leaves time for the others', async () => {
  const nodes = [await fake(() => undefined), await fake(json(TOKENS))]
  const coffer = client(nodes, { timeoutMs: 2_000 })
  assert.deepEqual(await coffer.tokenize(['a', null]), TOKENS)
  const started = performance.now()
  await coffer.tokenize(['a', null])
  assert.ok(performance.now() - started < 500, 'the one that works is kept')
})

test('an answer that breaks off is asked for again', async () => {
  const node = await fake((request, response) => {
    if (node.seen.length > 1) return json(TOKENS)(request, response)
    response.writeHead(200, { 'content-length': '100' })
    response.write('{"epoch":3')
    setImmediate(() => request.socket.destroy())
  })
  assert.deepEqual(await client([node]).tokenize(['a', null]), TOKENS)
  assert.equal(node.seen.length, 2)
})

test('keep-alive sockets are used again, and one that was closed meanwhile costs nothing', async () => {
  const ports = new Set<number | undefined>()
  const node = await fake((request, response) => {
    ports.add(request.socket.remotePort)
    // The second request on a socket is cut off, as by a node that closes idle sockets just then.
    if (ports.size === 1 && node.seen.length === 2) request.socket.destroy()
    else json(TOKENS)(request, response)
  })
  const spare = await fake(json(TOKENS))
  const coffer = client([node, spare], { timeoutMs: 5_000 })
  for (let i = 0; i < 4; i++) assert.deepEqual(await coffer.tokenize(['a', null]), TOKENS)
  assert.equal(node.seen.length, 5)
  assert.equal(ports.size, 2)
  assert.equal(spare.seen.length, 0, 'the node has not failed')
})

test('a certificate that is not trusted: told at once, and the next node is asked', async () => {
  const { cert, key, other } = certificates()
  const server = https.createServer({ cert, key }, (_request, response) =>
    response.end(JSON.stringify(TOKENS)),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => new Promise((resolve) => server.close(() => resolve())))
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}` // it listens on TCP
  const own = new Coffer({ urls: url, key: 'cof_k', ca: cert })
  assert.deepEqual(await own.tokenize(['a']), TOKENS)
  own.close()
  const plain = await fake(json(TOKENS))
  const started = performance.now()
  for (const options of [{}, { ca: other }]) {
    const stranger = new Coffer({ urls: url, key: 'cof_k', ...options })
    const error = await failure(stranger.tokenize(['a']))
    assert.deepEqual([error.slug, error.retryable], ['unreachable', false], error.message)
    stranger.close()
    const both = new Coffer({ urls: [url, plain.url], key: 'cof_k', ...options })
    assert.deepEqual(await both.tokenize(['a']), TOKENS)
    both.close()
  }
  assert.ok(performance.now() - started < 3_000)
})

test('ready, health and status ask every node once and do not wait', async () => {
  const nodes = [await nobody(), await fake(problem('not-ready', 503, 60, { reasons: ['catching up'] }))]
  const coffer = client(nodes)
  const started = performance.now()
  assert.deepEqual(await coffer.ready(), { ready: false, reasons: ['catching up'] })
  nodes[1].answer = json({ status: 'ready' })
  assert.deepEqual(await coffer.ready(), { ready: true, reasons: [] })
  assert.deepEqual(await coffer.health(), { status: 'ready' })
  await nodes[1].close()
  assert.equal((await failure(coffer.status())).slug, 'unreachable')
  assert.ok(performance.now() - started < 2_000)
})

test('a closed client says so', async () => {
  const node = await fake(json(TOKENS))
  const coffer = client([node])
  await coffer.tokenize(['a'])
  coffer.close()
  assert.equal((await failure(coffer.tokenize(['a']))).slug, 'closed')
  assert.equal((await failure(coffer.post('/tokenize', Buffer.from('{}')))).slug, 'closed')
})

/** Two self-signed certificates for 127.0.0.1, made for this test; the key is of the first. */
function certificates(): { cert: string; key: string; other: string } {
  const cert = `-----BEGIN CERTIFICATE-----
MIIBhjCCASygAwIBAgIUQExTdDukp/dl9VzRajzQFcURMNcwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjMwMjIxMjJaGA8yMTI2MTAzMDAyMjEy
MlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABClN
JXOhc8d6F65ghenWS73WemEyzTioRZMZA+PcGJy6wgBYxTgHOvMxny4JyBvHdkiZ
K+UdTDmTdixLGRQUPwmjZDBiMB0GA1UdDgQWBBRyc5zePFyMqVj84zNLQcaCIFjZ
bzAfBgNVHSMEGDAWgBRyc5zePFyMqVj84zNLQcaCIFjZbzAPBgNVHRMBAf8EBTAD
AQH/MA8GA1UdEQQIMAaHBH8AAAEwCgYIKoZIzj0EAwIDSAAwRQIhAOeRsXR5gMT6
2Z+8xrX6sHssSwrqGE3W08W+H1NV0YWaAiAc8/EgJ5KnoEJ/PA72wCCMa0qKdFTM
QSjQnWZJPJ5YAA==
-----END CERTIFICATE-----
`
  const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgeuL9PboT8T+3SVzB
Ns1hLcdz4lw8TzdXZP88NBrJJiShRANCAAQpTSVzoXPHeheuYIXp1ku91nphMs04
qEWTGQPj3BicusIAWMU4BzrzMZ8uCcgbx3ZImSvlHUw5k3YsSxkUFD8J
-----END PRIVATE KEY-----
`
  const other = `-----BEGIN CERTIFICATE-----
MIIBhzCCASygAwIBAgIUIflKp/D3Io74hvMQUQTyCuTf+/QwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjMwMjIxMjJaGA8yMTI2MTAzMDAyMjEy
MlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGIX
ITQuL56V/WiTNn90zi7BlAYWEw2s7EL4ZJTssLJBwz63fiAE9piVDy94uxqKF9X7
N5dS5gOpka77w5HOfyyjZDBiMB0GA1UdDgQWBBT4G0k4ZiiDQeiUf07Ux5tMTDqy
qDAfBgNVHSMEGDAWgBT4G0k4ZiiDQeiUf07Ux5tMTDqyqDAPBgNVHRMBAf8EBTAD
AQH/MA8GA1UdEQQIMAaHBH8AAAEwCgYIKoZIzj0EAwIDSQAwRgIhAMtnTKahpfvH
co1WTHMspC2ZtiVJcTY0iXmvUILtBWUIAiEAsV182q4yYpC0LZWgj7ZmdtbXL/k0
z41abUTrH0fBuTA=
-----END CERTIFICATE-----
`
  return { cert, key, other }
}

test('refusals by the rights and limits of a key are told as such', async () => {
  const node = await fake(problem('forbidden', 403, undefined, { needs: 'tokenize' }))
  const error = await failure(client([node]).tokenize(['x']))
  assert.deepEqual([error.slug, error.status, error.retryable], ['forbidden', 403, false])
  assert.deepEqual([error.needs, error.prefix], ['tokenize', undefined])
  node.answer = problem('forbidden', 403, undefined, { prefix: 'app/' })
  const outside = await failure(client([node]).secret('ops/A'))
  assert.deepEqual([outside.needs, outside.prefix], [undefined, 'app/'])
  node.answer = problem('budget-exceeded', 403)
  assert.equal((await failure(client([node]).tokenize(['x']))).slug, 'budget-exceeded')
  node.answer = problem('quota-exceeded', 403, undefined, { quota: 1000, used: 990 })
  const full = await failure(client([node]).tokenize(['x']))
  assert.deepEqual([full.slug, full.quota, full.used, full.retryable], ['quota-exceeded', 1000, 990, false])
  assert.equal(node.seen.length, 4, 'another try changes nothing')
})
