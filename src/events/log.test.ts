import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Clock } from '../clock.ts'
import { type EventDisk, type KeepLimits, systemDisk } from './keeping.ts'
import { EventLog } from './log.ts'

const MIB = 1024 * 1024

/** A clock that moves by a millisecond each time it is asked. */
function ticking(start = Date.UTC(2030, 0, 1)): Clock {
  let now = start
  return { now: () => now++, monotonic: () => now, random: (length) => new Uint8Array(length) }
}

function folder(t: TestContext): string {
  const dir = fs.mkdtempSync(join(tmpdir(), 'coffer-events-'))
  t.after(() => fs.rmSync(dir, { recursive: true }))
  return dir
}

function open(
  dir: string,
  options: { limits?: Partial<KeepLimits>; clock?: Clock; disk?: EventDisk } = {},
): Promise<EventLog> {
  const limits = { fileBytes: 64 * MIB, files: 1000, bytes: 8192 * MIB, days: 7, ...options.limits }
  return EventLog.open({ dir, node: 'n1', clock: ticking(), ...options, limits })
}

type Line = { seq: number; event: string; count?: number }

function linesOf(dir: string, name = 'events.ndjson'): Line[] {
  const text = fs.readFileSync(join(dir, name), 'utf8')
  assert.ok(text === '' || text.endsWith('\n'), `${name} ends with a whole line`)
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}

/** The rotated files, oldest first. */
function rotatedOf(dir: string): string[] {
  const first = (name: string) => Number(/\d+/.exec(name))
  return fs
    .readdirSync(dir)
    .filter((name) => name.startsWith('events-'))
    .sort((a, b) => first(a) - first(b))
}

function numbersOf(lines: readonly Line[]): number[] {
  return lines.map((line) => line.seq)
}

function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1)
}

test('a line: its members in order, one event after another, readable by the owner only', async (t) => {
  const dir = join(folder(t), 'data')
  const log = await open(dir)
  log.emit('node.started')
  // Given in another order than it is written in; what is no field of the log is not written.
  const all = {
    reason: 'a "b"\n\ud800',
    ms: 1.5,
    to: 9,
    from: 'n2',
    missing: 0,
    count: 3,
    revision: 12,
    epoch: 3,
  }
  log.emit('replica.applied', { ...all, request: 'r1', key_id: 'k1', owner: 'clinic-a', ...{ value: 'x' } })
  await log.close()
  assert.equal(
    fs.readFileSync(join(dir, 'events.ndjson'), 'utf8'),
    '{"time":"2030-01-01T00:00:00.000Z","node":"n1","seq":1,"event":"node.started"}\n' +
      '{"time":"2030-01-01T00:00:00.001Z","node":"n1","seq":2,"event":"replica.applied","owner":"clinic-a",' +
      '"key_id":"k1","request":"r1","epoch":3,"revision":12,"count":3,"missing":0,"from":"n2","to":9,' +
      '"ms":1.5,"reason":"a \\"b\\"\\n\\ud800"}\n',
  )
  assert.equal(fs.statSync(join(dir, 'events.ndjson')).mode & 0o777, 0o600)
  assert.equal(log.dropped, 0)
})

test('emit never throws: not for a broken clock, a wrong field, a closed log; it counts', async (t) => {
  const dir = folder(t)
  let now = Number.NaN
  const log = await open(dir, { clock: { ...ticking(), now: () => now } })
  log.emit('node.started')
  now = 0
  // A BigInt has no JSON; the cast is the caller's mistake that is tested.
  log.emit('node.ready', { count: 1n as unknown as number })
  log.emit('node.stopped', { reason: '\0'.repeat(100_000) })
  await log.close()
  await log.close()
  log.emit('node.stopped')
  await log.flush()
  assert.equal(log.dropped, 3)
  const [line, ...more] = linesOf(dir)
  assert.deepEqual([line.event, more.length], ['node.stopped', 0])
  assert.ok(fs.statSync(join(dir, 'events.ndjson')).size < 10_000)
})

