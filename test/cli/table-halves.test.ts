// Files of which a half has gone through the vault when something happens: an epoch is rotated, the node is killed,
// the disk is full.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createWriteStream, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Coffer } from '../../src/client/index.ts'
import { coffer, Folder, fine, init, NodeProcess, type Result, until } from './cli.ts'

/** More values than a request has. */
const ROWS = 25_000
/** The header is written before the first answer. */
const HEADER_BYTES = 4

type Run = {
  readonly folder: Folder
  readonly node: NodeProcess
  readonly env: Readonly<Record<string, string>>
  readonly client: Coffer
  readonly out: string
}

async function withNode(run: (parts: Run) => Promise<void>): Promise<void> {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const client = new Coffer({ urls: node.url, key })
  mkdirSync(folder.file('new'))
  const env = { COFFER_URL: node.url, COFFER_KEY: key }
  try {
    await run({ folder, node, env, client, out: folder.file('new', 'out.csv') })
  } finally {
    client.close()
  }
}

/** Other values for each number. */
function rowsFrom(from: number): string {
  return Array.from({ length: ROWS }, (_, i) => `value ${from}.${i}\n`).join('')
}

/**
 * Tokenizes a file that comes through a pipe; `between` runs when a part of the new file is written. Returns the
 * content of the file, too.
 */
async function inHalves(
  { folder, env, out }: Run,
  options: readonly string[],
  between: () => Promise<unknown>,
): Promise<Result & { readonly content: string }> {
  const pipe = folder.file(`${options.length}.csv`)
  assert.equal(spawnSync('mkfifo', [pipe]).status, 0)
  const command = coffer(['tokenize', pipe, '--column', 'ssn', '-o', out, ...options], { env, ms: 60_000 })
  const stream = createWriteStream(pipe)
  stream.on('error', () => undefined) // the command may end before it has read all
  const closed = new Promise<void>((resolve) => stream.once('close', resolve))
  let content = 'ssn\n'
  stream.write(content)
  const write = async (): Promise<void> => {
    const rows = rowsFrom(content.length)
    content += rows
    if (stream.write(rows)) return
    await Promise.race([new Promise<void>((resolve) => stream.once('drain', resolve)), closed])
  }
  const dir = folder.file('new')
  await until('a part is written', async () => {
    await write()
    return readdirSync(dir).some((name) => statSync(join(dir, name)).size > HEADER_BYTES)
  })
  await between()
  await write()
  stream.end()
  return { ...(await command), content }
}

test('a rotation on the way: no file, or with --mixed-epochs tokens of both epochs, and all resolve', () =>
  withNode(async (run) => {
    const refused = await inHalves(run, ['--json'], () => run.client.rotateEpoch(2))
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /tokens of epochs 1 and 2[\s\S]*run it again/)
    assert.deepEqual(readdirSync(run.folder.file('new')), [])
    const mixed = await inHalves(run, ['--json', '--mixed-epochs'], () => run.client.rotateEpoch(3))
    assert.equal(mixed.code, 0, mixed.stderr)
    assert.deepEqual(JSON.parse(mixed.stdout).epochs, [2, 3])
    const back = run.folder.file('back.csv')
    await fine(['detokenize', run.out, '--column', 'ssn', '-o', back, '--strict'], { env: run.env })
    assert.equal(readFileSync(back, 'utf8'), mixed.content)
  }))

test('a vault that goes away on the way: an error, and no file', () =>
  withNode(async (run) => {
    const { code, stderr } = await inHalves(run, [], async () => {
      run.node.signal('SIGKILL')
    })
    assert.equal(code, 1)
    assert.match(stderr, /^coffer: .*(?:cannot be reached|no answer|unreachable)/m)
    assert.doesNotMatch(stderr, /value \d/)
    assert.deepEqual(readdirSync(run.folder.file('new')), [])
  }))

test('a disk that is full at half: an error, and no file', (t) =>
  withNode(async ({ folder, env, out }) => {
    const dir = folder.file('new')
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir])
    if (mounted.status !== 0) return t.skip('no right to mount a file system')
    try {
      const file = folder.file('in.csv')
      writeFileSync(file, `ssn\n${rowsFrom(0)}${rowsFrom(1)}`)
      const { code, stderr } = await coffer(['tokenize', file, '--column', 'ssn', '-o', out], { env })
      assert.equal(code, 1)
      assert.match(stderr, /out\.csv cannot be written: .*ENOSPC/)
      assert.deepEqual(readdirSync(dir), [])
    } finally {
      spawnSync('umount', [dir])
    }
  }))
