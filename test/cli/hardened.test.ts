// Whatever starts a node: keys stay in memory (SIGUSR1 opens no debugger, a crash writes no core file), and
// memory goes back to the system.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { pidIn, sendSignal } from '../signals.ts'
import { Folder, fine, freePort, init, isAlive, until } from './cli.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const BIN = fileURLToPath(new URL('../../bin/coffer', import.meta.url))
const isLinux = process.platform === 'linux'

type Run = { readonly child: ChildProcess; readonly printed: () => string }

/** Runs a program where the system writes core files, in a directory of its own. */
function run(program: readonly string[], cwd: string): Run {
  const { NODE_TEST_CONTEXT: _, ...own } = process.env
  const env = { ...own, TMPDIR: cwd }
  const child = spawn('sh', ['-c', 'ulimit -c unlimited; exec "$0" "$@"', ...program], { cwd, env })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
  return { child, printed: () => text }
}

/** How many sockets of the process listen. */
function listeners(pid: number): number {
  const inodes = new Set<string>()
  for (const file of ['tcp', 'tcp6'])
    for (const line of readFileSync(`/proc/${pid}/net/${file}`, 'utf8').split('\n').slice(1)) {
      const [, , , state, , , , , , inode] = line.trim().split(/\s+/)
      if (state === '0A') inodes.add(`socket:[${inode}]`)
    }
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      return '' // closed meanwhile
    }
  })
  return open.filter((target) => inodes.has(target)).length
}

/** Children of the process and theirs, itself included. */
function family(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return [pid, ...(children === '' ? [] : children.split(' ').flatMap((child) => family(Number(child))))]
}

function coreLimit(pid: number): string | undefined {
  return /^Max core file size +(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1]
}

function checkMemory(pid: number): void {
  assert.match(
    readFileSync(`/proc/${pid}/cmdline`, 'utf8'),
    /\0--max-semi-space-size=16\0--heap-growing-percent=300\0/,
  )
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
  const set = ['MALLOC_ARENA_MAX=2', 'MALLOC_MMAP_THRESHOLD_=1048576', 'MALLOC_TRIM_THRESHOLD_=1048576']
  for (const each of set) assert.ok(environment.includes(each), each)
}

/** The node's process answers after the signal, and nothing listens but the node. Then it crashes. */
async function checkNode(pid: number, url: string, cwd: string): Promise<void> {
  checkMemory(pid)
  assert.equal((await fetch(`${url}/health`)).status, 200)
  assert.equal(listeners(pid), 1)
  for (let i = 0; i < 3; i++) {
    sendSignal(pid, 'SIGUSR1')
    assert.equal((await fetch(`${url}/health`)).status, 200)
    assert.equal(listeners(pid), 1, 'a debugger listens')
  }
  for (const each of family(pid)) assert.equal(coreLimit(each), '0')
  sendSignal(pid, 'SIGABRT')
  await until('the end of the node', () => !isAlive(pid))
  assert.deepEqual(cores(cwd), [])
}

/** Core files under a directory. */
function cores(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /(^|\/)core(\.\d+)?$/.test(name),
  )
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

test('in a directory where a program that crashes leaves a core file', { skip: !isLinux }, async (t) => {
  using folder = new Folder()
  const { child } = run(['sleep', '60'], folder.path)
  await until('the program runs', () => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === 'sleep\n')
  child.kill('SIGABRT')
  await ended(child)
  // Where the system pipes them to a program, the limits are all that can be looked at.
  t.diagnostic(`core files here: ${cores(folder.path).join(', ') || 'none'}`)
})

for (const [how, program] of [
  ['node dist/cli/main.js start, as in the package', [process.execPath, MAIN]],
  ['bin/coffer start', [BIN]],
] as const)
  test(`${how}`, { skip: !isLinux }, async () => {
    using folder = new Folder()
    await init(folder.file('v'), '--port', String(await freePort()))
    const { child, printed } = run(
      [...program, 'start', '--config', folder.file('v', 'n1.yaml')],
      folder.path,
    )
    try {
      const found = await until('ready', () => /^.*"msg":"ready".*$/m.exec(printed()), 30_000)
      assert.ok(child.pid)
      await checkNode(child.pid, JSON.parse(found[0]).url, folder.path)
    } finally {
      child.kill('SIGKILL')
      await ended(child)
    }
  })

test('coffer dev', { skip: !isLinux }, async () => {
  using folder = new Folder()
  const { child, printed } = run([process.execPath, MAIN, 'dev'], folder.path)
  try {
    const found = await until('the URL', () => /^URL +(\S+)$/m.exec(printed()), 30_000)
    assert.ok(child.pid)
    await checkNode(child.pid, found[1], folder.path)
  } finally {
    child.kill('SIGKILL')
    await ended(child)
  }
})

test('coffer cluster start', { skip: !isLinux }, async () => {
  using folder = new Folder()
  const port = await freePort()
  await init(folder.file('v'), '--port', String(port))
  const { child, printed } = run([process.execPath, MAIN, 'cluster', 'start', folder.file('v')], folder.path)
  try {
    await ended(child)
    assert.equal(child.exitCode, 0, printed())
    const pid = pidIn(folder.file('v', 'run', 'n1.pid'))
    assert.ok(pid !== undefined, 'the node has told its process id')
    assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /--disable-sigusr1/)
    await checkNode(pid, `http://127.0.0.1:${port}`, folder.path)
  } finally {
    await fine(['cluster', 'stop', folder.file('v')])
  }
})

test('coffer demo: its nodes', { skip: !isLinux }, async () => {
  using folder = new Folder()
  const { child, printed } = run([process.execPath, MAIN, 'demo', 'basics'], folder.path)
  try {
    const nodePid = (): number | undefined => {
      const found = readdirSync(folder.path, { recursive: true, encoding: 'utf8' })
      const file = found.find((name) => name.endsWith('run/n1.pid'))
      return file === undefined ? undefined : pidIn(join(folder.path, file))
    }
    const pid = await until(`a node: ${printed()}`, nodePid, 30_000)
    assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /--disable-sigusr1/)
    checkMemory(pid)
    for (const each of family(child.pid ?? 0)) assert.equal(coreLimit(each), '0')
  } finally {
    child.kill('SIGTERM')
    await ended(child)
  }
})

test('env expand, which prints values, writes no core files', { skip: !isLinux }, async () => {
  using folder = new Folder()
  for (const program of [[process.execPath, MAIN], [BIN]]) {
    const { child } = run([...program, 'env', 'expand', '-'], folder.path) // waits for its input
    try {
      const { pid } = child
      assert.ok(pid)
      await until('the limit', () => coreLimit(pid) === '0')
    } finally {
      child.kill('SIGKILL')
      await ended(child)
    }
  }
})

test('env run: the limit of core files stays that of the caller', { skip: !isLinux }, async () => {
  using folder = new Folder()
  for (const program of [[process.execPath, MAIN], [BIN]]) {
    const script = 'ulimit -c; grep -E "^Sig(Blk|Ign)" /proc/self/status'
    const file = folder.file('empty.env')
    const { child, printed } = run(
      ['sh', '-c', ': > "$0"; exec "$@"', file, ...program, 'env', 'run', file, '--', 'sh', '-c', script],
      folder.path,
    )
    await ended(child)
    assert.match(printed(), /^unlimited\n/, printed())
    assert.match(printed(), /^SigBlk:\t0+$/m, 'no signal is blocked')
  }
})
