// coffer env run, against a node: the places with values, and without; exit codes and signals.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Coffer } from '../../src/client/index.ts'
import { signalGroup } from '../signals.ts'
import { coffer, Folder, fine, type NodeProcess, refused, spawnCoffer, startVault, until } from './cli.ts'

const CANARY = 'c4n4ry'
const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

const folder = new Folder()
const file = folder.file('work', '.env')
let node: NodeProcess
let env: { COFFER_URL: string; COFFER_KEY: string }

before(async () => {
  const started = await startVault(folder)
  const { client } = started
  ;({ node, env } = started)
  await client.createSecret('r/a', `${CANARY} "'\` $HOME\n`)
  await client.createSecret('r/nul', `${CANARY}\0`)
  await client.createSecret('r/v', 'one')
  await client.updateSecret('r/v', 'two')
  client.close()
  mkdirSync(folder.file('work'))
})

after(async () => {
  await node?.[Symbol.asyncDispose]()
  folder[Symbol.dispose]()
})

const run = (...command: string[]): string[] => ['env', 'run', file, '--', ...command]

test('values are in the environment of the command, and nowhere else', async () => {
  writeFileSync(file, 'A=coffer://r/a\nPLAIN="x y"\nSET=file\n')
  const outer = { ...env, SET: 'outer', KEPT: 'outer' }
  const script = `
    const read = (pid, name) => require('node:fs').readFileSync('/proc/' + pid + '/' + name, 'utf8')
    const proc = require('node:fs').existsSync('/proc/self/cmdline')
    const seen = !proc ? [] : [process.pid, process.ppid].map((pid) => read(pid, 'cmdline'))
    console.log(JSON.stringify({ env: process.env, args: process.argv.slice(1), seen, ppid: process.ppid }))`
  const args = ['-x', '--at', 'y', '--json', '--', '--help', 'a b', '']
  const told = JSON.parse(await fine(run(process.execPath, '-e', script, '--', ...args), { env: outer }))
  assert.deepEqual(told.args, args, 'they reach the command as they are')
  const { A, PLAIN, SET, KEPT, COFFER_KEY, COFFER_URL } = told.env
  assert.deepEqual(
    { A, PLAIN, SET, KEPT },
    { A: `${CANARY} "'\` $HOME\n`, PLAIN: 'x y', SET: 'file', KEPT: 'outer' },
  )
  assert.deepEqual([COFFER_KEY, COFFER_URL], [undefined, env.COFFER_URL])
  if (existsSync('/proc/self/cmdline')) {
    for (const text of told.seen) assert.ok(!text.includes(CANARY))
    assert.equal(told.ppid, process.pid, 'nothing of coffer is left')
  }
  assert.deepEqual(readdirSync(folder.file('work')), ['.env'])
  assert.ok(!readFileSync(file, 'utf8').includes(CANARY))
})

test('values of then; no COFFER_KEY is passed on', async () => {
  const client = new Coffer({ urls: env.COFFER_URL, key: env.COFFER_KEY })
  const { versions } = await client.secretHistory('r/v')
  client.close()
  writeFileSync(file, 'V=coffer://r/v\nW=coffer://r/v@2\nCOFFER_KEY=other\n')
  const print = ['printenv', 'V', 'W', 'COFFER_KEY']
  assert.equal(await fine(run(...print.slice(0, -1)), { env }), 'two\ntwo')
  const none = await coffer(run('printenv', 'COFFER_KEY'), { env })
  assert.deepEqual([none.code, none.stdout], [1, ''], 'the key of the file is not passed on either')
  const then = ['env', 'run', file, '--at', versions[0].valid_from, '--', ...print.slice(0, -1)]
  assert.equal(await fine(then, { env }), 'one\ntwo')
})

