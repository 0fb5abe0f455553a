// Files, owners and rights of the system around a node: streams in place of files, commands of root on a vault
// of another user, a configuration that the node cannot write beside, and faults told with path and reason.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Coffer } from '../../src/client/index.ts'
import { Folder, fine, freePort, init, NodeProcess, refused } from './cli.ts'
import { attributesOf, NOBODY, withoutNobody } from './other-user.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
/** A busy machine is no fault. */
const LONG_MS = 20_000

test('backup: - and /dev/stdout are stdout, a fifo is written into; all else is on stderr', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  const config = folder.file('v', 'n1.yaml')
  await using node = await NodeProcess.start(config)
  await node.stop()
  execFileSync('mkfifo', [folder.file('fifo')])
  const script = `
    "$@" -o - > one 2> told || exit
    "$@" -o /dev/stdout --json 2>> told | cat > two || exit
    cat fifo > three & "$@" -o fifo > four 2>> told || exit
    wait`
  const command = [process.execPath, MAIN, 'backup', '--config', config]
  execFileSync('sh', ['-c', script, 'sh', ...command], { cwd: folder.path, timeout: 30_000 })
  assert.deepEqual(readdirSync(folder.path).sort(), ['fifo', 'four', 'one', 'three', 'told', 'two', 'v'])
  assert.ok(lstatSync(folder.file('fifo')).isFIFO())
  const read = (name: string): string => readFileSync(folder.file(name), 'latin1')
  for (const name of ['one', 'two', 'three']) {
    assert.match(read(name), /^coffer backup /)
    const copy = folder.file(`restored-${name}`)
    await init(copy, '--port', '0')
    copyFileSync(folder.file('v', 'keyring.json'), join(copy, 'keyring.json'))
    await fine(['restore', folder.file(name), '--config', join(copy, 'n1.yaml')])
  }
  assert.match(read('told'), /^backup +-\n(?:.*\n)*\{"file":"\/dev\/stdout"/m)
  assert.match(read('four'), /^backup .*fifo$/m)
})

/** A vault of another user, and nodes of that user. */
class VaultOfNobody extends Folder {
  readonly config = this.file('v', 'n1.yaml')
  key = ''

  static async make(): Promise<VaultOfNobody> {
    const vault = new VaultOfNobody()
    chmodSync(vault.path, 0o755)
    vault.key = (await init(vault.file('v'), '--port', String(await freePort()))).default
    for (const path of ['.', 'keyring.json', 'n1.yaml']) chownSync(vault.file('v', path), 65534, 65534)
    return vault
  }

  /** All files with owner, group and mode, but those that come and go with a node. */
  get files(): string[] {
    return attributesOf(this.file('v')).filter((line) => !/^\S*(clean-stop|\.pid|\.lock|\.old) /.test(line))
  }

  /** Runs a node of the user until `work` is done. The node must become ready, and stop. */
  async whileRunning<T>(work: () => Promise<T>): Promise<T> {
    await using node = await NodeProcess.start(this.config, LONG_MS, { user: NOBODY })
    const result = await work()
    assert.equal(await node.stop(), 0, node.log.join('\n'))
    return result
  }
}

test('commands of root leave a vault to its user: owners, groups and modes', {
  skip: withoutNobody(),
}, async () => {
  using vault = await VaultOfNobody.make()
  const config = ['--config', vault.config]
  const backup = vault.file('backup')
  await vault.whileRunning(async () => undefined)
  const before = vault.files
  // Each command is followed by a start of the node.
  const run = async (...command: string[]): Promise<string> => {
    const told = await vault.whileRunning(() => fine([...command, ...config]))
    assert.deepEqual(vault.files, before, command.join(' '))
    return told
  }
  await run('keys', 'add', '--owner', 'default')
  const added = await run('keyring', 'add')
  const [old] = JSON.parse(await fine(['keyring', 'list', '--json', ...config])).root_keys.map(
    ({ id }: { id: string }) => id,
  )
  await run('keyring', 'activate', added)
  // No node runs: the command starts the node itself, as root.
  await fine(['keyring', 'rewrap', ...config])
  await fine(['keyring', 'remove', old, ...config])
  await fine(['replica', 'reset', ...config])
  await run('backup', '-o', backup)
  for (const name of readdirSync(vault.file('v')))
    assert.equal(lstatSync(vault.file('v', name)).uid, 65534, name)

  rmSync(vault.file('v', 'n1'), { recursive: true })
  await fine(['restore', backup, ...config])
  await vault.whileRunning(async () => {
    const client = new Coffer({
      urls: `http://127.0.0.1:${/listen: .*:(\d+)/.exec(readFileSync(vault.config, 'utf8'))?.[1]}`,
      key: vault.key,
    })
    await client.createSecret('a', 'x')
    client.close()
  })
  assert.deepEqual(vault.files, before)
})

test('a directory of the configuration that is read-only, and a keyring of root that its group may read', {
  skip: withoutNobody(),
}, async () => {
  using vault = await VaultOfNobody.make()
  mkdirSync(vault.file('data'))
  lchownSync(vault.file('data'), 65534, 65534)
  const text = readFileSync(vault.config, 'utf8').replace(/^data: .*/m, `data: ${vault.file('data')}`)
  writeFileSync(vault.config, text)
  chownSync(vault.file('v'), 0, 0)
  chmodSync(vault.file('v'), 0o755)
  for (const name of ['n1.yaml', 'keyring.json']) {
    chownSync(vault.file('v', name), 0, 65534)
    chmodSync(vault.file('v', name), 0o440)
  }
  await vault.whileRunning(async () => undefined)
  assert.deepEqual(readdirSync(vault.file('v')).sort(), ['keyring.json', 'n1.yaml'])
  await fine(['keyring', 'add', '--config', vault.config])
  const { uid, gid, mode } = statSync(vault.file('v', 'keyring.json'))
  assert.deepEqual([uid, gid, mode & 0o777], [0, 65534, 0o440])
})

