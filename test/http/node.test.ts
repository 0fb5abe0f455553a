// The node's own calls, and the node under load: large bodies, real records, and nothing in clear on disk.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { PROBLEMS } from '../../src/errors.ts'
import { VERSION } from '../../src/server/version.ts'
import { bearer, IN_WORK, KEY_A, KEY_B, TOKEN, until, Vault } from './vault.ts'

const MIB = 1024 * 1024
const ROOT = join(import.meta.dirname, '../..')
const SYNTHEA = join(ROOT, '../shared/data/synthea')
const NO_KEY = { authorization: undefined }

const vault = await Vault.start({ fields: ['ssn', 'contacts[].phone'] })
after(() => vault[Symbol.asyncDispose]())

/** A JSON object's member, as an object. */
function member(json: unknown, name: string): Record<string, unknown> {
  assert.ok(typeof json === 'object' && json !== null && name in json, `no ${name}`)
  return (json as Record<string, Record<string, unknown>>)[name] // just checked, but for its own type
}

test('/status: the members of the contract, and no others', async () => {
  await vault.tokens(['status'])
  await until('the replica is not behind', async () => {
    const { json } = await vault.get('/status')
    return member(json, 'replica').lag === 0
  })
  const answer = await vault.get('/status')
  assert.equal(answer.status, 200)
  const { json } = answer
  assert.deepEqual(Object.keys(json), [
    ...['node', 'version', 'ledger', 'replica', 'quorum'],
    ...['leader', 'members', 'fields', 'owners', 'root_keys'],
  ])
  assert.deepEqual(
    [json.node, json.version, json.quorum, json.leader, json.members],
    ['n1', VERSION, true, 'n1', []],
  )
  const ledger = member(json, 'ledger')
  const replica = member(json, 'replica')
  assert.deepEqual(Object.keys(ledger), ['kind', 'identity', 'revision'])
  assert.deepEqual(Object.keys(replica), ['revision', 'lag', 'digest'])
  assert.equal(ledger.kind, 'embedded')
  assert.match(String(ledger.identity), /^[0-9a-f]{32}$/)
  assert.match(String(replica.digest), /^[0-9a-f]{64}$/)
  assert.equal(replica.lag, Number(ledger.revision) - Number(replica.revision))
  assert.match(String(json.fields), /^[0-9a-f]{64}$/)
  assert.match(String(json.owners), /^[0-9a-f]{64}$/)
  assert.ok((await vault.get('/metrics')).text.includes(`\ncoffer_owners{hash="${json.owners}"} 1\n`))
  assert.ok(Array.isArray(json.root_keys) && json.root_keys.length === 1)
  assert.ok(!answer.text.includes('clinic'), 'names an owner')
  // Any key will do, and says the same.
  const other = await vault.get('/status', bearer(KEY_B))
  assert.deepEqual(other.json, (await vault.get('/status')).json)
})

test('/status: revision and digest move with a write only, fields with the fields only', async () => {
  await using own = await Vault.start({ fields: ['a.b', 'c[]'] })
  await using same = await Vault.start({ fields: ['c[]', 'a.b'] })
  await using another = await Vault.start({ fields: ['a.b'] })
  const status = async (node: Vault) => (await node.get('/status')).json
  const before = member(await status(own), 'replica')
  assert.deepEqual(member(await status(own), 'replica'), before)
  await own.tokens(['moves'])
  await until('the write is applied', async () => {
    const { revision, digest } = member(await status(own), 'replica')
    return Number(revision) > Number(before.revision) && digest !== before.digest
  })
  // Acknowledged by the barrier: the replica has applied all there is.
  const settled = member(await status(own), 'replica')
  await own.tokens(['moves'])
  assert.deepEqual(member(await status(own), 'replica'), settled)
  assert.equal((await status(own)).fields, (await status(same)).fields)
  assert.notEqual((await status(own)).fields, (await status(another)).fields)
})

test('/metrics: Prometheus text that names no owner', async () => {
  await vault.post('/tokenize', { records: [{ ssn: 'metric' }] })
  await vault.get('/nothing')
  const answer = await vault.get('/metrics', NO_KEY)
  assert.equal(answer.status, 200)
  assert.match(answer.headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/)
  const sample = /^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\\n]|\\.)*",?)+\})? [-+0-9.e]+(Inf)?$/
  const comment = /^# (HELP|TYPE) [a-zA-Z_:]/
  const lines = answer.text.split('\n').filter((line) => line !== '')
  for (const line of lines) assert.ok(sample.test(line) || comment.test(line), line)
  assert.ok(!/clinic|cof_/.test(answer.text), 'names an owner or a key')
  for (const name of [
    'coffer_ready 1',
    'coffer_field_matches{path="ssn"} ',
    'coffer_records ',
    'coffer_tokens_issued_total ',
    'coffer_ledger_revision ',
    'coffer_request_seconds_count{route="/tokenize",method="POST",status="200"} ',
    'coffer_request_seconds_count{route="none",method="GET",status="404"} ',
  ]) {
    assert.ok(
      lines.some((line) => line.startsWith(name)),
      `no ${name}`,
    )
  }
})

