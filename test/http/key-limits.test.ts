// Keys with rights and limits on a node: what they may not do is not done, also where the limits change on the way.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { historyOf, namesOf } from './secrets.ts'
import {
  type Answer,
  bearer,
  KEY_A,
  KEY_B,
  type LimitedKey,
  OWNERS,
  type Owners,
  until,
  Vault,
} from './vault.ts'

const LIMITED = 'cof_limited-key-of-clinic-a'
const AS = bearer(LIMITED)

function owners(limits: Omit<LimitedKey, 'key'>): Owners {
  return { ...OWNERS, 'clinic-a': [KEY_A, { key: LIMITED, ...limits }] }
}

function forbidden({ status, json }: Answer, member: 'needs' | 'prefix', value: string): void {
  assert.equal(status, 403, JSON.stringify(json))
  assert.equal(json.type, '/problems/forbidden')
  assert.equal(json[member], value)
  assert.ok(!((member === 'needs' ? 'prefix' : 'needs') in json))
}

/** Status, headers and body, but for the date; the request id is the caller's. */
function bytesOf({ status, headers: { date: _date, ...headers }, text }: Answer): string {
  return JSON.stringify([status, headers, text])
}

test('a key that only tokenizes reads no secret and no value, writes none, and rotates nothing', async () => {
  await using vault = await Vault.start({ owners: owners({ may: ['tokenize'] }) })
  await vault.post('/secrets', { name: 'app/DB', value: 'x' })
  const [token] = await vault.tokens(['999-12-3456'], LIMITED)
  assert.equal(await vault.token('999-12-3456'), token)
  assert.equal((await vault.post('/retokenize', { tokens: [token] }, AS)).status, 200)
  assert.equal((await vault.get('/epochs', AS)).status, 200)
  const refused: readonly (readonly [Promise<Answer>, string])[] = [
    [vault.post('/detokenize', { tokens: [token] }, AS), 'detokenize'],
    [vault.post('/rotate-epoch', { to: 2 }, AS), 'rotate'],
    [vault.get('/secrets', AS), 'secrets:read'],
    [vault.get('/secrets/app/DB', AS), 'secrets:read'],
    [vault.call('HEAD', '/secrets/app/DB', undefined, AS).then((head) => head), 'secrets:read'],
    [vault.get('/secrets/app/DB/history', AS), 'secrets:read'],
    [vault.post('/secrets/resolve', { refs: ['coffer://app/DB@1'] }, AS), 'secrets:read'],
    [vault.post('/secrets', { name: 'app/NEW', value: 'x' }, AS), 'secrets:write'],
    [vault.call('PUT', '/secrets/app/DB', { value: 'y' }, AS), 'secrets:write'],
  ]
  for (const [answer, needs] of refused) {
    const got = await answer
    if (got.bytes.length === 0) assert.equal(got.status, 403)
    else forbidden(got, 'needs', needs)
  }
  assert.deepEqual(await namesOf(vault), ['app/DB'])
  assert.equal((await historyOf(vault, 'app/DB')).length, 1)
  assert.equal((await vault.get('/epochs')).json.active, 1)
  assert.deepEqual((await vault.get('/whoami', AS)).json.may, ['tokenize'])
})

test('the right is checked before the body: no 100 Continue, and no byte is waited for', async () => {
  await using vault = await Vault.start({ owners: owners({ may: [] }) })
  const head = ['POST /tokenize HTTP/1.1', 'Host: x', `Authorization: Bearer ${LIMITED}`]
  head.push(
    'Content-Type: application/json',
    'Content-Length: 100',
    'Expect: 100-continue',
    'Connection: close',
  )
  const answer = await vault.raw(`${head.join('\r\n')}\r\n\r\n`)
  assert.match(answer, /^HTTP\/1\.1 403 .*"needs":"tokenize"/s)
})

