// Requests that are cut: their heads have arrived, and their bodies do not end. Each is refused once, under its own
// id, and leaves that refusal in the event log.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { systemClock } from '../../src/clock.ts'
import { type Event, eventsOf } from './trail.ts'
import { KEY_A, until, Vault } from './vault.ts'

let vault: Vault
before(async () => {
  vault = await Vault.start()
  assert.equal((await vault.post('/secrets', NEW, { 'idempotency-key': 'used' })).status, 201)
})
after(() => vault[Symbol.asyncDispose]())

const NEW = { name: 'there', value: 'v' }
const CHUNKED = 'Transfer-Encoding: chunked'
const NO_CHUNK = 'no chunk\r\n'
/** A chunk of a body, and then what is no chunk. */
const BROKEN = `5\r\n{"val\r\n${NO_CHUNK}`

function head(call: string, id: string, ...lines: readonly string[]): string {
  const all = [`${call} HTTP/1.1`, 'Host: x', `Authorization: Bearer ${KEY_A}`, `X-Request-Id: ${id}`]
  return `${[...all, 'Content-Type: application/json', ...lines].join('\r\n')}\r\n\r\n`
}

/** What comes for the text, after which the client closes its sending side. */
function ended(text: string | Buffer): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const { hostname, port } = new URL(vault.node.url)
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true })
  let answer = ''
  socket.setEncoding('latin1').on('data', (chunk) => {
    answer += String(chunk)
  })
  socket.on('error', reject).on('end', () => resolve(answer))
  socket.end(text)
  return promise
}

/** The request id, slug and `instance` of a single answer, which closes its connection. */
function refusal(answer: string): (string | undefined)[] {
  assert.match(answer, /^HTTP\/1\.1 400 /)
  assert.equal(answer.split('HTTP/1.1 ').length, 2, `one answer: ${answer}`)
  assert.match(answer, /\r\nconnection: close\r\n/i)
  const { type, instance } = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))
  return [/\r\nx-request-id: (.*)\r\n/i.exec(answer)?.[1], type, instance]
}

/** The events of a request, once that of a later request is written. */
async function eventsBefore(id: string): Promise<unknown[]> {
  const { headers } = await vault.get('/whoami')
  const of = (request: unknown): Event[] => eventsOf(vault.data).filter((event) => event.request === request)
  await until('a later event is written', () => of(headers['x-request-id']).length > 0)
  return of(id).map(({ event, owner, key_id, reason }) => [event, owner, key_id, reason])
}

const REFUSED = [['request.refused', 'clinic-a', 'k1', 'invalid-request']]

test('a body of broken chunks: refused under the id of the request, in answer and event', async () => {
  for (const [id, call, body, ...lines] of [
    ['broken-1', 'POST /tokenize', BROKEN],
    ['broken-2', 'POST /secrets', BROKEN, 'Idempotency-Key: used'],
    ['broken-3', 'PUT /secrets/there', BROKEN, 'Content-Encoding: gzip'],
    // Nobody reads the bodies of these: they are refused where the fault is there before the answer.
    ['broken-4', 'GET /secrets/there', NO_CHUNK],
    ['broken-5', 'GET /epochs', NO_CHUNK],
  ] as const) {
    const answer = await vault.raw(head(call, id, CHUNKED, ...lines) + body)
    assert.deepEqual(refusal(answer), [id, '/problems/invalid-request', id], call)
    assert.deepEqual(await eventsBefore(id), REFUSED, call)
  }
  assert.equal(await vault.count(), 0)
  const { json } = await vault.get('/secrets/there/history')
  assert.equal((json.versions as unknown[]).length, 1)
})

test('a body cut by the end of the connection: refused under the id of the request', async () => {
  const zipped = gzipSync('{"values":["a"]}')
  for (const [id, call, part, ...lines] of [
    ['ended-1', 'POST /tokenize', Buffer.from('{"values":["a"')],
    ['ended-2', 'POST /tokenize', zipped.subarray(0, 12), 'Content-Encoding: gzip'],
    ['ended-3', 'POST /secrets', Buffer.alloc(0)],
  ] as const) {
    const text = head(call, id, 'Content-Length: 100', ...lines)
    const answer = await ended(Buffer.concat([Buffer.from(text), part]))
    assert.deepEqual(refusal(answer), [id, '/problems/invalid-request', id], call)
    assert.deepEqual(await eventsBefore(id), REFUSED, call)
  }
  assert.equal(await vault.count(), 0)
})

test('behind another request: that is answered, and the refusal has the id of the one that is cut', async () => {
  const body = JSON.stringify({ name: 'before', value: 'v' })
  const first = `${head('POST /secrets', 'whole', `Content-Length: ${body.length}`)}${body}`
  const answers = await vault.raw(`${first}${head('POST /tokenize', 'behind', CHUNKED)}${BROKEN}`)
  const second = answers.lastIndexOf('HTTP/1.1 ')
  assert.match(answers.slice(0, second), /^HTTP\/1\.1 201 .*\r\nx-request-id: whole\r\n/is)
  assert.deepEqual(refusal(answers.slice(second)), ['behind', '/problems/invalid-request', 'behind'])
  assert.deepEqual(await eventsBefore('behind'), REFUSED)
})

test('what is no request has an id of its own; a request that is answered is not refused as well', async () => {
  const [id, , instance] = refusal(
    await vault.raw(`GET /health HTTP/1.1\r\nX-Request-Id: mine\r\nno HTTP\r\n\r\n`),
  )
  assert.ok(id !== undefined && id !== 'mine' && id === instance)
  const open = 'GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n'
  assert.deepEqual((await ended(open)).match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200'])
})

test('zeros behind the gzip data of a body that goes on: refused, and the node lives', async () => {
  const text = head('POST /tokenize', 'zeros', 'Content-Length: 50000', 'Content-Encoding: gzip')
  const { hostname, port } = new URL(vault.node.url)
  const socket = connect(Number(port), hostname)
  socket.write(Buffer.concat([Buffer.from(text), gzipSync('{"values":["a"]}'), Buffer.alloc(20_000)]))
  const [answer] = await once(socket, 'data')
  socket.destroy()
  assert.match(String(answer), /^HTTP\/1\.1 400 .*"type":"\/problems\/invalid-json"/s)
  assert.equal((await vault.get('/health')).status, 200)
  assert.equal(await Promise.race([vault.node.failed, undefined]), undefined)
})

/** A connection on which nobody reads. */
async function unread(own: Vault, text: string): Promise<Socket> {
  const { hostname, port } = new URL(own.node.url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

test('answers to URLs that are malformed are cut where nobody reads them, as all others', async () => {
  let ahead = 0
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + ahead }
  await using own = await Vault.start({ clock })
  const socket = await unread(own, 'GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(20_000))
  const open = (): Promise<number> => own.metric('coffer_connections')
  await until('the connection', async () => (await open()) === 2)
  await until('the cut', async () => {
    ahead += 15_000 // two looks at the least see no movement
    return (await open()) === 1
  })
  socket.destroy()
})

test('a stop cuts a connection whose last request is CONNECT', { timeout: 25_000 }, async () => {
  await using own = await Vault.start()
  const large = 'GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(400)
  const socket = await unread(own, `${large}CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n`)
  await until('the connection', async () => (await own.metric('coffer_connections')) === 2)
  await own.stop()
  socket.destroy()
})
