// Idempotency-Key: the first success again, whatever has happened since; anything else under the key is refused
// before every other check; refusals are not kept.
import assert from 'node:assert/strict'
import { after, type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { LedgerUnavailable, UnknownOutcome } from '../../src/ledger/ledger.ts'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import { CANARY, create, historyOf, KIB, latestOf, namesOf, pathOf, refused, update } from './secrets.ts'
import { type Answer, type Body, bearer, type Headers, KEY_A, KEY_B, OWNERS, until, Vault } from './vault.ts'

const SECOND_KEY = 'cof_another-key-of-clinic-a'
const vault = await Vault.start({ owners: { ...OWNERS, 'clinic-a': [KEY_A, SECOND_KEY] } })
after(() => vault[Symbol.asyncDispose]())

type Request = { method: string; path: string; body: Body; headers?: Headers }

/** Sends it under an Idempotency-Key. */
function send(
  request: Request,
  key: string | string[],
  change: Partial<Request> = {},
  node = vault,
): Promise<Answer> {
  const { method, path, body, headers } = { ...request, ...change }
  return node.call(method, path, body, { ...request.headers, ...headers, 'idempotency-key': key })
}

/** The same status, body and ETag as the first answer, which it says. */
async function replays(first: Answer, asked: Promise<Answer>, what = ''): Promise<void> {
  const again = await asked
  assert.deepEqual(
    [again.status, again.text, again.headers.etag],
    [first.status, first.text, first.headers.etag],
    what,
  )
  assert.equal(again.headers['content-type'], first.headers['content-type'], what)
  assert.equal(first.headers['idempotency-replayed'], undefined, what)
  assert.equal(again.headers['idempotency-replayed'], 'true', what)
}

/** Requests that have an effect, each with names of its own; `etag` is what they are answered with. */
async function effects(mark: string): Promise<Record<string, Request & { etag: string | undefined }>> {
  for (const name of ['upd', 'cond', 'one of a list'])
    await create(vault, `${mark}/${name.replaceAll(' ', '-')}`, 'x')
  const put = { method: 'PUT', body: { value: `v ${CANARY}` } }
  return {
    one: { method: 'POST', path: '/secrets', body: { name: `${mark}/one`, value: CANARY }, etag: '"1"' },
    many: {
      method: 'POST',
      path: '/secrets',
      body: { secrets: ['b', 'a'].map((name) => ({ name: `${mark}/${name}`, value: CANARY })) },
      etag: undefined,
    },
    none: {
      method: 'POST',
      path: '/secrets',
      body: ` {"secrets":[]}${' '.repeat(mark.length)}`,
      etag: undefined,
    },
    update: { ...put, path: pathOf(`${mark}/upd`), etag: '"2"' },
    conditional: { ...put, path: pathOf(`${mark}/cond`), headers: { 'if-match': '"1"' }, etag: '"2"' },
    star: { ...put, path: pathOf(`${mark}/one-of-a-list`), headers: { 'if-match': '*' }, etag: '"2"' },
  }
}

/** A name that the request has written, if any. */
async function written({ path, body }: Request): Promise<string | undefined> {
  const text = `${path} ${typeof body === 'string' ? body : JSON.stringify(body)}`
  return (await namesOf(vault)).find(
    (name) => text.includes(`"${name}"`) || text.includes(encodeURIComponent(name)),
  )
}

test('the same request again: the first success again, and no other effect', async () => {
  for (const [what, request] of Object.entries(await effects('again'))) {
    const first = await send(request, `again ${what}`)
    assert.equal(first.status, request.method === 'POST' ? 201 : 200, first.text)
    assert.equal(first.headers.etag, request.etag, what)
    for (let i = 0; i < 3; i++) await replays(first, send(request, `again ${what}`), what)
  }
  for (const name of ['again/one', 'again/a', 'again/b'])
    assert.equal((await historyOf(vault, name)).length, 1)
  for (const name of ['again/upd', 'again/cond', 'again/one-of-a-list']) {
    assert.equal((await historyOf(vault, name)).length, 2)
    // Even when there are later versions, and the condition does not hold any more.
    assert.equal((await update(vault, name, 'later')).version, 3)
  }
  for (const [what, request] of Object.entries(await effects('later'))) {
    const first = await send(request, `later ${what}`)
    const name = await written(request)
    if (name !== undefined) for (let i = 0; i < 2; i++) await update(vault, name, 'later')
    await replays(first, send(request, `later ${what}`), what)
  }
})

test('the request’s other details may differ: encoding, request id, media type’s spelling', async () => {
  for (const [what, request] of Object.entries(await effects('details'))) {
    const key = `details ${what}`
    const first = await send(request, key, { headers: { 'x-request-id': 'first' } })
    const bytes = Buffer.from(typeof request.body === 'string' ? request.body : JSON.stringify(request.body))
    const zipped = { ...request.headers, 'content-encoding': 'gzip' }
    await replays(first, send(request, key, { body: gzipSync(bytes), headers: zipped }), what)
    await replays(first, send(request, key, { body: gzipSync(bytes, { level: 0 }), headers: zipped }), what)
    const type = { ...request.headers, 'content-type': 'Application/JSON; charset="utf-8"' }
    await replays(first, send(request, key, { headers: type }), what)
    // What is not among method, path, If-Match and body is not looked at: the first success is not checked again.
    await replays(
      first,
      send(request, key, { headers: { ...request.headers, 'content-type': 'text/plain' } }),
      what,
    )
    const chunked = { ...request.headers, 'content-length': undefined, 'transfer-encoding': 'chunked' }
    await replays(first, send(request, key, { headers: chunked }), what)
    const again = await send(request, key, { headers: { ...request.headers, 'x-request-id': 'second' } })
    assert.equal(again.headers['x-request-id'], 'second')
  }
  // Whoever sends it again has written nothing.
  assert.equal((await historyOf(vault, 'details/upd'))[1].request_id, 'first')
  assert.equal((await historyOf(vault, 'details/upd'))[1].key_id, 'k1')
})

test('an Idempotency-Key is of one API key: another key of the owner neither replays nor is refused for it', async () => {
  for (const [what, request] of Object.entries(await effects('per-key'))) {
    const key = `per key ${what}`
    const second = { headers: { ...request.headers, ...bearer(SECOND_KEY) } }
    const first = await send(request, key)
    const other = await send(request, key, second)
    assert.equal(other.headers['idempotency-replayed'], undefined, what)
    const expected: Record<string, number> = {
      one: 409,
      many: 409,
      none: 201,
      update: 200,
      conditional: 412,
      star: 200,
    }
    assert.equal(other.status, expected[what], what)
    await replays(first, send(request, key), what)
    if (other.status < 300) await replays(other, send(request, key, second), what)
  }
  const third = { method: 'POST', path: '/secrets', body: { name: 'per-key/third', value: 'x' } }
  const created = await send(third, 'per key one', { headers: bearer(SECOND_KEY) })
  assert.equal(created.status, 201, created.text)
  await refused(send(third, 'per key one'), 422, 'idempotency-key-reused')
})

test('quotes around the key are not part of it', async () => {
  const request = { method: 'POST', path: '/secrets', body: { name: 'quoted', value: 'x' } }
  const first = await send(request, '"quoted key"')
  assert.equal(first.status, 201)
  await replays(first, send(request, 'quoted key'))
  await replays(first, send(request, '"quoted key"'))
  await replays(first, send(request, '  quoted key\t'))
  for (const other of [
    'quoted  key',
    'Quoted key',
    '""quoted key""',
    '"quoted key',
    "'quoted key'",
    'quoted',
  ]) {
    await refused(send(request, other), 409, 'secret-exists', { names: ['quoted'] }, other)
  }
})

test('1 to 128 printable ASCII characters, once: else 400', async () => {
  const path = pathOf('key-form')
  await create(vault, 'key-form', 'x')
  let version = 1
  for (const key of [
    'k',
    '"',
    "'",
    '~',
    '" "',
    'k'.repeat(128),
    `"${'k'.repeat(127)}~"`,
    'a,b',
    'a"b',
    '"b"a"',
  ]) {
    const request = { method: 'PUT', path, body: { value: key } }
    const first = await send(request, key)
    assert.equal(first.headers.etag, `"${++version}"`, key)
    await replays(first, send(request, key), key)
  }
  for (const key of [
    '',
    ' ',
    '""',
    'k'.repeat(129),
    `"${'k'.repeat(129)}"`,
    'é',
    'k\tk',
    '"\x80"',
    'ÿ',
    ['a', 'a'],
    ['a', 'b'],
  ]) {
    for (const [method, body] of [
      ['PUT', { value: CANARY }],
      ['PUT', 'nonsense'],
      ['PUT', undefined],
    ] as const) {
      await refused(
        send({ method, path, body }, key),
        400,
        'invalid-request',
        { path: 'idempotency-key' },
        String(key),
      )
    }
    const post = send({ method: 'POST', path: '/secrets?x=1', body: '{}' }, key)
    await refused(post, 400, 'invalid-request', { path: 'idempotency-key' }, String(key))
  }
  assert.equal((await historyOf(vault, 'key-form')).length, version)
})

test('anything else under the key: 422, before every other check, and the first is still replayed', async () => {
  const names = await namesOf(vault)
  for (const [what, request] of Object.entries(await effects('reused'))) {
    const key = `reused ${what}`
    const first = await send(request, key)
    const before = await namesOf(vault)
    const { headers = {} } = request
    const text = typeof request.body === 'string' ? request.body : JSON.stringify(request.body)
    const changes: readonly (readonly [string, Partial<Request>])[] = [
      ['another value', { body: what === 'none' ? text.replace(' ', '\n') : text.replace(CANARY, 'other') }],
      ['white space', { body: `${text} ` }],
      ['a prefix of the body', { body: text.slice(0, -1) }],
      ['nonsense', { body: 'nonsense' }],
      ['no body', { body: undefined }],
      ['an empty body', { body: '' }],
      ['not UTF-8', { body: Buffer.from([0xff, 0xfe]) }],
      ['a wrong media type', { body: 'x', headers: { ...headers, 'content-type': 'text/plain' } }],
      ['a wrong encoding', { body: 'x', headers: { ...headers, 'content-encoding': 'br' } }],
      ['broken gzip', { body: 'x', headers: { ...headers, 'content-encoding': 'gzip' } }],
      ['a body that is too large', { body: Buffer.alloc(17 * 1024 * KIB, 0x20) }],
      [
        'too much inflated',
        {
          body: gzipSync(Buffer.alloc(17 * 1024 * KIB)),
          headers: { ...headers, 'content-encoding': 'gzip' },
        },
      ],
      ['an absent name', { method: 'PUT', path: pathOf('reused/absent'), body: { value: 'x' } }],
      ['a bad name', { method: 'PUT', path: '/secrets/..', body: { value: 'x' } }],
      ['a bad name in the body', { method: 'POST', path: '/secrets', body: { name: '..', value: 'x' } }],
      ['an ill-formed value', { body: '{"value":"\\ud800"}' }],
      ['too many secrets', { method: 'POST', path: '/secrets', body: { secrets: Array(501).fill(0) } }],
      ['a name that exists', { method: 'POST', path: '/secrets', body: { name: 'reused/upd', value: 'x' } }],
      [
        'another method',
        request.method === 'PUT'
          ? { method: 'POST', path: '/secrets' }
          : { method: 'PUT', path: pathOf('reused/upd') },
      ],
      ['another path', { method: 'PUT', path: pathOf('reused/one-of-a-list2') }],
      ['another If-Match', { headers: { 'if-match': '"7"' } }],
      ['an If-Match in other words', { headers: { 'if-match': '"1" , "1"' } }],
      ['an empty If-Match', { headers: { 'if-match': '' } }],
      ['a malformed If-Match', { headers: { 'if-match': '1' } }],
    ]
    for (const [change, changed] of changes) {
      await refused(send(request, key, changed), 422, 'idempotency-key-reused', {}, `${what}: ${change}`)
    }
    if (headers['if-match'] !== undefined) {
      const without = send({ ...request, headers: {} }, key)
      await refused(without, 422, 'idempotency-key-reused', {}, `${what}: no If-Match`)
    }
    assert.deepEqual(await namesOf(vault), before, what)
    await replays(first, send(request, key), what)
  }
  const fresh = (await namesOf(vault)).filter((name) => !names.includes(name))
  assert.deepEqual(
    fresh,
    ['a', 'b', 'cond', 'one', 'one-of-a-list', 'upd'].map((name) => `reused/${name}`),
  )
})

test('refusals are not kept: the same request may succeed later, and then that is', async () => {
  const put = { method: 'PUT', path: pathOf('later-there'), body: { value: 'v' } }
  for (let i = 0; i < 2; i++) await refused(send(put, 'absent first'), 404, 'not-found')
  await create(vault, 'later-there', 'x')
  const done = await send(put, 'absent first')
  assert.deepEqual([done.status, done.json.version], [200, 2])
  await replays(done, send(put, 'absent first'))

  const stale = { ...put, headers: { 'if-match': '"3"' } }
  await refused(send(stale, 'stale first'), 412, 'version-conflict', { version: 2 })
  await update(vault, 'later-there', 'x')
  const matched = await send(stale, 'stale first')
  assert.deepEqual([matched.status, matched.json.version], [200, 4])
  await replays(matched, send(stale, 'stale first'))

  // Another request may take a key that has had no success.
  await create(vault, 'taken', 'x')
  const exists = { method: 'POST', path: '/secrets', body: { name: 'taken', value: 'x' } }
  await refused(send(exists, 'refused'), 409, 'secret-exists', { names: ['taken'] })
  await refused(send(exists, 'refused', { body: 'nonsense' }), 400, 'invalid-json', { path: '' })
  await refused(send(exists, 'refused', { path: '/secrets?x=1' }), 400, 'invalid-request', { path: 'x' })
  const wrongType = { headers: { 'content-type': 'text/plain' } }
  await refused(send(exists, 'refused', wrongType), 415, 'unsupported-media-type', { path: 'content-type' })
  const large = { body: Buffer.alloc(17 * 1024 * KIB, 0x20) }
  await refused(send(exists, 'refused', large), 413, 'too-large')
  const free = { body: { name: 'free', value: 'x' } }
  const created = await send(exists, 'refused', free)
  assert.equal(created.status, 201)
  await replays(created, send(exists, 'refused', free))
  await refused(send(exists, 'refused'), 422, 'idempotency-key-reused')
})

test('keys are their owner’s: the same key of another owner is another', async () => {
  const request = { method: 'POST', path: '/secrets', body: { name: 'per-owner', value: 'x' } }
  const mine = await send(request, 'per owner')
  const theirs = await send(request, 'per owner', { headers: bearer(KEY_B) })
  assert.deepEqual([mine.status, theirs.status], [201, 201])
  assert.equal(theirs.headers['idempotency-replayed'], undefined)
  await replays(mine, send(request, 'per owner'))
  await replays(theirs, send(request, 'per owner', { headers: bearer(KEY_B) }))
})

test('without a key, or where keys mean nothing, nothing is replayed and nothing is refused for it', async () => {
  await create(vault, 'plain', 'x')
  const put = { method: 'PUT', path: pathOf('plain'), body: { value: 'same' } }
  assert.equal((await send(put, 'used')).json.version, 2)
  assert.equal((await vault.call('PUT', put.path, put.body)).json.version, 3)
  for (const key of ['used', '', 'é', ['a', 'b'], 'k'.repeat(200)]) {
    for (const [method, path, body] of [
      ['POST', '/secrets/resolve', { refs: ['coffer://plain'] }],
      ['GET', '/secrets', undefined],
      ['GET', '/secrets/plain', undefined],
      ['GET', '/secrets/plain/history', undefined],
      ['POST', '/tokenize', { values: ['x'] }],
      ['GET', '/health', undefined],
    ] as const) {
      for (let i = 0; i < 2; i++) {
        const answer = await vault.call(method, path, body, { 'idempotency-key': key })
        assert.equal(answer.status, 200, `${path} ${answer.text}`)
        assert.equal(answer.headers['idempotency-replayed'], undefined)
      }
    }
  }
})

test('after a restart of the node: the first success again', async () => {
  const first = await Vault.start()
  await create(first, 'kept', 'x')
  const post = {
    method: 'POST',
    path: '/secrets',
    body: {
      secrets: [
        { name: 'a', value: 'x' },
        { name: 'b', value: 'y' },
      ],
    },
  }
  const put = { method: 'PUT', path: '/secrets/kept', body: { value: 'y' }, headers: { 'if-match': '"1"' } }
  const posted = await send(post, 'k1', {}, first)
  const written = await send(put, 'k2', {}, first)
  await first.stop()
  await using second = await Vault.start({}, first.dir)
  await replays(posted, send(post, 'k1', {}, second))
  await replays(written, send(put, 'k2', {}, second))
  await refused(send(put, 'k1', {}, second), 422, 'idempotency-key-reused')
  assert.equal((await historyOf(second, 'kept')).length, 2)
})

/** Holds every commit back until `release`; `held` counts those that wait. */
function holdCommits(t: TestContext): { held: () => number; release: () => void } {
  const { commit } = LmdbLedger.prototype
  const gate = Promise.withResolvers<void>()
  let held = 0
  const mock = t.mock.method(
    LmdbLedger.prototype,
    'commit',
    async function (this: LmdbLedger, ...asked: Parameters<typeof commit>) {
      held++
      await gate.promise
      return commit.apply(this, asked)
    },
  )
  const release = (): void => {
    gate.resolve()
    mock.mock.restore()
  }
  return { held: () => held, release }
}

test('while the first is running: 409 with Retry-After; then its answer', async (t) => {
  await using own = await Vault.start()
  await create(own, 'there', 'x')
  for (const [key, request, other] of [
    [
      'k1',
      { method: 'POST', path: '/secrets', body: { name: 'new', value: 'x' } },
      { method: 'PUT', path: '/secrets/there', body: { value: 'z' } },
    ],
    [
      'k2',
      { method: 'PUT', path: '/secrets/there', body: { value: 'y' } },
      { method: 'POST', path: '/secrets', body: { name: 'other', value: 'x' } },
    ],
  ] as const) {
    const { held, release } = holdCommits(t)
    const running = send(request, key, {}, own)
    await until('the commit is held back', () => held() === 1)
    for (let i = 0; i < 3; i++) {
      const answer = await refused(send(request, key, {}, own), 409, 'idempotency-in-progress')
      assert.match(String(answer.headers['retry-after']), /^[1-9]\d*$/)
    }
    // Another key, no key, and the same key of another owner wait for nothing.
    const unaffected = [
      send(other, `another than ${key}`, {}, own),
      send(
        {
          method: 'POST',
          path: '/secrets',
          body: { name: `of-b-${key}`, value: 'x' },
          headers: bearer(KEY_B),
        },
        key,
        {},
        own,
      ),
    ]
    await until('they are held back too', () => held() >= 2)
    release()
    const first = await running
    assert.equal(first.status, request.method === 'POST' ? 201 : 200, first.text)
    for (const answer of await Promise.all(unaffected)) assert.ok(answer.status < 300, answer.text)
    await replays(first, send(request, key, {}, own))
  }
})

test('many at once under one key: one effect, and one answer for all that get one', async () => {
  await create(vault, 'stormed', 'x')
  const put = { method: 'PUT', path: '/secrets/stormed', body: { value: 'y' } }
  const answers = await Promise.all(Array.from({ length: 30 }, () => send(put, 'storm')))
  const done = answers.filter(({ status }) => status === 200)
  assert.equal(done.filter(({ headers }) => headers['idempotency-replayed'] === undefined).length, 1)
  for (const { text } of done) assert.equal(text, done[0].text)
  for (const answer of answers)
    if (answer.status !== 200) await refused(answer, 409, 'idempotency-in-progress')
  assert.equal((await historyOf(vault, 'stormed')).length, 2)
})

test('a 503 speaks of that attempt only: the same request afterwards is done once', async (t) => {
  await using own = await Vault.start()
  await create(own, 'there', 'x')
  const put = { method: 'PUT', path: '/secrets/there', body: { value: 'y' } }
  const done = await send(put, 'before', {}, own)
  assert.equal(await latestOf(own, 'there'), 'y') // the replica has it, and the receipt with it
  const commit = t.mock.method(LmdbLedger.prototype, 'commit', async () => {
    throw new LedgerUnavailable('no-quorum', 'nobody there')
  })
  await refused(send(put, 'k', {}, own), 503, 'no-quorum', { outcome: 'not-applied' })
  // What had success before is not attempted again.
  await replays(done, send(put, 'before', {}, own))
  await refused(send(put, 'before', { body: { value: 'z' } }, own), 422, 'idempotency-key-reused')
  commit.mock.restore()
  const { commit: original } = LmdbLedger.prototype
  const lost = t.mock.method(
    LmdbLedger.prototype,
    'commit',
    async function (this: LmdbLedger, ...asked: Parameters<typeof original>) {
      await original.apply(this, asked)
      throw new UnknownOutcome('no answer')
    },
  )
  await refused(send(put, 'k', {}, own), 503, 'no-quorum', { outcome: 'unknown' })
  lost.mock.restore()
  const again = await send(put, 'k', {}, own)
  assert.deepEqual([again.status, again.json.version, again.headers.etag], [200, 3, '"3"'])
  assert.equal(again.headers['idempotency-replayed'], 'true')
  assert.equal(await latestOf(own, 'there'), 'y')
  assert.equal((await historyOf(own, 'there')).length, 3)
})

test('path, query and media type may be written in another way: the same request', async () => {
  await create(vault, 'way/of/writing', 'x')
  const request = { method: 'PUT', path: '/secrets/way/of/writing', body: { value: 'y' } }
  const first = await send(request, 'way of writing')
  const { port } = new URL(vault.node.url)
  for (const change of [
    { path: '/secrets/way%2Fof%2Fwriting' },
    { path: '/secrets/way/of%2fw%72iting' },
    { path: `http://127.0.0.1:${port}/secrets/way/of/writing` },
    { path: `${request.path}?dry=1` },
    { path: `${request.path}?` },
    { headers: { 'content-type': 'text/plain' } },
    { headers: { 'content-type': 'no media type' } },
    { headers: { 'content-type': undefined } },
    { body: gzipSync('{"value":"y"}'), headers: { 'content-encoding': 'gzip' } },
    {
      body: gzipSync('{"value":"y"}'),
      headers: { 'content-encoding': 'gzip', 'content-type': 'text/plain' },
    },
  ])
    await replays(first, send(request, 'way of writing', change), JSON.stringify(change))
  assert.equal((await historyOf(vault, 'way/of/writing')).length, 2)
})
