// The trail of callers: the events of the contract on a real node, with their members; what the events never hold.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clientOf } from '../../src/http/trail.ts'
import { type Event, eventsOf } from './trail.ts'
import { type Answer, bearer, KEY_A, until, Vault } from './vault.ts'

const NO_KEY = { authorization: undefined }

/** The members of the line beside time, node and seq; `ms` must be a number. */
function membersOf({ time, node, seq, ms, ...members }: Event): Record<string, unknown> {
  assert.ok(!Number.isNaN(Date.parse(String(time))) && node === 'n1' && Number.isSafeInteger(seq))
  assert.ok(ms === undefined || Number.isSafeInteger(ms))
  return members
}

/** The events that a request leaves, once there are `lines`. */
async function left(vault: Vault, { headers }: Answer, lines = 1): Promise<Record<string, unknown>[]> {
  const own = (): Event[] => eventsOf(vault.data).filter(({ request }) => request === headers['x-request-id'])
  await until('the events of the request', () => own().length >= lines)
  return own().map((event) => {
    const { owner, key_id, client, request, ...members } = membersOf(event)
    assert.deepEqual(
      [owner, key_id, client, request],
      ['clinic-a', 'k1', '127.0.0.1', headers['x-request-id']],
    )
    return members
  })
}

const many = (count: number): { name: string; value: string }[] =>
  Array.from({ length: count }, (_, i) => ({ name: `app/s${i}`, value: 'v' }))

test('each call with a key leaves its event, with the caller and what was asked for', async () => {
  await using vault = await Vault.start()
  const leaves = async (answer: Answer, ...lines: Record<string, unknown>[]): Promise<void> => {
    assert.ok(answer.status < 300, answer.text)
    const events = await left(vault, answer, lines.length)
    assert.deepEqual(
      events.map(({ revision: _, ...event }) => event),
      lines,
    )
    const written = ['secret.created', 'secret.updated', 'epoch.rotated']
    for (const { event, revision } of events)
      assert.equal(Number.isSafeInteger(revision), written.includes(String(event)), String(event))
  }
  const tokenized = await vault.post('/tokenize', { values: ['a', 'b', null] })
  await leaves(tokenized, { event: 'tokens.issued', epoch: 1, count: 2 })
  const tokens = [...(tokenized.json.tokens as string[]).slice(0, 2), `tok_1_${'0'.repeat(32)}`]
  await leaves(await vault.post('/detokenize', { tokens }), {
    event: 'tokens.resolved',
    count: 3,
    missing: 1,
  })
  const issued = { event: 'tokens.issued', epoch: 1, count: 3, missing: 1 }
  await leaves(await vault.post('/retokenize', { tokens }), issued)
  const rotated = { event: 'epoch.rotated', epoch: 2, from: 1, to: 2 }
  await leaves(await vault.post('/rotate-epoch', { to: 2 }), rotated)
  await leaves(await vault.post('/rotate-epoch', { to: 2 }), { event: 'request.replayed', epoch: 2 })
  await leaves(await vault.get('/epochs'), { event: 'epochs.read', epoch: 2, count: 2 })
  await leaves(await vault.get('/whoami'), { event: 'key.shown' })
  await leaves(await vault.get('/status'), { event: 'key.shown', reason: 'status' })

  const one = { name: 'app/one', version: 1, count: 1 }
  const create = () => vault.post('/secrets', { name: 'app/one', value: 'v' }, { 'idempotency-key': 'once' })
  await leaves(await create(), { event: 'secret.created', ...one })
  await leaves(await create(), { event: 'request.replayed', ...one })
  const update = () => vault.call('PUT', '/secrets/app/one', { value: 'w' }, { 'idempotency-key': 'twice' })
  await leaves(await update(), { event: 'secret.updated', ...one, version: 2 })
  await leaves(await update(), { event: 'request.replayed', ...one, version: 2 })
  await leaves(await vault.get('/secrets/app%2Fone'), { event: 'secret.read', ...one, version: 2 })
  await leaves(await vault.get('/secrets/app/one?version=1'), { event: 'secret.read', ...one })
  await leaves(await vault.get('/secrets/app/one/history'), {
    event: 'secret.history',
    name: 'app/one',
    count: 2,
  })
  await leaves(await vault.get('/secrets?prefix=app/'), { event: 'secret.listed', count: 1 })
  const empty = await left(vault, await vault.post('/secrets', { secrets: [] }))
  assert.deepEqual(empty, [{ event: 'secret.created', count: 0 }])
})

