// Rights of API keys on every route: routes × rights × {right there, not there} × {within the prefix, outside} ×
// {before, after the end} × {quorum, none}, all out of the table of routes. A refusal is decided before any service
// is asked, and its bytes are the same whether the thing exists or not.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { Values } from '../../src/crypto/canonical.ts'
import { Problem } from '../../src/errors.ts'
import { EventLog } from '../../src/events/log.ts'
import { buildApp } from '../../src/http/app.ts'
import { ApiKeys, hashKey } from '../../src/http/auth.ts'
import { Connections } from '../../src/http/connections.ts'
import { Metrics } from '../../src/http/metrics.ts'
import { ROUTES } from '../../src/http/routes.ts'
import { SecretCalls } from '../../src/http/secret-calls.ts'
import type { Services } from '../../src/http/services.ts'
import { TokenCalls } from '../../src/http/token-calls.ts'
import { LedgerUnavailable } from '../../src/ledger/ledger.ts'
import { SILENT } from '../../src/log.ts'
import { DEFAULT_LIMITS } from '../../src/node/config.ts'
import { problemOf } from '../../src/server/problems.ts'
import { RIGHTS, type Right } from '../../src/wire.ts'
import { soon } from '../deadlines.ts'
import { EVENT_LIMITS } from './trail.ts'

const PREFIX = 'in/'
const END = Date.parse('2027-01-01T00:00:00Z')
const TOKEN = `tok_1_${'0'.repeat(32)}`

/** A request of every route with a key, about the secret of the name where the route names one. */
type Asked = { readonly url: string; readonly payload?: string }
const REQUESTS: Readonly<Record<string, (name: string) => Asked>> = {
  'POST /tokenize': () => ({ url: '/tokenize', payload: '{"values":["x"]}' }),
  'POST /detokenize': () => ({ url: '/detokenize', payload: `{"token":"${TOKEN}"}` }),
  'POST /retokenize': () => ({ url: '/retokenize', payload: `{"tokens":["${TOKEN}"]}` }),
  'POST /rotate-epoch': () => ({ url: '/rotate-epoch', payload: '{"to":2}' }),
  'GET /epochs': () => ({ url: '/epochs' }),
  'POST /secrets': (name) => ({
    url: '/secrets',
    payload: JSON.stringify({ secrets: ['in/other', name].map((each) => ({ name: each, value: 'x' })) }),
  }),
  'GET /secrets': () => ({ url: '/secrets' }),
  'POST /secrets/resolve': (name) => ({
    url: '/secrets/resolve',
    payload: JSON.stringify({ refs: ['coffer://in/other@1', `coffer://${name}`] }),
  }),
  'GET /secrets/:name': (name) => ({ url: `/secrets/${name}` }),
  'PUT /secrets/:name': (name) => ({ url: `/secrets/${encodeURIComponent(name)}`, payload: '{"value":"x"}' }),
  'GET /secrets/:name/history': (name) => ({ url: `/secrets/${name}/history` }),
  'GET /status': () => ({ url: '/status' }),
  'GET /whoami': () => ({ url: '/whoami' }),
}
const NAMED = new Set(['POST /secrets', 'POST /secrets/resolve', 'GET /secrets/:name', 'PUT /secrets/:name'])
NAMED.add('GET /secrets/:name/history')

type World = { quorum: boolean; exists: boolean; now: number; calls: number }

/** Services that count their calls, and answer as the world says. */
function servicesOf(world: World): Services {
  const asked = async <T>(answer: T, missing: () => T): Promise<T> => {
    world.calls++
    if (!world.quorum) throw new LedgerUnavailable('no-quorum', 'no majority')
    return world.exists ? answer : missing()
  }
  const absent = (): never => {
    throw new Problem('not-found', 'there is no such secret or version')
  }
  const written = { version: 1, validFrom: 0, revision: 1, replayed: false }
  const bytes = { bodies: new Uint8Array(16), checks: new Uint8Array(16) }
  const none = { values: new Values(0, 0), index: Int32Array.of(-1), missing: 1 }
  const found = { values: new Values(1, 8), index: Int32Array.of(0), missing: 0 }
  found.values.pushBoolean(true)
  const epochs = { active: 1, epochs: [] }
  const rotation = { epoch: 2, rotated: true, revision: 1 }
  const interval = { version: 1, validFrom: 0, validTo: null }
  return {
    tokens: {
      tokenize: () => asked({ epoch: 1, ...bytes, fresh: 1 }, () => ({ epoch: 1, ...bytes, fresh: 0 })),
      detokenize: () => asked(found, () => none),
      retokenize: () => asked({ epoch: 1, ...bytes, fresh: 0, ...found }, absent),
      rotate: () => asked(rotation, () => rotation),
      epochs: () => asked(epochs, () => epochs),
    },
    secrets: {
      create: () => asked(written, () => written),
      update: () => asked(written, absent),
      read: () => asked({ ...interval, value: Buffer.from('x') }, absent),
      history: () => asked([{ ...interval, keyId: 'k', requestId: 'r' }], absent),
      names: () => asked(['in/a'], () => []),
      resolve: () =>
        asked({ values: ['x', 'y'].map((text) => Buffer.from(text)), missing: [] as number[] }, absent),
    },
    receipts: {
      begin: () => assert.fail('no request has an Idempotency-Key'),
      successInstead: () => assert.fail('no request has an Idempotency-Key'),
      settle: () => undefined,
    },
  }
}

type Key = { readonly id: string; readonly may: readonly Right[]; readonly text: string }