test('of several files the later wins; all win over the environment, but with --keep', async () => {
  const other = folder.file('other.env')
  writeFileSync(file, 'V=coffer://r/v@1\nW=1\n')
  writeFileSync(other, 'V=coffer://r/v\nX=2\n')
  const print = ['--', 'printenv', 'V', 'W', 'X']
  const outer = { ...env, X: 'outer' }
  assert.equal(await fine(['env', 'run', file, other, ...print], { env: outer }), 'two\n1\n2')
  assert.equal(await fine(['env', 'run', other, file, '--keep', ...print], { env: outer }), 'one\n1\nouter')
  writeFileSync(file, 'A=1\nV=coffer://r/none\n')
  writeFileSync(other, 'X=coffer://r/v@7\n')
  const missing = await refused(1, ['env', 'run', file, other, ...print], { env })
  assert.match(missing, /\.env:2: V .*\n.*other\.env:1: X /)
})

test('without references no node is asked', async () => {
  writeFileSync(file, 'V=1\n')
  assert.equal(await fine(run('printenv', 'V')), '1')
  const nonsense = ['env', 'run', file, '--at', 'nonsense', '--', 'printenv', 'V']
  assert.match(await refused(2, nonsense), /--at is not an instant/)
})

test('exit codes: the command’s; 128 + n; 127 and 126', async () => {
  writeFileSync(file, 'V=1\n')
  writeFileSync(folder.file('plain'), 'echo')
  const cases: readonly (readonly [command: readonly string[], code: number])[] = [
    [['true'], 0],
    [['sh', '-c', 'exit 255'], 255],
    [['sh', '-c', 'exit 7'], 7],
    [['no-such-command'], 127],
    [[folder.file('none')], 127],
    [[folder.file('plain')], 126],
    [[folder.path], 126],
  ]
  for (const [command, code] of cases) {
    const result = await coffer(run(...command))
    assert.equal(result.code, code, `${command}: ${result.stderr}`)
    assert.doesNotMatch(result.stderr, /^ {4}at /m)
  }
  for (const [signal, code] of [
    ['KILL', 137],
    ['SEGV', 139],
  ] as const) {
    const line = `"$@"; echo $?`
    const args = [process.execPath, MAIN, ...run('sh', '-c', `ulimit -c 0; kill -${signal} $$`)]
    assert.equal(spawnSync('sh', ['-c', line, 'sh', ...args], { encoding: 'utf8' }).stdout, `${code}\n`)
  }
  await refused(2, ['env', 'run', file])
  await refused(2, ['env', 'run', file, '--'])
})

test('signals reach the command, and what it makes of them is passed on', async () => {
  writeFileSync(file, 'V=1\n')
  const started = async (
    script: string,
    done: (child: ReturnType<typeof spawnCoffer>) => void,
  ): Promise<string> => {
    const child = spawnCoffer(
      run(process.execPath, '-e', `${script}; console.log('ready'); setInterval(() => {}, 1e3)`),
    )
    let out = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      out += text
    })
    const closed = once(child, 'close')
    await until('the command has begun', () => out.includes('ready\n'))
    done(child)
    const [code, signal] = await closed
    return `${out.replace('ready\n', '')}${code ?? signal}`
  }
  const signals = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
  await Promise.all(
    signals.map(async (signal) => {
      const taken = `process.on('${signal}', () => { console.log('got ${signal}'); process.exit(5) })`
      assert.equal(await started(taken, (child) => child.kill(signal)), `got ${signal}\n5`)
    }),
  )
  for (const signal of ['SIGTERM', 'SIGUSR2'] as const)
    assert.equal(await started('', (child) => child.kill(signal)), signal)
})

