// What the calls of secrets refuse: with the documented status, problem and place, never with the value, and with
// nothing stored; and what is just within a limit.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Slug } from '../../src/errors.ts'
import { CANARY, create, historyOf, KIB, namesOf, pathOf, refused } from './secrets.ts'
import { type Answer, type Body, type Headers, KEY_A, Vault } from './vault.ts'

const vault = await Vault.start()
after(() => vault[Symbol.asyncDispose]())
await create(vault, 'there', `first ${CANARY}`)

type Call = readonly [method: 'POST' | 'PUT', path: string]
const CREATE: Call = ['POST', '/secrets']
const UPDATE: Call = ['PUT', '/secrets/there']
const RESOLVE: Call = ['POST', '/secrets/resolve']

/** A body that each call would take. */
const GOOD: readonly (readonly [Call, string])[] = [
  [CREATE, `{"name":"new","value":"${CANARY}"}`],
  [UPDATE, `{"value":"${CANARY}"}`],
  [RESOLVE, '{"refs":["coffer://there"]}'],
]

/** Checks the refusal, and that neither a name nor a version has come. */
async function refuses(
  [method, path]: Call,
  body: Body,
  [status, slug, members]: readonly [number, Slug, Record<string, unknown>?],
  headers: Headers = {},
): Promise<Answer> {
  const what = `${method} ${path} ${String(body).slice(0, 200)}`
  const answer = await refused(vault.call(method, path, body, headers), status, slug, members, what)
  assert.deepEqual(await namesOf(vault), ['there'], what)
  assert.equal((await historyOf(vault, 'there')).length, 1, what)
  return answer
}

const badRequest = (path: string) => [400, 'invalid-request', { path }] as const
const badJson = (path: string) => [400, 'invalid-json', { path }] as const
const badValue = (path: string) => [422, 'invalid-value', { path }] as const

/** Bodies of a create with this name (as JSON), and where the name stands. */
function named(name: string): readonly (readonly [string, string])[] {
  return [
    [`{"name":${name},"value":"${CANARY}"}`, 'name'],
    [`{"secrets":[{"name":"new","value":""},{"name":${name},"value":"${CANARY}"}]}`, 'secrets[1].name'],
  ]
}

/** Calls with this value (as JSON), and where the value stands. */
function valued(value: string): readonly (readonly [Call, string, string])[] {
  return [
    [CREATE, `{"name":"new","value":${value}}`, 'value'],
    [CREATE, `{"secrets":[{"name":"a","value":""},{"value":${value},"name":"b"}]}`, 'secrets[1].value'],
    [UPDATE, `{"value":${value}}`, 'value'],
  ]
}

const BAD_NAMES = [
  '',
  '/',
  '/a',
  'a/',
  'a//b',
  '.',
  '..',
  './a',
  '../a',
  'a/.',
  'a/..',
  'a/./b',
  'a/../b',
  'a@1',
  'a@0000000001',
  'a b',
  ' a',
  'a\n',
  'a\0',
  'a\tb',
  'a+b',
  'a:b',
  'a%2Fb',
  'a\\b',
  'a*',
  'a?',
  'a#b',
  'a"b',
  'é',
  'ａ',
  'a\u200b',
  '🩺',
  'n'.repeat(257),
  `${'a/'.repeat(128)}b`,
  'history',
  'a/history',
]

test('a bad name in a body: 400 with its place', async () => {
  for (const bad of BAD_NAMES) {
    for (const [body, path] of named(JSON.stringify(bad))) await refuses(CREATE, body, badRequest(path))
    for (const ref of [`coffer://${bad}`, `coffer://${bad}@1`]) {
      if (ref === 'coffer://a@1') continue // a good one
      await refuses(RESOLVE, { refs: ['coffer://there', ref] }, badRequest('refs[1]'))
    }
  }
  for (const lone of ['\\ud800', 'a\\udfff', '\\ude7a\\ud83e']) {
    for (const [body, path] of named(`"${lone}"`)) await refuses(CREATE, body, badRequest(path))
  }
  for (const type of ['null', '17', 'true', '["new"]', '{"name":"new"}']) {
    for (const [body, path] of named(type)) await refuses(CREATE, body, badRequest(path))
  }
})

