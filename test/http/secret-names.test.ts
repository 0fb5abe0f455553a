// Names of secrets over HTTP: in URLs, in lists, in references; and names that are the beginning of others.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { create, historyOf, KIB, latestOf, namesOf, pathOf, refused, update } from './secrets.ts'
import { type Answer, bearer, KEY_B, Vault } from './vault.ts'

const vault = await Vault.start()
after(() => vault[Symbol.asyncDispose]())

type Page = { names: string[]; next: string | null }

async function page(query: string, node = vault): Promise<Page> {
  const answer = await node.get(`/secrets${query}`)
  assert.equal(answer.status, 200, answer.text)
  assert.equal(answer.headers['content-type'], 'application/json')
  assert.deepEqual(Object.keys(answer.json), ['names', 'next'])
  return answer.json as Page
}

function resolve(refs: readonly unknown[], at?: string, node = vault): Promise<Answer> {
  return node.post('/secrets/resolve', at === undefined ? { refs } : { refs, at })
}

/** In byte order: every character that a name can have, and names that are the beginning of others. */
const NAMES = [
  ...['-', '...', '.a', '0', '1', 'A', 'Z', '_', 'a', 'a-', 'a-0000000001', 'a.', 'a.0000000001'],
  ...['a/...', 'a/0000000001', 'a/1', 'a/1/history-', 'a/a', 'a/history/a', 'a/resolve', 'a0', 'aa'],
  ...[
    'a_0000000001',
    'boot',
    'genesis',
    'historic',
    'history/a',
    'receipt/x',
    'resolve',
    'secret/a',
    'version/a',
    'z',
  ],
].sort()

test('names that begin with others, or are words of the routes, are secrets of their own', async () => {
  await using own = await Vault.start()
  const secrets = NAMES.map((name) => ({ name, value: `value of ${name}` }))
  assert.equal((await own.post('/secrets', { secrets })).status, 201)
  for (const name of NAMES) assert.equal((await update(own, name, `second of ${name}`)).version, 2, name)
  assert.deepEqual(await namesOf(own), NAMES)
  for (const name of NAMES) {
    assert.equal(await latestOf(own, name), `second of ${name}`)
    const first = await own.get(`${pathOf(name)}?version=1`)
    assert.deepEqual([first.json.name, first.json.value], [name, `value of ${name}`])
    assert.deepEqual(
      (await historyOf(own, name)).map(({ version }) => version),
      [1, 2],
    )
    await refused(own.post('/secrets', { name, value: 'x' }), 409, 'secret-exists', { names: [name] })
  }
  const { json } = await resolve(
    NAMES.flatMap((name) => [`coffer://${name}`, `coffer://${name}@1`]),
    undefined,
    own,
  )
  assert.deepEqual(
    json.values,
    NAMES.flatMap((name) => [`second of ${name}`, `value of ${name}`]),
  )
})

test('a name of 256 characters works in every call', async () => {
  await using own = await Vault.start()
  const longest = ['n'.repeat(256), `${'a/'.repeat(127)}bc`, `${'x'.repeat(254)}/y`]
  for (const name of longest) {
    assert.equal(name.length, 256)
    await create(own, name, 'first')
    await update(own, name, 'second')
    assert.equal(await latestOf(own, name), 'second')
    assert.equal((await historyOf(own, name)).length, 2)
    const { json } = await resolve([`coffer://${name}`, `coffer://${name}@1`], undefined, own)
    assert.deepEqual(json.values, ['second', 'first'])
    assert.deepEqual((await page(`?prefix=${name}&after=${name.slice(0, 255)}`, own)).names, [name])
  }
  const sorted = [...longest].sort()
  assert.deepEqual(await namesOf(own), sorted)
  assert.deepEqual(await page(`?after=${sorted[0]}&limit=1`, own), { names: [sorted[1]], next: sorted[1] })
})

