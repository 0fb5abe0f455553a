// Receipts are of one API key: another key that may write learns nothing of them, of the same owner or of another.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type Answer, bearer, KEY_A, KEY_B, Vault } from './vault.ts'

const WRITER = 'cof_key-of-clinic-a-that-writes'
const INSIDE = 'cof_key-of-clinic-a-with-a-prefix'
const USED = 'used by the first key'
const CANARY = 'canary-5512'

const may = ['secrets:write']
const vault = await Vault.start({
  owners: {
    'clinic-a': [KEY_A, { key: WRITER, may }, { key: INSIDE, may, prefix: 'app/' }],
    'clinic-b': [KEY_B],
  },
})
after(() => vault[Symbol.asyncDispose]())

type Write = readonly [method: 'POST' | 'PUT', path: string, body: object, ifMatch?: string]

function send([method, path, body, match]: Write, key: string, idempotencyKey: string): Promise<Answer> {
  const headers = { 'idempotency-key': idempotencyKey, ...(match === undefined ? {} : { 'if-match': match }) }
  return vault.call(method, path, JSON.stringify(body), { ...bearer(key), ...headers })
}

/** All of an answer but for the request id and the date. */
function visible({ status, headers, text }: Answer): unknown {
  const { 'x-request-id': id, date, ...rest } = headers
  return { status, rest, text: text.replaceAll(String(id), '') }
}

const CREATE: Write = ['POST', '/secrets', { name: 'app/db', value: CANARY }]
const UPDATE: Write = ['PUT', '/secrets/app/db', { value: `${CANARY} 2` }, '"1"']

test('under an Idempotency-Key of another key an answer is the one under a key that nobody has used', async () => {
  const created = await send(CREATE, KEY_A, USED)
  assert.equal(created.status, 201)
  const updated = await send(UPDATE, KEY_A, `${USED} too`)
  assert.equal(updated.status, 200)
  assert.equal((await send(CREATE, KEY_A, USED)).headers['idempotency-replayed'], 'true')

  /** Writes that have no effect, so that they can be compared. */
  const writes: readonly Write[] = [
    CREATE,
    UPDATE,
    ['POST', '/secrets', { name: 'app/db', value: 'a guess' }],
    ['POST', '/secrets', { secrets: [{ name: 'app/db', value: CANARY }] }],
    ['POST', '/secrets', { name: 'app//db', value: CANARY }],
    ['POST', '/secrets', { name: 'elsewhere/x' }],
    ['PUT', '/secrets/app/db', { value: `${CANARY} 2` }, '"7"'],
    ['PUT', '/secrets/app/absent', { value: CANARY }],
  ]
  let n = 0
  for (const key of [WRITER, INSIDE])
    for (const used of [USED, `${USED} too`])
      for (const write of writes) {
        const answer = await send(write, key, used)
        const fresh = await send(write, key, `fresh ${n++}`)
        assert.deepEqual(visible(answer), visible(fresh), JSON.stringify(write))
        assert.ok(answer.status >= 400, JSON.stringify(write))
        assert.equal(answer.headers['idempotency-replayed'], undefined)
        assert.ok(!answer.text.includes(CANARY))
      }
  for (const write of writes.slice(-2)) {
    const [answer, fresh] = [await send(write, KEY_B, USED), await send(write, KEY_B, `fresh ${n++}`)]
    assert.deepEqual(visible(answer), visible(fresh))
  }
})

test('its own write under that Idempotency-Key is done, and replayed for itself alone', async () => {
  for (const [i, key] of [WRITER, INSIDE, KEY_B].entries()) {
    const write: Write = ['POST', '/secrets', { name: `app/own-${i}`, value: 'v' }]
    const answer = await send(write, key, USED)
    assert.equal(answer.status, 201, answer.text)
    assert.equal(answer.headers['idempotency-replayed'], undefined)
    assert.equal((await send(write, key, USED)).headers['idempotency-replayed'], 'true')
  }
  assert.equal((await send(CREATE, KEY_A, USED)).headers['idempotency-replayed'], 'true')
  for (const key of [WRITER, INSIDE])
    assert.equal((await vault.get('/secrets/app/db', bearer(key))).json.needs, 'secrets:read')
})
