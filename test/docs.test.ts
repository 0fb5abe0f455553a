// The documents are executed: their examples run against a node, their tables are compared with the code, and their
// vector is computed again.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { Command } from 'commander'
import { open } from 'lmdb'
import { verifyBackup } from '../src/backup/backup.ts'
import { EntryDigest } from '../src/backup/entry-digest.ts'
import { BackupWriter } from '../src/backup/file.ts'
import { type Clock, Deadline } from '../src/clock.ts'
import { Values } from '../src/crypto/canonical.ts'
import { deriveKey, EpochKey } from '../src/crypto/epoch-key.ts'
import { Keyring, newRootKey } from '../src/crypto/keyring.ts'
import { tokenText } from '../src/crypto/token.ts'
import { expand } from '../src/env/expand.ts'
import { readEnvFile } from '../src/env/file.ts'
import { replaceValues } from '../src/env/replace.ts'
import { PROBLEMS, type Slug } from '../src/errors.ts'
import { EVENT_NAMES } from '../src/events/event.ts'
import { LmdbLedger } from '../src/ledger/lmdb.ts'
import { ConfigError, DEFAULT_LIMITS, type Limits, parseConfig } from '../src/node/config.ts'
import { LmdbStore } from '../src/replica/lmdb-store.ts'
import { Tables } from '../src/replica/tables.ts'
import { encodeEntry } from '../src/state/entries.ts'
import { ledgerKey } from '../src/state/ledger-keys.ts'
import { encodePages } from '../src/state/page.ts'
import { decodeSegment, encodeSegment } from '../src/state/segment.ts'
import { EMPTY_META } from '../src/state/stored.ts'
import { LEDGER_FORMAT } from '../src/state/writer.ts'
import {
  REFS_A_REQUEST,
  SECRET_NAME_LENGTH,
  SECRET_VALUE_BYTES,
  SECRETS_A_REQUEST,
  SECRETS_BYTES_A_REQUEST,
} from '../src/wire.ts'
import { batchOf } from './batch.ts'
import { blocks, examples, Names } from './console.ts'
import { KEY_A, KEY_B, Vault } from './http/vault.ts'

const ROOT = join(import.meta.dirname, '..')
const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8')

/** What stands under a heading, down to the next one of its level or above. */
function section(file: string, heading: string): string {
  const [, after] = textOf(file).split(`\n${heading}\n`)
  assert.ok(after !== undefined, `${file} has no ${heading}`)
  const level = heading.indexOf(' ')
  return after.split(new RegExp(`^#{1,${level}} `, 'm'))[0]
}

/** The rows of the first table of a text, without its head. */
function rows(text: string): string[][] {
  const table = /(?:^\|.*\n)+/m.exec(text)?.[0] ?? assert.fail('there is a table')
  return table
    .trim()
    .split('\n')
    .slice(2)
    .map((row) => row.slice(1, -1).split(/(?<!\\)\|/))
    .map((cells) => cells.map((cell) => cell.trim()))
}

/** What stands in backquotes. */
const code = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text)

const sorted = (list: Iterable<string>): string[] => [...list].sort()

// ---- examples

/** A shell's words: quotes, and variables but in single quotes. */
function words(command: string, variables: ReadonlyMap<string, string>): string[] {
  const expand = (text: string): string =>
    text.replace(/\$(\w+)/g, (_, name) => variables.get(name) ?? assert.fail(`$${name} is not set`))
  return [...command.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)].map(([word]) =>
    [...word.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"]+)/g)]
      .map(([, plain, quoted, bare]) => plain ?? expand(quoted ?? bare))
      .join(''),
  )
}

type Call = { method: string; url: string; headers: Record<string, string>; body?: string; head: boolean }

