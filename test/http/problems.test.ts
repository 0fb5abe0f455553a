// What the service throws, as a caller sees it: the real HTTP side over a service that fails on purpose.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { UnknownRootKey } from '../../src/crypto/keyring.ts'
import { Problem } from '../../src/errors.ts'
import { EventLog } from '../../src/events/log.ts'
import { buildApp } from '../../src/http/app.ts'
import { ApiKeys, hashKey } from '../../src/http/auth.ts'
import { Connections } from '../../src/http/connections.ts'
import { Metrics } from '../../src/http/metrics.ts'
import { SecretCalls } from '../../src/http/secret-calls.ts'
import type { Services } from '../../src/http/services.ts'
import { TokenCalls } from '../../src/http/token-calls.ts'
import { LedgerUnavailable, UnknownOutcome } from '../../src/ledger/ledger.ts'
import { SILENT } from '../../src/log.ts'
import { DEFAULT_LIMITS } from '../../src/node/config.ts'
import { problemOf } from '../../src/server/problems.ts'
import { DamagedReplica } from '../../src/state/stored.ts'
import { soon } from '../deadlines.ts'
import { EVENT_LIMITS } from './trail.ts'
import { KEY_A } from './vault.ts'

const CANARY = 'c4n4ry-in-a-message'

type Method = 'GET' | 'POST' | 'PUT'
type Told = { readonly logs: string[]; readonly fatal: Error[]; readonly reasons: string[] }
type Got = { status: number; headers: Record<string, unknown>; json: Record<string, unknown> }

/** The HTTP side over a service whose every call throws `error`. */
async function over(
  error: Error,
  use: (get: (method: Method, url: string, body?: string) => Promise<Got>, told: Told) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-problems-'))
  const events = await EventLog.open({ dir, node: 'n1', clock: systemClock, limits: EVENT_LIMITS })
  const told: Told = { logs: [], fatal: [], reasons: [] }
  const fails = async (): Promise<never> => {
    throw error
  }
  const failsAtOnce = (): never => {
    throw error
  }
  const services = (): Services => ({
    tokens: { tokenize: fails, detokenize: fails, retokenize: fails, rotate: fails, epochs: fails },
    secrets: { create: fails, update: fails, read: fails, history: fails, names: fails, resolve: fails },
    receipts: { begin: failsAtOnce, successInstead: fails, settle: () => undefined },
  })
  const log = (fields: object, message: string) => told.logs.push(JSON.stringify({ ...fields, message }))
  const app = await buildApp({
    deadline: soon,
    clock: systemClock,
    keys: new ApiKeys([{ id: 'clinic-a', keys: [{ id: 'k1', sha256: hashKey(KEY_A) }] }], systemClock),
    tokens: new TokenCalls(services, [], DEFAULT_LIMITS),
    secrets: new SecretCalls(services, DEFAULT_LIMITS),
    node: {
      notReady: (reads) => (reads ? [] : told.reasons),
      status: () => ({}),
      stored: () => ({ quota: null, used: 0 }),
    },
    events,
    metrics: new Metrics(() => assert.fail('nobody asks for metrics')),
    log: { ...SILENT, error: log, warn: log },
    version: '0',
    limits: DEFAULT_LIMITS,
    tls: undefined,
    connections: new Connections(Number.POSITIVE_INFINITY, SILENT),
    keepAliveMs: 72_000,
    problemOf,
    fatal: (reason) => told.fatal.push(reason),
  })
  try {
    const url = await app.listen({ host: '127.0.0.1', port: 0 })
    await use(async (method, path, body) => {
      const headers = { authorization: `Bearer ${KEY_A}`, 'content-type': 'application/json' }
      const answer = await fetch(url + path, { method, headers, ...(body ? { body } : {}) })
      const json = (await answer.json()) as Got['json'] // an answer is a JSON object
      return { status: answer.status, headers: Object.fromEntries(answer.headers), json }
    }, told)
  } finally {
    await app.close()
    await events.close()
    rmSync(dir, { recursive: true })
  }
}

