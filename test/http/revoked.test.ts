// A key that is removed while a request of that key arrives: the request is judged again once its body is whole.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { historyOf, namesOf } from './secrets.ts'
import { bearer, IN_WORK, KEY_A, KEY_B, OWNERS, type Owners, until, Vault } from './vault.ts'

const OTHER = 'cof_another-key-of-clinic-a'
const WITH_OTHER: Owners = { ...OWNERS, 'clinic-a': [OTHER, KEY_A] }

/** Sends half of a request of KEY_A; the result sends the rest, and returns the answer. */
async function half(vault: Vault, head: string, body: string): Promise<() => Promise<string>> {
  const { hostname, port } = new URL(vault.node.url)
  const socket = connect(Number(port), hostname)
  const closed = new Promise((resolve) => socket.on('close', resolve))
  let answer = ''
  socket.on('data', (chunk) => {
    answer += chunk.toString('latin1')
  })
  const fields = ['Host: x', 'Connection: close', `Authorization: Bearer ${KEY_A}`, 'Idempotency-Key: i']
  fields.push('Content-Type: application/json', `Content-Length: ${body.length}`)
  const before = await vault.metric(IN_WORK)
  socket.write(`${head} HTTP/1.1\r\n${fields.join('\r\n')}\r\n\r\n${body.slice(0, 5)}`)
  await until('the half has arrived', async () => (await vault.metric(IN_WORK)) === before + 5)
  return async () => {
    socket.write(body.slice(5))
    await closed
    return answer
  }
}

const CALLS: readonly (readonly [head: string, body: string])[] = [
  ['POST /tokenize', '{"values":["of a removed key"]}'],
  ['POST /detokenize', '{"tokens":[]}'],
  ['POST /retokenize', '{"tokens":[]}'],
  ['POST /rotate-epoch', '{"to":2}'],
  ['POST /secrets', '{"name":"made","value":"x"}'],
  ['PUT /secrets/there', '{"value":"y"}'],
  ['POST /secrets/resolve', '{"refs":[]}'],
]

for (const [what, owners] of [
  ['removed', { ...OWNERS, 'clinic-a': [OTHER] }],
  ['given to another owner', { 'clinic-a': [OTHER], 'clinic-b': [KEY_B, KEY_A] }],
] as const) {
  test(`a key that is ${what} while the body arrives: 401, and nothing is done`, async () => {
    await using vault = await Vault.start({ owners: WITH_OTHER })
    assert.equal((await vault.post('/secrets', { name: 'there', value: 'x' })).status, 201)
    const finish = await Promise.all(CALLS.map(([head, body]) => half(vault, head, body)))
    vault.setOwners(owners)
    vault.node.reload()
    for (const [i, rest] of finish.entries()) {
      const answer = await rest()
      assert.match(answer, /^HTTP\/1\.1 401 .*\/problems\/unauthorized/s, CALLS[i][0])
    }
    assert.equal(await vault.count(OTHER), 0)
    assert.equal((await vault.get('/epochs', bearer(OTHER))).json.active, 1)
    assert.deepEqual(await namesOf(vault, OTHER), ['there'])
    assert.equal((await historyOf(vault, 'there', OTHER)).length, 1)
  })
}

test('a reload that leaves the key in force disturbs no request', async () => {
  await using vault = await Vault.start({ owners: WITH_OTHER })
  const finish = await half(vault, 'POST /tokenize', '{"values":["x"]}')
  vault.setOwners({ ...WITH_OTHER, 'clinic-c': ['cof_new'] })
  vault.node.reload()
  assert.match(await finish(), /^HTTP\/1\.1 200 /)
})
