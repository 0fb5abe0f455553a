// coffer log: event logs of several nodes as one timeline.
import assert from 'node:assert/strict'
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { PassThrough, type Writable } from 'node:stream'
import { test } from 'node:test'
import { WriteStream } from 'node:tty'
import { findLogs } from '../../src/cli/log/files.ts'
import { filterOf } from '../../src/cli/log/filter.ts'
import { type LogEvent, parseLine } from '../../src/cli/log/line.ts'
import { merged, mergedInTurns } from '../../src/cli/log/merge.ts'
import { type Damage, LogSource } from '../../src/cli/log/source.ts'
import { detailsOf, lineFormatter } from '../../src/cli/log/text.ts'
import type { UsageError } from '../../src/errors.ts'
import { coffer, Folder, fine, refused, spawnCoffer, until } from './cli.ts'

type Given = {
  readonly seq: number
  readonly second: number
  readonly revision?: number
  readonly reason?: string
}

function line(node: string, { seq, second, ...fields }: Given): string {
  const time = new Date(Date.UTC(2030, 0, 1) + second * 1000).toISOString()
  return `${JSON.stringify({ time, node, seq, event: fields.revision ? 'replica.applied' : 'node.ready', ...fields })}\n`
}

function eventOf(given: Given): LogEvent {
  return parseLine(Buffer.from(line('n1', given))) ?? assert.fail()
}

function write(folder: Folder, node: string, lines: readonly Given[], name = 'events.ndjson'): void {
  mkdirSync(folder.file(node), { recursive: true })
  writeFileSync(folder.file(node, name), lines.map((each) => line(node, each)).join(''))
}

type Read = { readonly names: string[]; readonly damages: Damage[]; readonly events: LogEvent[] }

function read(...paths: string[]): Read {
  const damages: Damage[] = []
  const options = { follow: false, keep: () => true, damaged: (damage: Damage) => damages.push(damage) }
  const sources = findLogs(paths).map((place) => new LogSource({ place, ...options }))
  const events = [...merged(sources)]
  for (const source of sources) source.close()
  return { names: events.map(({ node, seq }) => `${node}.${seq}`), damages, events }
}

test('revisions decide, then times; events without a revision stand at their time', () => {
  using folder = new Folder()
  write(folder, 'n1', [
    { seq: 1, second: 1 },
    { seq: 2, second: 10, revision: 5 },
    { seq: 3, second: 11, revision: 4 },
    { seq: 4, second: 40 },
  ])
  // The clock of n2 is 20 s ahead.
  write(folder, 'n2', [
    { seq: 1, second: 30, revision: 4 },
    { seq: 2, second: 31, revision: 5 },
    { seq: 3, second: 35 },
  ])
  assert.deepEqual(read(folder.path).names, ['n1.1', 'n1.3', 'n2.1', 'n1.2', 'n2.2', 'n2.3', 'n1.4'])
})

test('a filter that matches little: an event holds its own bytes alone, and reading takes turns', () => {
  using folder = new Folder()
  const reason = 'r'.repeat(50_000)
  const lines = Array.from({ length: 400 }, (_, i) => ({ seq: i + 1, second: i, reason }))
  write(folder, 'n1', lines)
  const keep = ({ seq }: LogEvent): boolean => seq === 200
  const [place] = findLogs([folder.path])
  const source = new LogSource({ place, keep, follow: false, damaged: () => assert.fail() })
  const all = [...mergedInTurns([source])]
  source.close()
  const [event, ...others] = all.filter((event) => event !== undefined)
  assert.deepEqual([event?.seq, others], [200, []])
  assert.equal(event?.bytes.buffer.byteLength, line('n1', lines[199]).length - 1)
  assert.ok(all.length > 4, 'turns of 4 MiB in a log of 20 MB')
})

test('rotated files are read, oldest first; a file named beside its directory is read once', () => {
  using folder = new Folder()
  write(folder, 'n1', [{ seq: 9, second: 3 }], 'events-9.ndjson')
  write(folder, 'n1', [{ seq: 10, second: 3 }], 'events-10.ndjson')
  write(folder, 'n1', [{ seq: 11, second: 3 }])
  const expected = ['n1.9', 'n1.10', 'n1.11']
  assert.deepEqual(read(folder.file('n1'), folder.file('n1', 'events.ndjson')).names, expected)
  assert.deepEqual(read(folder.path, folder.file('n1')).names, expected)
})

test('damaged lines are told with file and line, and passed over', () => {
  using folder = new Folder()
  const good = line('n1', { seq: 1, second: 1 })
  mkdirSync(folder.file('n1'))
  const file = folder.file('n1', 'events.ndjson')
  writeFileSync(file, `${good}half\n[]\n${'x'.repeat(3_000_000)}\n${good}{"time":"2030`)
  const { names, damages } = read(file)
  assert.deepEqual(names, ['n1.1', 'n1.1'])
  assert.deepEqual(
    damages.map(({ line: number }) => number),
    [2, 3, 4, 6],
  )
  assert.ok(damages.every((damage) => damage.file === file))
})

