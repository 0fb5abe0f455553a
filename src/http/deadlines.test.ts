// The deadline of a request begins with its last byte.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { test } from 'node:test'
import { type Clock, Deadline, systemClock } from '../clock.ts'
import { BodyReader } from './body.ts'

const LIMITS = { body_bytes: 1000, bodies_in_work_bytes: 1000 }

test('the deadline of a request begins with the last byte of its body, however slowly the body comes', async () => {
  let now = 0
  const clock: Clock = { ...systemClock, monotonic: () => now }
  const body = new BodyReader(
    LIMITS,
    () => new Deadline(clock, 4500),
    () => undefined,
  )
  const told: (readonly [string, number])[] = []
  const first = Promise.withResolvers<void>()
  const server = createServer(async (asked, answer) => {
    asked.once('data', () => first.resolve())
    await (asked.url === '/with'
      ? body.with(asked, async ({ bytes, deadline }) => told.push([String(bytes), deadline.left()]))
      : body.withFault(asked, async ({ deadline }, fault) =>
          told.push([fault?.slug ?? 'no fault', deadline.left()]),
        ))
    answer.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address && typeof address === 'object')
  const send = async (path: string, type: string): Promise<void> => {
    now = 0
    const headers = { 'content-type': type, 'content-length': '2' }
    const sent = request({ port: address.port, host: '127.0.0.1', path, method: 'POST', headers })
    sent.write('{')
    await first.promise
    now = 60_000
    sent.end('}')
    const [answer] = await once(sent, 'response')
    answer.resume()
    await once(answer, 'end')
  }
  try {
    await send('/with', 'application/json')
    await send('/with-fault', 'text/plain')
    assert.deepEqual(told, [
      ['{}', 4500],
      ['unsupported-media-type', 4500],
    ])
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
