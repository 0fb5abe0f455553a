// The shape of the source, checked: who may import whom (docs/architecture.md), lengths, dead files, banned calls.
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { test } from 'node:test'

const SEAMS = ['assert', 'errors', 'clock', 'wire', 'files', 'commit-delay']

/** What each room may import beside the seams, which all may, and itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  crypto: [],
  state: ['crypto'],
  ledger: [],
  replica: ['ledger', 'state'],
  backup: ['ledger', 'state', 'crypto', 'replica'],
  tokens: ['replica', 'state', 'crypto'],
  secrets: ['replica', 'state', 'crypto'],
  keys: ['replica', 'state', 'crypto'],
  events: [],
  json: [],
  http: ['json', 'tokens', 'secrets', 'replica', 'ledger', 'crypto', 'events'],
  node: ['ledger'],
  /** Opens everything in order and closes it in reverse: the one room that knows all. */
  server: ['crypto', 'state', 'ledger', 'replica', 'tokens', 'secrets', 'keys', 'events', 'http', 'node'],
  env: ['cli'],
  client: [],
  // The command line is a client of the API; it starts nodes, and edits their files.
  cli: ['client', 'env', 'server', 'node', 'crypto', 'replica', 'backup', 'http'],
}

/** Ratchets: today's largest. They may only go down; at 400 lines and 70 lines they end. */
const FILE_LINES = 450
const FUNCTION_LINES = 115

const sources = globSync('src/**/*.ts')
const code = sources.filter((file) => !file.endsWith('.test.ts') && file !== 'src/ledger/contract.ts')

const textOf = (file: string): string => readFileSync(file, 'utf8')
const roomOf = (file: string): string => file.split('/')[1].replace(/\.ts$/, '')

function imports(file: string): string[] {
  const found = [...textOf(file).matchAll(/(?:from|import\() ?'(\.[^']+)'/g)].map((match) => match[1])
  return found.map((path) => normalize(join(dirname(file), path)))
}

test('rooms import only what the table allows', () => {
  const wrong: string[] = []
  for (const file of code) {
    const room = roomOf(file)
    for (const target of imports(file)) {
      const other = roomOf(target)
      const allowed = other === room || SEAMS.includes(other) || (MAY_IMPORT[room] ?? []).includes(other)
      if (!allowed) wrong.push(`${file} imports ${target}`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('the table names every room, and no other', () => {
  const rooms = new Set(code.map(roomOf))
  for (const room of SEAMS) rooms.delete(room)
  assert.deepEqual([...rooms].sort(), Object.keys(MAY_IMPORT).sort())
})

test('every import is a file that is there, and every file is imported', () => {
  const used = new Set<string>([
    'src/server/start.ts',
    'src/cli/main.ts',
    'src/client/index.ts',
    'src/ledger/contract.ts',
  ])
  for (const file of sources) {
    for (const target of imports(file)) {
      assert.ok(existsSync(target), `${file} imports ${target}`)
      if (!file.endsWith('.test.ts') || target === 'src/ledger/memory.ts') used.add(target)
    }
  }
  assert.deepEqual(
    code.filter((file) => !used.has(file)),
    [],
  )
})

test('files and functions do not grow past what is there', () => {
  const long: string[] = []
  for (const file of code) {
    const lines = textOf(file).split('\n')
    if (lines.length - 1 > FILE_LINES) long.push(`${file}: ${lines.length - 1} lines`)
    for (const { name, length } of functions(lines)) {
      if (length > FUNCTION_LINES) long.push(`${file}: ${name} has ${length} lines`)
    }
  }
  assert.deepEqual(long, [])
})

/** Functions and methods, by the formatter's indentation: from their head to the brace that closes at its column. */
function functions(lines: readonly string[]): { name: string; length: number }[] {
  const found: { name: string; length: number }[] = []
  for (const [i, line] of lines.entries()) {
    const head =
      /^( *)(?:export |static |async |get |private |readonly )*(?:function\*? )?(#?[A-Za-z_]\w*)(?:<[^(]*>)?\(.*\{$/.exec(
        line,
      )
    if (!head || /^(if|for|while|switch|catch|return)$/.test(head[2])) continue
    const end = lines.findIndex((other, j) => j > i && other === `${head[1]}}`)
    if (end > 0) found.push({ name: head[2], length: end - i + 1 })
  }
  return found
}

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
    [/\bTODO\b|\bFIXME\b|\bXXX\b/, 'do it, or file it', []],
    [/export default/, 'name it', []],
    [/createHmac|Buffer\.compare\(.*key/, 'prf.ts, or timingSafeEqual', ['src/crypto/receipt.ts']],
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

test('documents have one title, and their links lead somewhere', () => {
  for (const file of ['README.md', 'CHANGELOG.md', ...globSync('docs/*.md')]) {
    const prose = textOf(file).replace(/```[\s\S]*?```/g, '')
    assert.equal(prose.split('\n').filter((line) => line.startsWith('# ')).length, 1, `${file} has one title`)
    for (const [, target] of prose.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(join(dirname(file), target)), `${file} links to ${target}`)
    }
  }
})
