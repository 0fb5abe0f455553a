// Three nodes at a quota: together they pass it by no more than what they had on their way, refuse what is new, and
// go on with all else; what is used is the same on all nodes, and after a rebuild.
import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { until } from '../cli/cli.ts'
import { type Answer, Cluster, type ClusterNode } from './cluster.ts'

/** Bytes that the owner may store beside the first epoch and what the test has written before. */
const ROOM = 200_000
const CALLERS = 24
const VALUES = 40
/** More than a segment of VALUES mappings with its key, and than a secret of 1,000 bytes with its receipt. */
const REQUEST_BYTES = 3000

type Stored = { readonly quota: number | null; readonly used: number }

async function stored(node: ClusterNode): Promise<Stored> {
  const { quota, used } = (await node.ask('/whoami')).json
  return { quota, used } as Stored // the contract's answer
}

/** Once all nodes have applied all. */
async function used(cluster: Cluster): Promise<number> {
  assert.equal((await cluster.digests()).size, 1)
  const all = await Promise.all(cluster.nodes.map(stored))
  assert.equal(new Set(all.map((each) => each.used)).size, 1, JSON.stringify(all))
  return all[0].used
}

/** Puts the quota of owner a into force on all nodes, by SIGHUP. */
async function setQuota(cluster: Cluster, quota: number): Promise<void> {
  for (const { config, process: running } of cluster.nodes) {
    const text = readFileSync(config, 'utf8').replace(/^( *)quota: .*\n/m, '')
    writeFileSync(config, text.replace(/^( *)- id: a\n/m, `$1- id: a\n$1  quota: ${quota}\n`))
    running?.signal('SIGHUP')
  }
  await until('the quota is in force', async () => {
    const all = await Promise.all(cluster.nodes.map(stored))
    return all.every((each) => each.quota === quota)
  })
}

async function put(node: ClusterNode, key: string, name: string, idempotencyKey: string): Promise<Answer> {
  const answer = await fetch(`${node.url}/secrets`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'idempotency-key': idempotencyKey,
    },
    body: JSON.stringify({ name, value: 'v'.repeat(1000) }),
  })
  return { status: answer.status, json: (await answer.json()) as Record<string, unknown> } // JSON, always
}

/** All write until they are refused: tokens or secrets, each at one node. Returns what was acknowledged. */
async function fill(cluster: Cluster): Promise<{ readonly values: string[]; readonly names: string[] }> {
  const values: string[] = []
  const names: string[] = []
  const caller = async (i: number): Promise<void> => {
    const node = cluster.nodes[i % 3]
    for (let round = 0; ; round++) {
      const name = `s/${i}-${round}`
      const some = Array.from({ length: VALUES }, (_, n) => `value ${i} ${round} ${n}`)
      const { status, json } =
        i % 4 === 0
          ? await put(node, cluster.keys.a, name, name)
          : await node.ask('/tokenize', { values: some })
      if (status === 403) {
        assert.equal(json.type, '/problems/quota-exceeded')
        return
      }
      assert.ok(status < 300, JSON.stringify(json))
      if (i % 4 === 0) names.push(name)
      else values.push(...some)
    }
  }
  await Promise.all(Array.from({ length: CALLERS }, (_, i) => caller(i)))
  return { values, names }
}

test('three nodes at a quota', async () => {
  await using cluster = await Cluster.start()
  const { nodes, keys } = cluster
  const [one, two, three] = nodes
  const quota = (await used(cluster)) + ROOM
  await setQuota(cluster, quota)
  const { values, names } = await fill(cluster)
  const full = await used(cluster)
  assert.ok(full > quota - REQUEST_BYTES, `${full} of ${quota}`)
  assert.ok(full <= quota + (CALLERS - 1) * REQUEST_BYTES, `${full} of ${quota}`)

  // Quotas that are used up to the byte: what is new is refused, with receipt or without, and rotations.
  await setQuota(cluster, full)
  for (const node of nodes) {
    const refused = [
      node.ask('/tokenize', { values: [...values.slice(0, 5), `new at ${node.name}`] }),
      node.ask('/secrets', { name: 's/new', value: 'x' }),
      put(node, keys.a, 's/new', 'new'),
      node.ask('/rotate-epoch', { to: 2 }),
    ]
    for (const { status, json } of await Promise.all(refused))
      assert.deepEqual(
        [status, json.type, json.quota, json.used],
        [403, '/problems/quota-exceeded', full, full],
      )
  }

  // Known values, replays and reads go on, on every node.
  const tokens = (await one.tokenize(values)).tokens
  for (const node of nodes) {
    assert.deepEqual((await node.tokenize(values)).tokens, tokens)
    assert.deepEqual((await node.detokenize(tokens)).values, values)
    const replays = await Promise.all(names.map((name) => put(node, keys.a, name, name)))
    for (const { status, json } of replays) assert.equal(status, 201, JSON.stringify(json))
    assert.equal((await node.ask(`/secrets/${names[0]}`)).json.value, 'v'.repeat(1000))
    assert.equal((await node.ask('/tokenize', { values: ['of another'] }, keys.b)).status, 200)
  }

  // A value of a node that is ahead is known to the others at once, though it was the last that had room.
  await setQuota(cluster, full + 300)
  for (let round = 0; (await stored(one)).used + 200 < full + 300; round++) {
    const last = await two.tokenize([`last ${round}`])
    for (const node of [one, three]) assert.deepEqual(await node.tokenize([`last ${round}`]), last)
  }

  // The same after a rebuild from the ledger, and after a restart.
  const before = await used(cluster)
  assert.equal(await three.process?.stop(), 0)
  rmSync(join(dirname(three.config), three.name, 'replica'), { recursive: true })
  await three.start()
  assert.equal(await two.process?.stop(), 0)
  await two.start()
  assert.equal(await used(cluster), before)
})