function parseCurl([, ...args]: readonly string[]): Call {
  const call: Call = { method: '', url: '', headers: { authorization: '' }, head: false }
  while (args.length > 0) {
    const word = args.shift() ?? ''
    if (word === '-H') {
      const [, name, value] = /^([\w-]+): (.*)$/.exec(args.shift() ?? '') ?? assert.fail(`a header: ${word}`)
      call.headers[name.toLowerCase()] = value
    } else if (word === '-d') {
      call.body = args.shift() ?? ''
    } else if (word === '-X') call.method = args.shift() ?? ''
    else if (/^-s?i?$/.test(word)) call.head = word.includes('i')
    else if (word.startsWith('http')) call.url = word
    else assert.fail(`an example uses curl ${word}`)
  }
  call.method ||= call.body === undefined ? 'GET' : 'POST'
  return call
}

/** JSON without its insignificant white space. */
const tight = (json: string): string => json.replace(/("(?:[^"\\]|\\.)*")|[ \t\r\n]+/g, '$1')

async function runExamples(file: string, vault: Vault): Promise<number> {
  const names = new Names()
  const variables = new Map([
    ['COFFER_URL', 'http://127.0.0.1:8200'],
    ['COFFER_KEY', KEY_A],
    ['OTHER_KEY', KEY_B],
  ])
  let run = 0
  for (const { command, output } of blocks(file, 'console').flatMap(examples)) {
    const all = words(command, variables)
    if (all[0] === 'curl') {
      await runCurl(parseCurl(all), { vault, names, output })
      run++
    }
    // A key that the document does not tell is the one that is set above.
    for (const word of all) {
      const [, name, value] = /^([A-Z_]+)=([^…]*)$/s.exec(word) ?? []
      if (name !== undefined) variables.set(name, value)
      else if (!/^[A-Z_]+=/.test(word)) break
    }
  }
  return run
}

type Setting = { readonly vault: Vault; readonly names: Names; readonly output: string }

async function runCurl(call: Call, { vault, names, output }: Setting): Promise<void> {
  const { pathname, search } = new URL(call.url)
  // Without a type curl would send a form.
  const type = call.body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }
  const headers = { ...type, ...call.headers, authorization: call.headers.authorization || undefined }
  const body = call.body === undefined ? undefined : names.fill(call.body)
  const answer = await vault.call(call.method, names.fill(pathname + search), body, headers)
  const what = `${call.method} ${pathname}`
  if (!call.head) return names.match(tight(output), tight(answer.text), what)
  const [head, rest = assert.fail(`${what}: no empty line after the headers`)] = output.split('\n\n')
  const [status, ...lines] = head.split('\n')
  assert.match(status, new RegExp(`^HTTP/1\\.1 ${answer.status} `), what)
  for (const line of lines) {
    const [name, value] = line.split(': ')
    names.match(value, String(answer.headers[name]), `${what}: ${name}`)
  }
  names.match(tight(rest), tight(answer.text), what)
}

for (const [file, least] of [
  ['README.md', 3],
  ['docs/api.md', 30],
  ['docs/secrets.md', 10],
] as const) {
  test(`the examples of ${file} run, and answer what stands there`, async () => {
    await using vault = await Vault.start({ fields: ['patient.ssn', 'contacts[].phone'] })
    const run = await runExamples(file, vault)
    assert.ok(run >= least, `${run} examples`)
  })
}

describe('docs/env.md', () => {
  const [[text], [expected]] = ['before', 'after'].map((language) => blocks('docs/env.md', language))

  test('the example: there, and back', () => {
    const { secrets, text: encrypted } = replaceValues(readEnvFile(Buffer.from(text), '.env'), 'app/prod/')
    assert.equal(encrypted, expected)
    assert.equal(secrets.length, 4)
    const values = new Map(secrets.map(({ name, value }) => [`coffer://${name}`, value]))
    values.set('coffer://shared/token@3', 'coffer://shared/token@3')
    assert.equal(expand(readEnvFile(Buffer.from(encrypted), '.env'), values, 'node').text, text)
  })

  test('what is refused is refused', () => {
    const faults = rows(section('docs/env.md', '## What is refused')).map(([, example]) => code(example))
    const given = faults.filter((lines) => lines.length > 0)
    assert.ok(given.length >= 7)
    for (const lines of given) {
      const file = (): unknown =>
        replaceValues(readEnvFile(Buffer.from(`OK=1\n${lines.join('\n')}\nZ=9\n`), '.env'), '')
      assert.throws(file, { name: 'OperatorError' }, lines.join('\n'))
    }
  })
})