const CALLS: readonly (readonly [Method, string, string?])[] = [
  ['POST', '/tokenize', '{"values":[1]}'],
  ['POST', '/tokenize', '{"records":[{}]}'],
  ['POST', '/detokenize', '{"token":"x"}'],
  ['POST', '/detokenize', '{"tokens":[]}'],
  ['POST', '/detokenize', '{"records":[]}'],
  ['POST', '/retokenize', '{"tokens":[]}'],
  ['POST', '/rotate-epoch', '{"to":2}'],
  ['GET', '/epochs'],
  ['POST', '/secrets', '{"name":"a","value":""}'],
  ['POST', '/secrets', '{"secrets":[]}'],
  ['PUT', '/secrets/a', '{"value":""}'],
  ['GET', '/secrets'],
  ['GET', '/secrets/a'],
  ['GET', '/secrets/a?version=1'],
  ['GET', '/secrets/a/history'],
  ['POST', '/secrets/resolve', '{"refs":[]}'],
]

for (const [error, status, slug, members] of [
  [new UnknownOutcome(CANARY), 503, 'no-quorum', { outcome: 'unknown' }],
  [new LedgerUnavailable('no-quorum', 'nobody there'), 503, 'no-quorum', { outcome: 'not-applied' }],
  [new LedgerUnavailable('disk-full', 'full'), 503, 'disk-full', {}],
  [new LedgerUnavailable('ledger-full', 'full'), 503, 'ledger-full', {}],
  [new LedgerUnavailable('closed', CANARY), 503, 'stopping', {}],
  [new Problem('unknown-root-key', 'rk-1 is missing'), 503, 'unknown-root-key', {}],
  [new Problem('not-ready', 'starting', { reasons: ['x'] }), 503, 'not-ready', { reasons: ['x'] }],
  [new Problem('epoch-conflict', 'no', { epoch: 7 }), 409, 'epoch-conflict', { epoch: 7 }],
  [new Error(CANARY), 500, 'internal', {}],
  [new UnknownRootKey(CANARY), 500, 'internal', {}],
  [new TypeError(CANARY), 500, 'internal', {}],
] as const) {
  test(`${error.name} ${'reason' in error ? error.reason : ''} is told as ${slug}`, async () => {
    await over(error, async (get, told) => {
      for (const call of CALLS) {
        const { status: got, headers, json } = await get(...call)
        assert.deepEqual([got, json.type], [status, `/problems/${slug}`], call[1])
        const { type, title, status: inside, detail, instance, ...rest } = json
        assert.deepEqual(rest, members)
        assert.ok(title && detail && inside === status && instance === headers['x-request-id'])
        assert.equal(headers['retry-after'] !== undefined, status === 503)
        assert.ok(!JSON.stringify(json).includes(CANARY), 'repeats the message of an error')
      }
      // What is our fault is in the log, under the request id; what is not, is not.
      assert.equal(told.logs.length, status === 500 ? CALLS.length : 0)
      assert.deepEqual(told.fatal, [])
    })
  })
}

test('a damaged replica is an internal error that ends the node', async () => {
  const damaged = new DamagedReplica('page 7')
  await over(damaged, async (get, told) => {
    assert.equal((await get('POST', '/tokenize', '{"values":[1]}')).status, 500)
    assert.deepEqual(told.fatal, [damaged])
  })
})

test('/ready tells every reason, and is ready for reads all the same', async () => {
  await over(new Error(), async (get, told) => {
    assert.equal((await get('GET', '/ready')).status, 200)
    told.reasons.push('the ledger is gone', 'the disk is full')
    const { status, headers, json } = await get('GET', '/ready')
    assert.deepEqual([status, json.type], [503, '/problems/not-ready'])
    assert.deepEqual(json.reasons, ['the ledger is gone', 'the disk is full'])
    assert.ok(headers['retry-after'])
    assert.equal((await get('GET', '/ready?for=reads')).status, 200)
    assert.equal((await get('GET', '/health')).status, 200)
  })
})
