// Three nodes with their members: what one has acknowledged the others answer at once, whichever way they learnt it.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../cli/cli.ts'
import { Cluster, type ClusterNode } from './cluster.ts'

const ROUNDS = Number(process.env.COFFER_ROUNDS ?? 1000)

describe('three nodes', () => {
  let cluster: Cluster
  let nodes: readonly ClusterNode[]

  before(async () => {
    cluster = await Cluster.start()
    nodes = cluster.nodes
  })
  after(() => cluster[Symbol.asyncDispose]())

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
    const { tokens: old } = await nodes[0].tokenize(['from epoch 1'])
    for (let epoch = 2; epoch <= 10; epoch++) {
      const { json } = await nodes[epoch % 3].ask('/rotate-epoch', { to: epoch })
      assert.deepEqual(json, { epoch, rotated: true })
      const answers = await Promise.all(nodes.map((node) => node.tokenize([`epoch ${epoch}`, 'x'])))
      for (const answer of answers) assert.deepEqual(answer, answers[0])
      assert.equal(answers[0].epoch, epoch)
    }
    for (const node of nodes) assert.deepEqual((await node.detokenize(old)).values, ['from epoch 1'])
  })

  test('the same values on all nodes at once by 48 clients: one token each; duplicates are counted', async () => {
    const ignored = (): Promise<(number | undefined)[]> =>
      Promise.all(nodes.map((node) => node.metric('coffer_replica_ignored_duplicates')))
    await cluster.digests() // what was written before is applied and counted
    const [before] = await ignored()
    const values = Array.from({ length: 500 }, (_, i) => `shared ${i}`)
    const answers = await Promise.all(Array.from({ length: 48 }, (_, i) => nodes[i % 3].tokenize(values)))
    for (const answer of answers) assert.deepEqual(answer.tokens, answers[0].tokens)
    await cluster.digests()
    // A node finds its own clients' values among its pending ones; what three nodes have sent at once meets in the ledger.
    const after = await until('all nodes count the same duplicates', async () => {
      const [count, ...others] = await ignored() // at most a second old
      return Number(count) > Number(before) && others.every((each) => each === count) ? count : undefined
    })
    const more = Number(after) - Number(before)
    assert.ok(more <= 1000, `${more}`)
  })

  test('another owner finds nothing of it, on any node', async () => {
    const { tokens } = await nodes[0].tokenize(['mine alone'])
    for (const node of nodes) {
      const { json } = await node.ask('/detokenize', { tokens }, cluster.keys.b)
      assert.deepEqual(json, { values: [null], not_found: [0] })
    }
  })

  test('status tells of members, leader and quorum; all digests are equal', async () => {
    assert.equal((await cluster.digests()).size, 1)
    const all = await Promise.all(nodes.map((node) => node.status()))
    for (const { quorum, leader, members } of all) {
      assert.equal(quorum, true)
      assert.equal(leader, all[0].leader)
      assert.deepEqual([...members].map(({ node, ready }) => [node, ready]).sort(), [
        ['n1', true],
        ['n2', true],
        ['n3', true],
      ])
    }
    const told = nodes[0].events().filter(({ event }) => event === 'ledger.leader')
    assert.equal(told.at(-1)?.to, all[0].leader)
  })
})
