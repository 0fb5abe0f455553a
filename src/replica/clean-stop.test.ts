// A clean stop vouches for the files that no write has touched since, and for no other file.
import assert from 'node:assert/strict'
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { CleanStop } from './clean-stop.ts'

type Stopped = { readonly dir: string; readonly note: string; readonly file: string }

/** A data directory after a stop that vouches for `file`. */
async function withStopped(use: (stopped: Stopped) => Promise<void> | void): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-stop-'))
  try {
    const file = join(dir, 'replica', 'a.mdb')
    mkdirSync(join(dir, 'replica'))
    writeFileSync(file, Buffer.alloc(100_000, 7))
    utimesSync(file, 1_700_000_000, 1_700_000_000) // whole seconds can be put back exactly
    const stop = CleanStop.take(dir)
    assert.equal(stop.isWhole(file), false)
    stop.add(file)
    await stop.write()
    await use({ dir, note: join(dir, 'clean-stop.json'), file })
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** Overwrites a page where the file is, as a disk or a program might. */
function damage(file: string): void {
  const opened = openSync(file, 'r+')
  writeSync(opened, Buffer.alloc(4096, 9), 0, 4096, 8192)
  closeSync(opened)
}

test('a stop vouches once: the note is removed when it is read', () =>
  withStopped(async ({ dir, note, file }) => {
    const stop = CleanStop.take(dir)
    assert.ok(stop.isWhole(file))
    assert.ok(!existsSync(note))
    assert.ok(!CleanStop.take(dir).isWhole(file), 'a killed node leaves no note')
    await stop.write()
    assert.ok(CleanStop.take(dir).isWhole(file), 'a start that opened nothing vouches as the stop before')
  }))

const changes: Record<string, (stopped: Stopped) => void> = {
  'a page overwritten': ({ file }) => damage(file),
  'a page overwritten, the time of change put back': ({ file }) => {
    const { atime, mtime } = statSync(file)
    damage(file)
    utimesSync(file, atime, mtime)
  },
  'the same bytes written again': ({ file }) => writeFileSync(file, readFileSync(file)),
  'a byte less': ({ file }) => truncateSync(file, 99_999),
  'the file deleted': ({ file }) => rmSync(file),
  'a copy with its times in its place': ({ dir, file }) => {
    cpSync(file, join(dir, 'copy'), { preserveTimestamps: true })
    rmSync(file)
    cpSync(join(dir, 'copy'), file, { preserveTimestamps: true })
  },
  'the note cut off': ({ note }) => truncateSync(note, 40),
  'the note emptied': ({ note }) => truncateSync(note, 0),
  'another JSON in the note': ({ note }) => writeFileSync(note, 'null'),
  'numbers in the note': ({ note }) => writeFileSync(note, '{"replica/a.mdb": 1}'),
  'the note older than the file, as where times are coarse': ({ note, file }) => {
    utimesSync(file, new Date(), new Date(Date.now() + 60_000))
    const { size, mtimeNs, ctimeNs, ino } = statSync(file, { bigint: true })
    const mark = `${size} bytes, mtime ${mtimeNs}, ctime ${ctimeNs}, inode ${ino}`
    writeFileSync(note, JSON.stringify({ 'replica/a.mdb': mark }))
  },
}
for (const [name, change] of Object.entries(changes)) {
  test(`${name}: the stop does not vouch for the file`, () =>
    withStopped((stopped) => {
      change(stopped)
      assert.ok(!CleanStop.take(stopped.dir).isWhole(stopped.file))
      assert.ok(!existsSync(stopped.note))
    }))
}

test('a copied directory is read through', () =>
  withStopped(({ dir }) => {
    const copy = `${dir}-copy`
    cpSync(dir, copy, { recursive: true, preserveTimestamps: true })
    try {
      assert.ok(existsSync(join(copy, 'clean-stop.json')))
      assert.ok(!CleanStop.take(copy).isWhole(join(copy, 'replica', 'a.mdb')))
    } finally {
      rmSync(copy, { recursive: true })
    }
  }))

test('a note for one file says nothing about another', () =>
  withStopped(({ dir, file }) => {
    writeFileSync(join(dir, 'replica', 'b.mdb'), 'b')
    const stop = CleanStop.take(dir)
    assert.ok(stop.isWhole(file))
    assert.ok(!stop.isWhole(join(dir, 'replica', 'b.mdb')))
  }))

test('a node that has failed, and a file of a later time than the clock, leave no note', () =>
  withStopped(async ({ dir, note, file }) => {
    const failed = CleanStop.take(dir)
    failed.spoil()
    await failed.write()
    assert.ok(!existsSync(note))
    utimesSync(file, new Date(), new Date(Date.now() + 3_600_000))
    const stop = CleanStop.take(dir)
    stop.add(file)
    await stop.write()
    assert.ok(!existsSync(note))
  }))
