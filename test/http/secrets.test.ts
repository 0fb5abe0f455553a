// The secrets of the contract over HTTP: every call, every rule, on one node. What is refused: secrets-input.test.ts.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  create,
  historyOf,
  INSTANT,
  type Line,
  latestOf,
  namesOf,
  pathOf,
  refused,
  update,
  visible,
  type Written,
} from './secrets.ts'
import { type Answer, bearer, KEY_A, KEY_B, OWNERS, until, Vault } from './vault.ts'

const SECOND_KEY = 'cof_another-key-of-clinic-a'
const vault = await Vault.start({ owners: { ...OWNERS, 'clinic-a': [KEY_A, SECOND_KEY] } })
after(() => vault[Symbol.asyncDispose]())

const put = (name: string, value: string, headers: Record<string, string | string[]> = {}): Promise<Answer> =>
  vault.call('PUT', pathOf(name), { value }, headers)
const read = (name: string, query = '', key = KEY_A): Promise<Answer> =>
  vault.get(`${pathOf(name)}${query}`, bearer(key))
/** A query with `at` as a client should send it. */
const at = (instant: string | number): string =>
  `?at=${encodeURIComponent(typeof instant === 'string' ? instant : new Date(instant).toISOString())}`

/** A secret whose versions begin some milliseconds apart; the value of version v is `value v`. */
async function withVersions(name: string, count: number): Promise<Line[]> {
  let { valid_from: last } = await create(vault, name, 'value 1')
  for (let version = 2; version <= count; version++) {
    const before = Date.parse(last)
    await until('the clock has moved on', () => Date.now() > before + 2)
    last = (await update(vault, name, `value ${version}`)).valid_from
  }
  return historyOf(vault, name)
}

test('create one: 201 with name, version, valid_from and ETag', async () => {
  const before = Date.now()
  const answer = await vault.post('/secrets', { name: 'one', value: 's3cret' })
  assert.equal(answer.status, 201)
  assert.deepEqual(Object.keys(answer.json), ['name', 'version', 'valid_from'])
  assert.deepEqual([answer.json.name, answer.json.version], ['one', 1])
  assert.match(String(answer.json.valid_from), INSTANT)
  const validFrom = Date.parse(String(answer.json.valid_from))
  assert.ok(validFrom >= before && validFrom <= Date.now())
  assert.equal(answer.headers.etag, '"1"')
  assert.equal(answer.headers['content-type'], 'application/json')
  assert.equal(answer.headers['idempotency-replayed'], undefined)
  assert.equal(await latestOf(vault, 'one'), 's3cret')
})

test('create many: in request order, all from one instant; none is fine', async () => {
  const names = ['many/z', 'many/a', 'many/m']
  const secrets = names.map((name) => ({ name, value: `of ${name}` }))
  const answer = await vault.post('/secrets', { secrets })
  assert.equal(answer.status, 201)
  assert.deepEqual(Object.keys(answer.json), ['secrets'])
  const written = answer.json.secrets as Written[]
  const { valid_from } = written[0]
  assert.match(valid_from, INSTANT)
  assert.deepEqual(
    written,
    names.map((name) => ({ name, version: 1, valid_from })),
  )
  assert.equal(answer.headers.etag, undefined)
  for (const name of names) assert.equal(await latestOf(vault, name), `of ${name}`)
  const list = await vault.post('/secrets', { secrets: [{ name: 'many/of-one', value: '' }] })
  assert.deepEqual((list.json.secrets as Written[])[0].name, 'many/of-one')
  const none = await vault.post('/secrets', { secrets: [] })
  assert.deepEqual([none.status, none.text], [201, '{"secrets":[]}'])
})

test('create what exists: 409 with its name, and it is as it was', async () => {
  const { valid_from } = await create(vault, 'exists', 'first')
  for (const body of [
    { name: 'exists', value: 'second' },
    { name: 'exists', value: 'first' },
    { secrets: [{ name: 'exists', value: 'x' }] },
  ]) {
    await refused(vault.post('/secrets', body), 409, 'secret-exists', { names: ['exists'] })
  }
  const { json } = await read('exists')
  assert.deepEqual(json, { name: 'exists', value: 'first', version: 1, valid_from, valid_to: null })
})