test('in a URL a name has its slashes as they are or percent-encoded, decoded once', async () => {
  await create(vault, 'url/a.b-c_D9', 'x')
  for (const path of [
    'url/a.b-c_D9',
    'url%2Fa.b-c_D9',
    'url%2fa.b-c_D9',
    '%75rl%2Fa%2Eb%2Dc%5FD%39',
    '%75rl/a%2Eb-c_D9',
  ]) {
    for (const rest of ['', '/history', '?version=1']) {
      const answer = await vault.get(`/secrets/${path}${rest}`)
      assert.deepEqual([answer.status, answer.json.name], [200, 'url/a.b-c_D9'], `${path}${rest}`)
    }
    const written = await vault.call('PUT', `/secrets/${path}`, { value: 'y' })
    assert.deepEqual([written.status, written.json.name], [200, 'url/a.b-c_D9'])
  }
  for (const path of ['url/a.b-c', 'url', 'url/a.b-c_D9/x']) {
    for (const rest of ['', '/history', '?version=1'])
      await refused(vault.get(`/secrets/${path}${rest}`), 404, 'not-found', {}, path)
    await refused(vault.call('PUT', `/secrets/${path}`, { value: 'x' }), 404, 'not-found', {}, path)
  }
  const twice = ['url%252Fa.b-c_D9', 'url%252fa.b-c_D9', '%2575rl%2Fa.b-c_D9', '%2575rl/a.b-c_D9']
  for (const path of [
    ...twice,
    'url%2Fa.b-c_D9%2Fhistory',
    'url/a.b-c_D9/history/history',
    'url//a.b-c_D9',
  ]) {
    await refused(vault.get(`/secrets/${path}`), 400, 'invalid-request', { path: 'name' }, path)
  }
})

test('list: 100 names in byte order, `next` the last one given, null at the end', async () => {
  await using own = await Vault.start()
  assert.deepEqual(await page('', own), { names: [], next: null })
  const names = Array.from({ length: 250 }, (_, i) => `n/${String(i).padStart(3, '0')}`)
  const shuffled = [...names.keys()].map((i) => names[(i * 77) % 250])
  await own.post('/secrets', { secrets: shuffled.map((name) => ({ name, value: '' })) })
  await create(own, 'n/foreign', 'x', KEY_B)
  const first = await page('', own)
  assert.deepEqual(first, { names: names.slice(0, 100), next: names[99] })
  const second = await page(`?after=${first.next}`, own)
  assert.deepEqual(second, { names: names.slice(100, 200), next: names[199] })
  assert.deepEqual(await page(`?after=${second.next}`, own), { names: names.slice(200), next: null })
  // A page that is just full is the last one.
  assert.deepEqual(await page('?limit=250', own), { names, next: null })
  assert.deepEqual(await page('?limit=249', own), { names: names.slice(0, 249), next: names[248] })
  assert.deepEqual(await page(`?after=${names[148]}&limit=101`, own), { names: names.slice(149), next: null })
  for (const last of [names[249], 'o', 'z']) {
    assert.deepEqual(await page(`?after=${last}`, own), { names: [], next: null })
  }
})

test('list: what was written before the question is in the answer', async () => {
  for (let i = 0; i < 20; i++) {
    await create(vault, `listed/${i}`, '')
    assert.equal((await page('?prefix=listed/')).names.length, i + 1)
  }
})

test('list: every prefix, limit and after give what a filter of all names gives', async () => {
  await using own = await Vault.start()
  await own.post('/secrets', { secrets: NAMES.map((name) => ({ name, value: '' })) })
  // Names of another owner lie beside them.
  const others = NAMES.filter((_, i) => i % 3 === 0).map((name) => ({ name: `${name}b`, value: '' }))
  await own.post('/secrets', { secrets: others }, bearer(KEY_B))
  const parts = ['', ...NAMES, 'a/h', 'a/0', 'A/', 'b', '/', '//', '..', 'nothing', 'zz']
  const wrong: string[] = []
  for (const prefix of parts) {
    for (const after of parts) {
      const all = NAMES.filter((name) => name.startsWith(prefix) && name > after)
      for (const limit of [1, 3, 1000]) {
        const names = all.slice(0, limit)
        const wanted = { names, next: all.length > limit ? names[limit - 1] : null }
        const query = `?prefix=${encodeURIComponent(prefix)}&after=${encodeURIComponent(after)}&limit=${limit}`
        const got = await page(query, own)
        if (JSON.stringify(got) !== JSON.stringify(wanted)) wrong.push(`${query}: ${JSON.stringify(got)}`)
      }
    }
  }
  assert.deepEqual(wrong.slice(0, 5), [])
})

test('list: a walk by `next` ends, and meets every name of the prefix once', async () => {
  await using own = await Vault.start()
  await own.post('/secrets', { secrets: NAMES.map((name) => ({ name, value: '' })) })
  for (const prefix of ['', 'a', 'a/', 'a/1', 'history', 'z', 'no']) {
    for (const limit of [1, 2, 7]) {
      const seen: string[] = []
      for (let after: string | null = ''; after !== null && seen.length <= NAMES.length; ) {
        const { names, next }: Page = await page(`?prefix=${prefix}&limit=${limit}&after=${after}`, own)
        seen.push(...names)
        after = next
      }
      assert.deepEqual(
        seen,
        NAMES.filter((name) => name.startsWith(prefix)),
        `prefix ${prefix}, limit ${limit}`,
      )
    }
  }
})