test('/openapi.json: every call of the contract, with its body, its answer and its problems', async () => {
  const answer = await vault.get('/openapi.json', NO_KEY)
  assert.equal(answer.status, 200)
  const { json } = answer
  assert.match(String(json.openapi), /^3\.1\./)
  const paths = member(json, 'paths')
  for (const [method, path, open] of [
    ['post', '/tokenize', false],
    ['post', '/detokenize', false],
    ['post', '/retokenize', false],
    ['post', '/rotate-epoch', false],
    ['get', '/epochs', false],
    ['get', '/status', false],
    ['get', '/whoami', false],
    ['get', '/health', true],
    ['get', '/ready', true],
    ['post', '/secrets', false],
    ['get', '/secrets', false],
    ['get', '/secrets/{name}', false],
    ['put', '/secrets/{name}', false],
    ['get', '/secrets/{name}/history', false],
    ['post', '/secrets/resolve', false],
  ] as const) {
    const operation = member(member(paths, path), method)
    assert.ok(operation.summary, path)
    assert.deepEqual(operation.security, open ? [] : undefined, path)
    if (method !== 'get') assert.ok(member(member(operation, 'requestBody'), 'content')['application/json'])
    const responses = member(operation, 'responses')
    const done = method === 'post' && path === '/secrets' ? '201' : '200'
    assert.ok(member(member(responses, done), 'content')['application/json'], path)
    for (const status of ['400', ...(open ? [] : ['401']), '500', ...(path === '/health' ? [] : ['503'])]) {
      if ((path === '/status' || path === '/whoami') && status === '503') continue
      const problem = member(member(member(responses, status), 'content'), 'application/problem+json')
      assert.deepEqual(problem.schema, { $ref: '#/components/schemas/Problem' })
    }
  }
  for (const path of ['/metrics', '/openapi.json', '/problems/{slug}']) {
    assert.deepEqual(member(member(paths, path), 'get').security, [], path)
  }
  for (const [, ref] of answer.text.matchAll(/"\$ref":"#\/([^"]*)"/g)) {
    ref.split('/').reduce<unknown>((at, name) => member(at, name), json)
  }
  const problem = member(member(member(json, 'components'), 'schemas'), 'Problem')
  const types = member(member(problem, 'properties'), 'type').enum
  assert.deepEqual(
    types,
    Object.keys(PROBLEMS).map((slug) => `/problems/${slug}`),
  )
  assert.deepEqual(member(member(json, 'components'), 'securitySchemes').apiKey, {
    type: 'http',
    scheme: 'bearer',
    description: 'The API key of an owner',
  })
})

test('/docs: a page whose every part comes from the node itself', async () => {
  for (const path of ['/docs', '/docs/']) {
    const page = await vault.get(path, NO_KEY)
    assert.equal(page.status, 200)
    assert.match(page.headers['content-type'] ?? '', /^text\/html/)
    const parts = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url)
    assert.ok(parts.length >= 3)
    for (const part of parts) {
      const url = new URL(part, vault.node.url + path)
      assert.equal(url.origin, vault.node.url, `${part} is somebody else's`)
      const answer = await vault.get(url.pathname, NO_KEY)
      assert.equal(answer.status, 200, part)
      assert.ok(answer.bytes.length > 0, part)
      if (part.endsWith('initializer.js')) assert.ok(!/https?:\/\/(?!stackoverflow)/.test(answer.text))
    }
  }
})

test('/docs: every file comes byte for byte', async () => {
  const folder = join(ROOT, 'node_modules/@fastify/swagger-ui/static')
  const names = readdirSync(folder).filter((name) => name !== 'index.html') // leads to /docs
  assert.ok(names.includes('favicon-16x16.png'), 'a small file that is no text')
  for (const name of names) {
    const { status, bytes, headers } = await vault.get(`/docs/static/${name}`, NO_KEY)
    assert.equal(status, 200, name)
    assert.ok(bytes.equals(readFileSync(join(folder, name))), name)
    assert.equal(headers['content-length'], String(bytes.length), name)
  }
})

