// The suite `secrets`: three nodes, 64 connections, one secret a request.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { Cluster } from './cluster.ts'
import { Client, type Work } from './load.ts'
import { rowOf } from './table.ts'
import { atRandom, type Order } from './values.ts'
import { apiKey } from './vault.ts'

const OWNER = 'bench'
const CONNECTIONS = 64
const MOST = 1_000_000

const nameOf = (i: number): string => `app/service-${i % 100}/SECRET_${i}`
const pathOf = (i: number): string => `/secrets/${encodeURIComponent(nameOf(i))}`
/** 32 characters, others for every secret and version. */
const secretOf = (i: number, version: number): string =>
  `${version}-${String(i).padStart(10, '0')}`.padEnd(32, 'x')

/** With an Idempotency-Key, as from the client and the command line. */
const once = (run: string) => (n: number) => `Idempotency-Key: ${run}-${n}\r\n`
const key = (): string => apiKey(OWNER)

function due(answer: Buffer, start: string): void {
  if (!answer.toString('latin1').startsWith(start)) throw new Error(`the answer does not begin with ${start}`)
}

function creates(first: number): Work {
  return {
    path: '/secrets',
    status: 201,
    requests: MOST,
    batch: 1,
    headers: once(`create-${first}`),
    key,
    write: (n, body) => body.text(JSON.stringify({ name: nameOf(first + n), value: secretOf(first + n, 1) })),
    check: (n, answer) => due(answer, `{"name":"${nameOf(first + n)}","version":1,`),
  }
}

/** Each of another secret, in order. */
function updates(first: number, requests: number): Work {
  return {
    path: (n) => pathOf(first + n),
    method: 'PUT',
    requests,
    batch: 1,
    headers: once(`update-${first}`),
    key,
    write: (n, body) => body.text(JSON.stringify({ value: secretOf(first + n, 2) })),
    check: (n, answer) => due(answer, `{"name":"${nameOf(first + n)}","version":2,`),
  }
}

function reads(order: Order, version: number, query = ''): Work {
  return {
    path: (n) => pathOf(order(n)) + query,
    method: 'GET',
    requests: MOST,
    batch: 1,
    key,
    write: () => undefined,
    check: (n, answer) =>
      due(
        answer,
        `{"name":"${nameOf(order(n))}","value":"${secretOf(order(n), version)}","version":${version},`,
      ),
  }
}

export async function measureSecrets(bench: Bench): Promise<void> {
  const cluster = await Cluster.create(join(bench.dir, 'secrets'), [OWNER], bench.flags)
  await cluster.start()
  const client = new Client(cluster, CONNECTIONS)
  const seconds = bench.quick ? 3 : 15
  const { etcdSecrets, etcdPuts } = bench.floors
  const floor =
    etcdSecrets === undefined
      ? {}
      : { floor: { name: 'etcd, the same puts, 64 in flight', value: etcdSecrets } }
  const row = (
    what: string,
    measured: Awaited<ReturnType<Client['run']>>,
    least: number,
    more = {},
  ): void => {
    bench.rows.push(rowOf(`${what}, 64 connections, 3 nodes`, measured, { aim: { least }, ...more }, 1))
  }
  try {
    // V8 takes half a minute to compile the code of three nodes on busy cores.
    bench.say('secrets: some of everything, on every node')
    const warm = await client.run(creates(0), 2 * seconds)
    await client.run(updates(0, warm.requests), seconds / 2)
    await client.run(reads(atRandom(warm.requests), 1, '?version=1'), seconds / 3)
    const first = warm.requests
    bench.say('secrets: create')
    const created = await client.run(creates(first), seconds)
    row('create', created, 2000, floor)
    const small = etcdPuts.get(CONNECTIONS)
    if (small !== undefined) {
      const times = { value: created.perSecond / small, unit: 'x' }
      bench.rows.push({ what: 'create, against small puts of etcd', batch: 1, ...times })
    }
    await cluster.settle()
    bench.say('secrets: update, each another one')
    const updated = await client.run(updates(first, created.requests), seconds)
    row('update', updated, 2000, floor)
    await cluster.settle()
    bench.say('secrets: read')
    const known = atRandom(updated.requests)
    const order: Order = (n) => first + known(n)
    row('read the latest', await client.run(reads(order, 2), seconds), 4000)
    row('read version 1', await client.run(reads(order, 1, '?version=1'), seconds), 4000)
  } finally {
    client.close()
    await cluster.remove()
  }
}