test('a right that lacks is told with its path, and never as a port', {
  skip: withoutNobody(),
}, async (t: TestContext) => {
  using vault = await VaultOfNobody.make()
  await vault.whileRunning(async () => undefined)
  const data = vault.file('v', 'n1')
  for (const name of ['lock', 'events.ndjson', 'ledger/data.mdb', 'replica', '.']) {
    const path = join(data, name)
    const { mode } = lstatSync(path)
    chownSync(path, 0, 0)
    chmodSync(path, 0o700)
    const { status, stderr } = spawnSync(process.execPath, [MAIN, 'start', '--config', vault.config], {
      ...NOBODY,
      encoding: 'utf8',
      timeout: 20_000,
    })
    t.diagnostic(stderr.split('\n').findLast((line) => line.startsWith('coffer: ')) ?? stderr)
    assert.equal(status, 1, stderr)
    assert.match(stderr, /^coffer: .*\/v\/n1.*(EACCES|denied)/m)
    assert.doesNotMatch(stderr, /internal error|^ {4}at |port/m)
    chmodSync(path, mode & 0o7777)
    chownSync(path, 65534, 65534)
  }
})

test('start: wrong files of TLS are told by name before anything is opened', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  const config = folder.file('v', 'n1.yaml')
  appendFileSync(config, 'tls: { cert: ./keyring.json, key: ./none }\n')
  const told = await refused(1, ['start', '--config', config])
  assert.match(told, /keyring\.json is not a certificate in PEM/)
  assert.deepEqual(readdirSync(folder.file('v')).sort(), ['keyring.json', 'n1.yaml'])
})

test('commands refuse files of TLS as a start does, by name, before a member is asked or started', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--nodes', '3')
  const config = ['--config', folder.file('v', 'n1.yaml')]
  const [cert, key] = [folder.file('v', 'tls', 'n1.crt'), folder.file('v', 'tls', 'n1.key')]
  mkdirSync(folder.file('v', 'n1'))
  const commands = [
    ['backup', '-o', folder.file('out'), ...config],
    ['ledger', 'show', ...config],
    ['member', 'list', ...config],
    ['member', 'run', ...config],
    ['member', 'replace', 'n1', ...config],
    ['replica', 'verify', ...config],
  ]
  chmodSync(key, 0o644)
  // One after the other: two of the commands lock the data directory.
  for (const command of commands)
    assert.match(await refused(1, command), /n1\.key can be read by others \(mode 644\): chmod 600 it/)
  chmodSync(key, 0o600)
  const text = readFileSync(key, 'utf8')
  for (const [content, message] of [
    ['', /n1\.key is empty/],
    [readFileSync(cert, 'utf8'), /n1\.key is a certificate, not a private key: swap/],
    [readFileSync(folder.file('v', 'tls', 'n2.key'), 'utf8'), /n1\.key is not the key of the certificate/],
  ] as const) {
    writeFileSync(key, content)
    assert.match(await refused(1, commands[2]), message)
  }
  writeFileSync(key, text)
  rmSync(folder.file('v', 'tls', 'ca.crt'))
  assert.match(await refused(1, commands[2]), /ca\.crt is missing/)
})

test('what is no file, and no place for files, is told with path and next step', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  const config = ['--config', folder.file('v', 'n1.yaml')]
  assert.match(
    await refused(1, ['restore', folder.path, ...config]),
    /is not a regular file.*: name a file that/,
  )
  const keyring = folder.file('v', 'keyring.json')
  for (const [text, message] of [
    ['', /keyring\.json: the keyring is not JSON: put the right file in place/],
    ['{}', /keyring\.json: the keyring has no "format": 1: put the right file/],
  ] as const) {
    writeFileSync(keyring, text)
    for (const command of [['start'], ['keyring', 'list']])
      assert.match(await refused(1, [...command, ...config]), message)
  }
  rmSync(keyring)
  mkdirSync(keyring)
  assert.match(await refused(1, ['start', ...config]), /keyring\.json is a directory: name the file/)
  // Node's own recursive call for directories never ends there.
  if (process.platform === 'linux')
    assert.match(await refused(1, ['init', '/proc/v/w']), /\/proc\/v: .*\(ENOENT\)/)
})

test('encrypt: a file that is a mount of its own is refused before any node is asked', (t) => {
  if (spawnSync('unshare', ['-m', 'true']).status !== 0) return t.skip('no mounts here')
  using folder = new Folder()
  writeFileSync(folder.file('.env'), 'A=1\n')
  const script = 'mount --bind .env .env && "$@" env encrypt .env'
  const { status, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', script, 'sh', process.execPath, MAIN], {
    cwd: folder.path,
    encoding: 'utf8',
    env: { PATH: process.env.PATH, COFFER_KEY: 'x', COFFER_URL: 'http://127.0.0.1:1' },
  })
  assert.equal(status, 1)
  assert.match(stderr, /\.env cannot be replaced: a mount of its own: mount its directory/)
  assert.deepEqual(readdirSync(folder.path), ['.env'])
  return undefined
})