test('create many: all or none; what exists or is named twice is named once, in request order', async () => {
  await create(vault, 'none/b', 'x')
  await create(vault, 'none/d', 'x')
  const before = await namesOf(vault)
  for (const [names, wrong] of [
    ['a b c', 'b'],
    ['d a b', 'd b'],
    ['a c a', 'a'],
    ['a a', 'a'],
    ['c c b a c b', 'c b'],
    ['e d e a b a d', 'e d a b'],
    ['a', undefined],
  ] as const) {
    const secrets = names.split(' ').map((name) => ({ name: `none/${name}`, value: 'y' }))
    if (wrong === undefined) {
      assert.equal((await vault.post('/secrets', { secrets })).status, 201, names)
      continue
    }
    const members = { names: wrong.split(' ').map((name) => `none/${name}`) }
    await refused(vault.post('/secrets', { secrets }), 409, 'secret-exists', members, names)
    assert.deepEqual(await namesOf(vault), before, names)
  }
})

test('update: the next version with its ETag, also where the value is the same', async () => {
  await create(vault, 'updated', 'same')
  let last = ''
  for (const [i, value] of ['same', 'same', 'other', ''].entries()) {
    const answer = await put('updated', value)
    assert.equal(answer.status, 200)
    assert.deepEqual(Object.keys(answer.json), ['name', 'version', 'valid_from'])
    assert.deepEqual([answer.json.name, answer.json.version], ['updated', i + 2])
    assert.equal(answer.headers.etag, `"${i + 2}"`)
    assert.equal(answer.headers['idempotency-replayed'], undefined)
    const validFrom = String(answer.json.valid_from)
    assert.match(validFrom, INSTANT)
    assert.ok(validFrom > last)
    last = validFrom
  }
  assert.equal(await latestOf(vault, 'updated'), '')
  await refused(put('updated/absent', 'x'), 404, 'not-found')
  assert.ok(!(await namesOf(vault)).includes('updated/absent'))
})

test('If-Match: *, a list, strong comparison; stale is 412 with the version; malformed is 400', async () => {
  await create(vault, 'match', 'x')
  await update(vault, 'match', 'x')
  let version = 2
  const cases: [string | string[], 'fits' | 'stale' | 'malformed'][] = [
    ['"2"', 'fits'],
    ['*', 'fits'],
    [' * ', 'fits'],
    ['"7", "(v)"', 'fits'],
    ['"(v)","(v)"', 'fits'],
    ['W/"(v)", "(v)"', 'fits'],
    [', ,"(v)",,', 'fits'],
    ['"a,b", "(v)"', 'fits'],
    ['"", "(v)"', 'fits'],
    ['\t"(v)"\t,\t"x"', 'fits'],
    [['"1"', '"(v)"'], 'fits'],
    [['W/"1"', '"0" , ', '"(v)"'], 'fits'],
    ['"1"', 'stale'],
    ['W/"(v)"', 'stale'],
    ['"0(v)"', 'stale'],
    ['"+(v)"', 'stale'],
    ['"(v).0"', 'stale'],
    ['""', 'stale'],
    ['"*"', 'stale'],
    ['"99999999999999999999"', 'stale'],
    ['"é"', 'stale'],
    ['(v)', 'malformed'],
    ["'(v)'", 'malformed'],
    ['"(v)', 'malformed'],
    ['(v)"', 'malformed'],
    ['w/"(v)"', 'malformed'],
    ['W/ "(v)"', 'malformed'],
    ['"(v)" "(v)"', 'malformed'],
    ['"(v)" x', 'malformed'],
    ['*, "(v)"', 'malformed'],
    ['"(v)", *', 'malformed'],
    ['**', 'malformed'],
    [['*', '*'], 'malformed'],
    ['', 'malformed'],
    [',', 'malformed'],
    [' , ,', 'malformed'],
    ['"a"b"', 'malformed'],
    ['"a\tb"', 'malformed'],
    ['"(v) "', 'malformed'],
  ]
  for (const [template, outcome] of cases) {
    const given = (text: string): string => text.replaceAll('(v)', String(version))
    const header = typeof template === 'string' ? given(template) : template.map(given)
    const asked = put('match', 'x', { 'if-match': header })
    const what = JSON.stringify(header)
    if (outcome === 'malformed') {
      await refused(asked, 400, 'invalid-request', { path: 'if-match' }, what)
    } else if (outcome === 'stale') {
      await refused(asked, 412, 'version-conflict', { version }, what)
    } else {
      const answer = await asked
      assert.deepEqual([answer.status, answer.headers.etag], [200, `"${++version}"`], what)
    }
  }
  assert.equal((await read('match')).json.version, version)
  for (const header of ['nonsense', '*', '"1"', 'W/"1"', '"1", "2"', '""']) {
    await refused(put('match/absent', 'x', { 'if-match': header }), 404, 'not-found')
  }
})

