// /metrics: rendered at most once a second, however many ask; a reload shows at once.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from '../../src/http/metrics.ts'
import { KEY_A, Vault } from './vault.ts'

test('the text is at most a second old, and rendered once a second', async () => {
  let [now, stamp, asked] = [0, 'a', 0]
  const metrics = new Metrics(() => assert.fail('numbers are of the node'), {
    now: () => now,
    stamp: () => stamp,
  })

  const texts = new Set<Promise<string>>()
  const ask = (): void => {
    const text = metrics.text()
    text.catch(() => undefined) // the numbers fail
    texts.add(text)
    asked++
  }
  for (now = 0; now < 10_000; now += 10) ask()
  assert.equal(asked, 1000)
  assert.equal(texts.size, 10)
  stamp = 'b'
  ask()
  ask()
  assert.equal(texts.size, 11)
})

test('of a node: the same text again, and another after a reload', async () => {
  await using vault = await Vault.start({ metricsAgeMs: 60_000 })
  const text = async (): Promise<string> => (await vault.get('/metrics')).text
  const first = await text()
  await vault.token('counted')
  assert.equal(await text(), first)
  vault.setOwners({ 'clinic-a': [KEY_A] })
  vault.node.reload()
  const second = await text()
  assert.notEqual(/coffer_owners\{.*/.exec(second)?.[0], /coffer_owners\{.*/.exec(first)?.[0])
  assert.match(second, /^coffer_tokens_issued_total 1$/m)
})