test('a prefix: names elsewhere do not exist for the key, and its lists have what begins with both', async () => {
  await using vault = await Vault.start({ owners: owners({ prefix: 'app/' }) })
  for (const name of ['app/A', 'app/B', 'apple', 'ops/A'])
    assert.equal((await vault.post('/secrets', { name, value: `of ${name}` })).status, 201)
  assert.equal((await vault.get('/secrets/app%2FA', AS)).json.value, 'of app/A')
  const same = { ...AS, 'x-request-id': 'same' }
  const pairs: readonly ((name: string) => Promise<Answer>)[] = [
    (name) => vault.get(`/secrets/${name}`, same),
    (name) => vault.get(`/secrets/${name.replace('/', '%2F')}?version=1`, same),
    (name) => vault.get(`/secrets/${name}/history`, same),
    (name) => vault.call('PUT', `/secrets/${name}`, { value: 'new' }, { ...same, 'if-match': '"7"' }),
    (name) => vault.post('/secrets', { name, value: 'new' }, same),
    (name) => vault.post('/secrets', { name, value: 'new' }, { ...same, 'idempotency-key': `i ${name}` }),
    (name) => vault.post('/secrets/resolve', { refs: ['coffer://app/A', `coffer://${name}@1`] }, same),
  ]
  for (const ask of pairs) {
    const [there, not] = [await ask('ops/A'), await ask('ops/NONE')]
    forbidden(there, 'prefix', 'app/')
    assert.equal(bytesOf(there), bytesOf(not))
    forbidden(await ask('apple'), 'prefix', 'app/')
  }
  const both = { secrets: ['app/NEW', 'ops/NEW'].map((name) => ({ name, value: 'x' })) }
  forbidden(await vault.post('/secrets', both, AS), 'prefix', 'app/')
  assert.deepEqual(await namesOf(vault), ['app/A', 'app/B', 'apple', 'ops/A'])
  const listed = async (query: string): Promise<unknown> => (await vault.get(`/secrets${query}`, AS)).json
  assert.deepEqual(await listed(''), { names: ['app/A', 'app/B'], next: null })
  assert.deepEqual(await listed('?prefix=a&limit=1'), { names: ['app/A'], next: 'app/A' })
  assert.deepEqual(await listed('?prefix=app/B'), { names: ['app/B'], next: null })
  for (const query of ['?prefix=ops/', '?prefix=apple', '?after=b'])
    assert.deepEqual(await listed(query), { names: [], next: null }, query)
  assert.equal((await vault.get('/secrets/ops//A', AS)).status, 400, 'the form of a name comes first')
  assert.equal((await vault.post('/secrets/resolve', { refs: ['coffer://ops/A', 'x'] }, AS)).status, 400)
})

const CUTS: readonly (readonly [string, Omit<LimitedKey, 'key'>, number, Record<string, string>])[] = [
  ['its right', { may: ['tokenize'] }, 403, { needs: 'secrets:write' }],
  ['its prefix', { prefix: 'other/' }, 403, { prefix: 'other/' }],
  ['its life', { until: '2020-01-01T00:00:00Z' }, 401, { type: '/problems/unauthorized' }],
]
for (const [what, limits, status, members] of CUTS) {
  test(`a key that loses ${what} while the body arrives: ${status}, and nothing is done`, async () => {
    await using vault = await Vault.start({ owners: owners({}) })
    const body = JSON.stringify({ name: 'app/NEW', value: 'x' })
    const { finish } = await vault.halfSent('/secrets', body, 5, LIMITED)
    vault.setOwners(owners(limits))
    vault.node.reload()
    const answer = await finish()
    assert.ok(answer.startsWith(`HTTP/1.1 ${status} `), answer)
    for (const [name, value] of Object.entries(members))
      assert.ok(answer.includes(`"${name}":"${value}"`), answer)
    assert.deepEqual(await namesOf(vault), [])
  })
}

test('a success under an Idempotency-Key is told again after the prefix was changed, and nothing else', async () => {
  await using vault = await Vault.start({ owners: owners({}) })
  const write = (name: string, key: string): Promise<Answer> =>
    vault.post('/secrets', { name, value: 'x' }, { ...AS, 'idempotency-key': key })
  const first = await write('app/A', 'once')
  vault.setOwners(owners({ prefix: 'other/' }))
  vault.node.reload()
  const again = await write('app/A', 'once')
  assert.deepEqual(
    [again.status, again.text, again.headers['idempotency-replayed']],
    [201, first.text, 'true'],
  )
  forbidden(await write('app/A', 'twice'), 'prefix', 'other/')
  vault.setOwners(owners({ may: ['secrets:read'] }))
  vault.node.reload()
  forbidden(await write('app/A', 'once'), 'needs', 'secrets:write')
})

