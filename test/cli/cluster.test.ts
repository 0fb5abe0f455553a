// `coffer cluster` over one node with an embedded ledger, without etcd; test/cluster has three nodes with
// etcd.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { test } from 'node:test'
import { stopNodes } from '../../src/cli/cluster/stop.ts'
import {
  removeMemberPid,
  runningMember,
  runningNode,
  writeMemberPid,
} from '../../src/cli/local/node-process.ts'
import { type Config, readConfig } from '../../src/node/config.ts'
import { lockDirectory } from '../../src/node/lock.ts'
import { sendSignal } from '../signals.ts'
import { coffer, Folder, fine, freePort, init, isAlive, refused, until } from './cli.ts'

/** The files of one node; a running node is killed at the end of the test. */
class Place implements AsyncDisposable {
  readonly #folder = new Folder()
  readonly dir = this.#folder.file('v')
  readonly port: number

  private constructor(port: number) {
    this.port = port
  }

  static async make(): Promise<Place> {
    const place = new Place(await freePort())
    await init(place.dir, '--port', String(place.port))
    return place
  }

  file(...names: string[]): string {
    return this.#folder.file('v', ...names)
  }

  get config(): Config {
    return readConfig(this.file('n1.yaml'))
  }

  /** The process id in `run/n1.pid`. */
  get pid(): number {
    return Number(readFileSync(this.file('run', 'n1.pid'), 'utf8'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pid = runningNode(this.config)?.pid
    if (pid !== undefined) {
      sendSignal(pid, 'SIGKILL')
      await until('the end of the node', () => !isAlive(pid))
    }
    this.#folder[Symbol.dispose]()
  }
}

/** A waiting process with the given arguments on its command line. */
class Bystander implements AsyncDisposable {
  readonly child: ChildProcess

  constructor(...args: string[]) {
    this.child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', '--', ...args], {
      stdio: 'ignore',
    })
  }

  get pid(): number {
    return this.child.pid ?? assert.fail('it runs')
  }

  get signal(): NodeJS.Signals | null {
    return this.child.signalCode
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.signal !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await ended
  }
}

test('cluster: start, status, start again, stop, stop again', async () => {
  await using place = await Place.make()
  const { dir, file } = { dir: place.dir, file: place.file.bind(place) }
  const url = `http://127.0.0.1:${place.port}`
  const started = JSON.parse(
    await fine(['cluster', 'start', dir, '--json'], { env: { COFFER_KEY: 'cof_x' } }),
  )
  assert.deepEqual(started, { nodes: [{ node: 'n1', url, pid: place.pid }] })
  assert.equal(statSync(file('run', 'n1.log')).mode & 0o777, 0o600)
  assert.match(readFileSync(file('run', 'n1.log'), 'utf8'), /"msg":"ready"/)
  assert.doesNotMatch(readFileSync(`/proc/${place.pid}/environ`, 'utf8'), /COFFER_KEY=/)

  const { nodes } = JSON.parse(await fine(['cluster', 'status', dir, '--json']))
  const { quorum, leader, revision, ...rest } = nodes[0]
  assert.deepEqual(rest, {
    node: 'n1',
    url,
    pid: place.pid,
    member_pid: null,
    ready: true,
    reasons: [],
    lag: 0,
  })
  assert.ok(revision > 0 && quorum === true && leader === null)
  const shown = (await fine(['cluster', 'status', dir])).split('\n')
  assert.deepEqual(shown[0].split(/ {2,}/), [
    'node',
    'pid',
    'member pid',
    'ready',
    'quorum',
    'leader',
    'revision',
    'lag',
  ])
  assert.match(shown[1], new RegExp(`^n1 +${place.pid} +- +yes `))

  const { pid } = place
  const again = await fine(['cluster', 'start', dir])
  assert.deepEqual(
    again.split('\n').map((line) => line.split(/ +/)),
    [
      ['node', 'url', 'pid'],
      ['n1', url, String(pid)],
    ],
  )
  const stopped = await coffer(['cluster', 'stop', dir])
  assert.deepEqual([stopped.code, stopped.stdout, stopped.stderr], [0, '', 'stopped: n1\n'])
  assert.ok(!isAlive(pid) && !existsSync(file('run', 'n1.pid')))
  const none = await coffer(['cluster', 'stop', dir])
  assert.deepEqual([none.code, none.stderr], [0, `no node of ${dir} runs here\n`])
  const down = await coffer(['cluster', 'status', dir, '--json'])
  assert.equal(down.code, 1)
  const nothing = { pid: null, member_pid: null, quorum: null, leader: null, revision: null, lag: null }
  assert.deepEqual(JSON.parse(down.stdout).nodes, [
    { node: 'n1', url, ready: false, reasons: ['does not run'], ...nothing },
  ])
})