test('a signal to the whole process group comes once', async () => {
  writeFileSync(file, 'V=1\n')
  const signals = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGWINCH'] as const
  // The last signal comes after all signals before it.
  const script = `const seen = []
    for (const each of ${JSON.stringify(signals)}) process.on(each, () => { console.log(each) })
    process.on('SIGUSR2', () => process.exit(4))
    console.log('ready'); setInterval(() => {}, 1e3)`
  const child = spawn(process.execPath, [MAIN, ...run(process.execPath, '-e', script)], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  const closed = once(child, 'close')
  await until('the command has begun', () => out.includes('ready\n'))
  assert.ok(child.pid !== undefined)
  for (const signal of signals) {
    signalGroup(child.pid, signal)
    await until(`it got ${signal}`, () => out.includes(`${signal}\n`))
  }
  signalGroup(child.pid, 'SIGUSR2')
  assert.deepEqual(await closed, [4, null])
  assert.equal(out, `ready\n${signals.join('\n')}\n`)
})

test('signals that Node ignores are as they were, streams block, and too large an environment is 126', async () => {
  writeFileSync(file, 'V=1\n')
  const head = await coffer(run('sh', '-c', 'yes | head -n 1'))
  assert.deepEqual(head, { code: 0, stdout: 'y\n', stderr: '' })
  if (existsSync('/proc/self/status')) {
    assert.match(await fine(run('grep', 'SigIgn', '/proc/self/status')), /\t0+$/)
    const flags = await fine(run('sh', '-c', 'cat /proc/self/fdinfo/1 /proc/self/fdinfo/2'))
    for (const [, octal] of flags.matchAll(/flags:\t(\d+)/g))
      assert.equal(Number.parseInt(octal, 8) & constants.O_NONBLOCK, 0)
  }
  writeFileSync(file, `V=${'x'.repeat(3_000_000)}\n`)
  assert.match(await refused(126, run('true'), { cwd: folder.path }), /E2BIG/)
  assert.ok(!readdirSync(folder.path).some((name) => name.startsWith('core')))
})

test('where the process cannot become the command, the command is a child: 128 + n, 126', async () => {
  writeFileSync(file, 'V=1\n')
  // The program that resets the signals would take a name with = for a variable.
  const shell = folder.file('a=sh')
  symlinkSync('/bin/sh', shell)
  assert.equal((await coffer(run(shell, '-c', 'kill -9 $$'))).code, 137)
  assert.equal((await coffer(run(shell, '-c', 'exit 3'))).code, 3)
  writeFileSync(folder.file('b=sh'), '#!/nowhere\n', { mode: 0o755 })
  await refused(126, run(folder.file('b=sh')))
  const started = spawnCoffer(
    run(shell, '-c', 'trap "exit 6" TERM; echo ready; while :; do sleep 0.05; done'),
  )
  const closed = once(started, 'close')
  await once(started.stdout ?? assert.fail('a pipe'), 'data')
  started.kill('SIGTERM')
  assert.deepEqual(await closed, [6, null])
})

test('a terminal sends its signals to the command itself: they are not passed on once more', async (t) => {
  if (spawnSync('script', ['--version']).status !== 0) return t.skip('no script(1)')
  writeFileSync(file, 'V=1\n')
  const script = `let count = 0
    process.on('SIGINT', () => { if (++count === 1) setTimeout(() => { console.log('got ' + count); process.exit(3) }, 200) })
    setInterval(() => {}, 1e3); console.log('ready')`
  writeFileSync(folder.file('count.cjs'), script)
  // exec: a shell in between would take the signal as its own and end.
  const command = ['exec', process.execPath, MAIN, ...run(process.execPath, folder.file('count.cjs'))].join(
    ' ',
  )
  const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'ignore'] })
  let out = ''
  terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  const closed = once(terminal, 'close')
  await until('the command has begun', () => out.includes('ready'))
  terminal.stdin.write('\x03')
  const [code] = await closed
  assert.match(out, /got 1\r\n/)
  assert.equal(code, 3)
  return undefined
})

test('a missing reference, or a value that no environment holds: nothing is started', async () => {
  writeFileSync(file, 'A=coffer://r/a\nB=coffer://r/none\nC=coffer://r/a@9\n')
  const mark = folder.file('started')
  const missing = await refused(1, run('touch', mark), { env })
  assert.match(missing, /\.env:2: B .*\n.*\.env:3: C /)
  writeFileSync(file, 'A=coffer://r/a\nN=coffer://r/nul\n')
  const nul = await refused(1, run('touch', mark), { env })
  assert.match(nul, /\.env:2: .*\bN\b.*NUL/)
  assert.ok(!`${missing}${nul}`.includes(CANARY))
  assert.ok(!existsSync(mark))
})