test('events are written by themselves, and flush waits for those before it', async (t) => {
  const dir = folder(t)
  const log = await open(dir)
  const watcher = fs.watch(dir)
  log.emit('node.started')
  const path = join(dir, 'events.ndjson')
  const written = () => fs.existsSync(path) && fs.statSync(path).size > 0
  while (!written()) await new Promise((resolve) => watcher.once('change', resolve))
  watcher.close()
  log.emit('node.ready')
  const first = log.flush()
  log.emit('node.stopped')
  const both = [log.flush(), log.flush()]
  await first
  assert.deepEqual(numbersOf(linesOf(dir)).slice(0, 2), [1, 2])
  await Promise.all(both)
  assert.deepEqual(numbersOf(linesOf(dir)), [1, 2, 3])
  await log.close()
})

test('numbers go on after a restart, from the last whole line', async (t) => {
  const dir = folder(t)
  for (let boot = 0; boot < 3; boot++) {
    const log = await open(dir)
    for (let i = 0; i < 5; i++) log.emit('tokens.issued', { reason: 'x'.repeat(1000) })
    await log.close()
  }
  assert.deepEqual(numbersOf(linesOf(dir)), upTo(15))
})

test('a torn last line is cut; the lines before and after are whole', async (t) => {
  const whole = '{"time":"2030-01-01T00:00:00.000Z","node":"n1","seq":7,"event":"node.started"}\n'
  const tails: [string, number[]][] = [
    ['{"time":"2030-01', [7, 8]],
    ['\0'.repeat(5000), [7, 8]],
    // It says its number, so that number is not used again.
    [whole.slice(0, -1).replace('7', '8'), [7, 9]],
  ]
  for (const [tail, numbers] of tails) {
    const dir = folder(t)
    fs.writeFileSync(join(dir, 'events.ndjson'), whole + tail)
    const log = await open(dir)
    log.emit('node.ready')
    await log.close()
    assert.deepEqual(numbersOf(linesOf(dir)), numbers, tail)
  }
})

test('a torn line alone, and what cannot be a line of ours', async (t) => {
  const dir = folder(t)
  const path = join(dir, 'events.ndjson')
  const again = async () => {
    const log = await open(dir)
    log.emit('node.started')
    await log.close()
    return fs.readFileSync(path, 'utf8').split('\n')
  }
  fs.writeFileSync(path, '{"time"')
  assert.deepEqual((await again()).length, 2)
  assert.deepEqual(numbersOf(linesOf(dir)), [1])
  const foreign = 'x'.repeat(MIB)
  fs.writeFileSync(path, foreign)
  const [kept, line] = await again()
  assert.equal(kept, foreign)
  assert.equal(JSON.parse(line).seq, 2, 'no number comes twice, whatever became of the files')
})

test('rotation: named by its first number, the newest kept, numbers go on with no current one', async (t) => {
  const dir = folder(t)
  const log = await open(dir, { limits: { fileBytes: 1000, files: 3 } })
  for (let i = 0; i < 100; i++) {
    log.emit('tokens.issued', { count: i })
    if (i % 7 === 0) await log.flush()
  }
  await log.close()
  assert.equal(log.dropped, 0)
  const rotated = rotatedOf(dir)
  assert.equal(rotated.length, 3)
  const numbers = [...rotated, 'events.ndjson'].flatMap((name) => {
    const lines = linesOf(dir, name)
    if (name !== 'events.ndjson') assert.equal(name, `events-${lines[0].seq}.ndjson`)
    const { size } = fs.statSync(join(dir, name))
    assert.ok(size < 1200 && (size >= 1000 || name === 'events.ndjson'), `${name} has ${size} bytes`)
    return numbersOf(lines)
  })
  assert.deepEqual(numbers, upTo(100).slice(-numbers.length))

  // As a crash right after a rotation leaves them.
  for (const name of ['events.ndjson', 'events.seq']) fs.rmSync(join(dir, name))
  const last = linesOf(dir, rotated[2]).at(-1)
  const next = await open(dir)
  next.emit('node.started')
  await next.close()
  assert.deepEqual(numbersOf(linesOf(dir)), [(last?.seq ?? 0) + 1])
})

