// A host name with several addresses: each address has a whole server.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { FastifyInstance } from 'fastify'
import { systemClock } from '../../src/clock.ts'
import { EventLog } from '../../src/events/log.ts'
import { buildApp } from '../../src/http/app.ts'
import { ApiKeys } from '../../src/http/auth.ts'
import { listenOn } from '../../src/http/listener.ts'
import { Metrics } from '../../src/http/metrics.ts'
import { SecretCalls } from '../../src/http/secret-calls.ts'
import { TokenCalls } from '../../src/http/token-calls.ts'
import { DEFAULT_LIMITS } from '../../src/node/config.ts'
import { problemOf } from '../../src/server/problems.ts'

const dir = mkdtempSync(join(tmpdir(), 'coffer-addresses-'))
const events = await EventLog.open({ dir, node: 'n1', clock: systemClock, maxBytes: 1e6, keep: 1 })
after(async () => {
  await events.close()
  rmSync(dir, { recursive: true })
})

type Listening = { readonly port?: number; readonly warn?: (fields: object) => void }

async function listen({
  port = 0,
  warn = () => assert.fail('nothing is logged'),
}: Listening = {}): Promise<[FastifyInstance, number]> {
  const services = (): never => assert.fail('no call reaches a service')
  const log = { error: assert.fail, warn, info: () => undefined }
  const app = await buildApp({
    clock: systemClock,
    keys: new ApiKeys([]),
    tokens: new TokenCalls(services, [], DEFAULT_LIMITS),
    secrets: new SecretCalls(services, DEFAULT_LIMITS),
    node: { notReady: () => [], status: () => ({}) },
    events,
    metrics: new Metrics(() => assert.fail('no request asks for metrics')),
    log,
    version: '0',
    limits: DEFAULT_LIMITS,
    tls: undefined,
    problemOf,
    fatal: assert.fail,
  })
  await listenOn(app, ['127.0.0.1', '127.0.0.2', '127.0.0.3'], { port, tls: undefined, log })
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
