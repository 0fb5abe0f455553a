// Checks the shape of the source: imports between rooms (docs/architecture.md), the numbers of
// tools/measure.ts, files that nothing imports, banned calls, titles and links of documents.
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { MAX_FILE_LINES, measure, type Summary, summaries } from '../tools/measure.ts'
import { importsOf, readRooms, roomOf } from './rooms.ts'

const textOf = (file: string): string => readFileSync(file, 'utf8')

/** The table under "Rooms" in docs/architecture.md: ground files, and the rooms that each room may import. */
const { ground, mayImport } = readRooms()

/**
 * Ratchets: limits of `npm run measure`, at the numbers measured last. A commit that improves a number lowers
 * its limit. `npm run measure -- --room NAME` lists the places.
 */
const AT_MOST: Readonly<Partial<Record<keyof Summary, number>>> = {
  maxLines: MAX_FILE_LINES,
  longFunctions: 0,
  longLines: 0,
  deadExports: 0,
  pronounShare: 2.1,
}

/** Fewest asserts per thousand lines of code, by room: the number measured last, rounded down. */
const ASSERTS_AT_LEAST: Readonly<Record<string, number>> = {
  backup: 13,
  crypto: 7,
  events: 5,
  keys: 36,
  ledger: 13,
  replica: 17,
  secrets: 20,
  server: 4,
  state: 26,
  tokens: 26,
}

const sources = globSync('src/**/*.ts')
const contracts = ['src/ledger/contract.ts', 'src/replica/store-contract.ts']
const code = sources.filter((file) => !file.endsWith('.test.ts') && !contracts.includes(file))

const measured = measure()

/** Stand-ins in memory, for tests. */
const TWINS = ['src/ledger/memory.ts', 'src/replica/memory-store.ts']