test('list: limit 1 to 1,000, else 400', async () => {
  for (const limit of ['1', '10', '999', '1000']) await page(`?limit=${limit}`)
  for (const limit of [
    '0',
    '1001',
    '2000',
    '10000',
    'x',
    '',
    '-1',
    '+1',
    '01',
    '1.0',
    '1e2',
    '0x10',
    '1,',
    ' 1',
  ]) {
    const asked = vault.get(`/secrets?limit=${encodeURIComponent(limit)}`)
    await refused(asked, 400, 'invalid-request', { path: 'limit' }, limit)
  }
  const many = Array.from({ length: 3 }, (_, part) =>
    Array.from({ length: 400 }, (_, i) => ({ name: `limit/${part}-${i}`, value: '' })),
  )
  for (const secrets of many) assert.equal((await vault.post('/secrets', { secrets })).status, 201)
  const { names, next } = await page('?prefix=limit/&limit=1000')
  assert.equal(names.length, 1000)
  assert.equal(next, names[999])
})

test('list: prefix and after have characters of a name, at most 256', async () => {
  for (const parameter of ['prefix', 'after']) {
    for (const fine of ['', 'a', '/', '..', 'a//b', 'n'.repeat(256)]) await page(`?${parameter}=${fine}`)
    for (const bad of ['@', 'a%20b', 'a+b', '%00', '*', 'é', '%25', 'n'.repeat(257), 'a%0A']) {
      const asked = vault.get(`/secrets?${parameter}=${bad === 'é' ? '%C3%A9' : bad}`)
      await refused(asked, 400, 'invalid-request', { path: parameter }, bad)
    }
  }
})

test('resolve: aligned values of the latest or of a version, as often as they are named', async () => {
  await create(vault, 'res/a', 'a1')
  await update(vault, 'res/a', 'a2')
  await create(vault, 'res/b', '"é漢🩺\n\0')
  const refs = ['coffer://res/b', 'coffer://res/a', 'coffer://res/a@1', 'coffer://res/a', 'coffer://res/a@2']
  const answer = await resolve(refs)
  assert.equal(answer.status, 200)
  assert.equal(answer.text, JSON.stringify({ values: ['"é漢🩺\n\0', 'a2', 'a1', 'a2', 'a2'] }))
  assert.equal(answer.headers['content-type'], 'application/json')
  assert.deepEqual((await resolve([])).json, { values: [] })
})

test('resolve: any missing is 404 with all that are missing, as they were written', async () => {
  await create(vault, 'miss/a', 'a')
  const cases: [string[], string[]][] = [
    [['miss/x'], ['miss/x']],
    [['miss/a@2'], ['miss/a@2']],
    [['miss/a@9999999999'], ['miss/a@9999999999']],
    [
      ['miss/a', 'miss/z', 'miss/a@1', 'miss/x@1', 'miss/a@3', 'miss/x'],
      ['miss/z', 'miss/x@1', 'miss/a@3', 'miss/x'],
    ],
    [
      ['miss/x', 'miss/x', 'miss/y', 'miss/x'],
      ['miss/x', 'miss/y'],
    ],
    [['miss'], ['miss']],
    [
      ['miss/a/b', 'miss/A'],
      ['miss/a/b', 'miss/A'],
    ],
  ]
  for (const [refs, missing] of cases) {
    const asked = resolve(refs.map((ref) => `coffer://${ref}`))
    await refused(asked, 404, 'refs-not-found', { missing: missing.map((ref) => `coffer://${ref}`) })
  }
  const thousand = Array.from({ length: 1000 }, (_, i) => `coffer://miss/many-${i}`)
  await refused(resolve(thousand), 404, 'refs-not-found', { missing: thousand })
})

test('resolve: `at` is for references without a version', async () => {
  await create(vault, 'then/a', 'a1')
  await update(vault, 'then/a', 'a2')
  await create(vault, 'then/b', 'b1')
  const [first, second] = await historyOf(vault, 'then/a')
  const [b] = await historyOf(vault, 'then/b')
  const refs = ['coffer://then/a', 'coffer://then/a@2', 'coffer://then/a@1']
  assert.deepEqual((await resolve(refs, first.valid_from)).json, { values: ['a1', 'a2', 'a1'] })
  assert.deepEqual((await resolve(refs, second.valid_from)).json, { values: ['a2', 'a2', 'a1'] })
  assert.deepEqual((await resolve([...refs, 'coffer://then/b'], b.valid_from)).status, 200)
  const before = new Date(Date.parse(first.valid_from) - 1).toISOString()
  await refused(resolve(refs, before), 404, 'refs-not-found', { missing: ['coffer://then/a'] })
  const future = new Date(Date.now() + 3600_000).toISOString()
  await refused(resolve(refs, future), 400, 'invalid-request', { path: 'at' })
  // As a GET of what is absent has it.
  await refused(resolve(['coffer://then/no'], future), 400, 'invalid-request', { path: 'at' })
  // With versions alone there is nothing that `at` is for: an instant like any other.
  assert.deepEqual((await resolve(refs.slice(1), future)).json, { values: ['a2', 'a1'] })
  assert.deepEqual((await resolve([], future)).json, { values: [] })
  await refused(resolve(refs.slice(1), 'tomorrow'), 400, 'invalid-request', { path: 'at' })
})

