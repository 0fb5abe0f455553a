// A node with few descriptors, and callers who want them all: connections beyond the limit are refused, and the
// node goes on with its own work.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { hashKey } from '../../src/http/auth.ts'
import { until } from '../cli/cli.ts'
import { sendSignal } from '../signals.ts'
import { Vault } from './child.ts'

const LIMIT = 128
const CALLERS = 500

/** Connects, and resolves when the connection is answered for: kept, or closed. */
async function caller(port: number, closed: Set<Socket>): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined).on('close', () => closed.add(socket))
  await new Promise<void>((resolve) => {
    socket.once('connect', resolve)
    socket.once('close', () => resolve())
  })
  return socket
}

for (const request of ['', 'GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n']) {
  const what = request === '' ? 'idle callers' : 'callers who read no answer'
  test(`${CALLERS} ${what} on ${LIMIT} descriptors: the node serves, reloads and writes its checkpoint`, async () => {
    const vault = new Vault()
    vault.descriptors = LIMIT
    vault.checkpointEvery = 1000
    const callers: Socket[] = []
    const closed = new Set<Socket>()
    try {
      await vault.start()
      const first = await vault.tokenize(['first']) // on a connection that is kept
      for (let i = 0; i < CALLERS; i++) callers.push(await caller(vault.port, closed))
      for (const socket of callers) if (!closed.has(socket)) socket.pause().write(request.repeat(20))
      // The node leaves 64, and one of these is the test's own connection.
      await until('the others are refused', () => closed.size >= CALLERS - 63)
      assert.equal(CALLERS - closed.size, 63)

      assert.equal((await vault.call('/health')).status, 200)
      // Large enough for the thread that scans bodies.
      const values = Array.from({ length: 60_000 }, (_, i) => `value ${i}`)
      const { tokens } = await vault.tokenize(values)
      assert.deepEqual((await vault.detokenize([...first.tokens, tokens[59_999]])).values, [
        'first',
        'value 59999',
      ])
      const checkpoint = (): boolean =>
        readdirSync(join(vault.data, 'replica')).some((name) => /^checkpoint-[0-9a-f]{16}$/.test(name))
      await until('a checkpoint', checkpoint)

      assert.equal((await vault.call('/whoami', undefined, 'b')).status, 200)
      const config = join(vault.dir, 'n1.yaml')
      const key = `{ id: k1, sha256: ${hashKey('cof_b')} }`
      writeFileSync(config, readFileSync(config, 'utf8').replace(key, ''))
      sendSignal(vault.pid, 'SIGHUP')
      await until(
        'the removed key is refused',
        async () => (await vault.call('/whoami', undefined, 'b')).status === 401,
      )

      const told = vault.log.split('\n').filter((line) => line.includes('connections are refused'))
      assert.ok(told.length > 0 && told.length < 20, `${told.length} lines`)
      assert.equal((await vault.call('/ready')).status, 200)
      for (const socket of callers) socket.destroy()
      await vault.end()
      assert.equal(vault.code, 0)
    } finally {
      for (const socket of callers) socket.destroy()
      await vault.remove()
    }
  })
}