test('/whoami: owner and rights of the key, and an event', async () => {
  const answer = await vault.get('/whoami', bearer(KEY_B))
  assert.equal(answer.status, 200)
  assert.match(String(answer.json.used), /^[1-9]\d*$/)
  assert.equal(
    answer.text.replace(/"used":\d+/, '"used":null'),
    '{"owner":"clinic-b","key_id":"k1",' +
      '"may":["tokenize","detokenize","rotate","secrets:read","secrets:write"],' +
      '"prefix":null,"until":null,"resolve_per_day":null,"quota":null,"used":null}',
  )
  assert.equal((await vault.get('/whoami', NO_KEY)).status, 401)
  await until('the event is written', () =>
    readFileSync(join(vault.data, 'events.ndjson'), 'utf8').includes(
      '"event":"key.shown","owner":"clinic-b"',
    ),
  )
})

test('/problems/<slug> explains every problem, and the type of a problem leads there', async () => {
  for (const [slug, entry] of Object.entries(PROBLEMS)) {
    const { status, json } = await vault.get(`/problems/${slug}`, NO_KEY)
    assert.equal(status, 200, slug)
    assert.deepEqual(
      [json.type, json.title, json.status, json.about],
      [`/problems/${slug}`, entry.title, entry.status, entry.about],
    )
  }
  const { json } = await vault.post('/detokenize', { token: 'x' })
  assert.equal((await vault.get(String(json.type), NO_KEY)).json.title, json.title)
})

test('a stopping node finishes what it has begun, says so, and is gone soon', async () => {
  await using own = await Vault.start()
  // One needs the ledger to be answered, the other the replica.
  const token = await own.token('begun before')
  const tokenize = await own.halfSent('/tokenize', '{"values":["begun before","and new"]}', 10)
  const detokenize = await own.halfSent('/detokenize', `{"token":"${token}"}`, 10)
  const started = performance.now()
  const stopped = own.node.stop()
  await until('it takes nothing new', async () => {
    const refused = await own.get('/health').catch((error: NodeJS.ErrnoException) => error.code)
    return refused === 'ECONNREFUSED'
  })
  for (const [begun, wanted] of [
    [tokenize, `"tokens":["${token}","tok_1_`],
    [detokenize, '{"value":"begun before"}'],
  ] as const) {
    const answer = await begun.finish()
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/)
    assert.match(answer, /\r\nconnection: close\r\n/i)
    assert.ok(answer.includes(wanted), answer)
  }
  await stopped
  const ms = performance.now() - started
  assert.ok(ms < 5000, `stopped after ${ms} ms`)
})

test('a stopping node does not wait for ever: what is not done after 10 s is cut', {
  timeout: 20_000,
}, async (t) => {
  await using own = await Vault.start()
  const never = await own.halfSent('/tokenize', '{"values":["never to its end"]}', 10)
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const stopped = own.node.stop()
  let done = false
  void stopped.finally(() => {
    done = true
  })
  for (let turn = 0; turn < 100; turn++) {
    t.mock.timers.tick(99)
    await new Promise((resolve) => setImmediate(resolve))
  }
  assert.equal(done, false)
  t.mock.timers.tick(2000)
  t.mock.timers.reset()
  await stopped
  never.leave()
})

const LARGE: Record<string, { status: number; body: () => string }> = {
  'few large strings': {
    status: 200,
    body: () => `{"values":[${list(510, (i) => `"${String(i).padEnd(32_700, 'x')}"`)}]}`,
  },
  'many small members': { status: 200, body: () => `{"records":[{${list(1_300_000, (i) => `"m${i}":1`)}}]}` },
  'many small records': { status: 200, body: () => `{"records":[${list(1_600_000, () => '{"x":"y"}')}]}` },
  'flat values': {
    status: 200,
    body: () => `{"values":[${list(100_000, (i) => `"${String(i).padEnd(150, '-')}"`)}]}`,
  },
  'far too many values': { status: 413, body: () => `{"values":[${'1,'.repeat(8_000_000)}1]}` },
}

function list(count: number, item: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => item(i)).join(',')
}

/**
 * Runs the requests, and meanwhile asks `/health`: it has to answer within a second each time. Counted is what
 * this thread computed in the meantime (the node's part and the test's), or a fifth of the time that went by:
 * other work on the machine is not the node's.
 */