test('a bad name in a URL: 400', async () => {
  for (const bad of BAD_NAMES) {
    const path = pathOf(bad)
    for (const [method, url, body] of [
      ['GET', path, undefined],
      ['GET', `${path}/history`, undefined],
      ['PUT', path, `{"value":"${CANARY}"}`],
    ] as const) {
      await refused(
        vault.call(method, url, body),
        400,
        'invalid-request',
        { path: 'name' },
        `${method} ${url}`,
      )
    }
  }
  for (const raw of [
    '.',
    '..',
    '%2e',
    '%2E%2e',
    'a%2F..%2Fthere',
    '%2Fthere',
    'there%2F',
    'there%00',
    'there;x',
  ]) {
    await refused(vault.get(`/secrets/${raw}`), 400, 'invalid-request', { path: 'name' }, raw)
  }
  for (const broken of ['%', '%2', '%zz', '%ff', '%ed%a0%80', 'there%C3']) {
    await refused(vault.get(`/secrets/${broken}`), 400, 'invalid-request', { path: '' }, broken)
  }
  for (const raw of [
    '/secrets//',
    '/secrets/',
    '/secrets//there',
    '/secrets/there/',
    '/secrets/./there',
    '/secrets/a/../there',
  ])
    await refused(vault.get(raw), 400, 'invalid-request', { path: 'name' }, raw)
  // The name of another secret.
  for (const other of ['/secrets/there/History', '/secrets/there/b', '/secrets/a/there'])
    await refused(vault.get(other), 404, 'not-found', {}, other)
})

test('the documented members only, all of them, and of the documented types: invalid-request', async () => {
  const cases: [Call, string, string][] = [
    ...[CREATE, UPDATE, RESOLVE].flatMap((call) =>
      ['[]', '"x"', 'null', '17', 'true'].map((body): [Call, string, string] => [call, body, '']),
    ),
    [CREATE, '{}', 'name'],
    [CREATE, `{"value":"${CANARY}"}`, 'name'],
    [CREATE, '{"name":"new"}', 'value'],
    [CREATE, `{"name":"new","value":"${CANARY}","owner_id":"clinic-b"}`, 'owner_id'],
    [CREATE, `{"name":"new","value":"${CANARY}","version":1}`, 'version'],
    [CREATE, `{"name":"new","value":"${CANARY}","Value":"x"}`, 'Value'],
    [CREATE, `{"name":"new","value":"${CANARY}","__proto__":{}}`, '__proto__'],
    [CREATE, `{"name":"new","value":"${CANARY}","a b":{}}`, '["a b"]'],
    [CREATE, `{"__proto__":{"name":"new","value":"${CANARY}"}}`, '__proto__'],
    [CREATE, `{"secrets":[],"name":"new"}`, 'name'],
    [CREATE, `{"name":"new","value":"${CANARY}","secrets":[]}`, 'name'],
    [CREATE, `{"secrets":[],"owner_id":"clinic-b"}`, 'owner_id'],
    ...['null', '{}', '"x"', '17', 'true'].map((json): [Call, string, string] => [
      CREATE,
      `{"secrets":${json}}`,
      'secrets',
    ]),
    ...['null', '[]', '"x"', '17'].map((json): [Call, string, string] => [
      CREATE,
      `{"secrets":[{"name":"new","value":""},${json}]}`,
      'secrets[1]',
    ]),
    [CREATE, '{"secrets":[{"name":"new"}]}', 'secrets[0].value'],
    [CREATE, `{"secrets":[{"value":"${CANARY}"}]}`, 'secrets[0].name'],
    [CREATE, `{"secrets":[{"name":"n","value":"${CANARY}","owner_id":"x"}]}`, 'secrets[0].owner_id'],
    [UPDATE, '{}', 'value'],
    [UPDATE, `{"name":"there","value":"${CANARY}"}`, 'name'],
    [UPDATE, `{"value":"${CANARY}","owner_id":"clinic-b"}`, 'owner_id'],
    [UPDATE, `{"value":"${CANARY}","__proto__":{}}`, '__proto__'],
    [RESOLVE, '{}', 'refs'],
    [RESOLVE, '{"at":"2026-01-01T00:00:00Z"}', 'refs'],
    [RESOLVE, '{"refs":[],"owner_id":"clinic-b"}', 'owner_id'],
    [RESOLVE, '{"refs":[],"version":1}', 'version'],
    ...['null', '{}', '"coffer://there"', '17'].map((json): [Call, string, string] => [
      RESOLVE,
      `{"refs":${json}}`,
      'refs',
    ]),
  ]
  for (const [call, body, path] of cases) await refuses(call, body, badRequest(path))
  for (const json of ['null', '17', '1.5', 'true', '[]', '{}']) {
    for (const [call, body, path] of valued(json)) await refuses(call, body, badRequest(path))
  }
})

test('what is no reference: 400 with its place', async () => {
  for (const bad of [
    '"there"',
    '"coffer:there"',
    '"coffer:/there"',
    '"coffer:///there"',
    '"Coffer://there"',
    '"coffer://there "',
    '" coffer://there"',
    '"coffer://there@"',
    '"coffer://there@0"',
    '"coffer://there@01"',
    '"coffer://there@-1"',
    '"coffer://there@1.0"',
    '"coffer://there@x"',
    '"coffer://there@1@1"',
    '"coffer://there@12345678901"',
    '"coffer://there@1/history"',
    '"coffer://there?version=1"',
    '"coffer://"',
    '"coffer://@1"',
    '""',
    'null',
    '17',
    '["coffer://there"]',
    '{"ref":"coffer://there"}',
    '"coffer://\\ud800"',
  ]) {
    await refuses(RESOLVE, `{"refs":["coffer://there",${bad}]}`, badRequest('refs[1]'))
  }
})

