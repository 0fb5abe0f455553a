// A flood of refused requests pushes no events out: of no key, and of a known key without the right. COFFER_FLOOD_SECONDS
// is how long each lasts.
import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Event, eventsOf } from './trail.ts'
import { KEY_A, OWNERS, until, Vault } from './vault.ts'

const SECONDS = Number(process.env.COFFER_FLOOD_SECONDS ?? 1.5)
const CONNECTIONS = 8
const AT_ONCE = 64

/** Sends requests, AT_ONCE on each of CONNECTIONS, for SECONDS; returns how many were answered, all with `status`. */
async function flood(vault: Vault, request: string, status: number): Promise<number> {
  const { hostname, port } = new URL(vault.node.url)
  const end = performance.now() + SECONDS * 1000
  const requests = request.repeat(AT_ONCE)
  const connection = async (): Promise<number> => {
    let answers = 0
    const socket = connect(Number(port), hostname)
    socket.setNoDelay(true).write(requests)
    let rest = ''
    for await (const chunk of socket.setEncoding('latin1')) {
      const parts = `${rest}${chunk}`.split(`HTTP/1.1 ${status} `)
      rest = parts.at(-1)?.slice(-20) ?? ''
      const before = answers
      answers += parts.length - 1
      if (Math.floor(answers / AT_ONCE) === Math.floor(before / AT_ONCE)) continue
      if (performance.now() > end) break
      socket.write(requests)
    }
    socket.destroy()
    return answers
  }
  const all = await Promise.all(Array.from({ length: CONNECTIONS }, connection))
  return all.reduce((sum, each) => sum + each, 0)
}

test(`floods of 401 and of 403 for ${SECONDS} s each: an event from before is there, and at most 1 MB is written`, async (t) => {
  const weak = 'cof_may-nothing'
  await using vault = await Vault.start({
    owners: { ...OWNERS, 'clinic-w': [{ key: weak, may: [] }] },
    limits: { event_file_bytes: 1024 * 1024, event_files_kept: 1 },
  })
  const bytes = (): number =>
    readdirSync(vault.data)
      .filter((name) => name.startsWith('events'))
      .reduce((sum, name) => sum + statSync(join(vault.data, name)).size, 0)
  await vault.get('/whoami')
  const shown = (): Event[] => eventsOf(vault.data).filter(({ event }) => event === 'key.shown')
  await until('the event of a real caller', () => shown().length === 1)
  const before = bytes()
  const id = 'x'.repeat(128)
  const head = `HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${id}\r\n`
  const unknown = await flood(vault, `GET /whoami ${head}\r\n`, 401)
  const forbidden = await flood(vault, `GET /epochs ${head}Authorization: Bearer ${weak}\r\n\r\n`, 403)
  await vault.node.stop()
  const written = bytes() - before
  t.diagnostic(`${unknown} times 401, ${forbidden} times 403: ${written} bytes of events`)
  assert.ok(unknown > 100 && forbidden > 100)
  assert.ok(written <= 1_000_000, `${written} bytes`)
  assert.equal(shown().length, 1)
  const counted = (reason: string): number =>
    eventsOf(vault.data)
      .filter((event) => event.reason === reason)
      .reduce((sum, { count = 1 }) => sum + Number(count), 0)
  assert.ok(counted('unauthorized') >= unknown && counted('forbidden') >= forbidden, 'each is counted')
  assert.ok(!JSON.stringify(eventsOf(vault.data)).includes(KEY_A))
})
