// What a node may not answer: the clients of the soak find it.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { test } from 'node:test'
import { sleep } from '../../src/waiting.ts'
import { Violation } from '../sim/judge.ts'
import { seeded } from '../sim/seed.ts'
import { Clients, type Door } from './clients.ts'

const LATE_MS = 300
const problem = (status: number, slug: string): string =>
  JSON.stringify({ type: `/problems/${slug}`, title: 't', status, detail: 'd', instance: 'i' })

/** Asks a node that answers so. `hold`: from the question to the answer the node is known to stand still. */
async function ask(answer: RequestListener, { hold = false } = {}): Promise<void> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const door: Door = { name: 'n1', url: `http://127.0.0.1:${address.port}` }
  const options = { random: seeded(1), keys: { a: 'k' }, doors: [door], marker: 'm', lateMs: LATE_MS }
  const clients = new Clients(options)
  if (hold) clients.hold(['n1'])
  try {
    await clients.ask(door, { kind: 'detokenize', owner: 'a', tokens: ['t'] })
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

const says =
  (status: number, text: string, ms = 0): RequestListener =>
  (_, response) =>
    void sleep(ms).then(() => response.writeHead(status).end(text))

test('what the contract has is no violation', async () => {
  await ask(says(200, '{"values":[null],"not_found":[0]}'))
  await ask(says(503, problem(503, 'no-quorum')))
  await ask((_, response) => {
    response.writeHead(200, { 'content-length': 20 }).write('{"values"')
    setTimeout(() => response.destroy(), 20)
  })
  await ask((_, response) => response.destroy())
})

test('a 500, and another one than 503, is a violation, unless the node has lost its disk', async () => {
  await assert.rejects(ask(says(500, problem(500, 'internal'))), Violation)
  await assert.rejects(ask(says(502, problem(502, 'internal'))), Violation)
  await ask(says(500, problem(500, 'internal')), { hold: true })
})

test('an answer that is not as documented is a violation', async () => {
  for (const text of ['', 'ok', '[]', '{}', '{"values":[1],"not_found":[]}', '{"values":[],"not_found":[]}'])
    await assert.rejects(ask(says(200, text)), Violation, text)
  for (const text of ['gone', problem(404, 'not-found')])
    await assert.rejects(ask(says(503, text)), Violation)
})

test('a late 503 is a violation, unless the node stood still', async () => {
  const late = says(503, problem(503, 'no-quorum'), LATE_MS + 200)
  await assert.rejects(ask(late), Violation)
  await ask(late, { hold: true })
})