const NO_INSTANTS = [
  '',
  'x',
  'now',
  '1767225600000',
  '2026-01-01',
  '2026-01-01T00:00:00',
  '2026-01-01T00:00Z',
  '2026-1-01T00:00:00Z',
  '26-01-01T00:00:00Z',
  '+002026-01-01T00:00:00Z',
  '2026-00-01T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-01-00T00:00:00Z',
  '2026-01-32T00:00:00Z',
  '2026-02-29T00:00:00Z',
  '2026-04-31T00:00:00Z',
  '2026-01-01T24:00:00Z',
  '2026-01-01T00:60:00Z',
  '2026-01-01T00:00:61Z',
  '2026-01-01T00:00:00.Z',
  '2026-01-01T00:00:00,5Z',
  '2026-01-01T00:00:00+24:00',
  '2026-01-01T00:00:00+0200',
  '2026-01-01T00:00:00+02',
  '2026-01-01T00:00:00+02:60',
  '2026-01-01T00:00:00ZZ',
  ' 2026-01-01T00:00:00Z',
  '2026-01-01T00:00:00Z ',
  '2026-01-01T00:00:00Z\n',
  '2026-01-01_00:00:00Z',
  '2026-01-01T00:00:00−02:00',
  '２026-01-01T00:00:00Z',
]

test('what is no instant: 400 with `at`', async () => {
  for (const bad of NO_INSTANTS) {
    const asked = vault.get(`/secrets/there?at=${encodeURIComponent(bad)}`)
    await refused(asked, 400, 'invalid-request', { path: 'at' }, bad)
    await refuses(RESOLVE, { refs: ['coffer://there'], at: bad }, badRequest('at'))
  }
  for (const bad of [null, 17, true, ['2026-01-01T00:00:00Z'], {}]) {
    await refuses(RESOLVE, { refs: ['coffer://there'], at: bad }, badRequest('at'))
  }
})

test('query parameters: unknown, repeated and senseless ones are 400', async () => {
  const at = '2026-01-01T00:00:00Z'
  for (const [path, query, parameter] of [
    ...['', '/there', '/there/history'].flatMap((path) =>
      ['owner_id=clinic-b', 'q=1', '__proto__=1', 'Version=1', '=x'].map((query) => [
        path,
        query,
        query.split('=')[0],
      ]),
    ),
    ['', 'version=1', 'version'],
    ['', `at=${at}`, 'at'],
    ['', 'limit=1&limit=1', 'limit'],
    ['', 'prefix=a&prefix=a', 'prefix'],
    ['', 'after=a&%61fter=b', 'after'],
    ['/there', 'limit=1', 'limit'],
    ['/there', 'version=1&version=1', 'version'],
    ['/there', `at=${at}&at=${at}`, 'at'],
    ['/there', `version=1&at=${at}`, 'at'],
    ['/there', `at=${at}&version=1`, 'at'],
    ...['', '0', '-1', '+1', '01', '1.0', '1e0', 'x', '%31%20', '12345678901', 'null'].map((version) => [
      '/there',
      `version=${version}`,
      'version',
    ]),
    // Only the first `?` ends a path.
    ['', '?prefix=a', '?prefix'],
    ['/there', '?version=1', '?version'],
    ['/there', `?at=${at}`, '?at'],
    ['/there/history', '?', '?'],
    ['/there/history', 'limit=1', 'limit'],
    ['/there/history', 'version=1', 'version'],
    ['/there/history', `at=${at}`, 'at'],
  ]) {
    const asked = vault.get(`/secrets${path}?${query}`)
    await refused(asked, 400, 'invalid-request', { path: parameter }, `${path}?${query}`)
  }
  for (const [[method, path], body] of GOOD) {
    await refuses([method, `${path}?dry=${CANARY}`], body, badRequest('dry'))
    await refuses([method, `${path}?version=1`], body, badRequest('version'))
  }
})