test('a budget: whole requests are refused, values that are not there cost nothing, and one event tells', async () => {
  await using vault = await Vault.start({ owners: owners({ resolve_per_day: 3 }) })
  const tokens = await vault.tokens(['a', 'b'])
  const missing = `tok_1_${'0'.repeat(32)}`
  const ask = (list: readonly unknown[]): Promise<Answer> => vault.post('/detokenize', { tokens: list }, AS)
  assert.equal((await ask([...tokens, missing, null])).status, 200)
  for (let i = 0; i < 2; i++) {
    const { status, json } = await ask(tokens)
    assert.deepEqual([status, json.type, json.resolve_per_day], [403, '/problems/budget-exceeded', 3])
  }
  assert.equal((await vault.post('/detokenize', { token: tokens[0] }, AS)).status, 200)
  assert.equal((await vault.post('/detokenize', { token: tokens[0] }, AS)).status, 403)
  assert.equal((await ask([missing])).status, 200)
  assert.equal((await vault.post('/retokenize', { tokens }, AS)).status, 200)
  assert.equal((await vault.post('/detokenize', { tokens })).status, 200, 'another key of the owner')
  const events = (): string[] => readFileSync(join(vault.data, 'events.ndjson'), 'utf8').split('\n')
  const named = (name: string): string[] => events().filter((line) => line.includes(`"event":"${name}"`))
  await until('the refusals are written', () => named('request.refused').length === 3)
  assert.equal(named('key.budget').length, 1)
  assert.match(
    named('key.budget')[0],
    /"owner":"clinic-a","key_id":"k2","client":"127.0.0.1","request":"[^"]+","count":2/,
  )
})

test('a key whose end has passed is unknown at once; the node warns of it', async () => {
  await using vault = await Vault.start({ owners: owners({ until: '2020-01-01T00:00:00Z' }) })
  const { status, json } = await vault.get('/whoami', AS)
  assert.deepEqual([status, json.type], [401, '/problems/unauthorized'])
  assert.ok(vault.logs.some((line) => line.includes('clinic-a/k2') && line.includes('have ended')))
  const soon = Date.now() + 300
  vault.setOwners(owners({ until: new Date(soon).toISOString() }))
  vault.node.reload()
  assert.equal((await vault.get('/whoami', AS)).json.until, new Date(soon).toISOString())
  await until('the end has come', async () => (await vault.get('/whoami', AS)).status === 401)
  assert.ok(Date.now() >= soon)
})

test('/whoami tells the bytes that the owner uses; all keys of ten thousand are known, and re-read', async () => {
  const many = Array.from({ length: 10_000 }, (_, i) => ({ key: `cof_many-${i}`, may: ['rotate'] }))
  await using vault = await Vault.start({ owners: { ...OWNERS, 'clinic-c': many } })
  const used = async (key: string): Promise<unknown> => (await vault.get('/whoami', bearer(key))).json.used
  const before = (await used(KEY_B)) as number // a number once the node is ready
  await vault.post('/secrets', { name: 'a', value: 'x'.repeat(1000) }, bearer(KEY_B))
  await namesOf(vault, KEY_B) // a list waits until the write is applied
  const now = (await used(KEY_B)) as number // as above
  assert.ok(now > before + 1000 && now < before + 1500, `${before} ${now}`)
  assert.deepEqual((await vault.get('/whoami', bearer('cof_many-9999'))).json.key_id, 'k10000')
  vault.setOwners({ ...OWNERS, 'clinic-c': many.map(({ key }) => `${key}-new`) })
  vault.node.reload()
  const known = ['cof_many-9999-new', 'cof_many-0-new', 'cof_many-9999', 'cof_many-0'].map(async (key) => {
    const { status, json } = await vault.get('/whoami', bearer(key))
    return status === 200 ? json.key_id : status
  })
  assert.deepEqual(await Promise.all(known), ['k10000', 'k1', 401, 401])
})
