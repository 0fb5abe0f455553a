// The contract's order of checks: of two faults in one request the earlier one is told, for every pair of faults.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { FastifyInstance } from 'fastify'
import { systemClock } from '../../src/clock.ts'
import { Problem } from '../../src/errors.ts'
import { EventLog } from '../../src/events/log.ts'
import { buildApp } from '../../src/http/app.ts'
import { ApiKeys, hashKey } from '../../src/http/auth.ts'
import { Connections } from '../../src/http/connections.ts'
import { Metrics } from '../../src/http/metrics.ts'
import { SecretCalls } from '../../src/http/secret-calls.ts'
import type { Services } from '../../src/http/services.ts'
import { TokenCalls } from '../../src/http/token-calls.ts'
import { SILENT } from '../../src/log.ts'
import { DEFAULT_LIMITS } from '../../src/node/config.ts'
import { problemOf } from '../../src/server/problems.ts'
import { soon } from '../deadlines.ts'
import { EVENT_LIMITS } from './trail.ts'
import { KEY_A, until } from './vault.ts'

type State = 'ready' | 'not-ready' | 'stopping'

/** A request in parts, and the state of the node. */
type Parts = {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly lines: Readonly<Record<string, string | undefined>>
  readonly body: string
  readonly state: State
}

type Change = Partial<Omit<Parts, 'lines'>> & { readonly lines?: Parts['lines'] }
type Fault = {
  readonly what: string
  readonly change: Change
  readonly told: readonly [number, string, string?]
}

const PUT: Parts = {
  method: 'PUT',
  path: '/secrets/a/b',
  query: '',
  lines: {
    Host: 'x',
    Authorization: `Bearer ${KEY_A}`,
    'Content-Type': 'application/json',
    'Idempotency-Key': undefined,
  },
  body: '{"value":"x"}',
  state: 'ready',
}

/** In the contract's order. Faults of one step are told in any order, and exclude each other. */
const STEPS: readonly (readonly Fault[])[] = [
  [{ what: 'no Host', change: { lines: { Host: undefined } }, told: [400, 'invalid-request', 'host'] }],
  [
    { what: 'no key', change: { lines: { Authorization: undefined } }, told: [401, 'unauthorized'] },
    { what: 'an unknown key', change: { lines: { Authorization: 'Bearer x' } }, told: [401, 'unauthorized'] },
  ],
  [
    { what: 'no such route', change: { path: '/nothing' }, told: [404, 'not-found'] },
    { what: 'another method', change: { method: 'DELETE' }, told: [405, 'method-not-allowed'] },
    { what: 'a method without a body', change: { method: 'QUERY' }, told: [405, 'method-not-allowed'] },
  ],
  [{ what: 'stopping', change: { state: 'stopping' }, told: [503, 'stopping'] }],
  [
    {
      what: 'a malformed Idempotency-Key',
      change: { lines: { 'Idempotency-Key': '""' } },
      told: [400, 'invalid-request', 'idempotency-key'],
    },
    {
      what: 'a used Idempotency-Key',
      change: { lines: { 'Idempotency-Key': 'used' } },
      told: [422, 'idempotency-key-reused'],
    },
  ],
  [{ what: 'an unknown parameter', change: { query: '?dry=1' }, told: [400, 'invalid-request', 'dry'] }],
  [{ what: 'a bad name', change: { path: '/secrets/a//b' }, told: [400, 'invalid-request', 'name'] }],
  [
    {
      what: 'another media type',
      change: { lines: { 'Content-Type': 'text/plain' } },
      told: [415, 'unsupported-media-type', 'content-type'],
    },
    {
      what: 'a malformed media type',
      change: { lines: { 'Content-Type': 'json' } },
      told: [415, 'unsupported-media-type', 'content-type'],
    },
  ],
  [
    { what: 'no JSON', change: { body: 'nonsense' }, told: [400, 'invalid-json', ''] },
    {
      what: 'an unknown member',
      change: { body: '{"values":[]}' },
      told: [400, 'invalid-request', 'values'],
    },
  ],
  [{ what: 'not ready', change: { state: 'not-ready' }, told: [503, 'not-ready'] }],
]

type Case = { readonly what: string; readonly parts: Parts; readonly told: Fault['told'] }

function pairs(): Case[] {
  const cases: Case[] = []
  STEPS.forEach((earlier, i) => {
    for (const first of earlier) {
      cases.push({ what: first.what, parts: changed(PUT, first.change), told: first.told })
      for (const second of STEPS.slice(i + 1).flat()) {
        if (first.change.path !== undefined && second.change.path !== undefined) continue // one path only
        // A receipt is known to a node that is ready.
        if (first.what === 'a used Idempotency-Key' && second.change.state !== undefined) continue
        const parts = changed(changed(PUT, second.change), first.change)
        cases.push({ what: `${first.what}, ${second.what}`, parts, told: first.told })
      }
    }
  })
  return cases
}