test('cluster start: a node that ends is told with its last words, one that is not ready with its reasons', async () => {
  await using place = await Place.make()
  const keyring = readFileSync(place.file('keyring.json'), 'utf8')
  writeFileSync(place.file('keyring.json'), '{}')
  const first = await refused(1, ['cluster', 'start', place.dir])
  assert.match(
    first,
    /node n1 has ended before it was ready \(exit code 1\); its log: .*run\/n1\.log\n {2}coffer: /,
  )
  writeFileSync(place.file('keyring.json'), keyring)
  mkdirSync(place.file('n1', 'replica'), { recursive: true })
  const text = readFileSync(place.file('n1.yaml'), 'utf8')
  writeFileSync(place.file('n1.yaml'), text.replace('127.0.0.1:', '192.0.2.1:').concat('insecure: true\n'))
  const second = await refused(1, ['cluster', 'start', place.dir])
  assert.match(second, /n1\.log\n {2}coffer: cannot listen on 192\.0\.2\.1/)
  assert.equal(second.match(/coffer: /g)?.length, 2, 'what the first one has left is not told again')
  writeFileSync(place.file('n1.yaml'), text)

  await fine(['cluster', 'start', place.dir])
  sendSignal(place.pid, 'SIGSTOP')
  const late = await refused(1, ['cluster', 'start', place.dir, '--wait', '1'])
  assert.match(late, /node n1 is not ready after 1 s: does not answer \(no answer in time\); its log: /)
  const { code, stdout, stderr } = await coffer(['cluster', 'status', place.dir])
  assert.deepEqual([code, stderr], [1, 'n1: does not answer (no answer in time)\n'])
  assert.match(stdout, new RegExp(`^n1 +${place.pid} +- +no +- `, 'm'))
  // The stopped process handles SIGTERM after SIGCONT, long before SIGKILL.
  const { pid } = place
  const began = performance.now()
  await fine(['cluster', 'stop', place.dir])
  assert.ok(!isAlive(pid) && performance.now() - began < 20_000)
  assert.match(readFileSync(place.file('run', 'n1.log'), 'utf8'), /"msg":"stopped"/)
})

test('cluster start: who answers at the address of a node that does not run is not taken for it', async () => {
  await using place = await Place.make()
  const server = createServer((_, response) => response.end('{"status":"ready"}'))
  await new Promise<void>((resolve) => server.listen(place.port, '127.0.0.1', resolve))
  try {
    const told = await refused(1, ['cluster', 'start', place.dir])
    assert.match(told, /node n1 does not run, but another program answers at http:/)
    assert.ok(!existsSync(place.file('run')))
    const { code, stderr } = await coffer(['cluster', 'status', place.dir])
    assert.deepEqual([code, stderr], [1, 'n1: does not run\n'])
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

test('cluster stop: a node that does not end is killed', async () => {
  await using place = await Place.make()
  await fine(['cluster', 'start', place.dir])
  const { pid } = place
  const socket = connect(place.port, '127.0.0.1')
  socket.on('error', () => undefined)
  // A complete request first, so that the node has the connection; then a request without its end.
  socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n')
  await once(socket, 'data')
  socket.write(
    'GET /health HTTP/1.1\r\nHost: x\r\n\r\nPOST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n',
  )
  await once(socket, 'data')
  assert.deepEqual(await stopNodes([place.config], 300), ['n1'])
  assert.ok(!isAlive(pid))
  assert.ok(existsSync(place.file('run', 'n1.pid')), 'it had no time to remove it')
  assert.deepEqual(await stopNodes([place.config], 300), [])
  socket.destroy()
})

test('cluster stop: no signal goes to the process of somebody else; a member that is left gets one', async () => {
  await using place = await Place.make()
  const { config } = place
  await using other = new Bystander()
  mkdirSync(place.file('run'))
  mkdirSync(place.file('n1'))
  writeFileSync(place.file('run', 'n1.pid'), `${other.pid}\n`)
  writeMemberPid(config, other.pid, assert.fail)
  await fine(['cluster', 'stop', place.dir])
  // Another command holds the lock; the system has given the id of the killed node to another process.
  const lock = lockDirectory(config.data)
  assert.match(await refused(1, ['cluster', 'stop', place.dir]), /is in use by an unknown process/)
  lock.release()
  assert.equal(other.signal, null)
  removeMemberPid(config)
  assert.ok(!existsSync(place.file('run', 'n1.etcd.pid')))

  await using member = new Bystander(`--data-dir=${config.data}/etcd`, '--name=n1')
  await using near = new Bystander(`--data-dir=${config.data}/etcd2`)
  writeMemberPid(config, near.pid, assert.fail)
  await until('its command line', () => readFileSync(`/proc/${near.pid}/cmdline`, 'utf8').includes('etcd2'))
  assert.equal(runningMember(config), undefined)
  writeMemberPid(config, member.pid, assert.fail)
  await until('the member', () => runningMember(config) === member.pid)
  removeMemberPid(config)
  assert.equal(runningMember(config), member.pid, 'the pid of a member that runs stays')
  assert.deepEqual(await stopNodes([config]), ['n1'])
  assert.equal(await until('the end of the member', () => member.signal), 'SIGTERM')
  assert.deepEqual([near.signal, other.signal], [null, null])
})

test('cluster: a directory without nodes, with one twice, with a port that nobody knows', async () => {
  using folder = new Folder()
  for (const command of ['start', 'stop', 'status']) {
    assert.match(await refused(1, ['cluster', command, folder.file('no')]), /is not a directory/)
    assert.match(await refused(1, ['cluster', command, folder.path]), /has no configuration of a node/)
  }
  await init(folder.file('v'), '--port', '0')
  assert.match(await refused(1, ['cluster', 'start', folder.file('v')]), /only its log names/)
  copyFileSync(folder.file('v', 'n1.yaml'), folder.file('v', 'copy.yaml'))
  assert.match(await refused(1, ['cluster', 'start', folder.file('v')]), /are both node n1/)
  assert.ok(!existsSync(folder.file('v', 'run')))
})
