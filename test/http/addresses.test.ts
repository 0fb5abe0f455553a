// A host name with several addresses: each address has a whole server.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import { systemClock } from '../../src/clock.ts'
import { EventLog } from '../../src/events/log.ts'
import { buildApp } from '../../src/http/app.ts'
import { ApiKeys } from '../../src/http/auth.ts'
import { Connections } from '../../src/http/connections.ts'
import { listenOn, type TlsFiles } from '../../src/http/listener.ts'
import { Metrics } from '../../src/http/metrics.ts'
import { SecretCalls } from '../../src/http/secret-calls.ts'
import { TokenCalls } from '../../src/http/token-calls.ts'
import { createAuthority, issueCertificate } from '../../src/node/certificates.ts'
import { DEFAULT_LIMITS } from '../../src/node/config.ts'
import { problemOf } from '../../src/server/problems.ts'
import { until } from '../cli/cli.ts'
import { soon } from '../deadlines.ts'
import { EVENT_LIMITS } from './trail.ts'

const dir = mkdtempSync(join(tmpdir(), 'coffer-addresses-'))
const events = await EventLog.open({ dir, node: 'n1', clock: systemClock, limits: EVENT_LIMITS })
after(async () => {
  await events.close()
  rmSync(dir, { recursive: true })
})

const NUMBERS = {
  revision: 0,
  head: 0,
  mappings: 0,
  segments: 0,
  secrets: 0,
  secretVersions: 0,
  ignoredDuplicates: 0,
  foreignKeys: 0,
  eventsDropped: 0,
  ready: true,
  quorum: true,
  leader: undefined,
  members: [],
  ledgerUsed: 0,
  fieldMatches: [],
  records: 0,
  owners: '',
  rootKeys: [],
  wrappedKeys: new Map(),
  genesis: 0,
}

/** Of the application that listens. */
let metrics: Metrics

type Listening = {
  readonly port?: number
  readonly most?: number
  readonly tls?: TlsFiles | undefined
  readonly handshakeMs?: number
  readonly warn?: (fields: object) => void
}

async function listen({
  port = 0,
  most = Number.POSITIVE_INFINITY,
  tls,
  handshakeMs = 10_000,
  warn = () => assert.fail('nothing is logged'),
}: Listening = {}): Promise<[FastifyInstance, number]> {
  const services = (): never => assert.fail('no call reaches a service')
  const log = { error: assert.fail, warn, info: () => undefined }
  metrics = new Metrics(() => NUMBERS, { ageMs: 0 })
  const listener = { tls, handshakeMs, keepAliveMs: 72_000, connections: new Connections(most, log) }
  const app = await buildApp({
    deadline: soon,
    clock: systemClock,
    keys: new ApiKeys([], systemClock),
    tokens: new TokenCalls(services, [], DEFAULT_LIMITS),
    secrets: new SecretCalls(services, DEFAULT_LIMITS),
    node: { notReady: () => [], status: () => ({}), stored: () => ({ quota: null, used: 0 }) },
    events,
    metrics,
    log,
    version: '0',
    limits: DEFAULT_LIMITS,
    ...listener,
    problemOf,
    fatal: assert.fail,
  })
  await listenOn(app, ['127.0.0.1', '127.0.0.2', '127.0.0.3'], { port, log, ...listener })
  const address = app.server.address()
  assert.ok(address !== null && typeof address === 'object')
  return [app, address.port]
}

/** Sends bytes, and returns the whole answer. With `half`, the sending side ends after the bytes. */
async function send(host: string, port: number, text: string, half = false): Promise<string> {
  const socket = connect({ host, port, allowHalfOpen: true })
  if (half) socket.end(text)
  else socket.write(text)
  let answer = ''
  for await (const chunk of socket) answer += chunk
  socket.end()
  return answer
}

test('each address answers, refuses and half-closes as the first does', async () => {
  const [app, port] = await listen()
  try {
    for (const host of ['127.0.0.1', '127.0.0.2', '127.0.0.3']) {
      assert.match(await send(host, port, 'GET /health HTTP/1.1\r\nHost: a\r\n\r\n', true), /^HTTP\/1.1 200 /)
      assert.match(
        await send(host, port, 'nonsense\r\n\r\n'),
        /^HTTP\/1.1 400 [\s\S]*x-request-id: [\s\S]*"\/problems\/invalid-request"/,
      )
      const put = 'POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n'
      const refused = await send(host, port, put, true)
      assert.match(refused, /^HTTP\/1.1 401 /)
    }
  } finally {
    await app.close()
  }
  for (const host of ['127.0.0.1', '127.0.0.2', '127.0.0.3'])
    await assert.rejects(send(host, port, 'GET /health HTTP/1.1\r\n\r\n'), { code: 'ECONNREFUSED' })
})

