// Secrets on three nodes: who wins, what the others see, and what stays when nodes die.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { filesIn } from '../../src/cli/demo/story.ts'
import { fine, until } from '../cli/cli.ts'
import { seeded } from '../sim/seed.ts'
import { Cluster, type ClusterNode } from './cluster.ts'

const CLIENTS = 32
const ROUNDS = Number(process.env.COFFER_ROUNDS ?? 12)
/** In every value of this file, so that it can be looked for. */
const CANARY = 'c4n4ry-of-three-nodes'

type Got = { readonly status: number; readonly text: string; readonly json: Json; readonly headers: Headers }
type Json = Readonly<Record<string, unknown>>
type Version = { version: number; valid_from: string; valid_to: string | null }

let cluster: Cluster
let nodes: readonly ClusterNode[]

async function call(
  node: ClusterNode,
  method: string,
  path: string,
  {
    body,
    headers = {},
    owner = 'a',
  }: { body?: unknown; headers?: Record<string, string>; owner?: string } = {},
): Promise<Got> {
  const answer = await fetch(node.url + path, {
    method,
    headers: {
      authorization: `Bearer ${cluster.keys[owner]}`,
      'content-type': 'application/json',
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  return { status: answer.status, text, json: JSON.parse(text) as Json, headers: answer.headers } // JSON, always
}

const pathOf = (name: string): string => `/secrets/${encodeURIComponent(name)}`
const secretOf = (what: string): string => `${CANARY} ${what}`

function create(node: ClusterNode, name: string, what = name, headers = {}): Promise<Got> {
  return call(node, 'POST', '/secrets', { body: { name, value: secretOf(what) }, headers })
}

function update(node: ClusterNode, name: string, what: string, headers = {}): Promise<Got> {
  return call(node, 'PUT', pathOf(name), { body: { value: secretOf(what) }, headers })
}

async function read(node: ClusterNode, name: string, query = ''): Promise<Json> {
  const { status, json, text } = await call(node, 'GET', pathOf(name) + query)
  assert.equal(status, 200, `${node.name} ${name}${query}: ${text}`)
  return json
}

async function historyOf(node: ClusterNode, name: string): Promise<Version[]> {
  const { status, json, text } = await call(node, 'GET', `${pathOf(name)}/history`)
  assert.equal(status, 200, text)
  return json.versions as Version[] // as the contract has it
}

/** Numbers from 1 on, each valid from where the one before ends; the last one without end. */
function checkIntervals(versions: readonly Version[]): void {
  for (const [i, { version, valid_from, valid_to }] of versions.entries()) {
    assert.equal(version, i + 1, 'no number is left out')
    assert.equal(valid_to, versions[i + 1]?.valid_from ?? null, 'no instant is left out')
    if (valid_to !== null) assert.ok(Date.parse(valid_from) < Date.parse(valid_to), 'time goes on')
  }
}

function counted(answers: readonly Got[]): Record<number, number> {
  const counts: Record<number, number> = {}
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

const clients = <T>(work: (node: ClusterNode, i: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: CLIENTS }, (_, i) => work(nodes[i % 3], i)))

describe('secrets on three nodes', () => {
  before(async () => {
    cluster = await Cluster.start()
    nodes = cluster.nodes
  })
  after(() => cluster[Symbol.asyncDispose]())

  test('what one node has written the others tell at once', async () => {
    for (let round = 0; round < 100; round++) {
      const [one, two, three] = [0, 1, 2].map((i) => nodes[(round + i) % 3])
      const name = `at-once/${round}`
      assert.equal((await create(one, name, 'first')).status, 201)
      assert.equal((await read(two, name)).value, secretOf('first'))
      const { json } = await update(three, name, 'second')
      assert.equal(json.version, 2)
      const [latest, old] = await Promise.all([read(one, name), read(two, name, '?version=1')])
      assert.equal(latest.value, secretOf('second'))
      assert.equal(old.value, secretOf('first'))
      const at = await read(two, name, `?at=${String(latest.valid_from)}`)
      assert.equal(at.version, 2)
    }
  })

  test(`${CLIENTS} clients create the same name on three nodes: one 201, and it is that one's value`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const name = `contended/${round}`
      const answers = await clients((node, i) => create(node, name, `of client ${i}`))
      assert.deepEqual(counted(answers), { 201: 1, 409: CLIENTS - 1 })
      const winner = answers.findIndex(({ status }) => status === 201)
      for (const node of nodes) assert.equal((await read(node, name)).value, secretOf(`of client ${winner}`))
      for (const { status, json } of answers) if (status === 409) assert.deepEqual(json.names, [name])
    }
  })

  test(`${CLIENTS} clients update with If-Match: one 200 a round; every instant has one version`, async () => {
    const name = 'raced'
    await create(nodes[0], name)
    for (let round = 1; round <= ROUNDS; round++) {
      const headers = { 'if-match': `"${round}"` }
      const answers = await clients((node, i) => update(node, name, `${round} of client ${i}`, headers))
      assert.deepEqual(counted(answers), { 200: 1, 412: CLIENTS - 1 })
      for (const { status, json } of answers) if (status === 412) assert.equal(json.version, round + 1)
      const winner = answers.findIndex(({ status }) => status === 200)
      assert.equal((await read(nodes[round % 3], name)).value, secretOf(`${round} of client ${winner}`))
    }
    const versions = await historyOf(nodes[1], name)
    assert.equal(versions.length, ROUNDS + 1)
    checkIntervals(versions)
    for (const [i, { version, valid_from }] of versions.entries()) {
      const node = nodes[i % 3]
      assert.equal((await read(node, name, `?at=${valid_from}`)).version, version)
      const before = new Date(Date.parse(valid_from) - 1).toISOString()
      const { status, json } = await call(node, 'GET', `${pathOf(name)}?at=${before}`)
      assert.deepEqual([status, json.version], version === 1 ? [404, undefined] : [200, version - 1])
    }
  })

  test('unconditional updates from everywhere: none is lost, no version is left out', async () => {
    const name = 'free-for-all'
    await create(nodes[0], name)
    const answers = await clients((node, i) => update(node, name, `client ${i}`))
    assert.deepEqual(counted(answers), { 200: CLIENTS })
    const numbers = answers.map(({ json }) => Number(json.version)).sort((a, b) => a - b)
    assert.deepEqual(
      numbers,
      Array.from({ length: CLIENTS }, (_, i) => i + 2),
    )
    const versions = await historyOf(nodes[2], name)
    assert.equal(versions.length, CLIENTS + 1)
    checkIntervals(versions)
    for (const [i, { json }] of answers.entries())
      assert.equal((await read(nodes[0], name, `?version=${json.version}`)).value, secretOf(`client ${i}`))
  })

  test('one request under one Idempotency-Key on three nodes at once: one version, one answer', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const name = `once/${round}`
      const headers = { 'idempotency-key': `once ${round}` }
      const created = await Promise.all(nodes.map((node) => create(node, name, 'same', headers)))
      assert.deepEqual(
        new Set(created.map(({ status, text }) => `${status} ${text}`)).size,
        1,
        created[0].text,
      )
      assert.equal(created[0].status, 201)
      const replayed = created.filter((each) => each.headers.get('idempotency-replayed') === 'true')
      assert.equal(replayed.length, 2)
      const other = await create(nodes[round % 3], name, 'another', headers)
      assert.equal(other.json.type, '/problems/idempotency-key-reused')
      assert.equal((await historyOf(nodes[0], name)).length, 1)
    }
  })

  test("another owner finds nothing, by any call, on any node; the same name can be another's", async () => {
    await create(nodes[0], 'mine')
    for (const node of nodes) {
      const asked = await Promise.all([
        call(node, 'GET', pathOf('mine'), { owner: 'b' }),
        call(node, 'GET', `${pathOf('mine')}?version=1`, { owner: 'b' }),
        call(node, 'GET', `${pathOf('mine')}/history`, { owner: 'b' }),
        call(node, 'PUT', pathOf('mine'), { owner: 'b', body: { value: 'x' } }),
        call(node, 'POST', '/secrets/resolve', { owner: 'b', body: { refs: ['coffer://mine'] } }),
      ])
      assert.deepEqual(counted(asked), { 404: 5 })
      assert.deepEqual((await call(node, 'GET', '/secrets', { owner: 'b' })).json, { names: [], next: null })
    }
    const own = await call(nodes[1], 'POST', '/secrets', {
      owner: 'b',
      body: { name: 'mine', value: 'of b' },
    })
    assert.equal(own.status, 201)
    assert.equal((await read(nodes[2], 'mine')).value, secretOf('mine'))
  })

  test('kill -9 in mid-request, and the same request again on another node: one version, one answer', async () => {
    const random = seeded()
    console.log(`COFFER_SEED=${random.seed}`)
    let cut = 0
    for (let round = 0; round < 5; round++) {
      const [victim, other] = [nodes[round % 3], nodes[(round + 1) % 3]]
      const name = `killed/${round}`
      const headers = { 'idempotency-key': `killed ${round}` }
      const first = create(victim, name, 'once', headers).catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, random.below(8)))
      await victim.kill()
      const answer = await first
      if (!answer) cut++
      const again = await until('the others have a leader', async () => {
        const got = await create(other, name, 'once', headers)
        return got.status === 503 ? undefined : got
      })
      assert.equal(again.status, 201, again.text)
      if (answer?.status === 201) assert.equal(again.text, answer.text)
      const { version, valid_from } = again.json
      assert.deepEqual(
        await historyOf(other, name).then((all) => all.map((each) => [each.version, each.valid_from])),
        [[version, valid_from]],
      )
      await victim.start()
      assert.equal((await create(victim, name, 'once', headers)).text, again.text)
    }
    assert.ok(cut > 0, 'no request was cut')
  })

  test('a node that was away knows all versions when it is back, also after a restart of all', async () => {
    const name = 'while-away'
    await create(nodes[0], name)
    await nodes[2].kill()
    for (let i = 2; i <= 20; i++) assert.equal((await update(nodes[i % 2], name, `v${i}`)).status, 200)
    await nodes[2].start()
    const told = await Promise.all(nodes.map((node) => historyOf(node, name)))
    assert.equal(told[0].length, 20)
    checkIntervals(told[0])
    for (const each of told) assert.deepEqual(each, told[0])
    assert.equal((await cluster.digests()).size, 1)
    const [digest] = await cluster.digests()
    await Promise.all(nodes.map((node) => node.kill()))
    await cluster.startAll()
    for (const node of nodes) assert.deepEqual(await historyOf(node, name), told[0])
    for (let i = 2; i <= 20; i++)
      assert.equal((await read(nodes[i % 3], name, `?version=${i}`)).value, secretOf(`v${i}`))
    assert.deepEqual(await cluster.digests(), new Set([digest]))
  })

  test('two of three are dead: a version by its number is given, the rest is 503 within 5 s', async () => {
    const name = 'without-quorum'
    await create(nodes[0], name, 'v1')
    await update(nodes[0], name, 'v2')
    await cluster.digests()
    await nodes[1].kill()
    await nodes[2].kill()
    const started = performance.now()
    const [one, refs, latest, absent, at, history, list, write, change] = await Promise.all([
      call(nodes[0], 'GET', `${pathOf(name)}?version=1`),
      call(nodes[0], 'POST', '/secrets/resolve', { body: { refs: [`coffer://${name}@2`] } }),
      call(nodes[0], 'GET', pathOf(name)),
      call(nodes[0], 'GET', `${pathOf(name)}?version=3`),
      call(nodes[0], 'GET', `${pathOf(name)}?at=2020-01-01T00:00:00Z`),
      call(nodes[0], 'GET', `${pathOf(name)}/history`),
      call(nodes[0], 'GET', '/secrets'),
      create(nodes[0], 'no-quorum-no-secret'),
      update(nodes[0], name, 'v3', { 'idempotency-key': 'k' }),
    ])
    assert.ok(performance.now() - started < 5000)
    assert.deepEqual([one.status, one.json.value], [200, secretOf('v1')])
    assert.deepEqual([refs.status, refs.json.values], [200, [secretOf('v2')]])
    for (const each of [latest, absent, at, history, list])
      assert.deepEqual([each.json.type, each.json.outcome], ['/problems/no-quorum', 'not-applied'])
    for (const each of [write, change]) assert.equal(each.json.type, '/problems/no-quorum')
    await cluster.startAll()
    // Whatever came of the update: it is known by its key, and there once.
    const settled = await update(nodes[1], name, 'v3', { 'idempotency-key': 'k' })
    assert.equal(settled.json.version, 3)
    assert.equal((await historyOf(nodes[2], name)).length, 3)
  })

  test('the root key changes on three running nodes under load: nothing fails, all versions can be read', async () => {
    const old = JSON.parse(readFileSync(join(cluster.dir, 'keyring.json'), 'utf8')).active as string // its own form
    const written = new Map<string, number>()
    const wrong: string[] = []
    let going = true
    const load = Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        for (let n = 0; going; n++) {
          const name = `under-load/${i}-${n % 40}`
          const node = nodes[(i + n) % 3]
          const before = written.get(name)
          const headers = { 'idempotency-key': `load ${i} ${n}` }
          const answer = before
            ? await update(node, name, `v${before + 1}`, headers)
            : await create(node, name, 'v1', headers)
          if (answer.status > 201) wrong.push(answer.text)
          else written.set(name, Number(answer.json.version))
          const got = await call(nodes[(i + n + 1) % 3], 'GET', pathOf(name))
          if (got.json.value !== secretOf(`v${written.get(name)}`)) wrong.push(got.text)
        }
      }),
    )
    const configs = ['--config', ...cluster.configs]
    const step = (...args: string[]): Promise<string> => fine(['keyring', ...args, ...configs, '--json'])
    try {
      const { added } = JSON.parse(await step('add'))
      await step('activate', added)
      const { rewrapped } = JSON.parse(await step('rewrap'))
      assert.ok(rewrapped > 100, `${rewrapped} keys were wrapped anew`)
      await step('remove', old)
    } finally {
      going = false
      await load
    }
    assert.deepEqual(wrong, [])
    assert.ok(written.size > 100)
    assert.doesNotMatch(readFileSync(join(cluster.dir, 'keyring.json'), 'utf8'), new RegExp(old))
    // By nodes that have never had the old one in memory.
    await Promise.all(nodes.map((node) => node.kill()))
    await cluster.startAll()
    for (const [name, last] of written) {
      for (const version of [1, last])
        assert.equal(
          (await read(nodes[version % 3], name, `?version=${version}`)).value,
          secretOf(`v${version}`),
        )
    }
    for (const name of ['raced', 'mine', 'while-away'])
      assert.ok(String((await read(nodes[0], name)).value).startsWith(CANARY))
    assert.equal((await cluster.digests()).size, 1)
  })

  test('no value is in any file', async () => {
    let bytes = 0
    for (const { path, bytes: data } of filesIn(cluster.dir)) {
      bytes += data.length
      for (const encoding of ['utf8', 'base64', 'hex'] as const) {
        // Of base64 only what does not depend on where in the text it stands.
        const marker = Buffer.from(CANARY).toString(encoding).slice(0, 20)
        assert.ok(!data.includes(marker), `${path} has a value`)
      }
    }
    assert.ok(bytes > 1e6)
  })
})