test('longer logs than a window stay in order, and every event is there once', () => {
  using folder = new Folder()
  const count = 10_000
  const lines = (first: number): Given[] =>
    Array.from({ length: count }, (_, i) => ({
      seq: i + 1,
      second: i,
      ...(i % 2 ? { revision: first + i } : {}),
    }))
  write(folder, 'n1', lines(1))
  write(folder, 'n2', lines(2))
  const { events } = read(folder.path)
  assert.equal(events.length, 2 * count)
  const revisions = events.flatMap(({ revision }) => revision ?? [])
  assert.deepEqual(
    revisions,
    revisions.toSorted((a, b) => a - b),
  )
})

test('texts of an event move no cursor', () => {
  const told = detailsOf({ owner: 'clinic-a', reason: 'a\u001b[2J\u202e "b"\n', revision: 3, names: ['x'] })
  assert.equal(told, 'owner=clinic-a reason="a\\u001b[2J\\u202e \\"b\\"\\n" names=["x"]')
})

test('coffer log: columns, filters, the same bytes by --json, exit codes', async () => {
  using folder = new Folder()
  write(folder, 'n1', [
    { seq: 1, second: 1, reason: 'é' },
    { seq: 2, second: 2, revision: 7 },
  ])
  const text = await fine(['log', folder.path])
  assert.match(text, /^2030-01-01T00:00:01.000Z {2}n1 {8}node.ready {10}reason="\\u00e9"$/m)
  assert.match(text, /^2030-01-01T00:00:02.000Z {2}n1 {5}7 {2}replica.applied$/m)
  const json = await fine(['log', folder.path, '--json'])
  const [first, second] = [
    line('n1', { seq: 1, second: 1, reason: 'é' }),
    line('n1', { seq: 2, second: 2, revision: 7 }),
  ]
  assert.equal(`${json}\n`, first + second)
  const since = ['--since', '2030-01-01T00:00:02Z']
  assert.equal(`${await fine(['log', folder.path, '--json', ...since])}\n`, second)
  assert.equal(await fine(['log', folder.path, '--owner', 'nobody']), '')
  assert.equal(`${await fine(['log', folder.path, '--json', '--event', 'node.ready'])}\n`, first)
  assert.match(await refused(2, ['log', folder.path, '--since', 'yesterday']), /--since is not an instant/)
  assert.match(await refused(2, ['log', folder.path, '--event', 'rotated']), /epoch\.rotated/)
  assert.match(await refused(1, ['log', folder.file('nowhere')]), /does not exist/)
  appendFileSync(folder.file('n1', 'events.ndjson'), 'torn')
  const { code, stderr } = await coffer(['log', folder.path])
  assert.equal(code, 0)
  assert.match(stderr, /events\.ndjson:3: the last line is torn/)
})

test('a misspelt --event is refused, and near names are told', () => {
  const near: readonly (readonly [name: string, told: RegExp])[] = [
    ['epoch.rotate', /^use epoch\.rotated$/],
    ['leger.lsot', /^use ledger\.lost$/],
    ['observed', /^use epoch\.observed$/],
    ['replica', /^use replica\.applied, or replica\.caught-up, or replica\.rebuilt$/],
    ['nothing-like-it', /^use one of node\.started, .*requests\.refused$/],
  ]
  for (const [name, told] of near)
    assert.throws(
      () => filterOf({ event: ['node.ready', name] }),
      ({ message, hint }: UsageError) =>
        message === `--event ${name} is not the name of an event` && told.test(hint ?? ''),
      name,
    )
  assert.throws(() => filterOf({ event: ['\u001b[2J'] }), { message: '--event is not the name of an event' })
  assert.deepEqual([...(filterOf({ event: ['node.ready'] }).names ?? [])], ['node.ready'])
})

const KINDS_OF_EVENTS = [
  'ledger.lost',
  'request.refused',
  'ledger.leader',
  'epoch.rotated',
  'secret.read',
  'tokens.issued',
  'node.ready',
  'replica.applied',
  'requests.refused',
  'epochs.read',
  'secret.listed',
  'request.replayed',
  'foreign.event',
]

