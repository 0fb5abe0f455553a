import assert from 'node:assert/strict'
import { execFile, spawn, spawnSync } from 'node:child_process'
import { globSync, readdirSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { sendSignal } from '../signals.ts'
import { Folder, isAlive, spawnCoffer, until } from './cli.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const inShell = promisify(execFile)

/** `coffer dev`, with a temporary directory of its own, until its line of curl is printed. */
async function begin(folder: Folder) {
  const child = spawnCoffer(['dev'], { env: { TMPDIR: folder.path } })
  const text = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (chunk: string) => {
      text[stream] += chunk
    })
  }
  const curl = await until('the line of curl', () => /^curl .*$(?=\n)/m.exec(text.stdout)?.[0])
  const ended = () => until('the end', () => child.exitCode !== null || child.signalCode !== null)
  return { child, curl, ended, text }
}

test('the line of curl is run as it stands and returns a token; after Ctrl-C nothing is left', async () => {
  using folder = new Folder()
  const dev = await begin(folder)
  const { stdout } = await inShell('sh', ['-c', dev.curl])
  assert.match(stdout, /^\{"epoch":1,"tokens":\["tok_1_[0-9a-hjkmnp-tv-z]{32}"\]\}/)
  const url = /^URL +(http:\/\/127\.0\.0\.1:\d+)$/m.exec(dev.text.stdout)?.[1] ?? ''
  const key = /^API key +(cof_\S+)$/m.exec(dev.text.stdout)?.[1] ?? ''
  assert.ok(dev.curl.includes(url) && dev.curl.includes(key))
  assert.equal(readdirSync(folder.path).length, 1)
  dev.child.kill('SIGINT')
  dev.child.kill('SIGINT') // as npx does
  await dev.ended()
  assert.equal(dev.child.exitCode, 0, dev.text.stderr)
  assert.deepEqual(readdirSync(folder.path), [])
  await assert.rejects(fetch(`${url}/health`), 'nobody listens')
})

for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} leaves nothing either`, async () => {
    using folder = new Folder()
    const dev = await begin(folder)
    dev.child.kill(signal)
    await dev.ended()
    assert.equal(dev.child.exitCode, 0, dev.text.stderr)
    assert.deepEqual(readdirSync(folder.path), [])
  })
}

test('a signal before the node is ready ends the start, and leaves nothing', async () => {
  using folder = new Folder()
  const child = spawnCoffer(['dev'], { env: { TMPDIR: folder.path } })
  await until('the directory', () => readdirSync(folder.path).length > 0)
  await until('the files', () => readdirSync(folder.path, { recursive: true }).length > 2)
  child.kill('SIGTERM')
  await until('the end', () => child.exitCode !== null || child.signalCode !== null)
  assert.equal(child.exitCode, 0)
  assert.deepEqual(readdirSync(folder.path), [])
})

const mayTrace = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0

test('a node that cannot go on ends the command with 1, and leaves nothing', {
  skip: mayTrace ? false : 'strace is not here, or may not trace',
}, async () => {
  using folder = new Folder()
  const dev = await begin(folder)
  const flags = ['-f', '-o', '/dev/null', '-e', 'inject=fdatasync:error=EIO', '-p', String(dev.child.pid)]
  const strace = spawn('strace', flags, { stdio: ['ignore', 'ignore', 'pipe'] })
  try {
    for await (const text of strace.stderr) if (String(text).includes('attached')) break
    await inShell('sh', ['-c', dev.curl]).catch(() => undefined) // the node may end before its answer
    await dev.ended()
    assert.equal(dev.child.exitCode, 1)
    assert.match(dev.text.stderr, /^coffer: .*(ledger|replica) cannot be written: Input\/output error/m)
    assert.deepEqual(readdirSync(folder.path), [])
  } finally {
    strace.kill('SIGKILL')
    dev.child.kill('SIGKILL')
  }
})

/** Runs a command by `sh`, as npm does, kills the shell once `reached` is true, and waits for an empty directory. */
async function killShell(args: string, reached: (folder: Folder, told: string) => boolean): Promise<void> {
  using folder = new Folder()
  const env = { ...process.env, TMPDIR: folder.path, npm_command: 'exec' }
  const command = `"${process.execPath}" "${MAIN}" ${args} & echo $!; wait`
  const shell = spawn('sh', ['-c', command], {
    env,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let told = ''
  shell.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    told += chunk
  })
  const pid = Number(await until('the process id', () => /^\d+$(?=\n)/m.exec(told)?.[0]))
  try {
    await until('the command runs', () => reached(folder, told))
    shell.kill('SIGKILL')
    await until('nothing is left', () => readdirSync(folder.path).length === 0 && !isAlive(pid))
  } finally {
    if (isAlive(pid)) sendSignal(pid, 'SIGKILL')
  }
}

test('what npm has started ends with the shell of npm, which hands no signal on', async () => {
  await killShell('dev', (_, told) => told.includes('\ncurl '))
  await killShell('demo', (folder) => globSync(folder.file('*', 'vault', 'run', 'n1.pid')).length > 0)
})