function changed(parts: Parts, { lines, ...change }: Change): Parts {
  return { ...parts, ...change, lines: { ...parts.lines, ...lines } }
}

function textOf({ method, path, query, lines, body }: Parts): string {
  const head = Object.entries({ ...lines, 'Content-Length': String(body.length), Connection: 'close' })
  const sent = head.flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}\r\n`]))
  return `${method} ${path}${query} HTTP/1.1\r\n${sent.join('')}\r\n${body}`
}

const dir = mkdtempSync(join(tmpdir(), 'coffer-order-'))
const events = await EventLog.open({ dir, node: 'n1', clock: systemClock, limits: EVENT_LIMITS })
after(async () => {
  await events.close()
  rmSync(dir, { recursive: true })
})

function servicesOf(state: State): Services {
  if (state !== 'ready') throw new Problem('not-ready', 'the node is starting', { reasons: ['starting'] })
  const done = async (): Promise<never> => assert.fail('a request with a fault reaches a service')
  return {
    tokens: { tokenize: done, detokenize: done, retokenize: done, rotate: done, epochs: done },
    secrets: { create: done, update: done, read: done, history: done, names: done, resolve: done },
    receipts: {
      begin: () => {
        throw new Problem('idempotency-key-reused', 'this Idempotency-Key belongs to another request')
      },
      successInstead: done,
      settle: () => undefined,
    },
  }
}

async function listen(state: State): Promise<FastifyInstance> {
  const services = (): Services => servicesOf(state)
  const app = await buildApp({
    deadline: soon,
    clock: systemClock,
    keys: new ApiKeys([{ id: 'clinic-a', keys: [{ id: 'k1', sha256: hashKey(KEY_A) }] }], systemClock),
    tokens: new TokenCalls(services, [], DEFAULT_LIMITS),
    secrets: new SecretCalls(services, DEFAULT_LIMITS),
    node: { notReady: () => [], status: () => ({}), stored: () => ({ quota: null, used: 0 }) },
    events,
    metrics: new Metrics(() => assert.fail('nobody asks for metrics')),
    log: { error: assert.fail, warn: assert.fail, info: () => undefined },
    version: '0',
    limits: DEFAULT_LIMITS,
    tls: undefined,
    connections: new Connections(Number.POSITIVE_INFINITY, SILENT),
    keepAliveMs: 72_000,
    problemOf,
    fatal: assert.fail,
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}

/** Sends the beginning of every request, then `meanwhile`, then the rest. */
async function answersOf(
  app: FastifyInstance,
  texts: readonly string[],
  meanwhile: () => void,
): Promise<string[]> {
  const address = app.server.address()
  assert.ok(address !== null && typeof address === 'object')
  const begun = await Promise.all(
    texts.map(async (text): Promise<[Socket, Promise<string>]> => {
      const socket = connect(address.port, '127.0.0.1')
      let answer = ''
      socket.setEncoding('latin1').on('data', (chunk) => {
        answer += String(chunk)
      })
      await once(socket, 'connect')
      socket.write(text.slice(0, 3))
      return [socket, once(socket, 'close').then(() => answer)]
    }),
  )
  const connections = (): Promise<number> =>
    new Promise((resolve) => app.server.getConnections((_error, count) => resolve(count)))
  await until('all are connected', async () => (await connections()) === texts.length)
  await fetch(`http://127.0.0.1:${address.port}/health`, { headers: { connection: 'close' } })
  meanwhile()
  begun.forEach(([socket], i) => {
    socket.write(texts[i].slice(3))
  })
  return Promise.all(begun.map(([, answer]) => answer))
}

test('/whoami and /status are answered while the node starts', async () => {
  const app = await listen('not-ready')
  for (const url of ['/whoami', '/status']) {
    const headers = { authorization: `Bearer ${KEY_A}` }
    assert.equal((await app.inject({ url, headers })).statusCode, 200, url)
  }
  await app.close()
})

for (const state of ['ready', 'not-ready', 'stopping'] as const) {
  test(`two faults in one request, the node ${state}: the earlier one is told`, async () => {
    const cases = pairs().filter(({ parts }) => parts.state === state)
    assert.ok(cases.length >= 10)
    const app = await listen(state)
    let closed: Promise<unknown> | undefined
    const answers = await answersOf(
      app,
      cases.map(({ parts }) => textOf(parts)),
      () => {
        if (state === 'stopping') closed = app.close()
      },
    )
    await (closed ?? app.close())
    const told = answers.map((answer, i) => {
      const { status, type, path } = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))
      return [cases[i].what, status, type.replace('/problems/', ''), path]
    })
    assert.deepEqual(
      told,
      cases.map(({ what, told: [status, slug, path] }) => [what, status, slug, path]),
    )
  })
}
