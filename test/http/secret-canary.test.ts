// Law 8 for secrets: whatever is done with them and goes wrong, no value is in clear on the disk, in a log, in an event or
// in an error; nor is an Idempotency-Key, or a hash by which somebody could try out bodies.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { systemClock } from '../../src/clock.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { replaceFile } from '../../src/files.ts'
import { LedgerUnavailable } from '../../src/ledger/ledger.ts'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import { pathOf } from './secrets.ts'
import { type Answer, bearer, KEY_A, KEY_B, until, Vault } from './vault.ts'

const MARK = 'c4n4ry'
const KEY_MARK = 'k3y-m4rk'
let count = 0
/** A value that is recognized wherever it is, alone or in its neighbourhood. */
const canary = (): string => `${MARK}-${++count}-é-${MARK}`

/** Every file under the folder. */
function filesOf(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

/** The text as it could stand in a file: as it is, in UTF-16, in base64 at each of its three offsets, in hex. */
function needles(text: string): Buffer[] {
  const base64 = [0, 1, 2].map((offset) => {
    const encoded = Buffer.from(`${'x'.repeat(offset)}${text}`).toString('base64')
    return encoded.slice(offset === 0 ? 0 : 4, encoded.length - 4)
  })
  const hex = Buffer.from(text).toString('hex')
  const texts = [text, ...base64, hex, hex.toUpperCase()].map((each) => Buffer.from(each, 'latin1'))
  return [...texts, Buffer.from(text, 'utf16le')]
}

function assertNowhere(where: string, bytes: Buffer, texts: readonly string[]): void {
  for (const text of texts) {
    for (const needle of needles(text)) assert.equal(bytes.indexOf(needle), -1, `${text} in ${where}`)
  }
}

test('the search finds what is there', () => {
  for (const written of [
    `x${MARK}x`,
    Buffer.from(`a${MARK}b`).toString('base64'),
    Buffer.from(`ab${MARK}b`).toString('base64'),
    Buffer.from(`abc${MARK}b`).toString('base64'),
    Buffer.from(MARK).toString('hex'),
  ]) {
    assert.throws(() => assertNowhere('text', Buffer.from(written), [MARK]), written)
  }
  assert.throws(() => assertNowhere('text', Buffer.from(MARK, 'utf16le'), [MARK]))
  assert.doesNotThrow(() => assertNowhere('text', Buffer.from('c4n4r'), [MARK]))
})

/** Creates, updates and reads, and gives all bodies that were sent. */
async function write(own: Vault): Promise<string[]> {
  const bodies: string[] = []
  const done = async (method: string, path: string, body: unknown, headers = {}): Promise<void> => {
    const text = JSON.stringify(body)
    bodies.push(text)
    const answer = await own.call(method, path, text, {
      'idempotency-key': `${KEY_MARK}-${++count}`,
      ...headers,
    })
    assert.ok(answer.status < 300, answer.text)
  }
  await done('POST', '/secrets', { name: 'one', value: canary() })
  await done('POST', '/secrets', { name: 'no-key', value: canary() }, { 'idempotency-key': undefined })
  const many = Array.from({ length: 400 }, (_, i) => ({ name: `many/${i}`, value: canary().repeat(20) }))
  await done('POST', '/secrets', { secrets: many })
  await done('POST', '/secrets', { name: 'large', value: `${'-'.repeat(60_000)}${canary()}` })
  for (let i = 0; i < 20; i++) await done('PUT', '/secrets/one', { value: canary() })
  await done('PUT', '/secrets/one', { value: canary() }, { 'if-match': '"21"' })
  const zipped = gzipSync(JSON.stringify({ value: canary() }))
  await own.call('PUT', '/secrets/large', zipped, { 'content-encoding': 'gzip' })
  for (const path of ['', '?version=1', `?at=${new Date().toISOString()}`, '/history']) {
    assert.equal((await own.get(`/secrets/one${path}`)).status, 200)
  }
  const refs = ['coffer://one', 'coffer://one@3', 'coffer://many/7']
  assert.ok((await own.post('/secrets/resolve', { refs })).text.includes(MARK))
  return bodies
}

/** Fails in every way: what was answered. */
async function fail(own: Vault, t: TestContext): Promise<Answer[]> {
  const value = canary()
  const key = { 'idempotency-key': `${KEY_MARK}-failing` }
  await own.call('PUT', '/secrets/one', { value }, key)
  const post = (body: string | Buffer | object, headers = {}): Promise<Answer> =>
    own.post('/secrets', body as Record<string, unknown>, headers)
  const put = (body: unknown, headers = {}, name = 'one'): Promise<Answer> =>
    own.call('PUT', pathOf(name), JSON.stringify(body), headers)
  const answers = await Promise.all([
    post({ name: 'one', value }),
    post({
      secrets: [
        { name: 'new', value },
        { name: 'one', value },
        { name: 'new', value },
      ],
    }),
    post({ name: `not a name ${value}`, value }),
    post({ name: value, value }),
    post({ name: 'new', value, owner_id: value }),
    post({ name: 'new', value: { deep: [value] } }),
    post(`{"name":"new","value":"${value}"`),
    post(`{"name":"new","value":"${value}","value":"${value}"}`),
    post(`{"name":"new","value":"${value}\\ud800"}`),
    post(Buffer.from(`{"name":"new","value":"${MARK}\xff"}`, 'latin1')),
    post({ name: 'new', value: value.repeat(5000) }),
    post({
      secrets: Array.from({ length: 7 }, (_, i) => ({
        name: `new${i}`,
        value: `${MARK}${'x'.repeat(60_000)}`,
      })),
    }),
    post({ secrets: Array(501).fill({ name: 'new', value }) }),
    post({ name: 'new', value }, { 'content-type': `text/${MARK}` }),
    post({ name: 'new', value }, { 'content-encoding': MARK }),
    post(gzipSync(value), { 'content-encoding': 'gzip' }),
    post({ name: 'new', value }, { 'idempotency-key': `${KEY_MARK}é` }),
    post({ name: 'new', value }, { 'idempotency-key': KEY_MARK.repeat(30) }),
    post({ name: 'new', value }, bearer(`cof_${MARK}`)),
    own.post(`/secrets?dry=${MARK}`, { name: 'new', value }),
    put({ value: `other ${value}` }, key),
    put({ value }, { 'if-match': `"${MARK}"` }),
    put({ value }, { 'if-match': MARK }),
    put({ value }, {}, 'absent'),
    put({ value, name: value }),
    own.post('/secrets/resolve', { refs: [`coffer://one@${MARK}`] }),
    own.post('/secrets/resolve', { refs: [], at: value }),
    own.get(`/secrets/one?at=${MARK}`),
    own.get(`/secrets?prefix=${encodeURIComponent(value)}`),
    own.get('/secrets/one?version=99', { 'x-request-id': `not valid: ${MARK}` }),
  ])
  const unreachable = async (): Promise<never> => {
    throw new LedgerUnavailable('no-quorum', 'nobody there')
  }
  const commit = t.mock.method(LmdbLedger.prototype, 'commit', unreachable)
  answers.push(await put({ value }, { 'idempotency-key': `${KEY_MARK}-unreachable` }))
  commit.mock.restore()
  t.mock.method(LmdbLedger.prototype, 'head', () => Promise.reject(new TypeError('a fault of ours')))
  answers.push(await put({ value }, { 'idempotency-key': `${KEY_MARK}-fault`, 'if-match': '"1"' }))
  answers.push(await own.get('/secrets/one'))
  t.mock.restoreAll()
  return answers
}

test('no value and no Idempotency-Key is in clear on the disk, in the logs, the events or in an error', async (t) => {
  await using own = await Vault.start()
  const bodies = await write(own)
  const answers = await fail(own, t)
  const statuses = answers.map(({ status }) => status)
  assert.ok(
    statuses.every((status) => status >= 400),
    `${statuses}`,
  )
  // Rewrapped: what was wrapped anew is no clearer.
  const file = join(own.dir, 'keyring.json')
  const added = Keyring.parse(readFileSync(file, 'utf8')).add(newRootKey(systemClock))
  replaceFile(file, added.activate(added.ids[1]).askRewrap(true).serialize())
  own.node.reload()
  const old = `coffer_wrapped_keys{root_key="${added.ids[0]}"} `
  await until('the old root key wraps nothing', async () =>
    (await own.get('/metrics')).text.includes(`\n${old}0\n`),
  )
  assert.ok((await own.get('/secrets/one')).text.includes(MARK))
  await own.stop()

  const events = readFileSync(join(own.data, 'events.ndjson'), 'utf8')
  for (const event of ['secret.created', 'secret.updated', 'secret.read', 'request.refused']) {
    assert.ok(events.includes(`"event":"${event}"`), event)
  }
  assertNowhere('the logs', Buffer.from(own.logs.join('\n')), [MARK, KEY_MARK])
  for (const answer of answers) {
    assertNowhere(answer.text, Buffer.from(JSON.stringify(answer.headers) + answer.text), [MARK, KEY_MARK])
  }
  const files = filesOf(own.data)
  assert.ok(
    files.some((each) => each.includes('/ledger/')) && files.some((each) => each.includes('/replica/')),
  )
  assert.ok(files.some((each) => each.endsWith('events.ndjson')))
  const hashes = bodies.flatMap((body) =>
    ['sha256', 'sha1', 'md5'].map((hash) => createHash(hash).update(body).digest()),
  )
  for (const each of files) {
    const bytes = readFileSync(each)
    assertNowhere(each, bytes, [MARK, KEY_MARK, KEY_A, KEY_B])
    for (const hash of hashes) assert.equal(bytes.indexOf(hash), -1, `the bare hash of a body in ${each}`)
  }
})
