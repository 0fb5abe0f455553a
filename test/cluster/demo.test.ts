// The demos of three nodes, from their first line to the last process and file.
import assert from 'node:assert/strict'
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { coffer, Folder, spawnCoffer, until } from '../cli/cli.ts'
import { assertWhole } from '../cli/demos.ts'

const DEMO_MS = 180_000

/** Processes whose command line names a path below the directory. */
function processesOf(dir: string): string[] {
  assert.ok(existsSync('/proc'), 'the test looks for processes in /proc')
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        return command.includes(dir) ? [`${pid} ${command}`] : []
      } catch {
        return [] // the process has just ended
      }
    })
}

function assertNothingLeft(folder: Folder): void {
  assert.deepEqual(readdirSync(folder.path), [])
  assert.deepEqual(processesOf(folder.path), [])
}

test('the demo of failure: one node is lost, two are lost, both come back, and nothing is lost', async () => {
  using folder = new Folder()
  const { code, stdout, stderr } = await coffer(['demo', 'failure'], {
    env: { TMPDIR: folder.path },
    ms: DEMO_MS,
  })
  assert.equal(code, 0, stdout + stderr)
  assertWhole(stdout, { chapters: 8, claims: 19 })
  const row = (request: string, answer: string): RegExp => new RegExp(`^ +${request} +${answer} \\(`, 'm')
  assert.match(stdout, row('POST /tokenize +new values', '200 \\(\\d+ m?s\\) +200'))
  assert.match(stdout, row('POST /detokenize +known tokens', '200'))
  assert.match(stdout, row('POST /detokenize +a forged token', '404 not-found'))
  assert.match(stdout, row('GET /ready\\?for=reads', '200'))
  assert.match(stdout, row('POST /tokenize +known values', '503 no-quorum, (?:not-applied|unknown)'))
  assert.match(stdout, row('POST /rotate-epoch', '503 no-quorum, (?:not-applied|unknown)'))
  assert.match(stdout, / n\d +ledger\.lost +reason=/)
  assert.match(stdout, / n\d +replica\.caught-up +from=\d+ to=\d+ ms=/)
  assert.match(stdout, /✓ 3 nodes have the same digest of all that is stored, at revision \d+/)
  assertNothingLeft(folder)
})

test('the live demonstration: callers, a node lost and back, a rotation, DuckDB, .env, history, a page', async () => {
  using folder = new Folder()
  using pages = new Folder()
  const page = pages.file('timeline.html')
  const { code, stdout, stderr } = await coffer(['demo', 'cluster', '--html', page], {
    env: { TMPDIR: folder.path },
    ms: DEMO_MS,
  })
  assert.equal(code, 0, stdout + stderr)
  const hasDuckDB = await import('@duckdb/node-api').then(
    () => true,
    () => false,
  )
  assertWhole(stdout, hasDuckDB ? { chapters: 13, claims: 40 } : { chapters: 11, claims: 34 })
  if (hasDuckDB) {
    assert.match(stdout, /^ {4}city +encounters +cost\n {4}Bern +8 +1194$/m)
    assert.match(stdout, /^ {4}epoch {2}encounters\n *1 +24\n *2 +10$/m)
  } else assert.match(stdout, /^The chapters of DuckDB are left out: .*npm install @duckdb\/node-api/m)
  const counted = /✓ (.*): each counts (\d+) tokens, so none is there twice/g
  const counts = [...stdout.matchAll(counted)].map(([, nodes, tokens]) => [nodes, Number(tokens)])
  assert.deepEqual(
    counts.map(([nodes]) => String(nodes).length),
    ['n1, n2, n3'.length, 'n1, n2'.length, 'n1, n2, n3'.length],
    'all nodes, two nodes, all nodes',
  )
  assert.match(stdout, /^ {2}kill -9 \d+ .* whose member leads, under 24 callers$/m)
  assert.match(
    stdout,
    /^ +1 +[1-9]\d* +0\n +2 +[1-9]\d* +[1-9]\d*$/m,
    'no request after the rotation in epoch 1',
  )
  assert.match(stdout, / n1 +\d+ {2}epoch\.rotated +owner=clinic epoch=2 from=1 to=2 ms=/)
  assert.match(stdout, /✓ no request failed: the callers went on to the other nodes/)
  assertNothingLeft(folder)
  assert.deepEqual(readdirSync(pages.path), ['timeline.html'])
  assert.match(readFileSync(page, 'utf8'), /epoch\.rotated/)
})

/** A demo that is ended in the midst of it, once `reached` is true of its directory and of its text. */
async function interrupt(signal: NodeJS.Signals, reached: (folder: Folder, told: string) => boolean) {
  using folder = new Folder()
  const child = spawnCoffer(['demo', 'failure'], { env: { TMPDIR: folder.path } })
  let told = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    told += chunk
  })
  await until('the moment of the signal', () => reached(folder, told), 60_000)
  assert.ok(processesOf(folder.path).length > 3, 'nodes and members run')
  child.kill(signal)
  await until('the end', () => child.exitCode !== null || child.signalCode !== null)
  // Only where the demo itself is killed, another process removes the rest.
  if (signal === 'SIGKILL') await until('nothing is left', () => readdirSync(folder.path).length === 0)
  assertNothingLeft(folder)
  return child.exitCode ?? child.signalCode
}

test('SIGTERM while the nodes start ends nodes and members, and leaves nothing', async () => {
  const memberRuns = (folder: Folder): boolean =>
    globSync(folder.file('*', 'vault', 'run', '*.etcd.pid')).length > 0
  assert.equal(await interrupt('SIGTERM', memberRuns), 143)
})

test('Ctrl-C while a node is killed ends nodes and members, and leaves nothing', async () => {
  const nodeIsKilled = (_: Folder, told: string): boolean => / kill -9 \d+ .* leads\n/.test(told)
  assert.equal(await interrupt('SIGINT', nodeIsKilled), 130)
})

test('SIGKILL of the demo itself leaves no node, no member and no file either', async () => {
  const nodeIsKilled = (_: Folder, told: string): boolean => / kill -9 \d+ .* leads\n/.test(told)
  assert.equal(await interrupt('SIGKILL', nodeIsKilled), 'SIGKILL')
})
