// A node on its own: its health, and the same node again from the same files.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Vault } from './vault.ts'

const NO_KEY = { authorization: undefined }

async function assertHealthy(vault: Vault): Promise<void> {
  for (const path of ['/health', '/ready', '/ready?for=reads']) {
    const answer = await vault.get(path, NO_KEY)
    assert.equal(answer.status, 200)
    assert.equal(answer.headers['content-type'], 'application/json')
    assert.match(answer.text, /^\{"status":"(ok|ready)"\}$/)
  }
}

test('one node starts: /health and /ready are 200, and need no key', async () => {
  await using vault = await Vault.start()
  await assertHealthy(vault)
})

test('the same files make the same node: its name, its ledger, its tokens', async () => {
  const first = await Vault.start()
  await first.tokens(['kept'])
  const before = JSON.parse((await first.get('/status')).text)
  await first.stop()
  await using second = await Vault.start({}, first.dir)
  await assertHealthy(second)
  const after = JSON.parse((await second.get('/status')).text)
  assert.equal(after.node, before.node)
  assert.equal(after.ledger.identity, before.ledger.identity)
  assert.deepEqual(await second.values(await second.tokens(['kept'])), ['kept'])
})
