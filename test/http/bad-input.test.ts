// What is refused over HTTP: with the documented status and problem, naming the place and never the value,
// with nothing stored and the node as before.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import {
  type Answer,
  type Body,
  bearer,
  type Headers,
  IN_WORK,
  KEY_A,
  KEY_B,
  OWNERS,
  until,
  Vault,
  type VaultOptions,
} from './vault.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** Stands in every bad input: no answer may repeat it. */
const CANARY = 'c4n4ry-7f31'
const GOOD = `{"values":["${CANARY}"]}`
const FIELDS = ['ssn', 'contacts[].phone', 'tags[]']
const TOKEN_CALLS = ['/tokenize', '/detokenize', '/retokenize', '/rotate-epoch']
const POSTED = { 'content-type': 'application/json' }

const vault = await Vault.start({ fields: FIELDS })
after(() => vault[Symbol.asyncDispose]())

type Refusal = {
  readonly status: number
  readonly slug: string
  readonly path?: string
  /** On which node; the shared one unless given. */
  readonly at?: Vault
}

/** A problem of the documented form that does not repeat the canary. */
function checkProblem(answer: Answer, { status, slug, path }: Refusal, what = ''): void {
  const { headers, json } = answer
  assert.deepEqual([answer.status, json.type], [status, `/problems/${slug}`], `${what} ${answer.text}`)
  assert.equal(headers['content-type'], 'application/problem+json', what)
  assert.equal(json.status, status, what)
  for (const name of ['title', 'detail']) assert.ok(typeof json[name] === 'string' && json[name] !== '', what)
  assert.equal(json.instance, headers['x-request-id'], what)
  assert.match(String(headers['x-request-id']), /^[A-Za-z0-9._:-]{1,128}$/, what)
  assert.equal(json.path, path, `${what} ${answer.text}`)
  if (path !== undefined) {
    const why = json[status === 422 ? 'reason' : 'expected']
    assert.ok(status === 415 || (typeof why === 'string' && why !== ''), answer.text)
  }
  assert.equal(headers['retry-after'] !== undefined, status === 503, what)
  assert.ok(!(answer.text + JSON.stringify(headers)).includes(CANARY), `repeats the value: ${answer.text}`)
}

/** Sends it and checks the problem, and that nothing was stored. */
async function refuses(
  call: { path?: string; body: Body; headers?: Headers; what?: string },
  refusal: Refusal,
): Promise<Answer> {
  const node = refusal.at ?? vault
  const before = await node.count()
  const answer = await node.post(call.path ?? '/tokenize', call.body, call.headers)
  checkProblem(answer, refusal, call.what ?? String(call.body).slice(0, 200))
  assert.equal(await node.count(), before, 'something was stored')
  return answer
}

function values(...json: string[]): string {
  return `{"values":[${[`"${CANARY}"`, ...json].join(',')}]}`
}

function records(...json: string[]): string {
  return `{"records":[${[`{"ssn":"${CANARY}"}`, ...json].join(',')}]}`
}

async function withVault(options: VaultOptions, use: (node: Vault) => Promise<void>): Promise<void> {
  await using node = await Vault.start({ fields: FIELDS, ...options })
  await use(node)
}

function inWork(node: Vault): Promise<number> {
  return node.metric(IN_WORK)
}

test('broken JSON: 400 invalid-json with the place', async () => {
  for (const [body, path] of [
    [`{"values":["${CANARY}"]`, ''],
    [`{"values":["${CANARY}",]}`, 'values[1]'],
    [`{"values":["${CANARY}"]}}`, ''],
    [`{"values":["${CANARY}"]} x`, ''],
    [`{"values":["${CANARY}]}`, 'values[0]'],
    [`{"values":['${CANARY}']}`, 'values[0]'],
    [`{values:["${CANARY}"]}`, ''],
    [`{"values" ["${CANARY}"]}`, 'values'],
    [`{"values":["${CANARY}"],}`, ''],
    [values('01'), 'values'],
    [values('+1'), 'values[1]'],
    [values('.5'), 'values[1]'],
    [values('1.'), 'values[1]'],
    [values('1e'), 'values[1]'],
    [values('-'), 'values[1]'],
    [values('NaN'), 'values[1]'],
    [values('Infinity'), 'values[1]'],
    [values('tru'), 'values[1]'],
    [values('nulll'), 'values'],
    [values('"\\x41"'), 'values[1]'],
    [values('"\\u12G4"'), 'values[1]'],
    [values('"a\nb"'), 'values[1]'],
    [values('"a\0b"'), 'values[1]'],
    [values('/* c */ 1'), 'values[1]'],
    [`${values()}\0`, ''],
    [`\u00a0${GOOD}`, ''],
    [records('{"ssn":"x" "y":1}'), 'records[1]'],
    [records('{"a":{"b":[1,2,{"c":tru}]}}'), 'records[1].a.b[2].c'],
  ]) {
    await refuses({ body }, { status: 400, slug: 'invalid-json', path })
  }
})

test('nothing at all, and only white space: invalid-json', async () => {
  for (const path of TOKEN_CALLS) {
    for (const body of ['', ' \r\n\t', '\0']) {
      await refuses({ path, body }, { status: 400, slug: 'invalid-json', path: '' })
    }
    await refuses({ path, body: undefined, headers: POSTED }, { status: 400, slug: 'invalid-json', path: '' })
  }
})

