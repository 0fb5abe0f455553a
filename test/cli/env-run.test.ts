// coffer env run, against a node: the places with values, and without; exit codes and signals.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Coffer } from '../../src/client/index.ts'
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
    const parent = !proc ? '' : read(process.ppid, 'environ')
    console.log(JSON.stringify({ env: process.env, args: process.argv.slice(1), seen, parent }))`
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
    assert.ok(told.seen[1].includes('\0run\0'), 'the parent is this command')
    for (const text of [...told.seen, told.parent]) assert.ok(!text.includes(CANARY))
  }
  assert.deepEqual(readdirSync(folder.file('work')), ['.env'])
  assert.ok(!readFileSync(file, 'utf8').includes(CANARY))
})

test('values of then; and a COFFER_KEY of the file is the command’s', async () => {
  const client = new Coffer({ urls: env.COFFER_URL, key: env.COFFER_KEY })
  const { versions } = await client.secretHistory('r/v')
  client.close()
  writeFileSync(file, 'V=coffer://r/v\nW=coffer://r/v@2\nCOFFER_KEY=other\n')
  const print = ['printenv', 'V', 'W', 'COFFER_KEY']
  assert.equal(await fine(run(...print), { env }), 'two\ntwo\nother')
  const then = ['env', 'run', file, '--at', versions[0].valid_from, '--', ...print]
  assert.equal(await fine(then, { env }), 'one\ntwo\nother')
})

test('without references no node is asked', async () => {
  writeFileSync(file, 'V=1\n')
  assert.equal(await fine(run('printenv', 'V')), '1')
})

test('exit codes: the command’s; 128 + n; 127 and 126', async () => {
  writeFileSync(file, 'V=1\n')
  writeFileSync(folder.file('plain'), 'echo')
  const cases: readonly (readonly [command: readonly string[], code: number])[] = [
    [['true'], 0],
    [['sh', '-c', 'exit 7'], 7],
    [['sh', '-c', 'kill -9 $$'], 137],
    [['sh', '-c', 'kill -SEGV $$'], 139],
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
    const [code] = await closed
    return `${out.replace('ready\n', '')}${code}`
  }
  const signals = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
  await Promise.all(
    signals.map(async (signal) => {
      const taken = `process.on('${signal}', () => { console.log('got ${signal}'); process.exit(5) })`
      assert.equal(await started(taken, (child) => child.kill(signal)), `got ${signal}\n5`)
    }),
  )
  for (const signal of ['SIGTERM', 'SIGUSR2'] as const)
    assert.equal(await started('', (child) => child.kill(signal)), String(128 + constants.signals[signal]))
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