test('updates at once with the same If-Match: one of them is done', async () => {
  await create(vault, 'contended', 'x')
  for (let version = 1; version <= 5; version++) {
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => put('contended', `${i}`, { 'if-match': `"${version}"` })),
    )
    const done = answers.findIndex(({ status }) => status === 200)
    for (const [i, answer] of answers.entries()) {
      if (i !== done) await refused(answer, 412, 'version-conflict', { version: version + 1 })
    }
    assert.equal(await latestOf(vault, 'contended'), String(done))
  }
})

test('updates at once without If-Match: each is a version of its own', async () => {
  await create(vault, 'busy', 'first')
  const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => put('busy', `value ${i}`)))
  const versions = answers.map(({ status, json }) => (status === 200 ? Number(json.version) : 0))
  assert.deepEqual(
    [...versions].sort((a, b) => a - b),
    Array.from({ length: 40 }, (_, i) => i + 2),
  )
  for (const [i, version] of versions.entries()) {
    assert.equal((await read('busy', `?version=${version}`)).json.value, `value ${i}`)
  }
  assert.equal((await historyOf(vault, 'busy')).length, 41)
})

test('creates at once: one of them is done', async () => {
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => vault.post('/secrets', { name: 'raced', value: `${i}` })),
  )
  const done = answers.findIndex(({ status }) => status === 201)
  for (const [i, answer] of answers.entries()) {
    if (i !== done) await refused(answer, 409, 'secret-exists', { names: ['raced'] })
  }
  assert.equal(await latestOf(vault, 'raced'), String(done))
})

test('read: the latest, by number, at an instant; ETag of the version given', async () => {
  const lines = await withVersions('read', 3)
  for (const [query, version] of [
    ['', 3],
    ['?', 3],
    ['?version=1', 1],
    ['?version=2', 2],
    ['?version=3', 3],
    [at(lines[0].valid_from), 1],
    [at(lines[1].valid_from), 2],
    [at(Date.now()), 3],
  ] as const) {
    const answer = await read('read', query)
    assert.equal(answer.status, 200, `${query} ${answer.text}`)
    const { valid_from, valid_to } = lines[version - 1]
    const wanted = { name: 'read', value: `value ${version}`, version, valid_from, valid_to }
    assert.equal(answer.text, JSON.stringify(wanted), query)
    assert.equal(answer.headers.etag, `"${version}"`)
    assert.equal(answer.headers['content-type'], 'application/json')
  }
  for (const query of ['?version=4', '?version=9999999999', at(Date.parse(lines[0].valid_from) - 1)]) {
    await refused(read('read', query), 404, 'not-found')
  }
  for (const query of ['', '?version=1', at(Date.now()), '/history']) {
    await refused(vault.get(`${pathOf('read/absent')}${query}`), 404, 'not-found')
  }
})

test('valid_to is null until there is a later version; once set it stays', async () => {
  await create(vault, 'closing', '1')
  assert.equal((await read('closing', '?version=1')).json.valid_to, null)
  const { valid_from } = await update(vault, 'closing', '2')
  const closed = (await read('closing', '?version=1')).text
  assert.equal(JSON.parse(closed).valid_to, valid_from)
  await update(vault, 'closing', '3')
  await update(vault, 'closing', '4')
  assert.equal((await read('closing', '?version=1')).text, closed)
  assert.equal((await read('closing')).json.valid_to, null)
})

test('exactly one version for each instant, from the first valid_from on', async () => {
  const lines = await withVersions('instants', 5)
  const first = Date.parse(lines[0].valid_from)
  const last = Date.parse(lines[4].valid_from)
  for (let instant = first - 2; instant <= last; instant++) {
    const holds = lines.filter(
      ({ valid_from, valid_to }) =>
        Date.parse(valid_from) <= instant && (valid_to === null || instant < Date.parse(valid_to)),
    )
    const answer = await read('instants', at(instant))
    if (instant < first) {
      assert.equal(holds.length, 0)
      await refused(answer, 404, 'not-found')
    } else {
      assert.deepEqual(
        [answer.json.version],
        holds.map(({ version }) => version),
        `${instant}`,
      )
    }
  }
})