test('files that were moved away: reopen begins a file at once, and numbers go on, also over a restart', async (t) => {
  const dir = folder(t)
  const path = join(dir, 'events.ndjson')
  const log = await open(dir)
  for (let i = 0; i < 5; i++) log.emit('tokens.issued')
  await log.flush()
  fs.renameSync(path, join(dir, 'moved'))
  log.emit('node.ready') // a write before the file is opened anew goes where the file is now
  await log.flush()
  log.reopen()
  await log.flush()
  assert.deepEqual(linesOf(dir), [])
  log.emit('node.stopped')
  await log.close()
  log.reopen()
  assert.deepEqual([linesOf(dir, 'moved'), linesOf(dir)].map(numbersOf), [upTo(6), [7]])

  for (let boot = 0; boot < 3; boot++) {
    fs.rmSync(path)
    const next = await open(dir)
    next.emit('node.started')
    if (boot === 1) next.reopen()
    await next.close()
    assert.deepEqual(numbersOf(linesOf(dir)), [8 + boot])
  }
})

test('a kill after the files were moved away: numbers go on', async (t) => {
  const dir = folder(t)
  const log = await open(dir)
  for (let i = 0; i < 5; i++) log.emit('tokens.issued')
  await log.flush()
  fs.rmSync(join(dir, 'events.ndjson'))
  log.reopen()
  await log.flush()
  const afterKill = await open(dir)
  afterKill.emit('node.started')
  await afterKill.close()
  assert.deepEqual(numbersOf(linesOf(dir)), [6])
  await log.close()
})

test('a file that somebody has removed is found out soon, without a signal', async (t) => {
  const dir = folder(t)
  let monotonic = 0
  const log = await open(dir, { clock: { ...ticking(), monotonic: () => monotonic } })
  log.emit('node.started')
  await log.flush()
  fs.rmSync(join(dir, 'events.ndjson'))
  monotonic += 10_000
  log.emit('node.ready')
  await log.close()
  assert.deepEqual([numbersOf(linesOf(dir)), log.dropped], [[2], 0])
})

test('on a small disk the log takes a quarter of what is free, and the newest events are there', async (t) => {
  const dir = folder(t)
  const sizes = (): number =>
    fs.readdirSync(dir).reduce((sum, name) => sum + fs.statSync(join(dir, name)).size, 0)
  const disk = { ...systemDisk, free: async () => 40 * MIB - sizes() }
  const log = await open(dir, { disk })
  const reason = 'x'.repeat(1000)
  for (let batch = 0; batch < 60; batch++) {
    for (let i = 0; i < 500; i++) log.emit('tokens.issued', { reason })
    await log.flush()
    assert.ok(sizes() * 4 <= 40 * MIB - sizes(), `${sizes()} bytes`)
  }
  await log.close()
  assert.equal(log.dropped, 0)
  assert.ok(sizes() > 3 * MIB)
  const numbers = [...rotatedOf(dir), 'events.ndjson'].flatMap((name) => numbersOf(linesOf(dir, name)))
  assert.deepEqual(numbers, upTo(30_000).slice(-numbers.length))
})

test('rotation overwrites nothing: where the name is taken, the file grows', async (t) => {
  const dir = folder(t)
  fs.writeFileSync(join(dir, 'events-1.ndjson'), 'precious\n')
  const log = await open(dir, { limits: { fileBytes: 500 } })
  for (let i = 0; i < 50; i++) log.emit('tokens.issued', { count: i })
  await log.close()
  assert.equal(fs.readFileSync(join(dir, 'events-1.ndjson'), 'utf8'), 'precious\n')
  assert.deepEqual(numbersOf(linesOf(dir)), upTo(50))
  assert.equal(log.dropped, 0)
})

