// coffer ledger show and coffer log on three nodes, through the death and the return of one of them.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { Answer } from './cluster.ts'
import { Cluster } from './cluster.ts'

const VALUE = 'canary-2c81'

type Row = {
  readonly revision: number
  readonly kind: string
  readonly owner?: string
  readonly name?: string
  readonly epoch?: number
  readonly mappings?: number
  readonly bytes: number
  readonly node?: string
}

describe('the state and the story of three nodes', () => {
  let cluster: Cluster

  before(async () => {
    cluster = await Cluster.start()
  })
  after(() => cluster[Symbol.asyncDispose]())

  async function rows(i: number, ...args: string[]): Promise<Row[]> {
    const text = await cluster.fine('ledger', 'show', '--config', cluster.configs[i], '--json', ...args)
    assert.doesNotMatch(text, /canary/)
    return text.split('\n').map((line): Row => JSON.parse(line))
  }

  test('coffer ledger show: the same entries by every node, with a node down too, and never a value', async () => {
    const [n1, n2, n3] = cluster.nodes
    await n1.tokenize([VALUE, 'b', 'c'])
    const created: Answer = await n2.ask('/secrets', { name: 'db/password', value: VALUE })
    assert.equal(created.status, 201)
    const rotated = await n3.ask('/rotate-epoch', { to: 2 }, cluster.keys.b)
    assert.equal(rotated.status, 200)

    const all = await rows(0)
    assert.deepEqual(await rows(2), all)
    const revisions = all.map(({ revision }) => revision)
    assert.deepEqual(
      revisions,
      revisions.toSorted((a, b) => a - b),
    )
    const of = (kind: string): Row[] => all.filter((row) => row.kind === kind)
    assert.deepEqual(
      of('segment').map(({ owner, epoch, mappings, node }) => [owner, epoch, mappings, node]),
      [['a', 1, 3, 'n1']],
    )
    assert.deepEqual(
      of('version').map(({ owner, name, node }) => [owner, name, node]),
      [['a', 'db/password', 'n2']],
    )
    const epochs = of('epoch').map(({ owner, epoch, node }) => [owner, epoch, node])
    assert.deepEqual(epochs.at(-1), ['b', 2, 'n3'])
    const ofB = await rows(1, '--owner', 'b', '--since', String(of('version')[0].revision))
    assert.ok(ofB.length > 0 && ofB.every(({ owner }) => owner === 'b'))

    await n1.kill()
    assert.deepEqual(await rows(0), all, 'the configuration of the node that is down names the others')
    assert.deepEqual(await rows(1), all)
  })

  test('coffer log --html tells the death and the return', async () => {
    const [n1, n2] = cluster.nodes
    await n1.kill()
    await n2.tokenize(['while n1 is down'])
    await n1.start()
    const page = cluster.folder.file('timeline.html')
    await cluster.fine('log', cluster.dir, '--html', page)
    const text = readFileSync(page, 'utf8')
    assert.doesNotMatch(text, /canary/)
    assert.match(text, /"headline":"n1 was gone for [^"]* and came back/)
    assert.match(text, /"nodes":\["n1"\],"text":"ends without a stop"/)
    assert.match(text, /"nodes":\["n3"\],"text":"rotates b to epoch 2"/)
    assert.match(text, /"text":"leads"/)
  })
})
