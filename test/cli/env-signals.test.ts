// coffer env run: every exit code, and signals with a terminal. In both ways to run the command: coffer
// becomes the command, or the command is a child, as where the system cannot do better.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { become } from '../../src/cli/env/become.ts'
import { sendSignal } from '../signals.ts'
import { Folder, isAlive, until } from './cli.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

const folder = new Folder()
after(() => folder[Symbol.dispose]())
const file = folder.file('.env')
writeFileSync(file, 'V=1\n')

/** The program that resets signals would take such a path for a variable: the command is a child. */
function asChild(program: string): string {
  const link = folder.file(`child=${program.replaceAll('/', '_')}`)
  if (!existsSync(link)) symlinkSync(program, link)
  return link
}

const coreFiles = (): string[] => readdirSync(folder.path).filter((name) => name.startsWith('core'))

/** Signals that end a process. */
const DEADLY = [
  'HUP',
  'INT',
  'QUIT',
  'ILL',
  'TRAP',
  'ABRT',
  'BUS',
  'FPE',
  'KILL',
  'USR1',
  'SEGV',
  'USR2',
].concat(['PIPE', 'ALRM', 'TERM', 'XCPU', 'XFSZ', 'VTALRM', 'PROF', 'SYS'])

test('a child: all exit codes, and 128 + n of every signal that ends a process', async () => {
  const shell = asChild('/bin/sh')
  for (let code = 0; code < 256; code++)
    assert.equal(await become([shell, '-c', `exit ${code}`], process.env), code)
  for (const name of DEADLY) {
    const number = constants.signals[`SIG${name}` as NodeJS.Signals]
    const code = await become([shell, '-c', `ulimit -c 0; kill -${number} $$`], process.env)
    assert.equal(code, 128 + number, name)
  }
})

test('coffer becomes the command: exit codes as a shell sees them, and no core file', () => {
  const line = `
    run() { "$NODE" "$MAIN" env run .env -- "$@" 2>> told; printf '%s ' $?; }
    ulimit -c unlimited
    for code in 0 1 2 125 126 127 128 129 255; do run sh -c "exit $code"; done
    run none; run ./.env; run . ; run ./not-a-program
    ulimit -c 0
    for signal in HUP INT PIPE TERM KILL SEGV XFSZ; do run sh -c "kill -$signal \\$\\$"; done`
  writeFileSync(folder.file('not-a-program'), '#!/nowhere\n', { mode: 0o755 })
  const cache = folder.file('cache')
  const env = { PATH: process.env.PATH, NODE: process.execPath, MAIN, NODE_COMPILE_CACHE: cache }
  const { stdout } = spawnSync('bash', ['-c', line], { cwd: folder.path, env, encoding: 'utf8' })
  const deaths = (['SIGHUP', 'SIGINT', 'SIGPIPE', 'SIGTERM', 'SIGKILL', 'SIGSEGV', 'SIGXFSZ'] as const).map(
    (signal) => 128 + constants.signals[signal],
  )
  const expected = [0, 1, 2, 125, 126, 127, 128, 129, 255, 127, 126, 126, 126, ...deaths]
  assert.deepEqual(stdout.trim().split(' ').map(Number), expected)
  assert.deepEqual(coreFiles(), [])
  assert.doesNotMatch(readFileSync(folder.file('told'), 'utf8'), /^ {4}at /m)
})

const TAKES = `
  const { appendFileSync } = require('node:fs')
  const { spawnSync } = require('node:child_process')
  const log = (text) => appendFileSync(process.argv[2], text + '\\n')
  for (const each of ['SIGINT', 'SIGTERM', 'SIGWINCH']) process.on(each, () => log(each))
  process.on('SIGUSR1', () => spawnSync('stty', ['cols', '99'], { stdio: 'inherit' }))
  // A second signal would come before the timer.
  process.on('SIGHUP', () => { log('SIGHUP'); setTimeout(() => { log('end'); process.exit() }, 300) })
  setInterval(() => {}, 1e3); log(String(process.pid))`

for (const [way, program] of [
  ['become', process.execPath],
  ['a child', asChild(process.execPath)],
] as const) {
  test(`a terminal: SIGINT, SIGWINCH, SIGTERM and SIGHUP once each, ${way}`, async (t) => {
    if (spawnSync('script', ['--version']).status !== 0) return t.skip('no script(1)')
    writeFileSync(folder.file('takes.cjs'), TAKES)
    const log = folder.file(`log-${way}`)
    // A line counts once it is whole: the file is there before its first byte.
    const lines = (): string[] => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(0, -1) : [])
    const took = (what: string) => until(what, () => lines().includes(what))
    const own = [process.execPath, MAIN, 'env', 'run', file, '--', program, folder.file('takes.cjs'), log]
    // exec: coffer leads the session, and gets SIGHUP from the system.
    const command = `exec ${own.map((each) => `'${each}'`).join(' ')}`
    const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'ignore', 'ignore'] })
    const closed = once(terminal, 'close')
    await until('the command has begun', () => lines().length > 0)
    const pid = Number(lines()[0])
    try {
      terminal.stdin.write('\x03')
      await took('SIGINT')
      sendSignal(pid, 'SIGUSR1')
      await took('SIGWINCH')
      sendSignal(pid, 'SIGTERM')
      await took('SIGTERM')
      terminal.kill('SIGKILL')
      await took('end')
      await closed
    } finally {
      if (isAlive(pid)) sendSignal(pid, 'SIGKILL')
    }
    assert.deepEqual(lines().slice(1), ['SIGINT', 'SIGWINCH', 'SIGTERM', 'SIGHUP', 'end'])
    return undefined
  })
}