test('10,000 events through many rotations: none is lost, none is there twice', async (t) => {
  const dir = folder(t)
  const log = await open(dir, { limits: { fileBytes: 20_000 } })
  for (let i = 0; i < 10_000; i++) {
    log.emit('tokens.issued', { owner: 'clinic-a', count: i })
    if (i % 501 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await log.close()
  const rotated = rotatedOf(dir)
  assert.ok(rotated.length > 40)
  const lines = [...rotated, 'events.ndjson'].flatMap((name) => linesOf(dir, name))
  assert.deepEqual(numbersOf(lines), upTo(10_000))
  assert.ok(lines.every((line) => line.count === line.seq - 1))
  assert.equal(log.dropped, 0)
})

test('a disk that takes nothing: counted, and written again once it does', {
  skip: !fs.existsSync('/dev/full'),
}, async (t) => {
  const dir = folder(t)
  const path = join(dir, 'events.ndjson')
  fs.symlinkSync('/dev/full', path)
  const log = await open(dir)
  for (let i = 0; i < 10; i++) log.emit('tokens.issued')
  await log.flush()
  assert.equal(log.dropped, 10)
  log.emit('tokens.issued')
  await log.flush()
  assert.equal(log.dropped, 11)
  fs.unlinkSync(path)
  log.emit('node.ready')
  log.emit('node.stopped')
  await log.close()
  assert.equal(log.dropped, 11)
  // The gap tells the reader what is missing.
  assert.deepEqual(numbersOf(linesOf(dir)), [12, 13])
})

test('a folder in the place of the file is counted; what cannot be read at the start is told', async (t) => {
  const dir = folder(t)
  const log = await open(dir)
  fs.mkdirSync(join(dir, 'events.ndjson'))
  log.emit('node.started')
  await log.close()
  assert.equal(log.dropped, 1)
  await assert.rejects(open(dir), { code: 'EISDIR' })
  fs.writeFileSync(join(dir, 'file'), '')
  await assert.rejects(open(join(dir, 'file')), { code: 'EEXIST' })
})

test('a write that gets half a line through leaves no half line', async (t) => {
  const dir = folder(t)
  // The child may not make files larger than some KiB: its write is cut short in a line, the next one fails.
  const script = `
    const { EventLog } = await import('${new URL('log.ts', import.meta.url).href}')
    const { systemClock: clock } = await import('${new URL('../clock.ts', import.meta.url).href}')
    const log = await EventLog.open({ dir: '${dir}', node: 'n1', clock, limits: { fileBytes: 1e9, files: 1, bytes: 1e10, days: 1 } })
    for (let batch = 0; batch < 3; batch++) {
      for (let i = 0; i < 100; i++) log.emit('tokens.issued', { count: i })
      await log.flush()
    }
    await log.close()
    console.log(log.dropped)`
  const command = 'ulimit -f 8 && exec "$0" --input-type=module -e "$1"'
  const child = spawnSync('sh', ['-c', command, process.execPath, script], { encoding: 'utf8' })
  assert.equal(child.status, 0, child.stderr)
  const { size } = fs.statSync(join(dir, 'events.ndjson'))
  assert.ok(size === 4096 || size === 8192, `the limit was met in the middle of a line, at ${size}`)

  const log = await open(dir)
  log.emit('node.started')
  await log.close()
  const lines = linesOf(dir)
  assert.equal(lines.length - 1 + Number(child.stdout), 300)
  const numbers = numbersOf(lines)
  assert.ok(numbers.every((seq, i) => i === 0 || seq > numbers[i - 1]))
})

test('beyond 8 MiB in waiting, events are counted, not kept', async (t) => {
  const dir = folder(t)
  const log = await open(dir)
  const reason = 'x'.repeat(1000)
  for (let i = 0; i < 10_000; i++) log.emit('request.refused', { reason })
  assert.ok(log.dropped > 1000 && log.dropped < 5000, `${log.dropped}`)
  await log.flush()
  const { dropped } = log
  log.emit('node.ready')
  await log.close()
  assert.equal(log.dropped, dropped)
  const numbers = numbersOf(linesOf(dir))
  assert.deepEqual(numbers, [...upTo(10_000 - dropped), 10_001])
})