async function healthAnswers(node: Vault, requests: () => Promise<unknown>[]): Promise<void> {
  let done = false
  const all = Promise.all(requests()).finally(() => {
    done = true
  })
  let longest = 0
  while (!done) {
    const started = performance.now()
    const before = process.threadCpuUsage()
    assert.equal((await node.get('/health')).status, 200)
    const { user, system } = process.threadCpuUsage(before)
    longest = Math.max(longest, (user + system) / 1000, (performance.now() - started) / 5)
  }
  await all
  assert.ok(longest < 1000, `/health took ${longest} ms`)
}

for (const [name, { status, body }] of Object.entries(LARGE)) {
  test(`16 MiB of ${name}, eight at once: /health answers within a second`, async () => {
    await using own = await Vault.start({ fields: ['ssn'] })
    const bytes = Buffer.from(body())
    assert.ok(bytes.length > 13 * MIB && bytes.length <= 16 * MIB, `${bytes.length} bytes`)
    await healthAnswers(own, () =>
      Array.from({ length: 8 }, async () => {
        const answer = await own.post('/tokenize', bytes)
        // Eight bodies fill the half of their owner, and leave no room for answers; a slow machine is late.
        if (answer.status !== 503) assert.equal(answer.status, status)
        else assert.match(String(answer.json.type), /overloaded$|no-quorum$/)
      }),
    )
    const alone = await own.post('/tokenize', bytes)
    assert.equal(alone.status, status)
    await until('nothing is in work', async () => (await own.metric(IN_WORK)) === 0)
  })
}

test('a large value named a hundred thousand times is refused soon, and /health answers', async () => {
  await using own = await Vault.start({ fields: ['ssn[]'] })
  const tokens = Array(100_000).fill(await own.token('x'.repeat(32 * 1024)))
  await healthAnswers(own, () =>
    [
      ['/detokenize', { tokens }],
      ['/detokenize', { records: [{ ssn: tokens }] }],
      ['/retokenize', { tokens }],
    ].map(async ([path, body]) => {
      const answer = await own.post(String(path), JSON.stringify(body))
      // Three answers at once are more than the half of their owner.
      if (answer.status === 413) assert.equal(answer.json.type, '/problems/answer-too-large')
      else assert.equal(answer.json.type, '/problems/overloaded')
    }),
  )
})

test('a hundred thousand values and back, over epochs', async () => {
  await using own = await Vault.start()
  const values = Array.from({ length: 100_000 }, (_, i) => (i % 3 ? `value ${i}` : i))
  const first = await own.tokens(values.slice(0, 50_000))
  await own.post('/rotate-epoch', { to: 2 })
  const second = await own.tokens(values.slice(50_000))
  assert.deepEqual(await own.values([...first, ...second]), values)
  const { json } = await own.post('/retokenize', { tokens: [...first, ...second] })
  const tokens = json.tokens as string[]
  assert.deepEqual([json.epoch, json.not_found, tokens.length], [2, [], 100_000])
  assert.deepEqual(tokens.slice(50_000), second)
  assert.ok(tokens.every((token) => token.startsWith('tok_2_')))
  assert.deepEqual(await own.values(tokens), values)
})

/** JSON without its insignificant white space. */
function tight(json: string): string {
  return json.replace(/("(?:[^"\\]|\\.)*")|[ \t\r\n]+/g, '$1')
}

/** As assert.equal, without printing all of two long texts. */
function same(actual: string, expected: string): void {
  if (actual === expected) return
  const at = [...expected].findIndex((letter, i) => letter !== actual[i])
  assert.equal(actual.slice(at - 40, at + 40), expected.slice(at - 40, at + 40), `differs at ${at}`)
  assert.equal(actual.length, expected.length)
}

const FHIR_FIELDS = [
  'entry[].resource.identifier[].value',
  'entry[].resource.name[].family',
  'entry[].resource.name[].given[]',
  'entry[].resource.telecom[].value',
  'entry[].resource.birthDate',
  'entry[].resource.address[].line[]',
  'entry[].resource.multipleBirthBoolean',
]

test('FHIR bundles there and back: the same bytes', { skip: !existsSync(SYNTHEA) }, async () => {
  await using own = await Vault.start({ fields: FHIR_FIELDS })
  const files = readdirSync(join(SYNTHEA, 'fhir'))
  assert.ok(files.length > 0)
  for (const file of files) {
    const bundle = readFileSync(join(SYNTHEA, 'fhir', file), 'utf8').trim()
    const there = await own.post('/tokenize', `{"records":[${bundle}]}`)
    assert.equal(there.status, 200, there.text.slice(0, 300))
    assert.ok(Number(there.json.replaced) > 10, file)
    for (const family of bundle.matchAll(/"family": *"([^"]+)"/g)) {
      assert.ok(!there.text.includes(`"family":"${family[1]}"`))
    }
    const records = /"records":(.*),"replaced"/s.exec(there.text)?.[1]
    const back = await own.post('/detokenize', `{"records":${records}}`)
    same(tight(back.text), tight(`{"records":[${bundle}],"not_found":[]}`))
  }
})