test('not UTF-8, a byte order mark, other encodings of Unicode: invalid-json', async () => {
  for (const bytes of [
    [0xff],
    [0xc3],
    [0xc0, 0xaf], // overlong
    [0xed, 0xa0, 0x80], // a surrogate
    [0xf4, 0x90, 0x80, 0x80], // above U+10FFFF
  ]) {
    const inValue = Buffer.concat([
      Buffer.from(`{"values":["${CANARY}`),
      Buffer.from(bytes),
      Buffer.from('"]}'),
    ])
    await refuses({ body: inValue }, { status: 400, slug: 'invalid-json', path: '' })
    const inData = Buffer.concat([
      Buffer.from(`{"records":[{"ssn":"${CANARY}","free":"`),
      Buffer.from(bytes),
      Buffer.from('"}]}'),
    ])
    await refuses({ body: inData }, { status: 400, slug: 'invalid-json', path: '' })
  }
  await refuses({ body: Buffer.from(`\ufeff${GOOD}`) }, { status: 400, slug: 'invalid-json', path: '' })
  await refuses({ body: Buffer.from(GOOD, 'utf16le') }, { status: 400, slug: 'invalid-json', path: '' })
  await refuses(
    { body: Buffer.from(values('"é"'), 'latin1') },
    { status: 400, slug: 'invalid-json', path: '' },
  )
})

test('more than 64 levels: invalid-json; 64 are fine', async () => {
  const nested = (levels: number) => `{"a":${'['.repeat(levels)}"${CANARY}"${']'.repeat(levels)}}`
  // The body, the list and the record are three.
  assert.equal((await vault.post('/tokenize', `{"records":[${nested(61)}]}`)).status, 200)
  const path = `records[1].a${'[0]'.repeat(61)}`
  await refuses({ body: records(nested(62)) }, { status: 400, slug: 'invalid-json', path })
  await refuses({ body: records(nested(10_000)) }, { status: 400, slug: 'invalid-json', path })
  for (const call of TOKEN_CALLS) {
    for (const open of ['[', '{"a":']) {
      const answer = await vault.post(call, open.repeat(10_000))
      checkProblem(answer, {
        status: 400,
        slug: 'invalid-json',
        path: open === '[' ? '[0]'.repeat(64) : Array(64).fill('a').join('.'),
      })
    }
  }
})

test('a member twice in one object: invalid-json, wherever and however it is spelled', async () => {
  for (const [body, path] of [
    [`{"values":["${CANARY}"],"values":["${CANARY}"]}`, 'values'],
    [`{"values":["${CANARY}"],"v\\u0061lues":[]}`, 'values'],
    [`{"values":["${CANARY}"],"allow_tokens":true,"allow_tokens":true}`, 'allow_tokens'],
    [records(`{"ssn":"${CANARY}","ssn":"${CANARY}"}`), 'records[1].ssn'],
    [records('{"s\\u0073n":"x","ssn":"y"}'), 'records[1].ssn'],
    [records('{"free":{"deep":[{"a":1,"b":2,"a":3}]}}'), 'records[1].free.deep[0].a'],
    [records('{"":1,"":2}'), 'records[1][""]'],
    [records('{"__proto__":1,"__proto__":2}'), 'records[1].__proto__'],
    [records('{"\\ud83e\\uDE7A":1,"🩺":2}'), 'records[1]["🩺"]'],
    [values('{"a":1,"a":2}'), 'values[1].a'],
  ]) {
    await refuses({ body }, { status: 400, slug: 'invalid-json', path })
  }
  await refuses(
    { path: '/rotate-epoch', body: '{"to":2,"to":2}' },
    { status: 400, slug: 'invalid-json', path: 'to' },
  )
  assert.equal((await vault.post('/tokenize', records('{"a":{"b":1},"b":{"a":1}}'))).status, 200)
})

