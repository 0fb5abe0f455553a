// The deadline of a request begins with its last byte.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { test } from 'node:test'
import { type Clock, Deadline, systemClock } from '../clock.ts'
import { BodyReader } from './body.ts'
import { BytesInWork } from './bytes-in-work.ts'
import { Transfers } from './transfers.ts'

const limits = { body_bytes: 1000 }

test('the deadline of a request begins with the last byte of its body, however slow', async () => {
  let now = 0
  const clock: Clock = { ...systemClock, monotonic: () => now }
  const transfers = new Transfers(clock)
  const deadline = (): Deadline => new Deadline(clock, 4500)
  const body = new BodyReader({ limits, deadline, judge: () => undefined, transfers })
  const bytes = new BytesInWork(10_000)
  const told: (readonly [string, number])[] = []
  const first = Promise.withResolvers<void>()
  const server = createServer(async (asked, answer) => {
    asked.once('data', () => first.resolve())
    const share = bytes.share('a')
    if (asked.url === '/read') {
      const { bytes, deadline } = await body.read(asked, share)
      told.push([String(bytes), deadline.left()])
    } else {
      const { fault, deadline } = await body.readWithFault(asked, share)
      told.push([fault?.slug ?? 'no fault', deadline.left()])
    }
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
    await send('/read', 'application/json')
    await send('/read-with-fault', 'text/plain')
    assert.deepEqual(told, [
      ['{}', 4500],
      ['unsupported-media-type', 4500],
    ])
  } finally {
    transfers.close()
    server.closeAllConnections()
    server.close()
  }
})
