import assert from 'node:assert/strict'
import { globSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { pidIn, sendSignal } from '../signals.ts'
import { coffer, Folder, fine, isAlive, refused, spawnCoffer, until } from './cli.ts'
import { assertWhole } from './demos.ts'

/** The demo with a temporary directory of its own, and the process of its node. */
async function begin(folder: Folder) {
  const child = spawnCoffer(['demo'], { env: { TMPDIR: folder.path } })
  let told = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      told += chunk
    })
  }
  const pid = await until('the node of the demo', () => {
    const [file] = globSync(folder.file('*', 'vault', 'run', 'n1.pid'))
    return file === undefined ? undefined : pidIn(file)
  })
  const ended = () =>
    until('the end of the demo', () => child.exitCode !== null || child.signalCode !== null, 20_000)
  return { child, pid, ended, told: () => told }
}

test('the demo tells the whole story, ends with 0 and leaves nothing', async () => {
  using folder = new Folder()
  const started = performance.now()
  const demo = await begin(folder)
  await demo.ended()
  assert.equal(demo.child.exitCode, 0, demo.told())
  assert.ok(performance.now() - started < 15_000)
  assertWhole(demo.told(), { chapters: 8, claims: 16 })
  assert.match(demo.told(), /^ {2}✓ tokens of both epochs resolve$/m)
  assert.match(demo.told(), / n1 +8 {2}epoch\.rotated +owner=clinic epoch=2 from=1 to=2 ms=\d+\n/)
  assert.deepEqual(readdirSync(folder.path), [])
  assert.ok(!isAlive(demo.pid))
})

test('the demo of a .env file: every command as it is shown', async () => {
  using folder = new Folder()
  const { code, stdout } = await coffer(['demo', 'env'], { env: { TMPDIR: folder.path } })
  assert.equal(code, 0, stdout)
  assertWhole(stdout, { chapters: 6, claims: 10 })
  assert.match(stdout, /DATABASE_PASSWORD="coffer:\/\/shop\/prod\/DATABASE_PASSWORD" {3}# ask Ana/)
  assert.deepEqual(readdirSync(folder.path), [])
})

test('the demo of a rotation: tokens of both epochs, the migration, and the epochs by the API', async () => {
  using folder = new Folder()
  const { code, stdout, stderr } = await coffer(['demo', 'rotation'], { env: { TMPDIR: folder.path } })
  assert.equal(code, 0, stdout + stderr)
  assertWhole(stdout, { chapters: 5, claims: 7 })
  assert.match(stdout, /^ +tok_1_[0-9a-z]{32} +tok_2_[0-9a-z]{32}$/m)
  assert.match(stdout, /^ +1 +3 +closed\n +2 +3 +active$/m)
  assert.deepEqual(readdirSync(folder.path), [])
})

test('the demo of DuckDB: tables are tokenized, joined, migrated and read back', async (t) => {
  const isThere = await import('@duckdb/node-api').then(
    () => true,
    () => false,
  )
  if (!isThere) return t.skip('DuckDB is not installed')
  using folder = new Folder()
  const { code, stdout, stderr } = await coffer(['demo', 'duckdb'], {
    env: { TMPDIR: folder.path },
    ms: 60_000,
  })
  assert.equal(code, 0, stdout + stderr)
  assertWhole(stdout, { chapters: 8, claims: 11 })
  assert.match(stdout, /^ {4}epoch {2}encounters\n *1 +24\n *2 +10$/m)
  assert.deepEqual(readdirSync(folder.path), [])
})

test('Ctrl-C in the midst of it, and a node that dies: nothing is left either', async () => {
  using folder = new Folder()
  const stopped = await begin(folder)
  stopped.child.kill('SIGINT')
  await stopped.ended()
  assert.equal(stopped.child.exitCode, 130)
  await until('the node has ended', () => !isAlive(stopped.pid))
  assert.deepEqual(readdirSync(folder.path), [])

  const failed = await begin(folder)
  sendSignal(failed.pid, 'SIGKILL')
  await failed.ended()
  assert.equal(failed.child.exitCode, 1, failed.told())
  assert.match(failed.told(), /^coffer: /m)
  assert.deepEqual(readdirSync(folder.path), [])
})

test('who stops reading stops the demo', async () => {
  using folder = new Folder()
  const demo = await begin(folder)
  demo.child.stdout?.destroy()
  await demo.ended()
  assert.deepEqual(readdirSync(folder.path), [])
  await until('the node has ended', () => !isAlive(demo.pid))
})

test('--html: the page of the timeline; a file that exists is refused before any node starts', async () => {
  using folder = new Folder()
  using pages = new Folder()
  const env = { TMPDIR: folder.path }
  const page = pages.file('timeline.html')
  writeFileSync(page, 'mine')
  assert.match(await refused(1, ['demo', 'rotation', '--html', page], { env }), /exists already.*--force/)
  const missing = pages.file('none', 'timeline.html')
  assert.match(await refused(1, ['demo', 'rotation', '--html', missing], { env }), /none/)
  await refused(2, ['demo', 'rotation', '--html', '-'], { env })
  assert.equal(readFileSync(page, 'utf8'), 'mine')
  const told = await fine(['demo', 'rotation', '--html', page, '--force'], { env })
  assert.ok(told.endsWith(`claims checked, all true. ${page} is left, and nothing else.`), told)
  assert.match(readFileSync(page, 'utf8'), /^<!doctype html>[\s\S]*epoch\.rotated/i)
  assert.deepEqual(readdirSync(folder.path), [])
})

test('a claim that is not true ends a demo with 1, and with the event logs until then', async () => {
  using folder = new Folder()
  const demo = await begin(folder)
  await until('the first chapter', () => /^1\. /m.test(demo.told()))
  sendSignal(demo.pid, 'SIGKILL')
  await demo.ended()
  assert.equal(demo.child.exitCode, 1, demo.told())
  assert.match(demo.told(), /^The event logs until the failure\n\n +\S+Z +n1 +node\.started$/m)
  assert.doesNotMatch(demo.told(), /claims checked/)
})