test('the documented members only, and of the documented types: invalid-request', async () => {
  const token = await vault.token('known')
  const cases: [path: string, body: string, at: string][] = [
    ['/tokenize', `["${CANARY}"]`, ''],
    ['/tokenize', `"${CANARY}"`, ''],
    ['/tokenize', 'null', ''],
    ['/tokenize', '17', ''],
    ['/tokenize', '{}', ''],
    ['/tokenize', '{"allow_tokens":true}', ''],
    ['/tokenize', `{"values":["${CANARY}"],"records":[]}`, 'records'],
    ['/tokenize', `{"records":[],"values":["${CANARY}"]}`, 'values'],
    ['/tokenize', `{"values":["${CANARY}"],"owner_id":"clinic-b"}`, 'owner_id'],
    ['/tokenize', `{"owner_id":"clinic-b","records":[{"ssn":"${CANARY}"}]}`, 'owner_id'],
    ['/tokenize', `{"values":["${CANARY}"],"Values":[]}`, 'Values'],
    ['/tokenize', `{"values":["${CANARY}"],"__proto__":{}}`, '__proto__'],
    ['/tokenize', `{"values":["${CANARY}"],"a b":1}`, '["a b"]'],
    ['/tokenize', `{"value":"${CANARY}"}`, 'value'],
    ['/tokenize', `{"tokens":["${CANARY}"]}`, 'tokens'],
    ['/tokenize', `{"values":"${CANARY}"}`, 'values'],
    ['/tokenize', `{"values":{"0":"${CANARY}"}}`, 'values'],
    ['/tokenize', '{"values":null}', 'values'],
    ['/tokenize', `{"records":{"ssn":"${CANARY}"}}`, 'records'],
    ['/tokenize', `{"values":["${CANARY}"],"allow_tokens":"true"}`, 'allow_tokens'],
    ['/tokenize', `{"values":["${CANARY}"],"allow_tokens":1}`, 'allow_tokens'],
    ['/tokenize', `{"values":["${CANARY}"],"allow_tokens":null}`, 'allow_tokens'],
    ['/tokenize', records(`"${CANARY}"`), 'records[1]'],
    ['/tokenize', records('null'), 'records[1]'],
    ['/tokenize', records('17'), 'records[1]'],
    ['/tokenize', records('[{"ssn":"x"}]'), 'records[1]'],
    ['/detokenize', '{}', ''],
    ['/detokenize', '[]', ''],
    ['/detokenize', `{"token":"${token}","tokens":[]}`, 'tokens'],
    ['/detokenize', `{"records":[],"token":"${token}"}`, 'token'],
    ['/detokenize', `{"tokens":[],"records":[]}`, 'records'],
    ['/detokenize', `{"token":"${token}","allow_tokens":true}`, 'allow_tokens'],
    ['/detokenize', `{"token":"${token}","owner_id":"clinic-a"}`, 'owner_id'],
    ['/detokenize', `{"values":["${CANARY}"]}`, 'values'],
    ['/detokenize', '{"token":null}', 'token'],
    ['/detokenize', '{"token":17}', 'token'],
    ['/detokenize', `{"token":["${token}"]}`, 'token'],
    ['/detokenize', `{"tokens":"${token}"}`, 'tokens'],
    ['/detokenize', `{"tokens":["${token}",17]}`, 'tokens[1]'],
    ['/detokenize', `{"tokens":[true]}`, 'tokens[0]'],
    ['/detokenize', `{"tokens":[["${token}"]]}`, 'tokens[0]'],
    ['/detokenize', `{"tokens":[{}]}`, 'tokens[0]'],
    ['/detokenize', '{"records":[{},null]}', 'records[1]'],
    ['/retokenize', '{}', 'tokens'],
    ['/retokenize', `{"token":"${token}"}`, 'token'],
    ['/retokenize', '{"tokens":null}', 'tokens'],
    ['/retokenize', `{"tokens":["${token}",5]}`, 'tokens[1]'],
    ['/retokenize', `{"tokens":["${token}"],"owner_id":"clinic-a"}`, 'owner_id'],
    ['/retokenize', '{"records":[]}', 'records'],
    ['/rotate-epoch', '{}', 'to'],
    ['/rotate-epoch', '{"to":2,"force":true}', 'force'],
    ['/rotate-epoch', '{"epoch":2}', 'epoch'],
    ['/rotate-epoch', '[2]', ''],
  ]
  for (const [path, body, at] of cases) {
    await refuses({ path, body, what: `${path} ${body}` }, { status: 400, slug: 'invalid-request', path: at })
  }
  assert.equal((await vault.get('/epochs')).json.active, 1)
})

test('owner_id inside a record is data like any other', async () => {
  const { json } = await vault.post('/tokenize', { records: [{ owner_id: 'clinic-b', ssn: 'o' }] })
  assert.deepEqual(json.records, [{ owner_id: 'clinic-b', ssn: await vault.token('o') }])
})

test('an object or an array where a value belongs: 422 not-a-scalar', async () => {
  for (const [body, path] of [
    [values('{}'), 'values[1]'],
    [values(`["${CANARY}"]`), 'values[1]'],
    [values('1', '[]'), 'values[2]'],
    [records(`{"ssn":{"a":"${CANARY}"}}`), 'records[1].ssn'],
    [records(`{"ssn":["${CANARY}"]}`), 'records[1].ssn'],
    [records('{"contacts":[{"phone":"x"},{"phone":{}}]}'), 'records[1].contacts[1].phone'],
    [records('{"tags":["a",["b"]]}'), 'records[1].tags[1]'],
  ]) {
    await refuses({ body }, { status: 422, slug: 'not-a-scalar', path })
  }
})

test('strings that are no Unicode: 422 invalid-value; as data they are bytes', async () => {
  for (const lone of ['\\ud800', '\\uDFFF', 'a\\ud83e', '\\ude7a\\ud83e', '\\ud83e\\ud83e\\ude7a']) {
    const value = `"${CANARY}${lone}"`
    await refuses({ body: values(value) }, { status: 422, slug: 'invalid-value', path: 'values[1]' })
    const inField = records(`{"tags":["x",${value}]}`)
    await refuses({ body: inField }, { status: 422, slug: 'invalid-value', path: 'records[1].tags[1]' })
    const free = await vault.post('/tokenize', `{"records":[{"free":${value},"${lone}":1}]}`)
    assert.equal(free.text, `{"epoch":1,"records":[{"free":${value},"${lone}":1}],"replaced":0}`)
    const token = await vault.post('/detokenize', `{"token":${value}}`)
    checkProblem(token, { status: 404, slug: 'not-found' })
  }
})

test('numbers that a double cannot hold: 422 invalid-value', async () => {
  const bad = ['9007199254740992', '-9007199254740992', '9007199254740993', '9007199254740991.5', '1e16']
  for (const number of [...bad, '1e308', '1e400', '-1e400', '12345678901234567890', '9'.repeat(400)]) {
    await refuses({ body: values(number) }, { status: 422, slug: 'invalid-value', path: 'values[1]' })
    const inField = records(`{"ssn":${number}}`)
    await refuses({ body: inField }, { status: 422, slug: 'invalid-value', path: 'records[1].ssn' })
  }
  const fine = ['9007199254740991', '-9007199254740991', '1e15', '1e-400', '4503599627370495.5']
  assert.equal((await vault.post('/tokenize', values(...fine))).status, 200)
})