test('colours by kind, for a terminal alone, and not with NO_COLOR', () => {
  // The depth of a real terminal depends on the environment.
  const { getColorDepth } = WriteStream.prototype
  const terminal = Object.assign(new PassThrough(), { isTTY: true, getColorDepth })
  const linesOn = (stream: Writable): string[] =>
    KINDS_OF_EVENTS.map((event) => lineFormatter(stream)({ ...eventOf({ seq: 1, second: 1 }), event }))
  const before = ['NO_COLOR', 'FORCE_COLOR', 'TERM', 'CI'].map((name) => [name, process.env[name]] as const)
  try {
    for (const [name] of before) delete process.env[name]
    process.env.TERM = 'xterm-256color'
    const codes = linesOn(terminal).map((text) => /\x1b\[(\d+)m/.exec(text)?.[1])
    assert.deepEqual(codes, [
      '31',
      '33',
      '34',
      '35',
      '36',
      '32',
      '34',
      '2',
      '33',
      '35',
      '36',
      undefined,
      undefined,
    ])
    assert.doesNotMatch(linesOn(new PassThrough()).join(''), /\x1b/)
    process.env.NO_COLOR = '1'
    assert.doesNotMatch(linesOn(terminal).join(''), /\x1b/)
  } finally {
    for (const [name, value] of before)
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
  }
})

test('--follow waits for the first log, and shows the logs of nodes that come later', async () => {
  using folder = new Folder()
  const child = spawnCoffer(['log', folder.path, '--follow', '--json'])
  const told = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      told[name] += chunk
    })
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve))
  try {
    await until('a word about the wait', () => told.stderr.includes('no event log yet'))
    write(folder, 'n1', [{ seq: 1, second: 1 }])
    await until('the first log', () => told.stdout.includes('"node":"n1"'))
    write(folder, 'n2', [{ seq: 1, second: 1 }])
    await until('a log that came later', () => told.stdout.includes('"node":"n2"'))
    rmSync(folder.file('n2'), { recursive: true })
    appendFileSync(folder.file('n1', 'events.ndjson'), line('n1', { seq: 2, second: 2 }))
    await until('the log that is still there', () => told.stdout.includes('"seq":2'))
  } finally {
    child.kill('SIGINT')
  }
  assert.equal(await exit, 0)
  assert.equal(told.stdout.split('\n').length - 1, 3)
  assert.match(await refused(1, ['log', folder.file('nowhere'), '--follow']), /does not exist/)
})

test('a followed log goes on in a new file with the inode of a removed file', async (t) => {
  using folder = new Folder()
  const [path, moved] = [folder.file('n1', 'events.ndjson'), folder.file('n1', 'events.ndjson.1')]
  write(folder, 'n1', [{ seq: 1, second: 1 }])
  const [place] = findLogs([folder.path])
  const source = new LogSource({ place, keep: () => true, follow: true, damaged: () => assert.fail() })
  const shown = (): number[] => {
    source.again()
    return [...merged([source])].map(({ seq }) => seq)
  }
  const born = (): bigint => statSync(path, { bigint: true }).birthtimeNs
  const inodes = new Set<number>()
  try {
    for (let seq = 1; seq <= 4; seq++) {
      inodes.add(statSync(path).ino)
      assert.deepEqual(shown(), [seq])
      // As logrotate with `rotate 1`; the clock of the file system ticks in between.
      const before = born()
      rmSync(moved, { force: true })
      renameSync(path, moved)
      await until('a later birth', () => {
        rmSync(path, { force: true })
        write(folder, 'n1', [{ seq: seq + 1, second: 1 }])
        return born() !== before
      })
    }
  } finally {
    source.close()
  }
  if (inodes.size === 4) t.skip('the file system gives no inode anew')
})

test('--follow shows new lines and new files, and ends at SIGINT with 0', async () => {
  using folder = new Folder()
  write(folder, 'n1', [{ seq: 1, second: 1 }])
  const child = spawnCoffer(['log', folder.path, '--follow', '--json'])
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve))
  try {
    await until('the first event', () => text.includes('"seq":1'))
    const whole = line('n1', { seq: 2, second: 2 })
    appendFileSync(folder.file('n1', 'events.ndjson'), whole.slice(0, 20))
    appendFileSync(folder.file('n1', 'events.ndjson'), whole.slice(20))
    await until('a line in two parts', () => text.includes('"seq":2'))
    appendFileSync(folder.file('n1', 'events.ndjson'), line('n1', { seq: 3, second: 3 }))
    renameSync(folder.file('n1', 'events.ndjson'), folder.file('n1', 'events-1.ndjson'))
    write(folder, 'n1', [{ seq: 4, second: 4 }])
    await until('the events around a rotation', () => /"seq":3[\s\S]*"seq":4/.test(text))
  } finally {
    child.kill('SIGINT')
  }
  assert.equal(await exit, 0)
  assert.equal(text.split('\n').length - 1, 4)
})

test('--html writes a page for its owner alone; an existing file, --follow and --json are refused', async () => {
  using folder = new Folder()
  write(folder, 'n1', [{ seq: 1, second: 1, reason: '</script><script>alert(1)</script>' }])
  const out = folder.file('timeline.html')
  assert.equal(await fine(['log', folder.path, '--html', out]), '')
  assert.equal(statSync(out).mode & 0o777, 0o600)
  const page = readFileSync(out, 'utf8')
  assert.equal(page.match(/<\/script>/g)?.length, 2)
  assert.match(await refused(1, ['log', folder.path, '--html', out]), /exists already: .*--force/)
  assert.match(await refused(1, ['log', folder.path, '--html', '']), /names no file: name a file/)
  const { stderr } = await coffer(['log', folder.path, '--html', out, '--force'])
  assert.match(stderr, /^1 event in .*timeline\.html.*names of secrets and addresses/m)
  assert.equal(`${await fine(['log', folder.path, '--html', '-'])}\n`, page)
  assert.match(await refused(2, ['log', folder.path, '--html', out, '--follow']), /--follow/)
  assert.match(await refused(2, ['log', folder.path, '--html', out, '--json']), /--json/)
  assert.match(await refused(2, ['log', folder.path, '--force']), /--html/)
})
