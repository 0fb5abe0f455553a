// Three nodes on one etcd: what one has acknowledged the others answer at once, whichever way they learnt it.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { Vault } from '../node/child.ts'
import { Etcd } from './etcd.ts'

const ROUNDS = 300

describe('three nodes on etcd', () => {
  let etcd: Etcd
  const nodes: Vault[] = []

  before(async () => {
    etcd = await Etcd.start()
    const keyring = Keyring.create(systemClock).serialize()
    const ledger = `{ kind: etcd, endpoints: ['${etcd.url}'] }`
    for (const node of ['n1', 'n2', 'n3']) nodes.push(new Vault(undefined, { keyring, node, ledger }))
    for (const node of nodes) await node.start()
  })
  after(async () => {
    for (const node of nodes) await node.remove()
    await etcd.remove()
  })

  test(`a token of one node resolves on the others at once, ${ROUNDS} times`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const [one, two, three] = [0, 1, 2].map((i) => nodes[(round + i) % 3])
      const value = `round ${round}`
      const { tokens } = await one.tokenize([value])
      const answers = await Promise.all([two.detokenize(tokens), three.detokenize(tokens)])
      for (const answer of answers) assert.deepEqual(answer, { values: [value], not_found: [] })
      if (round % 10 === 0) assert.deepEqual((await two.tokenize([value])).tokens, tokens)
    }
  })

  test('a rotation on one node is obeyed by the next request on every other', async () => {
    for (let epoch = 2; epoch <= 10; epoch++) {
      const { json } = await nodes[epoch % 3].call('/rotate-epoch', { to: epoch })
      assert.deepEqual(json, { epoch, rotated: true })
      const answers = await Promise.all(nodes.map((node) => node.tokenize([`epoch ${epoch}`, 'x'])))
      for (const answer of answers) assert.deepEqual(answer, answers[0])
      assert.equal(answers[0].epoch, epoch)
    }
  })

  test('the same values on all nodes at the same time have one token each', async () => {
    const values = Array.from({ length: 500 }, (_, i) => `shared ${i}`)
    const answers = await Promise.all(Array.from({ length: 48 }, (_, i) => nodes[i % 3].tokenize(values)))
    for (const answer of answers) assert.deepEqual(answer.tokens, answers[0].tokens)
  })

  test('a node that was killed catches up by itself; all digests are equal', async () => {
    await nodes[1].end('SIGKILL')
    const values = Array.from({ length: 20_000 }, (_, i) => `missed ${i}`)
    const { tokens } = await nodes[0].tokenize(values)
    await nodes[1].start()
    assert.deepEqual(await nodes[1].detokenize(tokens), { values, not_found: [] })
    const digests = new Set(await Promise.all(nodes.map((node) => node.digest())))
    assert.equal(digests.size, 1)
  })

  test('without the ledger, known tokens resolve and the rest is 503 within 5 s; then all is well', async () => {
    const { tokens } = await nodes[2].tokenize(['known'])
    await nodes[2].digest() // it holds the token when it has applied it
    await etcd.kill()
    assert.deepEqual(await nodes[2].detokenize(tokens), { values: ['known'], not_found: [] })
    const forged = `${tokens[0].slice(0, -1)}${tokens[0].endsWith('0') ? '1' : '0'}`
    assert.deepEqual((await nodes[2].detokenize([forged])).not_found, [0])
    const asked = performance.now()
    const refused = await Promise.all([
      nodes[2].call('/tokenize', { values: ['known'] }),
      nodes[0].call('/tokenize', { values: ['new'] }),
    ])
    assert.ok(performance.now() - asked < 5000)
    for (const { status, json } of refused)
      assert.deepEqual([status, json.type], [503, '/problems/no-quorum'])
    await etcd.start()
    const deadline = Date.now() + 15_000
    let answer = await nodes[0].call('/tokenize', { values: ['new'] })
    while (answer.status !== 200 && Date.now() < deadline)
      answer = await nodes[0].call('/tokenize', { values: ['new'] })
    assert.equal(answer.status, 200)
  })
})