test('a value of 32 KiB of UTF-8 is fine, one byte more is 422 invalid-value', async () => {
  const limit = 32 * KIB
  for (const [unit, bytes] of [
    ['x', 1],
    ['é', 2],
    ['漢', 3],
    ['🩺', 4],
    ['\\u00e9', 2],
    ['\\u6f22', 3],
    ['\\ud83e\\ude7a', 4],
    ['\\n', 1],
    ['\\u0000', 1],
  ] as const) {
    const fits = `${unit.repeat(Math.floor(limit / bytes))}${'x'.repeat(limit % bytes)}`
    const sent = await vault.post('/tokenize', `{"values":["${fits}"]}`)
    assert.equal(sent.status, 200, unit)
    const back = await vault.values(sent.json.tokens as string[])
    assert.deepEqual(back, [JSON.parse(`"${fits}"`)])
    const long = `"${fits}x"`
    await refuses({ body: values(long) }, { status: 422, slug: 'invalid-value', path: 'values[1]' })
    const inField = records(`{"free":${long},"ssn":${long}}`)
    await refuses({ body: inField }, { status: 422, slug: 'invalid-value', path: 'records[1].ssn' })
  }
  assert.equal(
    (await vault.post('/tokenize', `{"records":[{"free":"${'x'.repeat(limit + 1)}"}]}`)).status,
    200,
  )
})

test('more than 100,000 values, tokens, or places in records: 413 too-many-values', async () => {
  const many = (text: string, count: number) => Array(count).fill(text).join(',')
  const before = await vault.count()
  const token = await vault.token('many')
  for (const [path, body] of [
    ['/tokenize', (n: number) => `{"values":["many",${many('null', n - 1)}]}`],
    ['/tokenize', (n: number) => `{"values":[${many('"many"', n)}]}`],
    ['/tokenize', (n: number) => `{"records":[{"tags":[${many('"many"', n - 1)}]},{"ssn":null}]}`],
    ['/tokenize', (n: number) => `{"records":[${many('{"ssn":"many"}', n)}]}`],
    ['/detokenize', (n: number) => `{"tokens":[${many(`"${token}"`, n)}]}`],
    ['/detokenize', (n: number) => `{"tokens":[${many('null', n)}]}`],
    ['/detokenize', (n: number) => `{"records":[{"tags":[${many(`"${token}"`, n)}]}]}`],
    ['/retokenize', (n: number) => `{"tokens":[${many(`"${token}"`, n)}]}`],
  ] as const) {
    const fine = await vault.post(path, body(100_000))
    assert.equal(fine.status, 200, fine.text.slice(0, 300))
    const answer = await vault.post(path, body(100_001))
    checkProblem(answer, { status: 413, slug: 'too-many-values' }, path)
  }
  // Records without a place are none.
  assert.equal((await vault.post('/tokenize', `{"records":[${many('{}', 100_001)}]}`)).status, 200)
  assert.equal(await vault.count(), before + 1)
})

test('a body over the limit: 413 too-large, by its length, by its chunks, or when inflated', async () => {
  await withVault({ limits: { body_bytes: 64 * KIB } }, async (node) => {
    const fits = GOOD.padEnd(64 * KIB)
    for (const body of [fits, gzipSync(fits)]) {
      const headers = typeof body === 'string' ? {} : { 'content-encoding': 'gzip' }
      assert.equal((await node.post('/tokenize', body, headers)).status, 200)
      const chunked = { ...headers, 'content-length': undefined, 'transfer-encoding': 'chunked' }
      assert.equal((await node.post('/tokenize', body, chunked)).status, 200)
    }
    const refusal = { status: 413, slug: 'too-large', at: node }
    for (const body of [`${fits} `, 'x'.repeat(3 * MIB)]) {
      await refuses({ body }, refusal)
      const chunked = { 'content-length': undefined, 'transfer-encoding': 'chunked' }
      await refuses({ body, headers: chunked }, refusal)
      await refuses({ body: gzipSync(body), headers: { 'content-encoding': 'gzip' } }, refusal)
    }
    const bomb = gzipSync(Buffer.alloc(60 * MIB, 0x20))
    assert.ok(bomb.length < 64 * KIB)
    await refuses({ body: bomb, headers: { 'content-encoding': 'gzip' } }, refusal)
    assert.equal(await inWork(node), 0)
  })
})

test('the default limit of a body is 16 MiB', async () => {
  const fits = `{"records":[]}`.padEnd(16 * MIB)
  assert.equal((await vault.post('/tokenize', fits)).status, 200)
  checkProblem(await vault.post('/tokenize', `${fits} `), { status: 413, slug: 'too-large' })
})