// ---- tables

test('docs/secrets.md: limits, and problems with their statuses', () => {
  const limits = rows(section('docs/secrets.md', '## Limits'))
  assert.deepEqual(
    limits.slice(0, 5).map(([, limit]) => limit),
    [
      String(SECRET_NAME_LENGTH),
      `${SECRET_VALUE_BYTES / 1024} KiB`,
      String(SECRETS_A_REQUEST),
      `${SECRETS_BYTES_A_REQUEST / 1024} KiB`,
      REFS_A_REQUEST.toLocaleString('en-US'),
    ],
  )
  const problems = rows(section('docs/secrets.md', '## Errors')).map(([status, slug]) => [
    code(slug)[0],
    status,
  ])
  const beyond = limits.map(([, , answer]) => [code(answer)[0], answer.split(' ')[0]])
  for (const [slug, status] of [...problems, ...beyond])
    assert.equal(String(PROBLEMS[slug as Slug]?.status), status, slug) // undefined where the table has no such slug
})

test('docs/events.md has every event, and says which are written', () => {
  const told = rows(section('docs/events.md', '## Events'))
  assert.deepEqual(sorted(told.map(([name]) => code(name)[0])), sorted(EVENT_NAMES))
  const sources = globSync('src/**/*.ts', { cwd: ROOT }).filter((file) => !file.endsWith('.test.ts'))
  const written = sources.flatMap((file) => [
    ...textOf(file).matchAll(/\b(?:emit\(|event: )'([a-z]+\.[a-z-]+)'/g),
  ])
  assert.deepEqual(
    sorted(told.filter(([, when]) => !when.startsWith('reserved')).map(([name]) => code(name)[0])),
    sorted(new Set(written.map(([, name]) => name))),
  )
  const fields = rows(section('docs/events.md', '## Fields')).flatMap(([name]) => code(name))
  for (const [name, , of] of told)
    assert.deepEqual(
      code(of).filter((field) => !fields.includes(field)),
      [],
      `the fields of ${name}`,
    )
})

describe('docs/operating.md', () => {
  const [example] = blocks('docs/operating.md', 'yaml')
  /** With as many bytes in work as the limit may need. */
  const withLimit = (name: string, value: number): string =>
    `${example}limits: ${JSON.stringify({ bodies_in_work_bytes: 2 ** 30, [name]: value })}\n`

  test('limits: names, defaults, and the most that is taken', () => {
    const told = rows(section('docs/operating.md', '### Limits'))
    const defaults = told.map(([name, value]) => [code(name)[0], Number(value)])
    assert.deepEqual(Object.fromEntries(defaults), DEFAULT_LIMITS)
    for (const [cell, , most] of told) {
      const [name] = code(cell)
      const { limits } = parseConfig(withLimit(name, Number(most)), 'n1.yaml')
      assert.equal(limits[name as keyof Limits], Number(most)) // the names were just compared
      assert.throws(() => parseConfig(withLimit(name, Number(most) + 1), 'n1.yaml'), ConfigError, name)
    }
  })

  test('limits: those of docs/api.md are the same', () => {
    const told = rows(section('docs/api.md', '## Limits')).map(([, limit]) => limit)
    const { body_bytes, values, value_bytes, answer_bytes, bodies_in_work_bytes } = DEFAULT_LIMITS
    const mib = (bytes: number): string => `${bytes / 2 ** 20} MiB`
    assert.deepEqual(told.slice(0, 5), [
      mib(body_bytes),
      values.toLocaleString('en-US'),
      `${value_bytes / 1024} KiB`,
      mib(answer_bytes),
      mib(bodies_in_work_bytes),
    ])
  })

  test('the configuration: its members, and an example that is right', () => {
    const { fields, owners } = parseConfig(example, 'n1.yaml')
    assert.deepEqual([fields.length, owners.length], [2, 1])
    const told = rows(section('docs/operating.md', '## Configuration')).flatMap(([names]) => code(names))
    const fault = (): string => {
      try {
        parseConfig(`${example}other: 1\n`, 'n1.yaml')
      } catch (error) {
        if (error instanceof ConfigError) return error.faults[0].message
      }
      return assert.fail('an unknown member is refused')
    }
    const known = /known here are ([\w, ]+)/.exec(fault())?.[1].split(', ') ?? []
    assert.deepEqual(sorted(told.map((name) => name.split('.')[0])), sorted(known))
  })

  test('metrics: every one, and no other', async () => {
    await using vault = await Vault.start()
    const there = (await vault.get('/metrics')).text.matchAll(/^# TYPE (coffer_\w+)/gm)
    const told = rows(section('docs/operating.md', '## Metrics')).flatMap(([, names]) => code(names))
    assert.deepEqual(sorted(told), sorted([...there].map(([, name]) => name)))
  })
})

test('docs/dependencies.md has every package, and says which are imported', () => {
  const manifest: Record<string, Record<string, string>> = JSON.parse(textOf('package.json'))
  const sources = globSync('src/**/*.ts', { cwd: ROOT }).map(textOf).join('\n')
  const imported = (name: string): boolean => new RegExp(`(from |import\\()'${name}['/]`).test(sources)
  for (const [heading, member] of [
    ['## At run time', 'dependencies'],
    ['## For development', 'devDependencies'],
  ] as const) {
    const told = rows(section('docs/dependencies.md', heading))
    assert.deepEqual(sorted(told.map(([name]) => code(name)[0])), sorted(Object.keys(manifest[member])))
    if (member === 'devDependencies') continue
    for (const [cell, what] of told) {
      const [name] = code(cell)
      assert.equal(
        what.startsWith('not imported'),
        !imported(name),
        `${name} is imported, or is said not to be`,
      )
    }
  }
})

test('README.md: every number of Coffer and of a peer stands in docs/benchmarks.md', () => {
  const [measured, peers] = textOf('docs/benchmarks.md').split('\n## Peers\n')
  const told = rows(section('README.md', '## What was measured'))
  assert.ok(told.length >= 5)
  for (const [what, coffer, peer] of told) {
    const number = (text: string): string => /^[\d.,]+/.exec(text)?.[0] ?? assert.fail(`${what}: ${text}`)
    assert.ok(measured.includes(number(coffer)), `${what}: ${coffer}`)
    assert.ok(peers.includes(number(peer)), `${what}: ${peer}`)
  }
})

test('docs/README.md has every page once, on one of three shelves, with a line of what it is', () => {
  const told = ['## Use', '## Operate', '## Inside'].flatMap((heading) => {
    const lines = section('docs/README.md', heading).split('\n')
    const pages = lines.filter((line) => line.startsWith('- '))
    assert.ok(pages.length > 2, heading)
    return pages.map((line) => /^- \[[^\]]+\]\(([\w-]+\.md)\): .{10,}$/.exec(line)?.[1] ?? assert.fail(line))
  })
  const pages = globSync('*.md', { cwd: join(ROOT, 'docs') }).filter((file) => file !== 'README.md')
  assert.deepEqual(sorted(told), sorted(pages))
})

test('links within the documents lead to headings that are there', () => {
  const slug = (heading: string): string =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-')
  const anchors = (file: string): string[] =>
    [...textOf(file).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => slug(heading))
  for (const file of ['README.md', ...globSync('docs/*.md', { cwd: ROOT })]) {
    for (const [, target, anchor] of textOf(file).matchAll(/\]\(((?!https?:)[^)#]*)#([^)]*)\)/g)) {
      const into = target === '' ? file : join(dirname(file), target)
      assert.ok(anchors(into).includes(anchor), `${file} links to ${target}#${anchor}`)
    }
  }
})

// ---- the command line

test('docs/cli.md has every command with every option', async () => {
  const program = new Command()
  for (const file of globSync('src/cli/**/*.ts', { cwd: ROOT })) {
    if (/(main|\.test)\.ts$/.test(file)) continue // they run when they are imported
    const module: Record<string, unknown> = await import(pathToFileURL(join(ROOT, file)).href)
    for (const [name, register] of Object.entries(module)) {
      if (name.startsWith('register') && typeof register === 'function') register(program)
    }
  }
  const main = join(ROOT, 'src/cli/main.ts')
  const flags = ['--disable-warning=ExperimentalWarning', main, '--help']
  const help = execFileSync(process.execPath, flags, { encoding: 'utf8' })
  const [, list = ''] = /^Commands:\n((?: {2}.*\n)+)/m.exec(help) ?? []
  const shown = [...list.matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name).filter((name) => name !== 'help')
  assert.deepEqual(sorted(shown), sorted(program.commands.map((command) => command.name())))

  const there = new Map<string, string[]>()
  const walk = (command: Command, name: string): void => {
    const options = command.options.map(({ long }) => long ?? '')
    if (command.commands.length === 0 || options.length > 0) there.set(name, sorted(options))
    for (const inner of command.commands) walk(inner, `${name} ${inner.name()}`)
  }
  for (const command of program.commands) walk(command, `coffer ${command.name()}`)
  const told = new Map<string, string[]>()
  const names = (cell: string): string[] => sorted(code(cell).map((option) => option.split(' ')[0]))
  for (const [heading, name] of textOf('docs/cli.md').matchAll(/^## (coffer .*)$/gm)) {
    const text = section('docs/cli.md', heading)
    const [, first] = /^\| (command|option) /m.exec(text) ?? []
    // A table of commands, or the options of the one command.
    if (first === 'command')
      for (const [command, options] of rows(text)) told.set(code(command)[0], names(options))
    else told.set(name, first === 'option' ? sorted(rows(text).flatMap(([cell]) => names(cell))) : [])
  }
  assert.deepEqual(Object.fromEntries(told), Object.fromEntries(there))
})

// ---- the vector

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const range = (from: number, count: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => from + i)

const WRITER = { boot: hex(range(0, 16)), commit: 7 }
const OPENED = '2026-01-01T00:00:00.000Z'

function tokenParts(): Record<string, string> {
  const root = range(0, 32)
  const key = new EpochKey('clinic-a', 3, root)
  const values = new Values()
  values.pushString('999-12-3456', 1000)
  const bodies = key.bodies(values)
  const check = key.checkBlocks(bodies, 1).subarray(0, 4)
  const sealed = key.seal(values, bodies, Uint32Array.of(0))
  const run = { mappings: sealed, from: 0, to: 1 }
  const segment = encodeSegment({ owner: 'clinic-a', epoch: 3, writer: WRITER }, [run])
  const [page] = encodePages(decodeSegment(segment, WRITER.boot, WRITER.commit), 2, 5)
  const derived = (purpose: string): string => hex(deriveKey(root, purpose, 'clinic-a', 3))
  return {
    'epoch root key': hex(root),
    'token key': derived('token'),
    'check key': derived('check'),
    'sealing key': derived('seal'),
    'canonical value': hex(values.bytes.subarray(0, values.length[0])),
    padded: hex(values.bytes.subarray(0, values.used * 8)),
    body: hex(bodies),
    check: hex(check),
    token: tokenText(3, bodies, check),
    sealed: hex(sealed.bytes),
    segment: hex(segment),
    page: hex(page),
    'epoch entry': hex(encodeEntry({ kind: 'epoch', owner: 'clinic-a', active: 3 }, WRITER)),
    ...digestParts(bodies, segment),
  }
}

function digestParts(bodies: Uint8Array, segment: Uint8Array): Record<string, string> {
  const digest = new EntryDigest()
  const epoch = { kind: 'epoch', owner: 'clinic-a', active: 3 } as const
  digest.add(ledgerKey.epoch('clinic-a'), encodeEntry(epoch, WRITER))
  const wrapped = Buffer.from(keyringParts()['wrapped key'], 'hex')
  const key = { kind: 'key', owner: 'clinic-a', epoch: 3, wrapped, openedAt: OPENED } as const
  digest.add(ledgerKey.wrappedKey('clinic-a', 3), encodeEntry(key, WRITER))
  digest.add(ledgerKey.segment(WRITER.boot, WRITER.commit), segment)
  const tables = new Tables()
  tables.add(0, 'clinic-a', 3)
  const words = [...tables.insert(0, bodies, 1, 0).sum].map((word) => word.toString(16).padStart(8, '0'))
  return { 'body sum': words.reverse().join(''), digest: digest.digest() }
}

/** Random keys are the bytes from `from` on, nonces the bytes from 0 on. */
function countingClock(from: number): Clock {
  const now = (): number => Date.parse(OPENED)
  return { now, monotonic: now, random: (length: number) => range(length === 32 ? from : 0, length) }
}

function exampleKeyring(): Keyring {
  const root = newRootKey(countingClock(32))
  return new Keyring([root], root.id)
}

function keyringParts(): Record<string, string> {
  const clock = countingClock(32)
  const ring = exampleKeyring()
  assert.deepEqual(JSON.parse(ring.serialize()), JSON.parse(blocks('docs/format.md', 'json')[0]))
  return {
    'root key id': ring.active,
    'wrapped key': hex(ring.wrap(range(0, 32), ['epoch', 'clinic-a', '3'], clock)),
  }
}

/** The first ones of test/vectors/secrets.json, which test/vectors.test.ts compares with the code. */
function secretParts(): Record<string, string> {
  const { versions, receipts } = JSON.parse(textOf('test/vectors/secrets.json'))
  const [version, receipt]: Record<string, string>[] = [versions[0], receipts[0]]
  const digest = new EntryDigest()
  for (const [key, bytes] of [
    [receipt.key, receipt.entry],
    [version.key, version.entry],
  ])
    assert.ok(digest.add(key, Buffer.from(bytes, 'hex')))
  return {
    'data key': version.data_key,
    'secret sealed': version.sealed,
    'data key wrapped': version.wrapped,
    'version key': version.key,
    'version entry': version.entry,
    'secret digest': digest.digest(),
    'receipt key': receipt.key,
    'request mac': receipt.mac,
    'receipt entry': receipt.entry,
  }
}

async function recordParts(dir: string): Promise<Record<string, string>> {
  const parts: Record<string, string> = {}
  const ledger = new LmdbLedger(join(dir, 'ledger'))
  await ledger.commit({ if: [], put: [{ key: 'a', value: Buffer.from('xyz') }] }, Deadline.never)
  const second = [
    { key: 'a', value: null },
    { key: 'b', value: Buffer.from('1') },
  ]
  await ledger.commit({ if: [], put: second }, Deadline.never)
  await ledger.close()
  const store = new LmdbStore(join(dir, 'replica'))
  const tables = [{ id: 2, owner: 'clinic-a', epoch: 3, dropped: false }]
  await store.write(batchOf({ meta: { ...EMPTY_META, cursor: 2 }, tables }))
  await store.close()
  for (const [file, name, keyEncoding] of [
    ['ledger', 'log', undefined],
    ['ledger', 'keys', undefined],
    ['replica', 'tables', 'uint32'],
  ] as const) {
    const env = open({ path: join(dir, file), encoding: 'binary', maxDbs: 8, readOnly: true })
    const database = env.openDB<Buffer, number | string>({
      name,
      encoding: 'binary',
      ...(keyEncoding ? { keyEncoding } : {}),
    })
    for (const { key, value } of database.getRange()) parts[`${name} record ${String(key)}`] = hex(value)
    await env.close()
  }
  return parts
}

/** With COFFER_UPDATE=1, writes the values of a block of docs/format.md anew. */
function update(language: string, values: Readonly<Record<string, string>>): void {
  if (process.env.COFFER_UPDATE !== '1') return
  for (const block of blocks('docs/format.md', language)) {
    const anew = block.replace(/^(.*?)( {2,})(.*)$/gm, (line, name: string, blanks: string) =>
      name in values ? name + blanks + values[name] : line,
    )
    writeFileSync(join(ROOT, 'docs/format.md'), textOf('docs/format.md').replace(block, anew))
  }
}

test('the worked example of docs/format.md is what the code makes', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'coffer-docs-'))
  try {
    const made = { ...tokenParts(), ...keyringParts(), ...secretParts(), ...(await recordParts(dir)) }
    for (const language of ['vector', 'secret']) update(language, made)
    const told = ['vector', 'secret']
      .flatMap((language) => blocks('docs/format.md', language))
      .flatMap((block) => [...block.matchAll(/^(.*?) {2,}(.*)$/gm)].map(([, name, value]) => [name, value]))
    assert.deepEqual(Object.fromEntries(told), made, 'COFFER_UPDATE=1 writes the values anew')
    assert.ok(textOf('docs/tokens.md').includes(made.token), 'docs/tokens.md shows the same token')
    const { vectors } = JSON.parse(textOf('test/vectors/tokens.json'))
    assert.ok(vectors.some((vector: { token: string }) => vector.token === made.token))
  } finally {
    rmSync(dir, { recursive: true })
  }
})

/** The named parts of a backup of a genesis and an epoch. */
function backupParts(chunks: readonly Uint8Array[]): Record<string, string> {
  const bytes = Buffer.concat(chunks)
  const parts = { magic: hex(bytes.subarray(0, 16)) } as Record<string, string>
  let at = 16
  for (const name of ['head', 'genesis', 'epoch', 'end']) {
    const end = at + 9 + bytes.readUInt32BE(at + 1)
    parts[name] = hex(bytes.subarray(at, end))
    at = end
  }
  return { ...parts, HMAC: hex(bytes.subarray(at)) }
}

test('the backup of docs/format.md is what the code writes, and reads', async () => {
  const { 'wrapped key': wrapped } = keyringParts()
  const identity = 'ab'.repeat(16)
  const receiptKey = Buffer.from(wrapped, 'hex')
  const genesis = encodeEntry({ kind: 'genesis', identity, format: LEDGER_FORMAT, receiptKey }, WRITER)
  const epoch = encodeEntry({ kind: 'epoch', owner: 'clinic-a', active: 3 }, WRITER)
  const digest = new EntryDigest()
  const entries = [
    { key: 'genesis', value: genesis },
    { key: 'epoch/clinic-a', value: epoch },
  ]
  for (const { key, value } of entries) digest.add(key, value)
  const chunks: Uint8Array[] = []
  const writer = new BackupWriter(async (chunk) => chunks.push(chunk))
  const head = { revision: 2, identity, format: LEDGER_FORMAT, madeAt: OPENED }
  await writer.head(head, exampleKeyring(), countingClock(96))
  for (const entry of entries) await writer.entry(entry)
  await writer.end({ entries: 2, mappings: 0, digest: digest.digest() })
  update('backup', backupParts(chunks))
  const [block] = blocks('docs/format.md', 'backup')
  const told = [...block.matchAll(/^.*? {2,}(.*)$/gm)].map(([, bytes]) => bytes).join('')
  assert.equal(told, hex(Buffer.concat(chunks)), 'COFFER_UPDATE=1 writes the values anew')
  const source = (async function* () {
    yield Buffer.from(told, 'hex')
  })()
  assert.equal((await verifyBackup(source, { keyring: exampleKeyring() })).identity, identity)
})