test('resolve: 1,000 references are fine, one more is 413', async () => {
  await create(vault, 'most', 'x')
  const refs = Array<string>(1000).fill('coffer://most')
  assert.deepEqual((await resolve(refs)).json.values, Array(1000).fill('x'))
  await refused(resolve([...refs, 'coffer://most']), 413, 'too-many-values')
})

test('an answer over its limit: 413 answer-too-large', async () => {
  await using own = await Vault.start({ limits: { answer_bytes: 8 * KIB } })
  await create(own, 'kib', 'x'.repeat(KIB))
  await create(own, 'escaped', '\u0001'.repeat(KIB))
  const refs = (count: number, name = 'kib'): string[] => Array(count).fill(`coffer://${name}`)
  assert.equal((await resolve(refs(7), undefined, own)).status, 200)
  await refused(resolve(refs(8), undefined, own), 413, 'answer-too-large')
  await refused(resolve(refs(1000), undefined, own), 413, 'answer-too-large')
  // Escapes count as they are written.
  assert.equal((await resolve(refs(1, 'escaped'), undefined, own)).status, 200)
  await refused(resolve(refs(2, 'escaped'), undefined, own), 413, 'answer-too-large')
  // What is missing is told all the same.
  const missing = resolve([...refs(9), 'coffer://no'], undefined, own)
  await refused(missing, 404, 'refs-not-found', { missing: ['coffer://no'] })
  for (let i = 0; i < 60; i++) await update(own, 'kib', '')
  await refused(own.get('/secrets/kib/history'), 413, 'answer-too-large')
  // A write is answered; the reads that pass the limit are not, and leave a refusal in place of their events.
  const large = await create(own, 'large', 'x'.repeat(8 * KIB))
  assert.equal((await update(own, 'large', 'y'.repeat(8 * KIB))).version, large.version + 1)
  await refused(own.get('/secrets/large'), 413, 'answer-too-large')
  assert.equal((await own.get('/secrets/kib')).status, 200)
  const long = Array.from({ length: 40 }, (_, i) => ({ name: `${i}`.padEnd(250, 'x'), value: '' }))
  const all = await own.post('/secrets', { secrets: long })
  assert.ok(all.status === 201 && all.bytes.length > 8 * KIB)
  await refused(own.get('/secrets'), 413, 'answer-too-large')
  assert.equal((await own.get('/secrets?limit=20')).status, 200)
  assert.equal((await own.get('/epochs')).status, 200)
  for (let to = 2; to <= 90; to++) assert.equal((await own.post('/rotate-epoch', { to })).status, 200)
  await refused(own.get('/epochs'), 413, 'answer-too-large')
  for (const path of ['/openapi.json', '/metrics', '/docs/static/swagger-ui.css'])
    assert.equal((await own.get(path)).status, 200, path)
})

test('resolve is a name for GET, PUT and history, and history a word of the path', async () => {
  await create(vault, 'resolve', 'r1')
  await update(vault, 'resolve', 'r2')
  assert.equal(await latestOf(vault, 'resolve'), 'r2')
  assert.equal((await historyOf(vault, 'resolve')).length, 2)
  assert.deepEqual((await resolve(['coffer://resolve@1'])).json, { values: ['r1'] })
  for (const path of [
    'history',
    'history/history',
    '/history',
    'resolve/history/history',
    'resolve%2Fhistory',
  ])
    await refused(vault.get(`/secrets/${path}`), 400, 'invalid-request', { path: 'name' }, path)
  for (const path of ['history', 'resolve%2Fhistory'])
    await refused(vault.call('PUT', `/secrets/${path}`, { value: 'x' }), 400, 'invalid-request', {
      path: 'name',
    })
  const write = await vault.call('PUT', '/secrets/resolve/history', { value: 'x' })
  await refused(write, 405, 'method-not-allowed')
  assert.equal(write.headers.allow, 'GET, HEAD')
})