test('several secrets: their names, each once, up to 50 a line, with the part', async () => {
  await using vault = await Vault.start()
  const secrets = many(120)
  const names = secrets.map(({ name }) => name)
  const parts = [names.slice(0, 50), names.slice(50, 100), names.slice(100)]
  const lines = (event: string, version: object): object[] =>
    parts.map((some, i) => ({ event, names: some, part: i + 1, ...version, count: some.length }))
  const create = () => vault.post('/secrets', { secrets }, { 'idempotency-key': 'all' })
  const created = await left(vault, await create(), 3)
  assert.deepEqual(
    created.map(({ revision: _, ...event }) => event),
    lines('secret.created', { version: 1 }),
  )
  assert.deepEqual(await left(vault, await create(), 3), lines('request.replayed', { version: 1 }))
  const resolve = (refs: readonly string[]): Promise<Answer> => vault.post('/secrets/resolve', { refs })
  const refs = names.map((name) => `coffer://${name}`)
  assert.deepEqual(await left(vault, await resolve(refs), 3), lines('secret.read', {}))
  const twice = await resolve(['coffer://app/s1', 'coffer://app/s2', 'coffer://app/s1@1'])
  const read = { event: 'secret.read' }
  assert.deepEqual(await left(vault, twice), [{ ...read, names: ['app/s1', 'app/s2'], part: 1, count: 3 }])
  const single = await resolve(['coffer://app/s1@1'])
  assert.deepEqual(await left(vault, single), [{ ...read, name: 'app/s1', version: 1, count: 1 }])
  assert.deepEqual(await left(vault, await resolve([])), [{ ...read, count: 0 }])
})

test('refusals: of a known key a line, up to ten a second; without a known key their sum', async () => {
  await using vault = await Vault.start()
  const refused = await vault.get('/secrets/absent')
  assert.deepEqual(await left(vault, refused), [{ event: 'request.refused', reason: 'not-found' }])
  const malformed = await vault.get('/secrets/%zz')
  assert.deepEqual(await left(vault, malformed), [{ event: 'request.refused', reason: 'invalid-request' }])

  const unknown = [NO_KEY, bearer('cof_unknown'), bearer(KEY_A.slice(0, -1))]
  const answers = await Promise.all(unknown.map((headers) => vault.get('/secrets/absent', headers)))
  assert.deepEqual(
    answers.map(({ status }) => status),
    [401, 401, 401],
  )
  for (let i = 0; i < 30; i++) assert.equal((await vault.post('/detokenize', 'no json')).status, 400)
  const reasons = ['unauthorized', 'invalid-json']
  const of = (reason: string): Event[] => eventsOf(vault.data).filter((event) => event.reason === reason)
  const sums = (reason: string): Event[] => of(reason).filter(({ event }) => event === 'requests.refused')
  await until('the sums', () => reasons.every((reason) => sums(reason).length > 0))
  await vault.node.stop()
  const [sum, ...others] = sums('unauthorized').map(membersOf)
  assert.deepEqual(
    [sum, ...others],
    [{ event: 'requests.refused', client: '127.0.0.1', count: 3, reason: 'unauthorized' }],
  )
  const counts = of('invalid-json').map(({ count = 1 }) => Number(count))
  assert.equal(
    counts.reduce((all, count) => all + count, 0),
    30,
  )
  for (const event of sums('invalid-json'))
    assert.deepEqual([event.owner, event.key_id, event.client], ['clinic-a', 'k1', '127.0.0.1'])
})

test('no event holds a value, a key, or a text of the sender beside names and request ids', async () => {
  await using vault = await Vault.start({ fields: ['ssn'] })
  const value = 'planted-value'
  const planted = [value, 'planted-path', 'cof_planted-key', 'planted-idempotency', KEY_A, 'planted-agent']
  const token = await vault.token(value)
  await vault.post('/tokenize', { records: [{ ssn: value, note: value }] })
  await vault.post('/detokenize', { token })
  await vault.post('/secrets', { name: 'app/s', value }, { 'idempotency-key': 'planted-idempotency' })
  await vault.post('/secrets/resolve', { refs: ['coffer://app/s'] })
  const paths = ['/planted-path', '/secrets/planted-path', `/secrets/${KEY_A}`, '/secrets/%zz?planted-path']
  for (const path of [
    ...paths,
    '/secrets?planted-path=1',
    '/secrets/planted-path/history',
    '/epochs?planted-path',
  ]) {
    await vault.get(path, { 'user-agent': 'planted-agent' })
    await vault.get(path, bearer('cof_planted-key'))
    await vault.get(path, { 'x-request-id': 'planted-path and a blank' })
    await vault.post(path, { [value]: value }, { 'idempotency-key': 'planted-idempotency' })
    await vault.call('PUT', path, value)
  }
  await vault.post('/tokenize', { values: [value, {}] })
  await vault.post('/secrets', { name: 'app/s', value })
  await vault.post('/secrets/resolve', { refs: ['coffer://planted-path'] })
  await vault.node.stop()
  const lines = eventsOf(vault.data)
  const names = [
    'request.refused',
    'requests.refused',
    'tokens.issued',
    'tokens.resolved',
    'secret.created',
    'secret.read',
  ]
  for (const name of names)
    assert.ok(
      lines.some(({ event }) => event === name),
      name,
    )
  const text = JSON.stringify(lines)
  for (const each of [...planted, token]) assert.ok(!text.includes(each), each)
})

test('client: an IPv4 address plainly, also of a socket of IPv6; a peer without an address is called unix', () => {
  const clients = [
    '127.0.0.1',
    '::ffff:10.0.0.7',
    '::FFFF:10.0.0.7',
    '::1',
    'fe80::1%eth0',
    '::ffff:0:1',
    undefined,
  ]
  assert.deepEqual(
    clients.map((remoteAddress) => clientOf({ remoteAddress })),
    ['127.0.0.1', '10.0.0.7', '10.0.0.7', '::1', 'fe80::1%eth0', '::ffff:0:1', 'unix'],
  )
})
