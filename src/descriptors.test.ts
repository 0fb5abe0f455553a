// The descriptors of a process: limits in processes of their own, whose limit is low.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { connectionsAtMost, keepReserve, withReserve } from './descriptors.ts'
import { errorCode } from './errors.ts'
import { replaceFile } from './files.ts'
import { LmdbStore } from './replica/lmdb-store.ts'

/** Arguments of this file as a program. */
const TAKEN = 'taken'
const LIMIT = 'limit'

/** Runs this file with a limit of descriptors. Returns what it printed. */
function limited(descriptors: number, ...args: string[]): string {
  const command = `ulimit -n ${descriptors} && exec "$@"`
  const { status, stdout, stderr } = spawnSync(
    'sh',
    ['-c', command, 'sh', process.execPath, import.meta.filename, ...args],
    { encoding: 'utf8', timeout: 30_000 },
  )
  assert.equal(status, 0, stderr)
  return stdout
}

/** Opens files until there is no descriptor left. Returns the descriptors. */
function takeAll(): number[] {
  const taken: number[] = []
  try {
    for (;;) taken.push(openSync(import.meta.filename, 'r'))
  } catch (error) {
    assert.equal(errorCode(error), 'EMFILE')
    return taken
  }
}

/** In a process with a low limit. */
async function workWithoutDescriptors(dir: string): Promise<void> {
  // What is loaded later would need a descriptor, too.
  await new LmdbStore(join(dir, 'first')).close()
  keepReserve()
  const taken = takeAll()
  assert.throws(() => readFileSync(import.meta.filename), { code: 'EMFILE' })
  for (let round = 0; round < 20; round++) {
    assert.match(
      withReserve(() => readFileSync(import.meta.filename, 'utf8')),
      /descriptors/,
    )
    replaceFile(join(dir, 'file'), `round ${round}`)
  }
  assert.throws(() => readFileSync(import.meta.filename), { code: 'EMFILE' }, 'the reserve is taken again')
  // Errors of other kinds are thrown, and the reserve stays.
  assert.throws(() => withReserve(() => openSync(join(dir, 'none'), 'r')), { code: 'ENOENT' })

  const store = new LmdbStore(join(dir, 'second'))
  await store.checkpoints.write(
    'a',
    (async function* () {
      yield Buffer.from('whole')
    })(),
  )
  let text = ''
  for await (const block of store.checkpoints.read('a') ?? []) text += block
  assert.equal(text, 'whole')
  await store.close()

  // More than the reserve holds.
  const held: number[] = []
  assert.throws(
    () => {
      for (;;) held.push(withReserve(() => openSync(import.meta.filename, 'r')))
    },
    { code: 'EMFILE' },
  )
  for (const file of held.splice(0)) closeSync(file)
  assert.match(
    withReserve(() => readFileSync(import.meta.filename, 'utf8')),
    /descriptors/,
  )
  for (const file of taken) closeSync(file)
}

if (process.argv[2] === TAKEN) await workWithoutDescriptors(process.argv[3])
else if (process.argv[2] === LIMIT) console.log(connectionsAtMost())
else {
  test('a process that has taken all descriptors still opens files, stores and checkpoints in turn', () => {
    const dir = mkdtempSync(join(tmpdir(), 'coffer-descriptors-'))
    try {
      limited(64, TAKEN, dir)
      assert.equal(readFileSync(join(dir, 'file'), 'utf8'), 'round 19')
    } finally {
      rmSync(dir, { recursive: true })
    }
  })

  test('without a kept reserve the error is that of the system', () => {
    const fault = Object.assign(new Error('EMFILE: made by the test'), { code: 'EMFILE' })
    let calls = 0
    const open = (): never => {
      calls++
      throw fault
    }
    assert.throws(
      () => withReserve(open),
      (error) => error === fault,
    )
    assert.equal(calls, 1)
  })

  test('connections get what a node leaves; a limit that is too low is told', () => {
    assert.deepEqual(
      [80, 128, 1024].map((limit) => connectionsAtMost(limit)),
      [16, 64, 960],
    )
    assert.equal(connectionsAtMost(Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY)
    assert.throws(() => connectionsAtMost(79), {
      message: /79 files open here, and a node needs 80/,
      hint: /ulimit -n/,
    })
    assert.equal(limited(128, LIMIT).trim(), '64')
  })
}
