// The published package: packed, installed elsewhere from the registry, and run by Node 24 and by the oldest
// Node that package.json promises. Needs npm's registry or cache, and half a minute to a minute; without a
// registry it is skipped.
import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, before, type TestContext, test } from 'node:test'

const ROOT = join(import.meta.dirname, '..', '..')
const MANIFEST = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const OLDEST = '22.18'
/** Deadlines: all of npm's work together, and the work with one vault. */
const NPM_MS = 90_000
const COMMAND_MS = 20_000

/** npm's errors where no registry is reachable. */
const OFFLINE =
  /\b(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT)\b/

const dir = mkdtempSync(join(tmpdir(), 'coffer-package-'))
const app = join(dir, 'app')
const oldNode = join(dir, 'node')
const deadline = AbortSignal.timeout(NPM_MS)
let packed: readonly string[] = []
let offline = false

type Result = { readonly code: number | null; readonly out: string; readonly err: string }
type Child = ChildProcessByStdio<null, Readable, Readable>

type Where = {
  readonly cwd: string
  readonly node?: string
  readonly env?: Readonly<Record<string, string>>
}

/**
 * Spawns a command without variables of Coffer, of the test runner and of npm's scripts; `node` comes first
 * on PATH.
 */
function begin(
  command: string,
  args: readonly string[],
  { cwd, node = process.execPath, env: more = {} }: Where,
): Child {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(COFFER_|NODE_|FORCE_COLOR|npm_(?:package|lifecycle))/.test(name),
  )
  const path = [dirname(node), process.env.PATH].join(delimiter)
  const env = { ...Object.fromEntries(own), PATH: path, ...more }
  return spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
}

async function run(child: Child, signal: AbortSignal): Promise<Result> {
  const kill = (): boolean => child.kill('SIGKILL')
  signal.addEventListener('abort', kill)
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  signal.removeEventListener('abort', kill)
  return { code, out, err }
}

/** Runs npm and returns its stdout. Sets `offline` where no registry is reachable. */
async function npm(cwd: string, ...args: string[]): Promise<string> {
  const { code, out, err } = await run(begin('npm', args, { cwd }), deadline)
  if (code !== 0 && OFFLINE.test(err)) offline = true
  else assert.equal(code, 0, deadline.aborted ? `npm ${args[0]} took too long` : err)
  return out
}

function install(folder: string, what: string): Promise<string> {
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
  // Install scripts bring the native parts of lmdb and the binary of npm's `node`.
  return npm(folder, 'install', '--ignore-scripts=false', '--no-audit', '--no-fund', '--prefer-offline', what)
}

async function packAndInstall(): Promise<void> {
  const out = await npm(ROOT, 'pack', '--json', '--pack-destination', dir)
  // The output of prepack stands before npm's JSON.
  const [{ filename, files }] = JSON.parse(out.slice(out.search(/^\[$/m)))
  packed = files.map((file: { path: string }) => file.path)
  await install(app, join(dir, filename))
}

before(() => Promise.all([packAndInstall(), install(oldNode, `node@${OLDEST}`)]))

after(() => rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }))

function skipOffline(t: TestContext): boolean {
  if (offline) t.skip('the registry of npm is not reachable')
  return offline
}

test('the package has its build, its documents and its license, and neither sources nor tests', () => {
  for (const file of [
    'LICENSE',
    'README.md',
    'CHANGELOG.md',
    'SECURITY.md',
    'docs/operating.md',
    'tools/etcd/go.sum',
  ])
    assert.ok(packed.includes(file), file)
  for (const file of [
    'dist/cli/main.js',
    'dist/client/index.js',
    'dist/client/index.d.ts',
    'dist/ledger/etcd.proto',
    'dist/cli/log/page/page.html',
    'dist/cli/log/page/page.js',
  ])
    assert.ok(packed.includes(file), file)
  const strange = packed.filter((file) =>
    /^(?:src|test|bench|examples)\/|\.test\.|contract|memory/.test(file),
  )
  assert.deepEqual(strange, [])
})

test('a program in TypeScript compiles against the package', async (t) => {
  if (skipOffline(t)) return
  const program = [
    "import { Coffer, CofferError, type Tokenized } from 'coffer'",
    "const coffer = new Coffer({ urls: 'http://127.0.0.1:8200', key: 'cof_x' })",
    "export const tokenized: Promise<Tokenized> = coffer.tokenize(['v'])",
    '// @ts-expect-error: the types are there, and are not any',
    'export const wrong: number = coffer',
    "export const error: Error = new CofferError('timeout', 'late')",
  ]
  writeFileSync(join(app, 'program.ts'), program.join('\n'))
  const types = ['--types', 'node', '--typeRoots', join(ROOT, 'node_modules/@types')]
  const options = [
    '--ignoreConfig',
    '--noEmit',
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2022',
    ...types,
  ]
  const tsc = begin(join(ROOT, 'node_modules/.bin/tsc'), [...options, 'program.ts'], { cwd: app })
  const { code, out } = await run(tsc, AbortSignal.timeout(COMMAND_MS))
  assert.equal(code, 0, out)
})