test('a body refused half-read is read to its end: the connection goes on', async () => {
  await withVault({ limits: { body_bytes: KIB } }, async (node) => {
    const head = `Host: x\r\nAuthorization: Bearer ${KEY_A}\r\nContent-Type: application/json`
    const large = `POST /tokenize HTTP/1.1\r\n${head}\r\nContent-Length: ${MIB}\r\n\r\n${'x'.repeat(MIB)}`
    const last = 'GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
    const answers = await node.raw(large + last)
    assert.deepEqual(answers.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 413', 'HTTP/1.1 200'])
  })
})

test('broken gzip: invalid-json; other encodings: 415', async () => {
  const whole = gzipSync(GOOD)
  const broken = (at: number) => Buffer.from(whole.map((byte, i) => (i === at ? byte ^ 1 : byte)))
  const cases = [
    whole.subarray(0, whole.length - 1),
    whole.subarray(0, 12),
    whole.subarray(0, 5),
    Buffer.from(GOOD),
    Buffer.alloc(0),
    broken(0),
    broken(whole.length - 8), // the checksum
    broken(whole.length - 1), // the size
    Buffer.concat([whole, Buffer.from('more')]),
    Buffer.concat([whole, Buffer.alloc(5000)]),
    Buffer.concat([whole, Buffer.alloc(1), Buffer.from('more')]),
  ]
  const headers = { 'content-encoding': 'gzip' }
  for (const [i, body] of cases.entries()) {
    await refuses({ body, headers, what: `gzip ${i}` }, { status: 400, slug: 'invalid-json', path: '' })
  }
  const inner = { status: 400, slug: 'invalid-json', path: 'values[1]' }
  await refuses({ body: gzipSync(`{"values":["${CANARY}",]}`), headers }, inner)
  await refuses({ body: gzipSync(''), headers }, { status: 400, slug: 'invalid-json', path: '' })
  for (const encoding of ['br', 'deflate', 'zstd', 'compress', 'gzip, gzip', 'br, gzip', '*', CANARY]) {
    const refusal = { status: 415, slug: 'unsupported-media-type', path: 'content-encoding' }
    await refuses({ body: whole, headers: { 'content-encoding': encoding } }, refusal)
  }
})

test('media types: application/json in UTF-8, else 415', async () => {
  const refusal = { status: 415, slug: 'unsupported-media-type', path: 'content-type' }
  for (const type of [
    undefined,
    '',
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    'application/problem+json',
    'application/json, text/plain',
    'application/json; charset=iso-8859-1',
    'application/json; charset=utf-16',
    'application/json; charset=',
    'application/json; charset=utf-8; charset=utf-16',
    `multipart/form-data; boundary=${CANARY}`,
    `${CANARY}`,
    '*/*',
  ]) {
    for (const path of TOKEN_CALLS) {
      const headers = { 'content-type': type }
      await refuses({ path, body: GOOD, headers, what: `${path} ${type}` }, refusal)
    }
  }
  for (const type of [
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'application/json ; charset="utf-8"',
  ]) {
    const answer = await vault.post('/tokenize', '{"values":[]}', { 'content-type': type })
    assert.equal(answer.status, 200, type)
  }
})

test('an answer over its limit: 413 answer-too-large', async () => {
  await withVault({ limits: { answer_bytes: 4 * KIB } }, async (node) => {
    const token = await node.token('x'.repeat(1000))
    const refusal = { status: 413, slug: 'answer-too-large', at: node }
    const tokens = JSON.stringify(Array(5).fill(token))
    await refuses({ path: '/detokenize', body: `{"tokens":${tokens}}` }, refusal)
    await refuses({ path: '/detokenize', body: `{"records":[{"tags":${tokens}}]}` }, refusal)
    await refuses({ path: '/retokenize', body: { tokens: Array(200).fill(token) } }, refusal)
    const known = JSON.stringify(Array(200).fill('x'.repeat(1000)))
    await refuses({ body: `{"values":${known}}` }, refusal)
    await refuses({ body: `{"records":[{"tags":${known}}]}` }, refusal)
    await refuses({ body: `{"records":[{"free":"${CANARY}${'y'.repeat(4 * KIB)}"}]}` }, refusal)
    assert.equal((await node.post('/detokenize', { tokens: Array(4).fill(token) })).status, 200)
    // Escapes count as they are written.
    const escaped = await node.token('\u0001'.repeat(1000))
    await refuses({ path: '/detokenize', body: { token: escaped } }, refusal)
  })
})

test('an answer that is too large from epoch 10 on is refused there, with nothing stored', async () => {
  const texts = Array.from({ length: 100 }, (_, i) => `${CANARY}-${i}`)
  /** A hundred tokens of a one-digit epoch, in quotes, with their commas. */
  const tokensBytes = 100 * 41 - 1
  for (const [path, around, bodyOf] of [
    ['/tokenize', '{"epoch":9,"tokens":[]}', async () => ({ values: texts })],
    [
      '/tokenize',
      '{"epoch":9,"records":[{"tags":[]}],"replaced":100}',
      async () => ({ records: [{ tags: texts }] }),
    ],
    [
      '/retokenize',
      '{"epoch":9,"tokens":[],"not_found":[]}',
      async (node: Vault) => ({ tokens: await node.tokens(texts) }),
    ],
  ] as const) {
    const limits = { answer_bytes: around.length + tokensBytes }
    await withVault({ limits }, async (node) => {
      const body = await bodyOf(node)
      const rotate = async (to: number): Promise<void> =>
        assert.equal((await node.post('/rotate-epoch', { to })).status, 200)
      for (let to = 2; to <= 9; to++) await rotate(to)
      const fits = await node.post(path, body)
      assert.deepEqual([fits.status, fits.bytes.length], [200, limits.answer_bytes])
      await rotate(10)
      await refuses({ path, body, what: around }, { status: 413, slug: 'answer-too-large', at: node })
    })
  }
})

test('tokens of every wrong form are not found, and are strings like any other', async () => {
  const good = await vault.token(CANARY)
  const foreign = await vault.token(CANARY, KEY_B)
  const body = good.slice('tok_1_'.length)
  const bad = [
    '',
    ' ',
    'tok',
    'tok_',
    'tok_1_',
    body,
    good.toUpperCase(),
    `tok_1_${body.toUpperCase()}`,
    `Tok_1_${body}`,
    ` ${good}`,
    `${good}\n`,
    `${good}\0`,
    `tok_0_${body}`,
    `tok_01_${body}`,
    `tok_-1_${body}`,
    `tok_+1_${body}`,
    `tok_1.0_${body}`,
    `tok__${body}`,
    `tok_2_${body}`,
    `tok_9999999999_${body}`,
    `tok_99999999999_${body}`,
    `tok_18446744073709551617_${body}`,
    `tok_1_${body.slice(1)}`,
    `tok_1_${body}0`,
    `tok_1_${body.slice(0, -1)}${body.endsWith('0') ? '1' : '0'}`,
    `tok_1_${body.startsWith('0') ? '1' : '0'}${body.slice(1)}`,
    ...['i', 'l', 'o', 'u', '-', '_', 'é'].map((letter) => `tok_1_${letter}${body.slice(1)}`),
    foreign,
    'x'.repeat(MIB),
    '🩺',
  ]
  for (const token of bad) {
    const answer = await vault.post('/detokenize', { token })
    checkProblem(answer, { status: 404, slug: 'not-found' }, token.slice(0, 60))
  }
  const nulls = bad.map(() => null)
  const all = bad.map((_, i) => i)
  const listed = await vault.post('/detokenize', { tokens: bad })
  assert.deepEqual(listed.json, { values: nulls, not_found: all })
  const again = await vault.post('/retokenize', { tokens: bad })
  assert.deepEqual(again.json, { epoch: 1, tokens: nulls, not_found: all })
  const strings = bad.filter((text) => text.length < KIB)
  assert.deepEqual(await vault.values(await vault.tokens(strings)), strings)
})

test('very many epochs that are not there cost few looks at the ledger', async (t) => {
  const head = t.mock.method(LmdbLedger.prototype, 'head')
  const tokens = Array.from({ length: 10_000 }, (_, i) => `tok_${i + 1000}_${'0'.repeat(32)}`)
  for (const [path, body] of [
    ['/detokenize', { tokens }],
    ['/detokenize', { records: [{ tags: tokens }] }],
    ['/retokenize', { tokens }],
    ['/tokenize', { values: tokens }],
  ] as const) {
    const before = head.mock.callCount()
    assert.equal((await vault.post(path, body)).status, 200)
    const looks = head.mock.callCount() - before
    assert.ok(looks >= 1 && looks < 20, `${path}: ${looks}`)
  }
})

test('keys: missing, malformed and unknown are 401 on everything but the open routes', async () => {
  const authorizations = [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    KEY_A,
    `Basic ${Buffer.from(`x:${KEY_A}`).toString('base64')}`,
    `Bearer: ${KEY_A}`,
    `Bearer ${KEY_A}x`,
    `Bearer ${KEY_A.toUpperCase()}`,
    `Bearer ${KEY_A} ${KEY_A}`,
    `Bearer ${KEY_A},${KEY_B}`,
    `Bearer "${KEY_A}"`,
    `Bearer ${'k'.repeat(5000)}`,
    `Bearer ${CANARY}`,
  ]
  const before = await vault.count()
  for (const authorization of authorizations) {
    for (const [method, path, body] of [
      ['POST', '/tokenize', GOOD],
      ['POST', '/detokenize', 'not even JSON'],
      ['GET', '/epochs', undefined],
      ['GET', '/status', undefined],
      ['GET', '/nothing/here', undefined],
      ['DELETE', '/epochs', undefined],
      ['GET', '/%zz', undefined],
    ] as const) {
      const answer = await vault.call(method, path, body, { authorization })
      checkProblem(answer, { status: 401, slug: 'unauthorized' }, `${method} ${path} ${authorization}`)
      assert.equal(answer.headers['www-authenticate'], 'Bearer')
    }
  }
  assert.equal(await vault.count(), before)
  for (const scheme of ['bearer', 'BEARER', 'bEaReR', 'Bearer ']) {
    assert.equal((await vault.get('/epochs', { authorization: `${scheme} ${KEY_A}` })).status, 200)
  }
  for (const path of ['/health', '/ready', '/metrics', '/openapi.json', '/docs', '/problems/internal']) {
    for (const authorization of [undefined, 'Bearer nonsense']) {
      assert.equal((await vault.get(path, { authorization })).status, 200, path)
    }
  }
  // Where no key is needed, a malformed URL is all that is wrong.
  for (const path of ['/problems/%zz', '/problems/%ff', '/problems/%', '/docs/%zz', '/docs/static/%c3']) {
    for (const authorization of [undefined, 'Bearer nonsense', `Bearer ${KEY_A}`]) {
      const answer = await vault.get(path, { authorization })
      checkProblem(answer, { status: 400, slug: 'invalid-request', path: '' }, path)
    }
  }
})

test('a revoked key is 401 from the reload on; a new one and the others work', async () => {
  await withVault({ owners: { ...OWNERS, 'clinic-c': ['cof_c-old'] } }, async (node) => {
    const token = await node.token('c', 'cof_c-old')
    node.setOwners({ ...OWNERS, 'clinic-c': ['cof_c-new'] })
    node.node.reload()
    const revoked = await node.get('/epochs', bearer('cof_c-old'))
    checkProblem(revoked, { status: 401, slug: 'unauthorized' })
    assert.deepEqual(await node.values([token], 'cof_c-new'), ['c'])
    assert.equal((await node.get('/epochs')).status, 200)
  })
})

test('query parameters: unknown, repeated and senseless ones are 400', async () => {
  const gets = ['/epochs', '/health', '/ready', '/status', '/metrics', '/openapi.json', '/docs', '/docs/']
  for (const path of [...gets, '/docs/static/swagger-ui.css', '/problems/internal']) {
    for (const [query, at] of [
      ['verbose=1', 'verbose'],
      ['owner_id=clinic-b', 'owner_id'],
      ['for', path === '/ready' ? 'for' : 'for'],
      ['__proto__=1', '__proto__'],
      ['=x', ''],
      ['%66oo=1', 'foo'],
      ['?', '?'],
      ['?for=reads', '?for'],
    ]) {
      const answer = await vault.get(`${path}?${query}`)
      checkProblem(answer, { status: 400, slug: 'invalid-request', path: at }, `${path}?${query}`)
    }
    assert.equal((await vault.get(`${path}?`)).status, 200)
  }
  for (const path of TOKEN_CALLS) {
    const refusal = { status: 400, slug: 'invalid-request', path: 'dry' }
    await refuses({ path: `${path}?dry=${CANARY}`, body: GOOD }, refusal)
  }
  for (const query of [
    'for=writes',
    `for=${CANARY}`,
    'for=',
    'for=READS',
    'for=reads&for=reads',
    'for=reads,x',
  ]) {
    const answer = await vault.get(`/ready?${query}`)
    checkProblem(answer, { status: 400, slug: 'invalid-request', path: 'for' }, query)
  }
  assert.equal((await vault.get('/ready?for=reads')).status, 200)
  const behind = await vault.get('/ready#?for=reads')
  checkProblem(behind, { status: 400, slug: 'invalid-request', path: '?for' })
})

test('another method: 405 with Allow', async () => {
  for (const path of TOKEN_CALLS) {
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const answer = await vault.call(method, path)
      assert.equal(answer.headers.allow, 'POST', `${method} ${path}`)
      if (method === 'HEAD') assert.deepEqual([answer.status, answer.text], [405, ''])
      else checkProblem(answer, { status: 405, slug: 'method-not-allowed' })
    }
  }
  const read = ['/epochs', '/health', '/ready', '/status', '/metrics', '/openapi.json', '/docs']
  for (const path of [...read, '/problems/internal']) {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const answer = await vault.call(method, path, method === 'POST' ? GOOD : undefined)
      checkProblem(answer, { status: 405, slug: 'method-not-allowed' }, `${method} ${path}`)
      assert.equal(answer.headers.allow, 'GET, HEAD')
    }
  }
})

