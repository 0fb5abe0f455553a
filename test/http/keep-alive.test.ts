// `keep_alive_seconds` on the wire: what the node tells, and when it ends a connection at rest.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { Vault } from './vault.ts'

test('a connection at rest is kept as long as it is told, and then ended', { timeout: 30_000 }, async () => {
  await using vault = await Vault.start({ limits: { keep_alive_seconds: 2 } })
  const socket = connect(Number(new URL(vault.node.url).port), '127.0.0.1').setEncoding('latin1')
  const ended = once(socket, 'end')
  for (let i = 0; i < 2; i++) {
    socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n')
    const [answer] = await once(socket, 'data')
    assert.match(answer, /^HTTP\/1\.1 200 .*\r\nConnection: keep-alive\r\nKeep-Alive: timeout=2\r\n/s)
  }
  const answered = performance.now()
  await ended
  assert.ok(performance.now() - answered >= 1900, 'not before')
})
