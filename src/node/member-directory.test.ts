// When a member may start, and as what: by its data and by the mark beside the configuration.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { DEFAULT_LIMITS } from './config.ts'
import { MemberDirectory, memberPidFile } from './member-directory.ts'

const TOKEN = 'a-cluster'

class Node implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'coffer-member-'))
  readonly mark = join(this.path, 'n1.member')
  readonly config = {
    file: join(this.path, 'n1.yaml'),
    node: 'n1',
    listen: { host: '127.0.0.1', port: 0 },
    insecure: false,
    data: join(this.path, 'n1'),
    keyring: join(this.path, 'keyring.json'),
    owners: [],
    fields: [],
    limits: DEFAULT_LIMITS,
    ledger: {
      kind: 'etcd',
      endpoints: ['http://127.0.0.1:1'],
      member: { client: 'http://127.0.0.1:1', peer: 'http://127.0.0.1:2', cluster: {}, token: TOKEN },
    },
  } as const

  get directory(): MemberDirectory {
    return new MemberDirectory(this.config)
  }

  write(mark: string | undefined): void {
    if (mark === undefined) rmSync(this.mark, { force: true })
    else writeFileSync(this.mark, mark)
  }

  /** What etcd makes at its first start. */
  makeLog(): void {
    mkdirSync(join(this.directory.path, 'member', 'wal'), { recursive: true })
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true })
  }
}

const marked = (state: string, token = TOKEN): string => `${JSON.stringify({ token, state })}\n`

const BINARY = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i))
/** Every beginning of a mark, and other content. */
const DAMAGED = [
  ...Array.from(marked('bootstrapped').trimEnd(), (_, i) => marked('bootstrapped').slice(0, i)),
  BINARY,
  `\0${marked('joining')}`,
  ...['', '{', 'null', '[]', '{}', '"bootstrapped"', marked('odd'), '{"state":"bootstrapped"}'],
]

test('without data: new without a mark, existing where it joins, never where it was part of the cluster', () => {
  using node = new Node()
  const found = (mark: string | undefined): readonly [mayStart: boolean, state: string] => {
    node.write(mark)
    return [node.directory.lost === undefined, node.directory.state]
  }
  assert.deepEqual(found(undefined), [true, 'new'])
  assert.deepEqual(found(marked('bootstrapped', 'another-cluster')), [true, 'new'])
  assert.deepEqual(found(marked('joining')), [true, 'existing'])
  assert.deepEqual(found(marked('bootstrapped')), [false, 'existing'])
  for (const text of DAMAGED) assert.deepEqual(found(text), [false, 'existing'], text)
  assert.match(node.directory.lost ?? '', /data of member n1 is gone .* run `coffer member replace n1`/)
})

test('with data the member starts, whatever the mark says', () => {
  using node = new Node()
  node.makeLog()
  for (const mark of [undefined, marked('joining'), marked('bootstrapped'), ...DAMAGED]) {
    node.write(mark)
    assert.deepEqual([node.directory.lost, node.directory.state], [undefined, 'existing'], mark)
  }
})

test('data of a member whose mark has another token is of another cluster', () => {
  using node = new Node()
  node.write(marked('bootstrapped', 'another-cluster'))
  assert.equal(node.directory.foreign, undefined)
  node.makeLog()
  assert.match(node.directory.foreign ?? '', /n1\/etcd has the data of member n1 in another cluster/)
  for (const mark of [undefined, marked('joining'), marked('bootstrapped'), ...DAMAGED]) {
    node.write(mark)
    assert.equal(node.directory.foreign, undefined, mark)
  }
})

test('a mark that cannot be read: a warning that names the file and the way out', () => {
  using node = new Node()
  for (const mark of [undefined, marked('joining'), marked('bootstrapped')]) {
    node.write(mark)
    assert.equal(node.directory.warning, undefined)
  }
  for (const text of DAMAGED) {
    node.write(text)
    assert.match(
      node.directory.warning ?? '',
      /n1\.member cannot be read \(not the JSON of a mark\).* a new file/,
    )
  }
})

/** What stands in the place of the mark, and the error of the system. */
const UNREADABLE: readonly (readonly [(mark: string) => void, string])[] = [
  [(mark) => mkdirSync(mark), 'EISDIR'],
  [(mark) => symlinkSync('gone', mark), 'ENOENT'],
  [(mark) => symlinkSync('n1.member', mark), 'ELOOP'],
  [(mark) => symlinkSync(join('n1.yaml', 'file'), mark), 'ENOTDIR'],
]

test('a mark that the system cannot read: part of the cluster, with a warning, and left as it is', () => {
  for (const [make, code] of UNREADABLE) {
    using node = new Node()
    writeFileSync(node.config.file, '')
    make(node.mark)
    assert.deepEqual([node.directory.lost === undefined, node.directory.state], [false, 'existing'], code)
    assert.match(node.directory.warning ?? '', new RegExp(`n1\\.member cannot be read \\(${code}\\)`))
  }
})

test('a mark without the right to read: part of the cluster, with a warning', () => {
  using node = new Node()
  node.write(marked('joining'))
  chmodSync(node.path, 0o755)
  chmodSync(node.mark, 0)
  const isRoot = process.getuid?.() === 0
  // Root reads everything.
  if (isRoot) process.seteuid?.(65_534)
  try {
    assert.match(node.directory.warning ?? '', /n1\.member cannot be read \(EACCES\)/)
    assert.deepEqual([node.directory.lost === undefined, node.directory.state], [false, 'existing'])
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
})

test('marked as bootstrapped once the member has a log, not before; a mark that cannot be read stays', async () => {
  using node = new Node()
  const stop = new AbortController()
  node.directory.markJoining()
  assert.deepEqual(
    [readFileSync(node.mark, 'utf8'), statSync(node.mark).mode & 0o777],
    [marked('joining'), 0o600],
  )

  const stopped = node.directory.markBootstrapped(stop.signal)
  stop.abort()
  await stopped
  assert.equal(readFileSync(node.mark, 'utf8'), marked('joining'))

  const { signal } = new AbortController()
  const waiting = node.directory.markBootstrapped(signal)
  node.makeLog()
  await waiting
  assert.equal(readFileSync(node.mark, 'utf8'), marked('bootstrapped'))

  node.write('{')
  await node.directory.markBootstrapped(signal)
  assert.equal(readFileSync(node.mark, 'utf8'), '{')
})

test('a directory is free when no process of its pid file runs on it', {
  skip: !existsSync('/proc'),
}, async () => {
  using node = new Node()
  const { signal } = new AbortController()
  const pidFile = memberPidFile(node.config)
  await node.directory.untilFree(signal)
  mkdirSync(join(node.path, 'run'))
  for (const text of ['', 'odd', `${process.pid}\n`, '4194304999\n']) {
    writeFileSync(pidFile, text)
    await node.directory.untilFree(signal)
  }
  const flag = `--data-dir=${node.directory.path}`
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', '--', flag])
  await once(child, 'spawn')
  writeFileSync(pidFile, `${child.pid}\n`)
  let free = false
  const waiting = node.directory.untilFree(signal).then(() => {
    free = true
  })
  const stopped = new AbortController()
  stopped.abort()
  await node.directory.untilFree(stopped.signal)
  assert.equal(free, false)
  child.kill('SIGKILL')
  await waiting
})
