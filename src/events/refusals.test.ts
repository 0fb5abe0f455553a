import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../clock.ts'
import type { EventFields, EventName } from './event.ts'
import { EventLog } from './log.ts'
import { Refusals } from './refusals.ts'

const MIB = 1024 * 1024
const SECOND_MS = 1000
const KNOWN = { owner: 'clinic-a', key_id: 'k1', client: '10.0.0.1', request: 'r'.repeat(128) }
const UNKNOWN = { client: '10.0.0.2', request: 'r'.repeat(128) }

/** Refusals in virtual time, and what they tell. */
function refusals(t: TestContext): { told: [EventName, EventFields][]; refusals: Refusals } {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const told: [EventName, EventFields][] = []
  return {
    told,
    refusals: new Refusals({ emit: (event, fields = {}) => told.push([event, fields]) }),
  }
}

test('of a known key ten lines a second for each reason, and the sum of the others', (t) => {
  const { told, refusals: all } = refusals(t)
  for (let i = 0; i < 25; i++) all.add({ ...KNOWN, client: `10.0.1.${i}`, reason: 'forbidden' })
  for (let i = 0; i < 10; i++) all.add({ ...KNOWN, reason: 'not-found' })
  all.add({ ...KNOWN, key_id: 'k2', reason: 'forbidden' })
  assert.equal(told.length, 21)
  assert.ok(told.every(([event]) => event === 'request.refused'))
  assert.deepEqual(told[9][1], { ...KNOWN, client: '10.0.1.9', reason: 'forbidden' })
  t.mock.timers.tick(SECOND_MS)
  const sum = { owner: 'clinic-a', key_id: 'k1', client: '10.0.1.24', count: 15, reason: 'forbidden' }
  assert.deepEqual(told.slice(21), [['requests.refused', sum]])
  t.mock.timers.tick(60 * SECOND_MS)
  assert.equal(told.length, 22)
  all.add({ ...KNOWN, reason: 'forbidden' })
  assert.equal(told.at(-1)?.[0], 'request.refused', 'the next second has its own ten')
})

test('without a known key no line, a sum for each reason; the end tells what is counted', (t) => {
  const { told, refusals: all } = refusals(t)
  for (let i = 0; i < 3; i++) all.add({ ...UNKNOWN, reason: 'unauthorized' })
  all.add({ ...UNKNOWN, client: '10.0.0.9', reason: 'invalid-request' })
  assert.equal(told.length, 0)
  all.close()
  const sums = told.map(([event, { client, count, reason, request }]) => [
    event,
    client,
    count,
    reason,
    request,
  ])
  assert.deepEqual(sums, [
    ['requests.refused', '10.0.0.2', 3, 'unauthorized', undefined],
    ['requests.refused', '10.0.0.9', 1, 'invalid-request', undefined],
  ])
  all.close()
  t.mock.timers.tick(SECOND_MS)
  assert.equal(told.length, 2)
})

test('a minute of 401 and a minute of 403 in virtual time: at most 1 MB of events, none from before is lost', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const dir = mkdtempSync(join(tmpdir(), 'coffer-refusals-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const limits = { fileBytes: MIB, files: 2, bytes: 2 * MIB, days: 7 }
  const log = await EventLog.open({ dir, node: 'n1', clock: systemClock, limits })
  log.emit('key.shown', KNOWN)
  const all = new Refusals(log)
  for (let second = 0; second < 120; second++) {
    const refused = { ...(second < 60 ? UNKNOWN : KNOWN), reason: second < 60 ? 'unauthorized' : 'forbidden' }
    for (let i = 0; i < 5000; i++) all.add(refused)
    t.mock.timers.tick(SECOND_MS)
    await log.flush()
  }
  all.close()
  await log.close()
  const path = join(dir, 'events.ndjson')
  const { size } = statSync(path)
  assert.ok(size > 100_000 && size <= 1_000_000, `${size} bytes`)
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
  assert.equal(lines[0].event, 'key.shown')
  const counts = lines.slice(1).map(({ count = 1 }) => count)
  assert.equal(
    counts.reduce((sum, count) => sum + count, 0),
    600_000,
    'each refusal is counted',
  )
  assert.equal(log.dropped, 0)
})
