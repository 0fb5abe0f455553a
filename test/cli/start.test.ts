import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { test } from 'node:test'
import { Coffer } from '../../src/client/index.ts'
import {
  coffer,
  Folder,
  fine,
  freePort,
  init,
  isAlive,
  MAIN,
  NodeProcess,
  refused,
  spawnCoffer,
  until,
} from './cli.ts'

const pidOf = (file: string): number => Number(readFileSync(file, 'utf8'))

test('start: ready, its pid beside the configuration, and SIGTERM and SIGINT end it with 0', async () => {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  const tokens: unknown[] = []
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
    assert.equal(pidOf(folder.file('v', 'run', 'n1.pid')), node.pid)
    const client = new Coffer({ urls: node.url, key, timeoutMs: 5_000 })
    tokens.push((await client.tokenize(['a value'])).tokens)
    client.close()
    node.signal(signal)
    assert.equal(await node.ended(), 0)
    assert.ok(!existsSync(folder.file('v', 'run', 'n1.pid')))
    assert.equal(node.told('"msg":"stopped"'), 1)
    assert.doesNotMatch(node.log.join('\n'), /ExperimentalWarning|Unhandled/)
  }
  assert.deepEqual(tokens[0], tokens[1])
})

test('a stop waits for what has begun; the second signal does not', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const { hostname, port } = new URL(node.url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => undefined)
  const answered = new Promise<void>((resolve) => socket.once('data', () => resolve()))
  // A complete request first, so that the node has the connection; then a request without its end.
  socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n')
  await answered
  socket.write(
    'GET /health HTTP/1.1\r\nHost: x\r\n\r\nPOST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n',
  )
  node.signal('SIGTERM')
  const refusedConnections = async (): Promise<boolean> =>
    new Promise((resolve) => {
      const probe = connect(Number(port), hostname)
      probe.once('error', () => resolve(true))
      probe.once('connect', () => {
        probe.destroy()
        resolve(false)
      })
    })
  await until('the node takes no more connections', refusedConnections)
  assert.ok(isAlive(node.pid))
  node.signal('SIGTERM')
  assert.equal(await node.ended(), 1)
  assert.ok(!existsSync(folder.file('v', 'run', 'n1.pid')))
  socket.destroy()
})

test('a configuration with five mistakes: all five are told', async () => {
  using folder = new Folder()
  const lines = [
    'node: N1',
    'listen: 8200',
    'data: ./n1',
    'keyring: k',
    'owners: []',
    'limits: { values: 0 }',
    'legder: {}',
  ]
  writeFileSync(folder.file('n1.yaml'), `${lines.join('\n')}\nledger: { kind: embedded }\n`)
  const told = await refused(1, ['start', '--config', folder.file('n1.yaml')])
  for (const path of ['node', 'listen', 'owners', 'limits.values', 'legder'])
    assert.match(told, new RegExp(`^  ${path}: `, 'm'))
  assert.match(told, /: 5 faults/)
})

test('a data directory in use, a port that is taken, a keyring that others can read', async () => {
  using folder = new Folder()
  const port = await freePort()
  await init(folder.file('v'), '--port', String(port))
  await init(folder.file('w'), '--port', String(port))
  const config = folder.file('v', 'n1.yaml')
  await using node = await NodeProcess.start(config)
  const inUse = await refused(1, ['start', '--config', config])
  assert.match(inUse, new RegExp(`is in use by another process \\(${node.pid}\\)`))
  assert.equal(pidOf(folder.file('v', 'run', 'n1.pid')), node.pid)
  const taken = await refused(1, ['start', '--config', folder.file('w', 'n1.yaml')])
  assert.match(taken, new RegExp(`port ${port}: another process has this port`))
  assert.ok(!existsSync(folder.file('w', 'run', 'n1.pid')))
  assert.ok(isAlive(node.pid))
  writeFileSync(folder.file('open.json'), readFileSync(folder.file('w', 'keyring.json')), { mode: 0o644 })
  const text = readFileSync(folder.file('w', 'n1.yaml'), 'utf8').replace('./keyring.json', '../open.json')
  writeFileSync(folder.file('w', 'n1.yaml'), text)
  assert.match(await refused(1, ['start', '--config', folder.file('w', 'n1.yaml')]), /chmod 600/)
})

