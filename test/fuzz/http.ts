// Requests to a node that runs: whatever they are, the answer is of the contract, and a refusal a problem.
import assert from 'node:assert/strict'
import { METHODS } from 'node:http'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { PROBLEMS, type Slug } from '../../src/errors.ts'
import { type Answer, KEY_A, KEY_B, type Vault } from '../http/vault.ts'
import { damage, damaged, type Target } from './target.ts'
import { secretName } from './texts.ts'

/** Stands in values: no problem may repeat it. */
const CANARY = 'canary-4d1f'

const PATHS = ['/tokenize', '/detokenize', '/retokenize', '/rotate-epoch', '/epochs', '/secrets']
PATHS.push('/secrets/resolve', '/health', '/ready', '/status', '/whoami', '/metrics', '/openapi.json')
PATHS.push('/problems/not-found', '/docs', '/docs/', '/docs/json', '/', '*', '//', '/secrets/', '/secrets//x')

const odd = fc.stringMatching(/^[\x21-\x7e]{0,30}$/)
const name = fc.oneof(fc.constantFrom('a', 'a/b', 'resolve', 'history', '..', 'a/../b', 'a%2Fb'), secretName)
const path = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...PATHS) },
  { weight: 3, arbitrary: name.map((text) => `/secrets/${text}`) },
  { weight: 1, arbitrary: name.map((text) => `/secrets/${encodeURIComponent(text)}/history`) },
  { weight: 1, arbitrary: odd.map((text) => `/${text}`) },
  { weight: 1, arbitrary: odd.map((text) => `/secrets/${text}`) },
  { weight: 1, arbitrary: odd.map((text) => `/problems/${text}`) },
  { weight: 1, arbitrary: fc.constantFrom(...PATHS).map((text) => `http://other.example${text}`) },
)
const parameter = fc.tuple(
  fc.constantFrom('version', 'at', 'prefix', 'limit', 'after', 'for', 'x', ''),
  fc.oneof(
    fc.constantFrom('1', '0', '-1', '1e3', '2026-01-01T00:00:00Z', '9999-12-31T23:59:60-23:59', 'reads', ''),
    odd,
  ),
)
const query = fc
  .array(parameter, { maxLength: 3 })
  .map((list) => (list.length === 0 ? '' : `?${list.map(([key, value]) => `${key}=${value}`).join('&')}`))

const TOKEN = `tok_1_${'0'.repeat(32)}`
const scalar = fc.oneof(
  fc.constantFrom(CANARY, TOKEN, '', null, true, -0, 2 ** 53, 'coffer://a', 'coffer://a@1', '\ud800'),
  fc.string({ unit: 'binary' }),
  fc.double(),
  fc.integer(),
)
const json = fc.oneof(scalar, fc.jsonValue({ maxDepth: 3 }))
const member = fc.constantFrom(
  'values',
  'tokens',
  'token',
  'records',
  'to',
  'name',
  'value',
  'secrets',
  'refs',
)
const document = fc.oneof(
  fc.record({ values: fc.array(json, { maxLength: 5 }) }),
  fc.record({ records: fc.array(fc.dictionary(fc.constantFrom('ssn', 'x', 'contacts'), json)) }),
  fc.record({ tokens: fc.array(json, { maxLength: 5 }) }),
  fc.record({ token: json }),
  fc.record({ to: fc.oneof(fc.integer({ min: 0, max: 5 }), json) }),
  fc.record({ name: fc.oneof(name, json), value: json }),
  fc.record({ secrets: fc.array(fc.record({ name, value: json }), { maxLength: 4 }) }),
  fc.record({ value: json }),
  fc.record({
    refs: fc.array(
      fc.oneof(
        name.map((text) => `coffer://${text}`),
        json,
      ),
      { maxLength: 4 },
    ),
  }),
  fc.dictionary(fc.oneof(member, fc.string()), json, { maxKeys: 4 }),
  json,
)
const plain = document.map((value) => Buffer.from(JSON.stringify(value) ?? ''))
const body = fc.oneof(
  { weight: 6, arbitrary: plain },
  { weight: 3, arbitrary: fc.tuple(plain, damage).map(([bytes, steps]) => damaged(bytes, steps)) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 1, arbitrary: fc.constant(Buffer.from('['.repeat(5000))) },
)
const text = fc.stringMatching(/^[\x20-\x7e]{0,40}$/).map((line) => line.trim())
const HEADERS: Readonly<Record<string, readonly string[]>> = {
  authorization: [`bearer ${KEY_A}`, `Bearer ${KEY_B}`, 'Bearer ', 'Basic eA==', `Bearer  ${KEY_A}`],
  'content-type': ['application/json', 'application/json; charset=utf-8', 'text/plain', 'application/json;'],
  'content-encoding': ['gzip', 'identity', 'br', 'gzip, gzip', 'x-gzip'],
  'if-match': ['*', '"1"', 'W/"1"', '"1", "2"', '"', '1', ','],
  'idempotency-key': ['k', '"k"', '""', 'é', 'k'.repeat(129), ' '],
  'x-request-id': ['my-id', 'bad id', 'x'.repeat(129)],
  expect: ['100-continue', 'other'],
  accept: ['text/html', 'application/xml'],
  range: ['bytes=0-1'],
  'accept-encoding': ['br, gzip'],
  connection: ['close'],
  te: ['trailers'],
  origin: ['https://evil.example'],
}
const header = fc
  .constantFrom(...Object.keys(HEADERS))
  .chain((key) => fc.tuple(fc.constant(key), fc.oneof(fc.constantFrom(...HEADERS[key]), text)))

