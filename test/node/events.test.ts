// The events of the node itself, on a real node in this process: the start, the stop, the ledger lost and back, a damaged
// replica, a reload after the log was moved, a log that cannot be written.
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LmdbStore } from '../../src/replica/lmdb-store.ts'
import { WriteFailed } from '../../src/replica/store.ts'
import { type Event, eventsOf } from '../http/trail.ts'
import { until, Vault } from '../http/vault.ts'

/** `event`, and the names of its members beside time, node and seq. */
function shapeOf({ time: _time, node: _node, seq: _seq, event, ...members }: Event): string {
  return `${event} ${Object.keys(members).join(' ')}`.trim()
}

const of = (events: readonly Event[], name: string): Event[] => events.filter(({ event }) => event === name)

test('a start, the loss of a disk, a stop; a start with a damaged replica', async (t) => {
  await using vault = await Vault.start()
  const write = t.mock.method(LmdbStore.prototype, 'write', () => Promise.reject(new WriteFailed('no room')))
  assert.equal((await vault.post('/secrets', { name: 'a', value: 'v' })).status, 201)
  await until('the loss is told', () => of(eventsOf(vault.data), 'ledger.lost').length === 1)
  write.mock.restore()
  await until('the return is told', () => of(eventsOf(vault.data), 'ledger.recovered').length === 1)
  await vault.stop()
  const first = eventsOf(vault.data)
  const shapes = first.map(shapeOf)
  assert.deepEqual(
    new Set(shapes),
    new Set([
      'node.started',
      'replica.caught-up from to ms',
      'ledger.connected reason',
      'epoch.observed owner epoch revision',
      'node.ready revision',
      'secret.created owner key_id client request revision name version count ms',
      'ledger.lost reason',
      'ledger.recovered',
      'node.stopped',
    ]),
  )
  assert.deepEqual([shapes[0], shapes.at(-1)], ['node.started', 'node.stopped'])
  const [{ reason }] = of(first, 'ledger.lost')
  assert.equal(reason, 'the replica cannot be written: no room')
  assert.equal(of(first, 'ledger.connected')[0].reason, 'embedded')

  writeFileSync(join(vault.data, 'replica', 'data.mdb'), 'no database')
  const second = await Vault.start({}, vault.dir)
  await second.stop()
  const later = eventsOf(vault.data).slice(first.length)
  assert.deepEqual(of(later, 'replica.rebuilt').map(shapeOf), ['replica.rebuilt revision ms reason'])
  const seqs = [...first, ...later].map(({ seq }) => seq)
  assert.deepEqual(
    seqs,
    seqs.map((_, i) => i + 1),
  )
})

test('SIGHUP after the log was moved away: a new file at once, and the numbers go on', async () => {
  await using vault = await Vault.start()
  const path = join(vault.data, 'events.ndjson')
  await vault.get('/whoami')
  const told = (): Event[] => eventsOf(vault.data)
  // The epochs may be observed after the node is ready.
  await until(
    'all is written',
    () => of(told(), 'key.shown').length + of(told(), 'epoch.observed').length === 3,
  )
  const last = Number(eventsOf(vault.data).at(-1)?.seq)
  renameSync(path, join(vault.data, 'moved'))
  vault.node.reload()
  await until('the new file', () => existsSync(path))
  await vault.get('/whoami')
  await until('the event is written', () => eventsOf(vault.data).length === 1)
  assert.equal(eventsOf(vault.data)[0].seq, last + 1)
  assert.equal(readFileSync(join(vault.data, 'moved'), 'utf8').trimEnd().split('\n').length, last)
})

test('events that cannot be written fail no request: they are counted, and /ready warns and stays 200', async () => {
  await using vault = await Vault.start()
  const path = join(vault.data, 'events.ndjson')
  assert.equal((await vault.get('/ready')).text, '{"status":"ready"}')
  await until('the start is written', () => of(eventsOf(vault.data), 'epoch.observed').length === 2)
  rmSync(path)
  mkdirSync(path)
  vault.node.reload()
  assert.equal((await vault.get('/whoami')).status, 200)
  await until('the event is counted', async () => (await vault.metric('coffer_events_dropped')) === 1)
  const { status, json } = await vault.get('/ready')
  assert.deepEqual(
    [status, json],
    [
      200,
      {
        status: 'ready',
        warnings: ['an event could not be written since the start: look at room and rights of the event log'],
      },
    ],
  )
  rmdirSync(path)
  vault.node.reload()
  await vault.get('/whoami')
  await until(
    'events are written again',
    () =>
      readdirSync(vault.data).includes('events.ndjson') && of(eventsOf(vault.data), 'key.shown').length === 1,
  )
  assert.equal(await vault.metric('coffer_events_dropped'), 1)
})
