// Secrets at the edge of their limits, for the owner with the longest id there can be.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { KIB, latestOf, pathOf, refused } from './secrets.ts'
import { type Headers, OWNERS, Vault } from './vault.ts'

const LONG_OWNER = `o${'-'.repeat(63)}`
const LONG_KEY = 'cof_of-an-owner-with-a-long-id'
const LONG: Headers = { authorization: `Bearer ${LONG_KEY}`, 'x-request-id': 'x'.repeat(128) }
const limits = await Vault.start({ owners: { ...OWNERS, [LONG_OWNER]: [LONG_KEY] } })
after(() => limits[Symbol.asyncDispose]())

test('a value of 64 KiB of UTF-8 is fine, one byte more is 422 invalid-value', async () => {
  let n = 0
  for (const [unit, bytes] of [
    ['x', 1],
    ['é', 2],
    ['漢', 3],
    ['🩺', 4],
    ['\\u00e9', 2],
    ['\\ud83e\\ude7a', 4],
    ['\\u0000', 1],
    ['\\"', 1],
  ] as const) {
    const limit = 64 * KIB
    const fits = `"${unit.repeat(Math.floor(limit / bytes))}${'x'.repeat(limit % bytes)}"`
    const name = `value-${n++}`
    const created = await limits.post('/secrets', `{"name":"${name}","value":${fits}}`)
    assert.equal(created.status, 201, `${unit} ${created.text}`)
    const updated = await limits.call('PUT', pathOf(name), `{"value":${fits}}`)
    assert.equal(updated.status, 200, `${unit} ${updated.text}`)
    assert.equal(await latestOf(limits, name), JSON.parse(fits))
    const resolved = await limits.post('/secrets/resolve', { refs: [`coffer://${name}`] })
    assert.deepEqual(resolved.json.values, [JSON.parse(fits)])
    const long = `${fits.slice(0, -1)}x"`
    for (const [method, url, body, path] of [
      ['POST', '/secrets', `{"name":"long","value":${long}}`, 'value'],
      ['POST', '/secrets', `{"secrets":[{"name":"long","value":${long}}]}`, 'secrets[0].value'],
      ['PUT', pathOf(name), `{"value":${long}}`, 'value'],
    ] as const) {
      await refused(limits.call(method, url, body), 422, 'invalid-value', { path }, unit)
    }
  }
})

test('500 secrets in one request, and 384 KiB of names and values, however they are spread', async () => {
  const most = 384 * KIB
  const spread = (count: number, nameLength: number, total: number): { name: string; value: string }[] => {
    const names = Array.from({ length: count }, (_, i) => `${nameLength}-${i}-`.padEnd(nameLength, 'n'))
    const room = total - names.reduce((sum, name) => sum + name.length, 0)
    const each = Math.floor(room / count)
    return names.map((name, i) => ({ name, value: 'v'.repeat(i === 0 ? room - each * (count - 1) : each) }))
  }
  for (const [count, nameLength] of [
    [500, 256],
    [500, 8],
    [6, 255],
    [77, 100],
  ]) {
    const over = await limits.post('/secrets', { secrets: spread(count, nameLength, most + 1) }, LONG)
    await refused(over, 413, 'too-large', {}, `${count} of ${nameLength}`)
    const secrets = spread(count, nameLength, most)
    const bytes = secrets.reduce((sum, { name, value }) => sum + name.length + value.length, 0)
    assert.equal(bytes, most)
    const headers = { ...LONG, 'idempotency-key': `${count} of ${nameLength}`.padEnd(128, 'k') }
    const answer = await limits.post('/secrets', { secrets }, headers)
    assert.equal(answer.status, 201, answer.text.slice(0, 500))
    assert.equal((answer.json.secrets as unknown[]).length, count)
    const refs = secrets.map(({ name }) => `coffer://${name}`)
    const resolved = await limits.post('/secrets/resolve', { refs }, LONG)
    assert.deepEqual(
      resolved.json.values,
      secrets.map(({ value }) => value),
    )
  }
})

test('names and values are counted in bytes of UTF-8, not in characters', async () => {
  const fits = Array.from({ length: 8 }, (_, i) => ({ name: `u${i}`, value: '漢'.repeat(16_384) }))
  fits[7].value = `${'漢'.repeat(16_378)}xx`
  const sum = fits.reduce((bytes, { name, value }) => bytes + name.length + Buffer.byteLength(value), 0)
  assert.equal(sum, 384 * KIB)
  const over = fits.map((each, i) => (i === 7 ? { ...each, value: `${each.value}x` } : each))
  await refused(limits.post('/secrets', { secrets: over }), 413, 'too-large')
  assert.equal((await limits.post('/secrets', { secrets: fits })).status, 201)
})

test('gzip bodies are read in every call', async () => {
  const headers = { 'content-encoding': 'gzip' }
  const created = await limits.post('/secrets', gzipSync('{"name":"zip","value":"first"}'), headers)
  assert.equal(created.status, 201, created.text)
  const updated = await limits.call('PUT', '/secrets/zip', gzipSync('{"value":"second"}'), headers)
  assert.equal(updated.status, 200, updated.text)
  const refs = gzipSync('{"refs":["coffer://zip@1","coffer://zip"]}')
  const resolved = await limits.post('/secrets/resolve', refs, headers)
  assert.deepEqual(resolved.json.values, ['first', 'second'])
})