const CSV_FIELDS = ['SSN', 'PATIENT', 'FIRST', 'LAST', 'DRIVERS', 'PASSPORT', 'BIRTHDATE', 'ADDRESS']

test('rows of CSV files there and back: the same bytes', { skip: !existsSync(SYNTHEA) }, async () => {
  await using own = await Vault.start({ fields: CSV_FIELDS })
  for (const file of ['patients', 'encounters', 'conditions', 'medications']) {
    const [head, ...rows] = readFileSync(join(SYNTHEA, `${file}.csv`), 'utf8')
      .trim()
      .split(/\r?\n/)
    const names = head.split(',')
    const sent = rows.map((row) =>
      JSON.stringify(Object.fromEntries(row.split(',').map((cell, i) => [names[i] ?? `_${i}`, cell]))),
    )
    const there = await own.post('/tokenize', `{"records":[${sent}]}`)
    assert.equal(there.status, 200, there.text.slice(0, 300))
    const fields = names.filter((name) => CSV_FIELDS.includes(name))
    assert.equal(there.json.replaced, rows.length * fields.length)
    for (const record of there.json.records as Record<string, string>[]) {
      for (const field of fields) assert.match(record[field], TOKEN)
    }
    const records = /"records":(.*),"replaced"/s.exec(there.text)?.[1]
    const back = await own.post('/detokenize', `{"records":${records}}`)
    same(back.text, `{"records":[${sent}],"not_found":[]}`)
  }
})

/** Every file under the folder. */
function filesOf(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

test('no value and no key is in clear on the disk, in the logs or in an error', async () => {
  await using own = await Vault.start({ fields: ['ssn', 'contacts[].phone'] })
  const canary = (i: number) => `c4n4ry-${i}-9b1e77`
  const many = Array.from({ length: 2000 }, (_, i) => canary(i))
  const tokens = await own.tokens(many)
  await own.tokens([`${canary(1)}${'-long'.repeat(5000)}`, `${canary(2)}é漢🩺`])
  await own.post('/rotate-epoch', { to: 2 })
  await own.post('/retokenize', { tokens })
  await own.values(tokens)
  await own.post('/tokenize', {
    records: [{ ssn: canary(3), free: canary(4), contacts: [{ phone: canary(5) }] }],
  })
  const errors = await Promise.all([
    own.post('/tokenize', `{"values":["${canary(6)}"`),
    own.post('/tokenize', `{"values":[["${canary(7)}"]]}`),
    own.post('/tokenize', `{"values":["${canary(8)}\\ud800"]}`),
    own.post('/tokenize', { values: ['x'.repeat(40_000) + canary(9)] }),
    own.post('/detokenize', { token: canary(10) }),
    own.post('/tokenize', { values: [tokens[0]] }),
    own.get('/epochs', bearer(canary(11))),
    own.get(`/ready?for=${canary(12)}`),
    own.post('/tokenize', Buffer.from(`{"values":["${canary(13)}\xff"]}`, 'latin1')),
    own.get('/epochs', { 'x-request-id': `not valid: ${canary(14)}` }),
  ])
  for (const answer of errors.slice(0, -1)) assert.ok(answer.status >= 400)
  await own.stop()
  const told =
    own.logs.join('\n') + errors.map((answer) => JSON.stringify(answer.headers) + answer.text).join('')
  assert.ok(!told.includes('c4n4ry'), 'in an error or a log')
  const files = filesOf(own.data)
  assert.ok(files.some((file) => file.endsWith('events.ndjson')) && files.length > 3)
  for (const file of [...files, join(own.dir, 'n1.yaml')]) {
    const bytes = readFileSync(file)
    for (const clear of ['c4n4ry', KEY_A, KEY_B, 'cof_']) {
      for (const encoding of ['utf8', 'utf16le', 'base64'] as const) {
        const text = encoding === 'base64' ? Buffer.from(clear).toString('base64').slice(0, -3) : clear
        const needle = Buffer.from(text, encoding === 'base64' ? 'latin1' : encoding)
        assert.equal(bytes.indexOf(needle), -1, `${clear} as ${encoding} in ${file}`)
      }
    }
  }
})
