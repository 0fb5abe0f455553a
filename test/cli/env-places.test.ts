// coffer env where a file cannot be replaced, or is no file: found out before any secret exists, told with
// the way out, and completed by that way.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { coffer, Folder, fine, freePort, refused, startVault } from './cli.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const isRoot = process.getuid?.() === 0
const NOBODY = isRoot ? { uid: 65534, gid: 65534 } : {}
const CANARY = 'c4n4ry'

/** False where the file system, or the user, has no flags. */
const flag = (change: string, path: string): boolean => spawnSync('chattr', [change, path]).status === 0

/** `env encrypt` where a node that is asked would be told as one that does not answer. */
function encryptAs(user: { uid?: number; gid?: number }, cwd: string, args: readonly string[]) {
  const env = { PATH: process.env.PATH, COFFER_KEY: 'x', COFFER_URL: 'http://127.0.0.1:1' }
  return spawnSync(process.execPath, [MAIN, 'env', 'encrypt', ...args], {
    cwd,
    env,
    ...user,
    encoding: 'utf8',
  })
}

test('a file of another owner, in a sticky directory or not, and directories without rights', (t) => {
  if (spawnSync(process.execPath, [MAIN, '--version'], NOBODY).status !== 0)
    return t.skip('other users cannot read the sources')
  using folder = new Folder()
  chmodSync(folder.path, 0o755)
  const place = (name: string, mode: number, owner: number): string => {
    mkdirSync(folder.file(name))
    writeFileSync(folder.file(name, '.env'), `A=${CANARY}\n`, { mode: 0o644 })
    if (isRoot) chownSync(folder.file(name, '.env'), owner, owner)
    chmodSync(folder.file(name), mode)
    return `${name}/.env`
  }
  const another = / cannot be .*: .*write another file with -o$/m
  const cases: readonly (readonly [file: string, told: RegExp])[] = [
    ...(isRoot
      ? ([
          [
            place('sticky', 0o1777, 1234),
            /owner and group \(1234:1234\) cannot be kept .*write another file/,
          ],
          [place('open', 0o777, 1234), /owner and group \(1234:1234\) cannot be kept .*write another file/],
        ] as const)
      : []),
    [place('closed', 0o555, 65534), another],
    [place('no-x', 0o444, 65534), /no-x\/\.env: permission denied \(EACCES\)/],
    [place('no-r', 0o333, 65534), another],
  ]
  symlinkSync('closed/.env', folder.file('link'))
  for (const [file, told] of [...cases, ['link', another] as const]) {
    const { status, stderr } = encryptAs(NOBODY, folder.path, [file])
    assert.deepEqual([status, stderr.includes(CANARY)], [1, false], stderr)
    assert.match(stderr, told, file)
  }
  for (const [file] of cases) {
    chmodSync(folder.file(file, '..'), 0o755)
    assert.deepEqual(readdirSync(folder.file(file, '..')), ['.env'])
    assert.equal(readFileSync(folder.file(file), 'utf8'), `A=${CANARY}\n`)
  }
  return undefined
})

test('an immutable file, and a file on a read-only disk behind a link', (t) => {
  using folder = new Folder()
  const file = folder.file('.env')
  writeFileSync(file, `A=${CANARY}\n`)
  if (!flag('+i', file)) return t.skip('no flags here')
  try {
    const { status, stderr } = encryptAs({}, folder.path, ['.env'])
    assert.equal(status, 1)
    assert.match(
      stderr,
      /\.env cannot be replaced: its flags .*chattr -i -a .*, or write another file with -o/,
    )
  } finally {
    flag('-i', file)
  }
  mkdirSync(folder.file('disk'))
  writeFileSync(folder.file('disk', 'there'), 'A=1\n')
  symlinkSync('disk/there', folder.file('link'))
  const script =
    'mount --bind disk disk && mount -o remount,ro,bind disk || exit 9; exec "$@" env encrypt link'
  const { status, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', script, 'sh', process.execPath, MAIN], {
    cwd: folder.path,
    encoding: 'utf8',
    env: { PATH: process.env.PATH, COFFER_KEY: 'x', COFFER_URL: 'http://127.0.0.1:1' },
  })
  assert.ok(
    status === 9 || /link cannot be written: EROFS.*: write another file with -o$/m.test(stderr),
    stderr,
  )
  assert.deepEqual(readdirSync(folder.path).sort(), ['.env', 'disk', 'link'])
  return undefined
})