test('an address in use is logged, and the others are served', async () => {
  const holder = createServer().listen(0, '127.0.0.2')
  await new Promise((resolve) => holder.once('listening', resolve))
  const address = holder.address()
  assert.ok(address !== null && typeof address === 'object')
  const warned: object[] = []
  const [app] = await listen({ port: address.port, warn: (fields) => warned.push(fields) })
  try {
    assert.equal(warned.length, 1)
    assert.match(
      await send('127.0.0.3', address.port, 'GET /health HTTP/1.1\r\nHost: a\r\n\r\n', true),
      / 200 /,
    )
  } finally {
    await app.close()
    holder.close()
  }
})

/** Whether the node keeps a new connection: it answers, and the connection stays open. */
async function keeps(host: string, port: number, kept: Socket[], tls = false): Promise<boolean> {
  const socket = tls ? connectTls({ host, port, rejectUnauthorized: false }) : connect({ host, port })
  const answered = await new Promise<boolean>((resolve) => {
    socket.once('data', () => resolve(true))
    socket.on('error', () => undefined).once('close', () => resolve(false))
    socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n')
  })
  if (answered) kept.push(socket)
  return answered
}

test('all addresses share the limit of connections; those beyond it are closed, counted and logged once a second', async () => {
  const warned: object[] = []
  const [app, port] = await listen({ most: 6, warn: (fields) => warned.push(fields) })
  const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3']
  const kept: Socket[] = []
  const gauges = async (): Promise<string[]> => {
    const gauge = /^coffer_connections\w* \d+$/gm
    return (await metrics.text()).match(gauge) ?? []
  }
  try {
    for (let i = 0; i < 6; i++) assert.equal(await keeps(hosts[i % 2], port, kept), true)
    for (let i = 0; i < 30; i++) assert.equal(await keeps(hosts[i % 3], port, kept), false)
    assert.ok(warned.length === 1 || warned.length === 2, `${warned.length} warnings`)
    assert.deepEqual(warned[0], { open: 6, refused: 1 })
    assert.deepEqual(await gauges(), ['coffer_connections 6', 'coffer_connections_refused 30'])
    // A connection that ends makes room on every address.
    kept[0].end()
    await once(kept[0], 'close')
    assert.equal(await keeps(hosts[2], port, kept), true)
    assert.equal(await keeps(hosts[0], port, kept), false)
    kept[1].write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n')
    const [answer] = await once(kept[1], 'data')
    assert.match(String(answer), / 200 /)
  } finally {
    for (const socket of kept) socket.destroy()
    await app.close()
  }
})

test('over TLS connections are counted from the first byte on, and end where no handshake comes', async () => {
  const { cert, key } = await issueCertificate(
    await createAuthority(systemClock),
    { node: 'n1' },
    systemClock,
  )
  const tls = { cert: Buffer.from(cert), key: Buffer.from(key) }
  const [app, port] = await listen({ most: 3, tls, handshakeMs: 2000, warn: () => undefined })
  const kept: Socket[] = []
  /** What begins no handshake: silence, the end of the sending side, HTTP in clear. */
  const begins: readonly ((socket: Socket) => void)[] = [
    () => undefined,
    (socket) => socket.end(),
    (socket) => socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n'),
  ]
  const openAre = (count: number): Promise<unknown> =>
    until(`${count} connections`, async () =>
      new RegExp(`^coffer_connections ${count}$`, 'm').test(await metrics.text()),
    )
  try {
    for (const begin of begins) {
      const strange = connect({ host: '127.0.0.1', port, allowHalfOpen: true }).on('error', () => undefined)
      await once(strange, 'connect')
      for (const expected of [true, true, false])
        assert.equal(await keeps('127.0.0.2', port, kept, true), expected)
      begin(strange)
      await openAre(2)
      for (const socket of kept.splice(0)) socket.destroy()
      await openAre(0)
      strange.destroy()
    }
  } finally {
    for (const socket of kept) socket.destroy()
    await app.close()
  }
})