test('HEAD is GET without its body', async () => {
  for (const path of ['/epochs', '/health', '/ready', '/status', '/openapi.json', '/problems/internal']) {
    const get = await vault.get(path)
    const head = await vault.call('HEAD', path)
    assert.deepEqual([head.status, head.text], [200, ''])
    for (const name of ['content-type', 'content-length']) {
      assert.equal(head.headers[name], get.headers[name], `${path} ${name}`)
    }
  }
  assert.equal((await vault.call('HEAD', '/nothing')).status, 404)
})

test('unknown routes: 404 not-found', async () => {
  const unknown = ['/', '/nothing', '/tokenize/', '/Tokenize', '//epochs', '/epochs/1', '/v1/tokenize']
  for (const path of [
    ...unknown,
    '/problems',
    '/problems/',
    '/problems/nothing',
    '/docs/nothing',
    '/healthz',
  ]) {
    for (const method of ['GET', 'POST', 'DELETE']) {
      if (method !== 'GET' && path.startsWith('/problems/n')) continue
      const answer = await vault.call(method, path, method === 'POST' ? GOOD : undefined)
      checkProblem(answer, { status: 404, slug: 'not-found' }, `${method} ${path}`)
    }
  }
  const long = `/problems/${'a'.repeat(5000)}`
  checkProblem(await vault.get(long), { status: 404, slug: 'not-found' })
  for (const path of [
    '/docs/static/../../../package.json',
    '/docs/static/..%2f..%2fpackage.json',
    '/docs/../epochs',
  ]) {
    const answer = await vault.get(path, { authorization: undefined })
    checkProblem(answer, { status: 404, slug: 'not-found' }, path)
  }
})