test('`at` in every form of RFC 3339', async () => {
  const lines = await withVersions('forms', 2)
  const instant = Date.parse(lines[1].valid_from)
  const utc = lines[1].valid_from // like 2026-01-31T12:34:56.789Z
  const shifted = (minutes: number): string => new Date(instant + minutes * 60_000).toISOString().slice(0, -1)
  for (const [text, version] of [
    [utc, 2],
    [utc.toLowerCase(), 2],
    [utc.replace('T', ' '), 2],
    [utc.replace('Z', '0Z'), 2],
    [utc.replace('Z', '999999999999Z'), 2],
    [utc.replace('Z', '+00:00'), 2],
    [utc.replace('Z', '-00:00'), 2],
    [`${shifted(330)}+05:30`, 2],
    [`${shifted(-570)}-09:30`, 2],
    [`${shifted(1439)}+23:59`, 2],
    [new Date(instant - 1).toISOString(), 1],
    // Just before: fractions are not rounded up.
    [new Date(instant - 1).toISOString().replace('Z', '9999Z'), 1],
    // A leap second is the first of the next minute.
    ['2016-12-31T23:59:60Z', undefined],
    ['1969-12-31T23:59:59.5Z', undefined],
    ['0000-01-01T00:00:00Z', undefined],
  ] as const) {
    const answer = await read('forms', at(text))
    if (version === undefined) await refused(answer, 404, 'not-found', {}, text)
    else assert.deepEqual([answer.status, answer.json.version], [200, version], `${text} ${answer.text}`)
  }
  // A `+` that is not escaped reads as a space, and is meant as one.
  const unescaped = await read('forms', `?at=${shifted(120)}+02:00`)
  assert.deepEqual([unescaped.status, unescaped.json.version], [200, 2])
  const spaced = await read('forms', `?at=${shifted(120).replace('T', '+')}+02:00`)
  assert.deepEqual([spaced.status, spaced.json.version], [200, 2])
})

test('`at` yet to come is 400: later than the clock and than the last valid_from', async () => {
  await create(vault, 'future', 'x')
  for (const ms of [60_000, 3600_000, 365 * 86400_000]) {
    const asked = read('future', at(Date.now() + ms))
    await refused(asked, 400, 'invalid-request', { path: 'at' })
  }
  await refused(read('future', '?at=9999-12-31T23:59:59Z'), 400, 'invalid-request', { path: 'at' })
  // In another zone's clock it is later, and has been all the same.
  const ago = `${new Date(Date.now() + 3600_000).toISOString().slice(0, -1)}+01:00`
  assert.equal((await read('future', at(ago))).status, 200)
  const ahead = `${new Date(Date.now() - 3600_000).toISOString().slice(0, -1)}-02:00`
  await refused(read('future', at(ahead)), 400, 'invalid-request', { path: 'at' })
})

test('history: oldest first, gapless and half-open, who wrote it, and no values', async () => {
  const ids = ['req-1', 'x'.repeat(128), 'A.b_c:d-e']
  const keys = [KEY_A, SECOND_KEY, KEY_A]
  await vault.post('/secrets', { name: 'told', value: 'v4lue-1' }, { 'x-request-id': ids[0] })
  for (const i of [1, 2]) {
    await put('told', `v4lue-${i + 1}`, { 'x-request-id': ids[i], ...bearer(keys[i]) })
  }
  const { text } = await vault.get(`${pathOf('told')}/history`)
  assert.ok(!text.includes('v4lue'))
  const lines = await historyOf(vault, 'told')
  assert.equal(lines.length, 3)
  for (const [i, line] of lines.entries()) {
    assert.deepEqual(Object.keys(line), ['version', 'valid_from', 'valid_to', 'key_id', 'request_id'])
    assert.deepEqual([line.version, line.key_id, line.request_id], [i + 1, ['k1', 'k2', 'k1'][i], ids[i]])
    assert.match(line.valid_from, INSTANT)
    assert.equal(line.valid_to, lines[i + 1]?.valid_from ?? null)
    if (i > 0) assert.ok(line.valid_from > lines[i - 1].valid_from)
  }
  // A request id that the node made is the one that the caller was told.
  const own = await put('told', 'x')
  assert.equal((await historyOf(vault, 'told'))[3].request_id, own.headers['x-request-id'])
})

test('HEAD is GET without its body', async () => {
  await create(vault, 'headed', 'x')
  await update(vault, 'headed', 'y')
  for (const path of ['/headed', '/headed?version=1', '/headed/history', '?prefix=headed', '']) {
    const get = await vault.get(`/secrets${path}`)
    const head = await vault.call('HEAD', `/secrets${path}`)
    assert.deepEqual([head.status, head.text], [200, ''], path)
    for (const name of ['content-type', 'content-length', 'etag']) {
      assert.equal(head.headers[name], get.headers[name], `${path} ${name}`)
    }
  }
  assert.equal((await vault.call('HEAD', '/secrets/headed/absent')).status, 404)
})