/** For every right: a key with this right alone, and a key with all others. */
const KEYS: readonly Key[] = RIGHTS.flatMap((right, i) => [
  { id: `only${i}`, may: [right], text: `cof_only-${right}` },
  { id: `without${i}`, may: RIGHTS.filter((each) => each !== right), text: `cof_without-${right}` },
])

const dir = mkdtempSync(join(tmpdir(), 'coffer-rights-'))
const events = await EventLog.open({ dir, node: 'n1', clock: systemClock, limits: EVENT_LIMITS })
const world: World = { quorum: true, exists: true, now: 0, calls: 0 }
const clock = { ...systemClock, now: () => world.now }
const services = servicesOf(world)
const limited = KEYS.map(({ id, may, text }) => ({
  ...{ id, may, sha256: hashKey(text), prefix: PREFIX, until: END },
}))
const app = await buildApp({
  deadline: soon,
  clock,
  keys: new ApiKeys([{ id: 'clinic-a', keys: limited }], clock),
  tokens: new TokenCalls(() => services, [], DEFAULT_LIMITS),
  secrets: new SecretCalls(() => services, DEFAULT_LIMITS),
  node: { notReady: () => [], status: () => ({}), stored: () => ({ quota: null, used: 17 }) },
  events,
  metrics: new Metrics(() => assert.fail('nobody asks for metrics')),
  log: { error: (_fields, message) => assert.fail(message), warn: assert.fail, info: () => undefined },
  version: '0',
  limits: DEFAULT_LIMITS,
  tls: undefined,
  connections: new Connections(Number.POSITIVE_INFINITY, SILENT),
  keepAliveMs: 72_000,
  problemOf,
  fatal: assert.fail,
})
await app.listen({ host: '127.0.0.1', port: 0 }) // an app that never listened closes late
after(async () => {
  await app.close()
  await events.close()
  rmSync(dir, { recursive: true })
})

type Told = { readonly status: number; readonly bytes: string; readonly json: Record<string, unknown> }

async function told(method: string, { url, payload }: Asked, text: string): Promise<Told> {
  const headers = {
    authorization: `Bearer ${text}`,
    'x-request-id': 'r',
    ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
  }
  const answer = await app.inject({
    method: method as 'GET', // one of the table
    url,
    headers,
    ...(payload === undefined ? {} : { payload }),
  })
  const { date: _date, ...fields } = answer.headers
  const bytes = JSON.stringify([answer.statusCode, fields, answer.payload])
  return { status: answer.statusCode, bytes, json: answer.json() }
}

/** What the contract says of a refusal; undefined where the request is served. */
function refusal(
  route: string,
  right: Right | undefined,
  { may }: Key,
  about: { readonly inside: boolean; readonly ended: boolean },
): Record<string, unknown> | undefined {
  if (about.ended) return { type: '/problems/unauthorized', status: 401 }
  if (right !== undefined && !may.includes(right))
    return { type: '/problems/forbidden', status: 403, needs: right }
  if (!about.inside && NAMED.has(route)) return { type: '/problems/forbidden', status: 403, prefix: PREFIX }
  return undefined
}

let cases = 0
for (const route of ROUTES) {
  if (route.open) continue
  const what = `${route.method} ${route.path}`
  test(`${what}: every right, prefix, end, with quorum and without`, async () => {
    const asked = REQUESTS[what] ?? assert.fail('a route without a request in this test')
    for (const key of KEYS) {
      for (const inside of [true, false]) {
        for (const ended of [false, true]) {
          const request = asked(inside ? 'in/a' : 'out/a')
          world.now = ended ? END : END - 1
          const expected = refusal(what, route.right, key, { inside, ended })
          const seen = new Set<string>()
          for (const quorum of [true, false]) {
            for (const exists of [true, false]) {
              Object.assign(world, { quorum, exists, calls: 0 })
              const { status, bytes, json } = await told(route.method, request, key.text)
              cases++
              const about = JSON.stringify({ key: key.id, inside, ended, quorum, exists, json })
              if (expected === undefined) {
                assert.ok(status !== 401 && status !== 403, about)
                assert.equal(world.calls, route.right === undefined ? 0 : 1, about)
                if (route.right !== undefined && !quorum)
                  assert.equal(json.type, '/problems/no-quorum', about)
                continue
              }
              const { needs, prefix } = json
              const members = { type: json.type, status: json.status, needs, prefix }
              assert.deepEqual(members, { needs: undefined, prefix: undefined, ...expected }, about)
              assert.equal(world.calls, 0, about)
              seen.add(bytes)
            }
          }
          assert.ok(seen.size <= 1, `answers differ: ${[...seen].join('\n')}`)
        }
      }
    }
  })
}

test('the table gave more than a thousand cases', () => {
  assert.ok(cases > 1000, `${cases} cases`)
})

test('open routes know nothing of keys', async () => {
  world.now = END
  for (const { method, path } of ROUTES.filter(({ open, path }) => open && path !== '/metrics')) {
    const { status } = await told(method, { url: path.replace(':slug', 'forbidden') }, KEYS[0].text)
    assert.equal(status, 200, path)
  }
})

test('/whoami tells the rights in their order, the limits, and what the owner uses', async () => {
  world.now = END - 1
  const { json } = await told('GET', { url: '/whoami' }, 'cof_without-detokenize')
  assert.deepEqual(json, {
    owner: 'clinic-a',
    key_id: 'without1',
    may: ['tokenize', 'rotate', 'secrets:read', 'secrets:write'],
    prefix: PREFIX,
    until: '2027-01-01T00:00:00.000Z',
    resolve_per_day: null,
    quota: null,
    used: 17,
  })
})
