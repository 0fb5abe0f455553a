// Bodies and answers that stand still are cut, by a clock that the test turns.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { systemClock } from '../clock.ts'
import { createAuthority, type Issued } from '../node/certificates.ts'
import { until } from '../waiting.ts'
import { endSoon, Transfers } from './transfers.ts'

type Asked = { readonly request: IncomingMessage; readonly response: ServerResponse; readonly socket: Socket }

/** A request whose body of 1,000 bytes has begun to arrive. */
async function withRequest(
  use: (asked: Asked, transfers: Transfers, turn: (ms: number) => void) => Promise<void>,
  tls?: Issued,
): Promise<void> {
  let now = 0
  const transfers = new Transfers({ monotonic: () => now })
  const server = (tls ? createTlsServer(tls) : createServer()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address && typeof address === 'object')
  const { port } = address
  const socket = tls
    ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
    : connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  try {
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{')
    const [request, response] = await once(server, 'request')
    request.on('error', () => undefined).resume()
    await use({ request, response, socket }, transfers, (ms) => {
      now += ms
    })
  } finally {
    socket.destroy()
    transfers.close()
    server.closeAllConnections()
    server.close()
  }
}

/** Resolves when the timer of Transfers has looked once more. */
const looked = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1100))

test('a body of which nothing moves for 30 s is cut; a body that moves goes on, for 5 minutes', async () => {
  await withRequest(async ({ request, socket }, transfers, turn) => {
    transfers.body(request)
    await looked()
    for (let seconds = 29; seconds < 90; seconds += 29) {
      socket.write(' ')
      await once(request, 'data')
      turn(29_000)
      await looked() // and sees the movement
      assert.equal(request.socket.destroyed, false)
    }
    socket.write(' ')
    await once(request, 'data')
    turn(300_000 - 3 * 29_000)
    await once(request.socket, 'close')
  })
  await withRequest(async ({ request }, transfers, turn) => {
    const end = transfers.body(request)
    await looked()
    turn(29_999)
    await looked()
    assert.equal(request.socket.destroyed, false)
    turn(1)
    await once(request.socket, 'close')
    end()
  })
})

test('an answer that nobody reads is cut, and told as ended; an answer that is read ends by itself', async () => {
  await withRequest(async ({ request, response, socket }, transfers, turn) => {
    let ended = 0
    socket.pause()
    transfers.answer(response, () => ended++)
    response.end(Buffer.alloc(64 * 1024 * 1024))
    await looked()
    assert.equal(ended, 0)
    turn(30_000)
    await once(request.socket, 'close')
    await looked()
    assert.equal(ended, 1)
  })
  await withRequest(async ({ response, socket }, transfers) => {
    socket.resume()
    const { promise, resolve } = Promise.withResolvers<void>()
    transfers.answer(response, resolve)
    response.end('{}')
    await promise
  })
})

for (const over of ['http', 'https']) {
  test(`${over}: a large answer that is read slowly goes on`, async () => {
    const tls = over === 'https' ? await createAuthority(systemClock) : undefined
    await withRequest(async ({ request, response, socket }, transfers, turn) => {
      let read = 0
      socket.pause().on('data', ({ length }: Buffer) => {
        read += length
      })
      transfers.answer(response, () => undefined)
      response.end(Buffer.alloc(64 * 1024 * 1024))
      for (let round = 1; round <= 4; round++) {
        await looked()
        socket.resume()
        await until(() => read > round * 10_000_000, { every: 1, within: 10_000 }) // more than buffers of the system
        socket.pause()
        turn(29_000)
      }
      await looked()
      assert.equal(request.socket.destroyed, false)
    }, tls)
  })
}

test('a connection that is ended, and whose last bytes nobody reads, is cut', async () => {
  await withRequest(async ({ request, socket }) => {
    socket.pause()
    request.socket.write(Buffer.alloc(64 * 1024 * 1024))
    endSoon(request.socket, 1500)
    await looked()
    assert.equal(request.socket.destroyed, false)
    await once(request.socket, 'close')
  })
})