test('without DuckDB the error names the command that installs the package', async (t) => {
  if (skipOffline(t)) return
  const program = [
    "import { registerVault } from 'coffer/duckdb'",
    "const address = { urls: 'http://127.0.0.1:8200', key: 'cof_x' }",
    "await registerVault(undefined, address).catch((error) => console.log(error.name + ': ' + error.hint))",
  ]
  writeFileSync(join(app, 'duckdb.js'), program.join('\n'))
  const node = begin(process.execPath, ['duckdb.js'], { cwd: app })
  const { code, out, err } = await run(node, AbortSignal.timeout(COMMAND_MS))
  assert.deepEqual([code, err], [0, ''])
  assert.match(out, /^OperatorError: .*npm install @duckdb\/node-api$/m)
})

/** Inits a vault, starts its node, tokenizes by the SDK, and stops the node. stderr has log lines only. */
async function use(name: string, node: string): Promise<void> {
  const command = (...args: string[]): Child =>
    begin(join(app, 'node_modules/.bin/coffer'), args, { cwd: app, node })
  const signal = AbortSignal.timeout(COMMAND_MS)
  const made = await run(command('init', name, '--json', '--port', '0'), signal)
  assert.deepEqual([made.code, made.err], [0, ''])
  const [key] = Object.values(JSON.parse(made.out).owners)

  const started = command('start', '--config', join(name, 'n1.yaml'))
  const kill = (): boolean => started.kill('SIGKILL')
  signal.addEventListener('abort', kill)
  const log: string[] = []
  const ready = Promise.withResolvers<string>()
  createInterface({ input: started.stderr }).on('line', (line) => {
    log.push(line)
    if (line.includes('"msg":"ready"')) ready.resolve(JSON.parse(line).url)
  })
  started.stdout.resume()
  const closed = once(started, 'close')
  void closed.then(() => ready.reject(new Error(`the node ended:\n${log.join('\n')}`)))
  const url = await ready.promise

  const program = [
    "import { Coffer } from 'coffer'",
    `const coffer = new Coffer(${JSON.stringify({ urls: url, key })})`,
    "const { tokens } = await coffer.tokenize(['999-12-3456'])",
    'const { values } = await coffer.detokenize(tokens)',
    'const { version } = await coffer.status()',
    'console.log(JSON.stringify({ tokens, values, version, node: process.version }))',
    'coffer.close()',
  ]
  writeFileSync(join(app, `${name}.js`), program.join('\n'))
  const { code, out, err } = await run(begin(node, [`${name}.js`], { cwd: app, node }), signal)
  assert.deepEqual([code, err], [0, ''])
  const result = JSON.parse(out)
  assert.match(result.tokens[0], /^tok_1_[0-9a-hjkmnp-tv-z]{32}$/)
  assert.deepEqual(result.values, ['999-12-3456'])
  assert.equal(result.version, MANIFEST.version)
  assert.ok(result.node.startsWith(`v${name}`), result.node)

  started.kill('SIGTERM')
  assert.deepEqual(await closed, [0, null])
  signal.removeEventListener('abort', kill)
  for (const line of log) assert.match(line, /^\{.*\}$/)
}

test('the package on Node 24: init, start, a token by the SDK, stop', async (t) => {
  if (!skipOffline(t)) await use('24', process.execPath)
})

test('the package on the oldest Node that package.json promises: the same', async (t) => {
  assert.equal(MANIFEST.engines.node, `>=${OLDEST}`)
  if (!skipOffline(t)) await use(OLDEST, join(oldNode, 'node_modules/.bin/node'))
})

/** `npx coffer dev` until the token of its line of curl. Returns the milliseconds. */
async function firstToken(name: string, node: string): Promise<number> {
  const temporary = join(dir, `tmp-${name}`)
  mkdirSync(temporary)
  const signal = AbortSignal.timeout(COMMAND_MS)
  const started = performance.now()
  const dev = begin('npx', ['--no-install', 'coffer', 'dev'], { cwd: app, node, env: { TMPDIR: temporary } })
  dev.stderr.resume()
  const ended = once(dev.stdout, 'close')
  try {
    const curl = await new Promise<string>((resolve, reject) => {
      createInterface({ input: dev.stdout }).on('line', (line) => {
        if (line.startsWith('curl ')) resolve(line)
      })
      signal.addEventListener('abort', () => reject(new Error('no line of curl')))
    })
    const { out } = await run(begin('sh', ['-c', curl], { cwd: app }), signal)
    assert.match(out, /^\{"epoch":1,"tokens":\["tok_1_[0-9a-hjkmnp-tv-z]{32}"\]\}/)
    return performance.now() - started
  } finally {
    dev.kill('SIGTERM') // npx hands it to its shell alone
    await ended
    assert.deepEqual(
      readdirSync(temporary).filter((file) => file.startsWith('coffer-')),
      [],
      'the node and its directory are gone',
    )
  }
}

test('npx coffer dev: the first token within 10 s, on Node 24 and on the oldest Node', async (t) => {
  if (skipOffline(t)) return
  for (const [name, node] of [
    ['24', process.execPath],
    [OLDEST, join(oldNode, 'node_modules/.bin/node')],
  ] as const) {
    const ms = await firstToken(name, node)
    t.diagnostic(`Node ${name}: ${Math.round(ms)} ms`)
    assert.ok(ms < 10_000, `Node ${name}: ${ms} ms`)
  }
})