test('broken JSON, a member twice, too deep, nothing at all: invalid-json with the place', async () => {
  for (const [call, body] of GOOD) {
    for (const broken of [
      '',
      ' \n',
      body.slice(0, -1),
      `${body} x`,
      `\ufeff${body}`,
      body.replace('{', '{,'),
    ]) {
      await refuses(call, broken, badJson(''))
    }
    await refuses(call, undefined, badJson(''), { 'content-type': 'application/json' })
    await refuses(call, Buffer.from(body, 'utf16le'), badJson(''))
    await refuses(
      call,
      body.replace('}', `,"deep":${'['.repeat(64)}1${']'.repeat(64)}}`),
      badJson(`deep${'[0]'.repeat(63)}`),
    )
  }
  for (const [call, body, path] of [
    [CREATE, `{"name":"new","value":"${CANARY}","name":"new"}`, 'name'],
    [CREATE, `{"name":"new","value":"${CANARY}","v\\u0061lue":"x"}`, 'value'],
    [CREATE, '{"secrets":[],"secrets":[]}', 'secrets'],
    [CREATE, '{"secrets":[{"name":"a","value":"","value":""}]}', 'secrets[0].value'],
    [UPDATE, `{"value":"${CANARY}","value":"${CANARY}"}`, 'value'],
    [UPDATE, `{"value":"${CANARY}`, 'value'],
    [UPDATE, `{"value":"\\x41"}`, 'value'],
    [UPDATE, `{"value":"${CANARY}\n"}`, 'value'],
    [RESOLVE, '{"refs":[],"refs":[]}', 'refs'],
    [RESOLVE, '{"refs":["coffer://there",]}', 'refs[1]'],
  ] as const) {
    await refuses(call, body, badJson(path))
  }
  for (const bytes of [[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
    const body = Buffer.concat([Buffer.from(`{"value":"${CANARY}`), Buffer.from(bytes), Buffer.from('"}')])
    await refuses(UPDATE, body, badJson(''))
  }
})

test('media types and encodings: application/json in UTF-8, plain or gzip, else 415', async () => {
  const refusal = (path: string) => [415, 'unsupported-media-type', { path }] as const
  for (const [call, body] of GOOD) {
    for (const type of [
      undefined,
      '',
      'text/plain',
      'application/merge-patch+json',
      'application/json; charset=x',
    ]) {
      await refuses(call, body, refusal('content-type'), { 'content-type': type })
    }
    for (const encoding of ['br', 'deflate', 'gzip, gzip', CANARY]) {
      await refuses(call, gzipSync(body), refusal('content-encoding'), { 'content-encoding': encoding })
    }
    for (const broken of [Buffer.from(body), gzipSync(body).subarray(0, -1), Buffer.alloc(0)]) {
      await refuses(call, broken, badJson(''), { 'content-encoding': 'gzip' })
    }
  }
})

test('strings that are no Unicode: 422 invalid-value', async () => {
  for (const lone of ['\\ud800', '\\uDFFF', 'a\\ud83e', '\\ude7a\\ud83e', '\\ud83e\\ud83e\\ude7a']) {
    for (const [call, body, path] of valued(`"${CANARY}${lone}"`)) await refuses(call, body, badValue(path))
  }
})

test('more than 500 secrets, or 1,000 references: 413 too-many-values', async () => {
  const secrets = Array.from({ length: 501 }, (_, i) => ({ name: `n${i}`, value: '' }))
  await refuses(CREATE, { secrets }, [413, 'too-many-values'])
  const refs = Array<string>(1001).fill('coffer://there')
  await refuses(RESOLVE, { refs }, [413, 'too-many-values'])
})

test('a body over the limit: 413 too-large', async () => {
  await using own = await Vault.start({ limits: { body_bytes: 64 * KIB } })
  await create(own, 'there', 'x')
  for (const [[method, path], body] of GOOD) {
    const fits = await own.call(method, path, body.padEnd(64 * KIB))
    assert.ok(fits.status < 300, fits.text)
    const large = body.padEnd(64 * KIB + 1)
    await refused(own.call(method, path, large), 413, 'too-large')
    const zipped = own.call(method, path, gzipSync(large), { 'content-encoding': 'gzip' })
    await refused(zipped, 413, 'too-large')
    const headers = { 'content-length': undefined, 'transfer-encoding': 'chunked' }
    await refused(own.call(method, path, large, headers), 413, 'too-large')
  }
})

test('a key is needed for every call, before anything else is looked at', async () => {
  for (const authorization of [undefined, '', 'Bearer', `Bearer ${KEY_A}x`, `Basic ${KEY_A}`]) {
    for (const [method, path, body] of [
      ['GET', '/secrets', undefined],
      ['GET', '/secrets?limit=x', undefined],
      ['GET', '/secrets/there', undefined],
      ['GET', '/secrets/..', undefined],
      ['GET', '/secrets/there/history', undefined],
      ['POST', '/secrets', '{}'],
      ['PUT', '/secrets/there', 'nonsense'],
      ['POST', '/secrets/resolve', '{}'],
      ['DELETE', '/secrets/there', undefined],
    ] as const) {
      const answer = await vault.call(method, path, body, { authorization, 'idempotency-key': 'é' })
      await refused(answer, 401, 'unauthorized', {}, `${method} ${path}`)
      assert.equal(answer.headers['www-authenticate'], 'Bearer')
    }
  }
})