type Asked = {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | undefined
}
const method = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom('POST', 'GET', 'PUT', 'HEAD') },
  // A client of node:http takes the answer to CONNECT for a tunnel: requests.ts of raw bytes sends it.
  { weight: 1, arbitrary: fc.constantFrom(...METHODS.filter((each) => each !== 'CONNECT')) },
)
const asked: fc.Arbitrary<Asked> = fc
  .tuple(
    method,
    path,
    query,
    fc.array(header, { maxLength: 3 }),
    fc.option(body, { nil: undefined, freq: 8 }),
    fc.boolean(),
  )
  .map(([verb, where, search, list, bytes, isGzip]) => {
    const headers = Object.fromEntries(list)
    const sent =
      bytes !== undefined && headers['content-encoding'] === 'gzip' && isGzip ? gzipSync(bytes) : bytes
    return { method: verb, target: where + search, headers, body: sent }
  })

/** That a refusal is a problem as the table has it. */
export function checkProblem(status: number, headers: Answer['headers'], bytes: Buffer): void {
  assert.equal(headers['content-type'], 'application/problem+json')
  const problem = JSON.parse(bytes.toString('utf8'))
  const slug = /^\/problems\/([a-z-]+)$/.exec(problem.type)?.[1]
  assert.ok(slug !== undefined && Object.hasOwn(PROBLEMS, slug), `${problem.type} is in the table`)
  const entry = PROBLEMS[slug as Slug] // just checked
  assert.deepEqual([status, problem.status, problem.title], [entry.status, entry.status, entry.title])
  const known = ['type', 'title', 'status', 'detail', 'instance', ...entry.members]
  assert.deepEqual(
    Object.keys(problem).filter((each) => !known.includes(each)),
    [],
  )
  assert.equal(problem.instance, headers['x-request-id'])
  assert.equal(status === 401, headers['www-authenticate'] === 'Bearer')
  assert.equal(status === 405, headers.allow !== undefined)
  assert.ok(!bytes.includes(CANARY) && !bytes.includes(KEY_A) && !bytes.includes(KEY_B))
}

function checkAnswer(request: Asked, { status, headers, bytes }: Answer): void {
  assert.ok(status < 500, `no request makes a node that is well answer ${status}: ${bytes}`)
  const id = request.headers['x-request-id'] ?? ''
  const isId = /^[A-Za-z0-9._:-]{1,128}$/
  assert.match(headers['x-request-id'] as string, isId)
  if (isId.test(id)) assert.equal(headers['x-request-id'], id)
  assert.equal(headers['x-content-type-options'], 'nosniff')
  if (request.method === 'HEAD') assert.equal(bytes.length, 0)
  else if (status >= 400) checkProblem(status, headers, bytes)
  else if (/json/.test(headers['content-type'] ?? '')) JSON.parse(bytes.toString('utf8'))
}

/** How far the ledger is: a refused request may not move it. */
async function revision(vault: Vault): Promise<unknown> {
  const { json: status } = await vault.get('/status')
  return (status.ledger as { revision: number }).revision // as the contract has it
}

export function httpTargets(vault: Vault): readonly Target[] {
  let now: unknown
  return [
    {
      name: 'requests: an answer of the contract; a refusal is a problem and changes nothing',
      inputs: 1500,
      property: () =>
        fc
          .asyncProperty(asked, async (request) => {
            const before = now ?? (await revision(vault))
            const answer = await vault.call(request.method, request.target, request.body, request.headers)
            checkAnswer(request, answer)
            now = await revision(vault)
            if (answer.status >= 400) assert.equal(now, before, 'a refusal changes nothing')
          })
          .beforeEach(() => {
            now = undefined
          }),
    },
  ]
}