test('what is no HTTP, or hardly: a problem with a request id too', async () => {
  const shut = 'Connection: close\r\n'
  const host = `Host: x\r\n${shut}`
  const key = `Authorization: Bearer ${KEY_A}\r\n`
  for (const [text, status, slug] of [
    [`${CANARY}\r\n\r\n`, 400, 'invalid-request'],
    [`GET /health HTTP/1.1\r\n${host}X-Long: ${CANARY.repeat(3000)}\r\n\r\n`, 400, 'invalid-request'],
    [`GET /health HTTP/1.1\r\n${host}${CANARY}\r\n\r\n`, 400, 'invalid-request'],
    [`GET /health HTTP/1.1\r\n${shut}\r\n`, 400, 'invalid-request'],
    [`GET /%zz-${CANARY} HTTP/1.1\r\n${host}${key}\r\n`, 400, 'invalid-request'],
    [`GET /problems/%ff HTTP/1.1\r\n${host}${key}\r\n`, 400, 'invalid-request'],
    [`GET /epochs#x HTTP/1.1\r\n${host}${key}\r\n`, 400, 'invalid-request'],
    [`POST /tokenize HTTP/1.1\r\n${host}${key}Content-Length: x\r\n\r\n`, 400, 'invalid-request'],
    [`POST /tokenize HTTP/1.1\r\n${host}${key}\r\n`, 415, 'unsupported-media-type'],
    [`GET /health HTTP/1.1\r\n${host}Expect: ${CANARY}\r\n\r\n`, 200, undefined],
    [`GET /health HTTP/1.0\r\n\r\n`, 200, undefined],
  ] as const) {
    const answer = await vault.raw(text)
    const what = text.slice(0, 60)
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `), what)
    const id = /\r\nx-request-id: ([A-Za-z0-9._:-]+)\r\n/i.exec(answer)?.[1]
    assert.ok(id, `${what}: no request id`)
    assert.ok(!answer.includes(CANARY), answer)
    if (slug === undefined) continue
    const problem = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))
    assert.deepEqual(
      [problem.type, problem.status, problem.instance],
      [`/problems/${slug}`, status, id],
      what,
    )
  }
})

test('X-Request-Id: a valid one is echoed, another replaced', async () => {
  for (const id of ['a', 'A-z_0.9:x', 'x'.repeat(128)]) {
    for (const path of ['/health', '/epochs', '/nothing', '/%zz']) {
      const answer = await vault.get(path, { 'x-request-id': id })
      assert.equal(answer.headers['x-request-id'], id)
      if (answer.status >= 400) assert.equal(answer.json.instance, id)
    }
  }
  for (const id of [undefined, '', ' ', 'a b', 'a/b', 'é', 'x'.repeat(129), '{"a":1}', 'a,b']) {
    const answer = await vault.get('/nothing', { 'x-request-id': id })
    assert.notEqual(answer.headers['x-request-id'], id)
    assert.match(String(answer.headers['x-request-id']), /^[A-Za-z0-9._:-]{1,128}$/)
    assert.equal(answer.json.instance, answer.headers['x-request-id'])
  }
  const [one, two] = [await vault.get('/health'), await vault.get('/health')]
  assert.notEqual(one.headers['x-request-id'], two.headers['x-request-id'])
})

test('bytes in work over their limit: 503 overloaded, and room again afterwards', async () => {
  const limits = { body_bytes: 256 * KIB, answer_bytes: 64 * KIB, bodies_in_work_bytes: 640 * KIB }
  await withVault({ limits }, async (node) => {
    const body = values().padEnd(200 * KIB)
    assert.equal((await node.post('/tokenize', body)).status, 200)
    const held = await node.halfSent('/tokenize', GOOD.padEnd(256 * KIB), 200 * KIB)
    const refusal = { status: 503, slug: 'overloaded', at: node }
    const answer = await refuses({ body }, refusal)
    assert.match(String(answer.headers['retry-after']), /^[1-9]\d*$/)
    await refuses({ body, headers: { 'content-length': undefined, 'transfer-encoding': 'chunked' } }, refusal)
    await refuses({ body: gzipSync(body), headers: { 'content-encoding': 'gzip' } }, refusal)
    // What is small is served, and what the others hold is theirs; the other owner has a half of its own.
    assert.equal((await node.post('/tokenize', '{"values":[]}')).status, 200)
    assert.equal((await node.post('/tokenize', body, bearer(KEY_B))).status, 200)
    assert.equal(await inWork(node), 200 * KIB)
    held.leave()
    await until('the room is given back', async () => (await inWork(node)) === 0)
    assert.equal((await node.post('/tokenize', body)).status, 200)
    const zipped = await node.post('/tokenize', gzipSync(body), { 'content-encoding': 'gzip' })
    assert.equal(zipped.status, 200)
    assert.equal(await inWork(node), 0)
  })
})

test('a client that goes away in the middle of its body disturbs nobody', async () => {
  await withVault({}, async (node) => {
    const large = await node.halfSent('/tokenize', GOOD.padEnd(400 * KIB), 300 * KIB)
    const small = await node.halfSent('/tokenize', GOOD, 5)
    large.leave()
    small.leave()
    await until('nothing is in work', async () => (await inWork(node)) === 0)
    assert.deepEqual(await node.values([await node.token('after')]), ['after'])
    assert.equal(await node.count(), 1)
    assert.deepEqual(
      node.logs.filter((line) => line.includes('error')),
      [],
    )
  })
})

test('a request that goes away before its answer is done, and leaves nothing in work', async () => {
  await withVault({}, async (node) => {
    const body = JSON.stringify({ values: Array.from({ length: 20_000 }, (_, i) => `gone-${i}`) })
    const { hostname, port } = new URL(node.node.url)
    const socket = connect(Number(port), hostname)
    const head = `Host: x\r\nAuthorization: Bearer ${KEY_A}\r\nContent-Type: application/json`
    socket.write(`POST /tokenize HTTP/1.1\r\n${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    await until('it is in work', async () => (await inWork(node)) > 0)
    socket.destroy()
    await until('nothing is in work', async () => (await inWork(node)) === 0)
    assert.equal((await node.get('/health')).status, 200)
    assert.deepEqual(
      node.logs.filter((line) => line.includes('error')),
      [],
    )
  })
})
