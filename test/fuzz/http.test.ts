// Requests of every kind, and bytes that are none, to nodes that run (http.ts, raw.ts).
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { IN_WORK } from '../http/vault.ts'
import { httpTargets } from './http.ts'
import { rawTargets } from './raw.ts'
import { startVault } from './running.ts'
import { testAll } from './target.ts'

const vault = await startVault()
after(() => vault[Symbol.asyncDispose]())
testAll([...httpTargets(vault), ...rawTargets(vault, 'TCP')])

test('the node lives, and holds nothing of the requests', async () => {
  assert.equal((await vault.get('/health')).status, 200)
  assert.equal(await vault.metric(IN_WORK), 0)
})