test('without --config: made once, the key printed once', async () => {
  using folder = new Folder()
  const options = { cwd: folder.path }
  const first = spawnCoffer(['start'], options)
  let printed = ''
  first.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    printed += chunk
  })
  await until('the key', () => /cof_[0-9a-z]{52}\n/.test(printed))
  first.kill('SIGKILL')
  // The default port may be in use on the machine: a free port is as good.
  const config = folder.file('coffer-data', 'n1.yaml')
  await until('the end', () => first.exitCode !== null || first.signalCode !== null)
  writeFileSync(config, readFileSync(config, 'utf8').replace(':8200', ':0'))
  const second = spawnCoffer(['start'], options)
  let [out, log] = ['', '']
  second.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk
  })
  second.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    log += chunk
  })
  await until('ready', () => log.includes('"msg":"ready"'))
  second.kill('SIGTERM')
  await until('the end', () => second.exitCode === 0)
  assert.equal(out, '')
})

test('a process id that cannot be written is told, and the node runs', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  writeFileSync(folder.file('v', 'run'), 'a file in the place of the directory')
  await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  assert.equal(node.told(`cannot find process ${node.pid} by its file: EEXIST`), 1)
  assert.equal(await node.stop(), 0)
})

test('a log on a full disk ends nothing: the node serves, reads its files again, and ends with 0', {
  skip: !existsSync('/dev/full'),
}, async () => {
  using folder = new Folder()
  const port = await freePort()
  const { default: key } = await init(folder.file('v'), '--port', String(port))
  const full = openSync('/dev/full', 'w')
  const child = spawn(process.execPath, [MAIN, 'start', '--config', folder.file('v', 'n1.yaml')], {
    stdio: ['ignore', 'ignore', full],
  })
  closeSync(full)
  try {
    const client = new Coffer({ urls: `http://127.0.0.1:${port}`, key, timeoutMs: 20_000 })
    await client.tokenize(['a value'])
    // Two lines of the log; the new key is in force once the node has read the file.
    const added = await coffer(['keys', 'add', '--config', folder.file('v', 'n1.yaml'), '--owner', 'default'])
    assert.equal(added.code, 0, added.stderr)
    await client.tokenize(['a value'])
    client.close()
    child.kill('SIGTERM')
    await until('the end', () => child.exitCode !== null || child.signalCode !== null)
    assert.equal(child.exitCode, 0)
  } finally {
    child.kill('SIGKILL')
  }
})

test('SIGHUP with a mistake in a file: logged, and the other file is in force', async () => {
  using folder = new Folder()
  const { default: key } = await init(folder.file('v'), '--port', '0')
  await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const good = readFileSync(folder.file('v', 'n1.yaml'), 'utf8')
  writeFileSync(folder.file('v', 'n1.yaml'), good.replace('id: default', 'id: Default'))
  node.signal('SIGHUP')
  await until('the mistake is logged', () => node.told('the owners stay as read before') === 1)
  assert.equal(node.told('owners[0].id'), 1)
  await until('the keyring is read', () => node.told('keyring re-read') === 1)
  writeFileSync(folder.file('v', 'n1.yaml'), good)
  const ring = readFileSync(folder.file('v', 'keyring.json'), 'utf8')
  // Another vault's keyring cannot open the ledger.
  await init(folder.file('w'))
  writeFileSync(folder.file('v', 'keyring.json'), readFileSync(folder.file('w', 'keyring.json')))
  node.signal('SIGHUP')
  await until('the keyring is refused', () => node.told('not the keyring of this ledger') === 1)
  assert.deepEqual([node.told('owners re-read'), node.told('the keyring stays as read before')], [1, 1])
  writeFileSync(folder.file('v', 'keyring.json'), ring)
  const client = new Coffer({ urls: node.url, key })
  assert.equal((await client.tokenize(['x'])).epoch, 1)
  client.close()
})

test('a pid that a killed node has left is nobody’s: no other process gets the signal', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  const config = folder.file('v', 'n1.yaml')
  await using node = await NodeProcess.start(config)
  node.signal('SIGKILL')
  await node.ended()
  assert.ok(existsSync(folder.file('v', 'run', 'n1.pid')))
  // SIGHUP would end the process, as most processes.
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  try {
    writeFileSync(folder.file('v', 'run', 'n1.pid'), `${other.pid}\n`)
    const { code, stderr } = await coffer(['keys', 'add', '--config', config, '--owner', 'default'])
    assert.equal(code, 0)
    assert.match(stderr, /n1 is not running here/)
    assert.equal(other.signalCode, null)
  } finally {
    other.kill('SIGKILL')
  }
  await fine(['keys', 'list', '--config', config])
})