test('another method: 405 with Allow', async () => {
  for (const [path, allowed] of [
    ['/secrets', 'GET, HEAD, POST'],
    ['/secrets/x', 'GET, HEAD, PUT'],
    ['/secrets/a%2Fb', 'GET, HEAD, PUT'],
    ['/secrets/x/history', 'GET, HEAD'],
    ['/secrets/history/history', 'GET, HEAD'],
    // The call, and the secret of that name.
    ['/secrets/resolve', 'GET, HEAD, POST, PUT'],
  ] as const) {
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const body = method === 'POST' || method === 'PUT' ? {} : undefined
      const answer = await vault.call(method, path, body)
      const what = `${method} ${path}`
      if (allowed.split(', ').includes(method)) {
        assert.notEqual(answer.status, 405, what)
        assert.equal(answer.headers.allow, undefined, what)
      } else {
        await refused(answer, 405, 'method-not-allowed', {}, what)
        assert.equal(answer.headers.allow, allowed, what)
      }
    }
  }
})

/** What clinic-a and clinic-b may ask about a name. */
const ASKED: readonly (readonly [string, string, string, Record<string, unknown>?])[] = [
  ['the latest', 'GET', ''],
  ['HEAD', 'HEAD', ''],
  ['a version', 'GET', '?version=1'],
  ['another version', 'GET', '?version=2'],
  ['an instant', 'GET', '?at=2026-01-01T00:00:00Z'],
  ['an instant to come', 'GET', '?at=9999-01-01T00:00:00Z'],
  ['the history', 'GET', '/history'],
  ['an update', 'PUT', '', { value: 'x' }],
]

test('another owner’s secret is not found in any call, in the same words as one that never was', async () => {
  await create(vault, 'theirs', 'x', KEY_B)
  await update(vault, 'theirs', 'y', KEY_B)
  for (const [what, method, rest, body] of ASKED) {
    for (const headers of [{}, { 'if-match': '"2"' }, { 'if-match': '*' }]) {
      const [foreign, absent] = await Promise.all(
        ['theirs', 'absent'].map((name) => vault.call(method, `${pathOf(name)}${rest}`, body, headers)),
      )
      assert.deepEqual(visible(foreign), visible(absent), what)
      assert.equal(foreign.status, what === 'an instant to come' ? 400 : 404, what)
    }
  }
  const resolved = async (name: string): Promise<string> => {
    const answer = await vault.post('/secrets/resolve', { refs: [`coffer://${name}`, `coffer://${name}@1`] })
    assert.equal(answer.status, 404)
    return JSON.stringify(visible(answer)).replaceAll(name, '(name)')
  }
  assert.equal(await resolved('theirs'), await resolved('absent'))
  assert.ok(!(await namesOf(vault)).includes('theirs'))
  const page = await vault.get('/secrets?prefix=theirs')
  assert.equal(page.text, '{"names":[],"next":null}')
  // Nothing of it has touched the secret.
  assert.equal((await historyOf(vault, 'theirs', KEY_B)).length, 2)
})

test('the same name for two owners is two secrets', async () => {
  await create(vault, 'shared', 'of a')
  await create(vault, 'shared', 'of b', KEY_B)
  await update(vault, 'shared', 'of b again', KEY_B)
  assert.equal(await latestOf(vault, 'shared'), 'of a')
  assert.equal(await latestOf(vault, 'shared', KEY_B), 'of b again')
  assert.deepEqual((await historyOf(vault, 'shared')).length, 1)
  for (const [key, values] of [
    [KEY_A, ['of a']],
    [KEY_B, ['of b again']],
  ] as const) {
    const answer = await vault.post('/secrets/resolve', { refs: ['coffer://shared'] }, bearer(key))
    assert.deepEqual(answer.json, { values })
  }
})

test('after a restart: the same answers', async () => {
  const first = await Vault.start()
  await create(first, 'kept/a', 'é漢🩺\0')
  await update(first, 'kept/a', 'second')
  await create(first, 'kept', 'x', KEY_B)
  const asked = ['', '/kept%2Fa', '/kept%2Fa?version=1', '/kept%2Fa/history']
  const answers = async (node: Vault): Promise<string[]> =>
    Promise.all(asked.map(async (path) => (await node.get(`/secrets${path}`)).text))
  const before = await answers(first)
  await first.stop()
  await using second = await Vault.start({}, first.dir)
  assert.deepEqual(await answers(second), before)
  assert.deepEqual((await update(second, 'kept/a', 'third')).version, 3)
})
