// The quota of stored bytes on a node: what would pass it is refused whole, and all else goes on.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { historyOf, namesOf } from './secrets.ts'
import { type Answer, bearer, KEY_A, KEY_B, OWNERS, until, Vault } from './vault.ts'

type Stored = { readonly quota: number | null; readonly used: number }

async function stored(vault: Vault, key = KEY_A): Promise<Stored> {
  const { quota, used } = (await vault.get('/whoami', bearer(key))).json
  return { quota, used } as Stored // as the contract has it
}

function exceeded({ status, json }: Answer, quota: number): void {
  assert.deepEqual([status, json.type], [403, '/problems/quota-exceeded'], JSON.stringify(json))
  assert.equal(json.quota, quota)
  assert.ok(Number(json.used) <= quota, `${json.used}`)
}

/** Puts a quota into force that has room for `room` bytes more. */
async function leave(vault: Vault, room: number): Promise<number> {
  const quota = (await stored(vault)).used + room
  vault.setOwners(OWNERS, { 'clinic-a': quota })
  vault.node.reload()
  assert.equal((await stored(vault)).quota, quota)
  return quota
}

const values = (count: number, name: string): string[] =>
  Array.from({ length: count }, (_, i) => `${name} ${i}`)
const once = (key: string): Record<string, string> => ({ 'idempotency-key': key })

test('at the quota: nothing new of any kind; known values, replays, reads, and the other owner', async () => {
  await using vault = await Vault.start()
  const known = values(100, 'known')
  const tokens = await vault.tokens(known)
  const secret = { name: 'app/DB', value: 'x' }
  const first = await vault.post('/secrets', secret, once('first'))
  const quota = await leave(vault, 20)
  const before = (await stored(vault)).used
  const refused = [
    vault.post('/tokenize', { values: ['new'] }),
    vault.post('/tokenize', { values: [...known, 'new'] }),
    vault.post('/tokenize', { values: values(20_000, 'many segments') }),
    vault.post('/secrets', { name: 'app/NEW', value: 'x' }),
    vault.post('/secrets', { secrets: [] }, once('a receipt without effect')),
    vault.call('PUT', '/secrets/app/DB', { value: 'y' }),
    vault.call('PUT', '/secrets/app/DB', { value: 'y' }, once('second')),
    vault.post('/rotate-epoch', { to: 2 }),
  ]
  for (const answer of await Promise.all(refused)) exceeded(answer, quota)
  assert.equal((await stored(vault)).used, before)

  assert.deepEqual(await vault.tokens([...known, ...known]), [...tokens, ...tokens])
  assert.deepEqual(await vault.values(tokens), known)
  assert.deepEqual((await vault.post('/retokenize', { tokens })).json.tokens, tokens)
  const replay = await vault.post('/secrets', secret, once('first'))
  assert.deepEqual([replay.text, replay.headers['idempotency-replayed']], [first.text, 'true'])
  assert.deepEqual((await vault.post('/rotate-epoch', { to: 1 })).json, { epoch: 1, rotated: false })
  assert.equal((await vault.post('/secrets', { secrets: [] })).status, 201)
  // Refusals for other reasons stay what they are.
  assert.equal((await vault.post('/secrets', secret)).status, 409)
  assert.equal(
    (await vault.call('PUT', '/secrets/app/DB', { value: 'y' }, { 'if-match': '"7"' })).status,
    412,
  )
  assert.equal((await vault.call('PUT', '/secrets/app/NO', { value: 'y' })).status, 404)
  assert.equal((await vault.post('/rotate-epoch', { to: 3 })).status, 409)
  assert.deepEqual(await namesOf(vault), ['app/DB'])
  assert.equal((await historyOf(vault, 'app/DB')).length, 1)
  assert.equal(await vault.count(), known.length)
  assert.deepEqual(
    [(await stored(vault, KEY_B)).quota, (await vault.tokens(['new'], KEY_B)).length],
    [null, 1],
  )
  await until('the refusals are events', () => {
    const lines = readFileSync(join(vault.data, 'events.ndjson'), 'utf8').split('\n')
    return lines.filter((line) => line.includes('"reason":"quota-exceeded"')).length === refused.length
  })
})

test('a quota is used up to the byte by tokens, and one byte more is refused', async () => {
  await using vault = await Vault.start()
  const fresh = values(9000, 'some segments')
  const asked = { values: [...fresh, ...fresh] } // duplicates cost nothing
  await vault.tokens(['first'])
  const before = (await stored(vault)).used
  await vault.post('/tokenize', asked)
  const bytes = (await stored(vault)).used - before
  await using exact = await Vault.start()
  await exact.tokens(['first'])
  const quota = await leave(exact, bytes - 1)
  exceeded(await exact.post('/tokenize', asked), quota)
  assert.equal(await exact.count(), 1)
  await leave(exact, bytes)
  assert.equal((await exact.post('/tokenize', asked)).status, 200)
  assert.deepEqual(await stored(exact), { quota: before + bytes, used: before + bytes })
  exceeded(await exact.post('/tokenize', { values: ['new'] }), before + bytes)
})

test('many writers at once do not pass a quota; a reload of a larger quota is in force at once', async () => {
  await using vault = await Vault.start()
  await vault.tokens(['first'])
  const quota = await leave(vault, 40_000)
  const answers = await Promise.all(
    Array.from({ length: 64 }, (_, i) =>
      i % 2 === 0
        ? vault.post('/tokenize', { values: values(50, `writer ${i}`) })
        : vault.post('/secrets', { name: `s/${i}`, value: 'v'.repeat(1000) }, once(`w${i}`)),
    ),
  )
  const statuses = new Set(answers.map(({ status }) => status))
  assert.deepEqual([...statuses].sort(), [200, 201, 403])
  const { used } = await stored(vault)
  assert.ok(used <= quota && used > quota - 5000, `${used} of ${quota}`)
  await leave(vault, 1_000_000)
  for (const [i, { status }] of answers.entries()) {
    if (status !== 403) continue
    const again =
      i % 2 === 0
        ? await vault.post('/tokenize', { values: values(50, `writer ${i}`) })
        : await vault.post('/secrets', { name: `s/${i}`, value: 'v'.repeat(1000) }, once(`w${i}`))
    assert.ok(again.status < 300, again.text)
  }
})

test('a quota below what is stored refuses what is new; first epochs are opened all the same', async () => {
  await using vault = await Vault.start({ quotas: { 'clinic-a': 1, 'clinic-b': '1 KiB' } })
  assert.equal((await vault.get('/epochs')).json.active, 1)
  const { quota, used } = await stored(vault)
  assert.ok(quota === 1 && used > 1)
  const { status, json } = await vault.post('/tokenize', { values: ['x'] })
  assert.deepEqual([status, json.quota, json.used], [403, 1, used])
  assert.match(String(json.detail), /of 1 bytes .*: ask the operator/)
  assert.deepEqual((await stored(vault, KEY_B)).quota, 1024)
})