test('rooms import only what the table allows', () => {
  const wrong: string[] = []
  for (const file of code) {
    const room = roomOf(file)
    for (const target of importsOf(file)) {
      const other = roomOf(target)
      const allowed = other === room || ground.includes(other) || mayImport.get(room)?.includes(other)
      if (!allowed) wrong.push(`${file} imports ${target}`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('the table names every room, and no other', () => {
  const rooms = new Set(code.filter((file) => file.split('/').length > 2).map(roomOf))
  assert.deepEqual([...rooms].sort(), [...mayImport.keys()].sort())
  for (const [room, others] of mayImport) {
    for (const other of others)
      assert.ok(rooms.has(other), `${room} may import ${other}, which is not a room`)
  }
})

test('the root of src/ has the ground files of the table, and no other', () => {
  const root = code.filter((file) => file.split('/').length === 2).map(roomOf)
  assert.deepEqual(root.sort(), [...ground].sort())
})

test('every import is a file that is there, and every file is imported', () => {
  const used = new Set<string>([
    'src/server/start.ts',
    'src/cli/main.ts',
    'src/client/index.ts',
    'src/duckdb/index.ts',
    ...contracts,
  ])
  for (const file of sources) {
    for (const target of importsOf(file)) {
      assert.ok(existsSync(target), `${file} imports ${target}`)
      if (!file.endsWith('.test.ts') || TWINS.includes(target)) used.add(target)
    }
  }
  assert.deepEqual(
    code.filter((file) => !used.has(file)),
    [],
  )
})

test('files, functions, lines, exports and comments are measured, and do not get worse', () => {
  const found = summaries(measured)
  const worse: string[] = []
  for (const [name, most] of Object.entries(AT_MOST)) {
    const number = found.all[name as keyof Summary]
    if (number > most) worse.push(`${name}: ${number}, at most ${most}`)
  }
  for (const [room, least] of Object.entries(ASSERTS_AT_LEAST)) {
    const number = found[room]?.assertsPerThousand ?? 0
    if (number < least)
      worse.push(`asserts in ${room}: ${number.toFixed(1)} a thousand lines, at least ${least}`)
  }
  assert.deepEqual(worse, [], 'npm run measure -- --room NAME lists the places')
})

test('what is banned is not there', () => {
  const banned: readonly (readonly [RegExp, string, readonly string[]])[] = [
    [
      /Date\.now\(|new Date\(\)/,
      'use the clock',
      ['src/clock.ts', 'src/client', 'src/cli', 'src/ledger/etcd-client.ts'],
    ],
    [
      /randomBytes|Math\.random\(/,
      'use the clock',
      ['src/clock.ts', 'src/client', 'src/cli', 'src/env', 'src/json/member-names.ts'],
    ],
    [
      /console\.(log|info|warn|error)/,
      'log, or print in the command line',
      ['src/cli', 'src/replica/check.ts'],
    ],
    [/\bas any\b|: any(?=[,;)=[\]>])|@ts-ignore|@ts-expect-error/, 'say the type', []],
    [
      /\b(?:writeFile|appendFile|copyFile|rename|createWriteStream|truncate)(?:Sync)?\(/,
      'replace the file by files.ts',
      [
        'src/files.ts',
        'src/events', // a log, appended to; each rotated file is whole under either name
        'src/replica/checkpoint-directory.ts', // written in the background, and known by checksums
        'src/node/etcd-binary.ts', // a program, run for its version before each use
        'src/server/open.ts', // a directory
        'src/cli/member.ts', // a directory
        'src/cli/env/expand.ts', // pipes and devices
      ],
    ],
    [
      /process\.exit\(/,
      'endProcess',
      ['src/cli/local/process-end.ts', 'src/replica/check.ts'], // the second is killed by its parent
    ],
    [/\bTODO\b|\bFIXME\b|\bXXX\b/, 'do it, or file it', []],
    [/export default/, 'name it', []],
    [/^ +(?:private|protected|public) (?!constructor)/m, '#private', []],
    [
      /createHmac|Buffer\.compare\(.*key/,
      'prf.ts, or timingSafeEqual',
      ['src/crypto/receipt.ts', 'src/crypto/prf.ts', 'src/crypto/backup-key.ts'],
    ],
  ]
  const wrong: string[] = []
  for (const file of code) {
    for (const [pattern, instead, except] of banned) {
      if (pattern.test(textOf(file)) && !except.some((prefix) => file.startsWith(prefix))) {
        wrong.push(`${file}: ${pattern.source} (${instead})`)
      }
    }
  }
  assert.deepEqual(wrong, [])
})

test('the machine is pure: no clock, no randomness, no file, no store, no promise in state/', () => {
  const impure: readonly RegExp[] = [
    /from '(?:\.\.\/)+(?:clock|waiting|files|commit-delay|log)\.ts'/,
    /from '(?:node:(?!crypto'|zlib')[^']*|lmdb)'/,
    /\basync\b|\bawait\b|\bPromise\b|\bset(?:Timeout|Interval|Immediate)\(|\bqueueMicrotask\(/,
    /\brandom(?:Bytes|FillSync|Int|UUID)\b|\bperformance\b|\bprocess\./,
  ]
  const pure = code.filter((file) => roomOf(file) === 'state')
  assert.ok(pure.length > 5, 'the room has its files')
  for (const file of pure)
    for (const pattern of impure) assert.doesNotMatch(textOf(file), pattern, `${file}: ${pattern.source}`)
})

test('documents have one title, and their links lead somewhere', () => {
  for (const file of [...globSync('*.md'), ...globSync('docs/*.md')]) {
    const prose = textOf(file).replace(/```[\s\S]*?```/g, '')
    assert.equal(prose.split('\n').filter((line) => line.startsWith('# ')).length, 1, `${file} has one title`)
    for (const [, target] of prose.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(join(dirname(file), target)), `${file} links to ${target}`)
    }
  }
})

test('README and the pages of docs/ have at most 28,000 words', () => {
  const texts = ['README.md', ...globSync('docs/*.md')].map(textOf)
  const words = texts.flatMap((text) => text.split(/\s+/)).filter((word) => /[\p{L}\p{N}]/u.test(word))
  assert.ok(words.length <= 28_000, `${words.length} words: say each thing once`)
})