test('the way out: -o, with the journal beside OUT, also after an interruption', async () => {
  using folder = new Folder()
  mkdirSync(folder.file('closed'))
  const file = folder.file('closed', '.env')
  writeFileSync(file, `A=${CANARY}\n`)
  if (!isRoot) chmodSync(folder.file('closed'), 0o555)
  const closed = !isRoot || flag('+i', folder.file('closed'))
  const { node, env, client } = await startVault(folder)
  try {
    const args = ['env', 'encrypt', file, '--prefix', 'out/', '-o', folder.file('out')]
    const dead = { ...env, COFFER_URL: `http://127.0.0.1:${await freePort()}` }
    assert.match(await refused(1, args, { env: dead }), /Run the same command again/)
    assert.equal(existsSync(folder.file('.out.coffer')), closed)
    if (closed)
      assert.match(
        await refused(1, [...args.slice(0, -1), '-'], { env }),
        /no secret was created, since the journal .* cannot be written.*: with -o name a file/,
      )
    await fine(args, { env })
    assert.equal(readFileSync(folder.file('out'), 'utf8'), 'A=coffer://out/A\n')
    assert.deepEqual(readdirSync(folder.path).sort(), ['closed', 'out', 'v'])
    assert.deepEqual(readdirSync(folder.file('closed')), ['.env'])
    assert.equal((await client.secret('out/A')).value, CANARY)
  } finally {
    if (isRoot) flag('-i', folder.file('closed'))
    else chmodSync(folder.file('closed'), 0o755)
    client.close()
    await node[Symbol.asyncDispose]()
  }
})

test('what cannot be written after all: the secrets are told to exist, and the next run completes', async (t) => {
  using folder = new Folder()
  const file = folder.file('.env')
  writeFileSync(file, 'A=1\n')
  if (!flag('+i', file) || !flag('-i', file)) return t.skip('no flags here')
  const keys: unknown[] = []
  const server = createServer((request, response) => {
    keys.push(request.headers['idempotency-key'])
    if (keys.length === 1) flag('+i', file)
    const secrets = [{ name: 'A', version: 1, valid_from: '2026-01-01T00:00:00.000Z' }]
    const headers = { 'content-type': 'application/json' }
    request.resume().once('end', () => response.writeHead(201, headers).end(JSON.stringify({ secrets })))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const env = { COFFER_URL: `http://127.0.0.1:${address.port}`, COFFER_KEY: 'k' }
  try {
    const told = await refused(1, ['env', 'encrypt', file], { env })
    assert.match(told, /its flags forbid changes\nThe secrets are created\. Run the same command again/)
    assert.deepEqual(readdirSync(folder.path).sort(), ['..env.coffer', '.env'])
    flag('-i', file)
    await fine(['env', 'encrypt', file], { env })
    assert.equal(keys[0], keys[1])
    assert.deepEqual([readFileSync(file, 'utf8'), readdirSync(folder.path)], ['A=coffer://A\n', ['.env']])
  } finally {
    flag('-i', file)
    server.closeAllConnections()
    server.close()
  }
  return undefined
})

test('what is no file: a directory, a device without an end, stdin, a fifo', async () => {
  using folder = new Folder()
  const directory = /: illegal operation on a directory \(EISDIR\): name a file$/m
  for (const args of [
    ['env', 'encrypt', folder.path],
    ['env', 'expand', folder.path],
    ['env', 'run', folder.path, '--', 'true'],
    ['secret', 'create', 'a', '--value-from', folder.path],
  ])
    assert.match(await refused(1, args, { env: { COFFER_KEY: 'x' } }), directory)
  assert.match(await refused(1, ['env', 'expand', '/dev/zero']), /\/dev\/zero has more than 16777216 bytes/)
  assert.equal(await fine(['env', 'expand', '-'], { input: "A='b c'\n" }), "A='b c'")
  assert.equal(await fine(['env', 'run', '-', '--', 'printenv', 'A'], { input: 'A=1\n' }), '1')
  await refused(2, ['env', 'encrypt', '-'], { input: 'A=1\n' })
  spawnSync('mkfifo', [folder.file('fifo')])
  const result = coffer(['env', 'expand', folder.file('fifo')])
  const fifo = openSync(folder.file('fifo'), 'w')
  writeFileSync(fifo, 'A=1\n')
  closeSync(fifo)
  assert.deepEqual(await result, { code: 0, stdout: 'A=1\n', stderr: '' })
  assert.match(encryptAs({}, folder.path, ['/dev/null']).stdout, /nothing to encrypt/)
})
