import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type EventDisk, Keeping, type KeepLimits, type RotatedFile } from './keeping.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
const HOUR_MS = 3600_000
const DAY_MS = 24 * HOUR_MS
const DEFAULTS: KeepLimits = { fileBytes: 64 * MIB, files: 10_000, bytes: 8 * GIB, days: 7 }

/** A log on a disk of numbers: files have sizes and no bytes. */
class World implements EventDisk {
  now = Date.UTC(2030, 0, 1)
  monotonic = 0
  /** The current file. */
  size = 0
  /** Free bytes besides the log. */
  room: number
  files: RotatedFile[] = []
  removed: RotatedFile[] = []
  readonly keeping: Keeping

  constructor(room: number, limits: Partial<KeepLimits> = {}) {
    this.room = room
    const clock = { now: () => this.now, monotonic: () => this.monotonic }
    this.keeping = new Keeping({ dir: '', limits: { ...DEFAULTS, ...limits }, clock, disk: this })
  }

  get total(): number {
    return this.files.reduce((sum, { bytes }) => sum + bytes, this.size)
  }

  get freeNow(): number {
    return this.room - this.total
  }

  async free(): Promise<number> {
    return this.freeNow
  }

  async rotated(): Promise<RotatedFile[]> {
    return [...this.files]
  }

  async remove(path: string): Promise<void> {
    this.removed.push(...this.files.filter((file) => file.path === path))
    this.files = this.files.filter((file) => file.path !== path)
  }

  pass(ms: number): void {
    this.now += ms
    this.monotonic += ms
  }

  /** As the log does. */
  async append(bytes: number): Promise<void> {
    const { keeping } = this
    if (keeping.isDue(this.size, bytes)) await keeping.look(this.size, bytes)
    if (this.size >= keeping.fileBytes) {
      const file = { path: `${this.removed.length + this.files.length}`, bytes: this.size, at: this.now }
      this.files.push(file)
      keeping.add(file)
      this.size = 0
      await keeping.look(0, bytes)
    }
    this.size += bytes
  }
}

test('a month of full load on a disk with 1 GB free: never more than a quarter of what is free', async () => {
  const world = new World(1e9)
  const batch = 8 * MIB
  let least = Number.POSITIVE_INFINITY
  for (let second = 0; second < 30 * 86_400; second += 8) {
    // What else is on the disk grows and shrinks by 300 MB within a day.
    world.room = 0.85e9 + 0.15e9 * Math.cos((second / 86_400) * 2 * Math.PI)
    await world.append(batch)
    world.pass(8000)
    assert.ok(world.total * 4 <= world.freeNow, `second ${second}: ${world.total} of ${world.freeNow} bytes`)
    if (second % 86_400 === 0)
      assert.deepEqual(
        world.files.toSorted((a, b) => a.at - b.at),
        world.files,
      )
    if (second > 3600) least = Math.min(least, world.total / world.freeNow)
  }
  assert.ok(least > 1 / 8, `no more than needed is removed: at least ${least} of what is free was there`)
  assert.ok(world.removed.length > 30_000, `${world.removed.length} files came and went`)
})

test('by default files of the last 7 days are kept, 8 GiB at most, however large the disk', async () => {
  const quiet = new World(1e15)
  for (let hour = 0; hour < 30 * 24; hour++) {
    await quiet.append(8 * MIB)
    quiet.pass(HOUR_MS)
    for (const { at } of quiet.files) assert.ok(quiet.now - at <= 7 * DAY_MS + HOUR_MS)
    for (const { at } of quiet.removed) assert.ok(quiet.now - at >= 7 * DAY_MS)
  }
  assert.ok(quiet.removed.length > 0)
  const busy = new World(1e15)
  for (let i = 0; i < 3000; i++) {
    await busy.append(8 * MIB)
    busy.pass(1000)
    assert.ok(busy.total <= 8 * GIB)
  }
  assert.ok(busy.total > 8 * GIB - 80 * MIB)
})

test('a clock that is years ahead after a boot removes nothing, once it is right within the hour', async () => {
  const world = new World(1e15)
  world.files = [{ path: 'old', bytes: MIB, at: world.now }]
  world.now += 10 * 365 * DAY_MS
  await world.append(MIB)
  world.now -= 10 * 365 * DAY_MS
  world.pass(2 * HOUR_MS)
  await world.append(MIB)
  assert.equal(world.files.length, 1)
  world.pass(7 * DAY_MS)
  await world.append(MIB)
  assert.equal(world.files.length, 0)
})

test('a disk that fills up: old files go, the current file is rotated early, the newest MiB stays', async () => {
  const world = new World(4 * GIB)
  for (let i = 0; i < 100; i++) await world.append(8 * MIB)
  assert.ok(world.total > 500 * MIB)
  world.room = world.total + 100 * MIB
  await world.append(MIB)
  assert.ok(world.total * 4 <= world.freeNow)
  world.room = 0
  for (let i = 0; i < 10; i++) await world.append(MIB / 2)
  assert.ok(world.total <= 1.5 * MIB && world.size > 0)
})

test('what cannot be asked or removed is tried again, and never ends the log', async () => {
  const world = new World(1e9, { files: 2, fileBytes: 2 * MIB })
  const { free, remove } = world
  for (let i = 0; i < 10; i++) await world.append(MIB)
  assert.equal(world.files.length, 2)
  world.remove = () => Promise.reject(new Error('not now'))
  for (let i = 0; i < 10; i++) await world.append(MIB)
  assert.equal(world.files.length, 7)
  world.free = () => Promise.reject(new Error('not now'))
  for (let i = 0; i < 10; i++) await world.append(MIB)
  assert.equal(world.files.length, 12)
  Object.assign(world, { free, remove })
  await world.append(2 * MIB)
  assert.equal(world.files.length, 2)
})

test('files that somebody else has removed make room for others', async () => {
  const world = new World(1e15, { files: 3, fileBytes: MIB })
  for (let i = 0; i < 4; i++) await world.append(MIB)
  assert.equal(world.files.length, 3)
  world.files = world.files.slice(0, 2)
  await world.append(MIB)
  assert.deepEqual([world.files.length, world.removed.length], [3, 0])
})
