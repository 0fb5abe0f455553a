// What the contract says of text files, sentence by sentence: the names of the tests are its words. Here stands what needs
// the command line; the rest is in test/table/ and table.test.ts.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { seeded } from '../sim/seed.ts'
import { coffer, Folder, fine, type NodeProcess, refused, startVault, until } from './cli.ts'

const TOKEN = 'tok_1_[0-9a-hjkmnp-tv-z]{32}'
const ROOT = join(import.meta.dirname, '../..')

const folder = new Folder()
let node: NodeProcess
let env: Record<string, string> = {}

before(async () => {
  const vault = await startVault(folder)
  vault.client.close()
  node = vault.node
  env = vault.env
})

after(async () => {
  await node?.[Symbol.asyncDispose]()
  folder[Symbol.dispose]()
})

/** A new file. Returns its path. */
function file(name: string, content: string | Uint8Array): string {
  const path = folder.file(name)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, content)
  return path
}

/** The names in the directory of a file, temporary ones too. */
const beside = (path: string): string[] => readdirSync(join(path, '..')).sort()

test('by extension: .csv .tsv .ndjson .jsonl .json, each also .gz .zst; without -o the name with .tokens, .values or .retokenized before the extensions', async () => {
  const contents = {
    csv: ['ssn,n\nx,1\n', 'ssn'],
    tsv: ['n\tssn\n1\tx\n', 'ssn'],
    ndjson: ['{"a":{"ssn":"x"}}\n{"a":{"ssn":2}}\n', 'a.ssn'],
    jsonl: ['{"ssn":"x"}\n', 'ssn'],
    json: ['[{"ssn":["x","y"]}]', 'ssn[]'],
  } as const
  const packed = [
    ['', (text: string) => Buffer.from(text), (bytes: Buffer) => bytes],
    ['.gz', (text: string) => gzipSync(text), gunzipSync],
    ['.zst', (text: string) => zstdCompressSync(text), zstdDecompressSync],
  ] as const
  // Every format, and every compression, each once with another one.
  for (const [i, [extension, [content, column]]] of Object.entries(contents).entries()) {
    const [suffix, pack, unpack] = packed[i % packed.length]
    const path = file(`names/f.x.${extension}${suffix}`, pack(content))
    const named = ['--column', column]
    await fine(['tokenize', path, ...named], { env })
    const tokens = folder.file(`names/f.x.tokens.${extension}${suffix}`)
    assert.match(unpack(readFileSync(tokens)).toString(), new RegExp(TOKEN), extension)
    await fine(['detokenize', tokens, ...named], { env })
    const values = folder.file(`names/f.x.tokens.values.${extension}${suffix}`)
    assert.equal(unpack(readFileSync(values)).toString(), content, extension)
    await fine(['retokenize', tokens, ...named], { env })
    const again = folder.file(`names/f.x.tokens.retokenized.${extension}${suffix}`)
    assert.deepEqual(unpack(readFileSync(again)), unpack(readFileSync(tokens)), extension)
  }
})

test('.json: an array of records, or one record', async () => {
  const one = file('one.json', '{ "ssn": "x", "n": 1.50 }\n')
  const told = await fine(['tokenize', one, '--column', 'ssn', '-o', '-'], { env })
  assert.match(told, new RegExp(`^\\{ "ssn": "${TOKEN}", "n": 1\\.50 \\}$`))
})

test('gz and zst of several members, cut anywhere, come back byte for byte', async (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const rows = Array.from(
    { length: 60_000 },
    (_, i) => `${i},"v ${random.below(5000)}",${'n'.repeat(random.below(90))}\n`,
  )
  const content = Buffer.from(`id,ssn,note\n${rows.join('')}`)
  const members: Buffer[] = []
  for (let at = 0; at < content.length; ) {
    const end = Math.min(content.length, at + 1 + random.below(random.chance(0.5) ? 200 : 400_000))
    members.push(content.subarray(at, end))
    at = end
  }
  for (const [name, pack, unpack] of [
    ['m.csv.gz', gzipSync, gunzipSync],
    ['m.csv.zst', zstdCompressSync, zstdDecompressSync],
  ] as const) {
    const path = file(name, Buffer.concat(members.map((member) => pack(member))))
    const tokens = folder.file(`tokens-${name}`)
    const back = folder.file(`back-${name}`)
    const told = JSON.parse(
      await fine(['tokenize', path, '--column', 'ssn', '-o', tokens, '--json'], { env }),
    )
    assert.deepEqual([told.rows, told.replaced], [60_000, 60_000])
    await fine(['detokenize', tokens, '--column', 'ssn', '-o', back], { env })
    assert.ok(unpack(readFileSync(back)).equals(content), name)
  }
})

test('a path with year=2024/, blanks, quotes, * and brackets is one file, and OUT has its name', async () => {
  const path = file("year=2024/a b's*[1]?.csv", 'ssn\nx\n')
  file("year=2024/a b's1.csv", 'ssn\nother\n')
  await fine(['tokenize', path, '--column', 'ssn'], { env })
  const out = folder.file("year=2024/a b's*[1]?.tokens.csv")
  assert.match(readFileSync(out, 'utf8'), new RegExp(`^ssn\\n${TOKEN}\\n$`))
  assert.equal(await fine(['detokenize', out, '--column', 'ssn', '-o', '-'], { env }), 'ssn\nx')
})

test('--column names a column exactly, or, where none is named so, #3 by its place; not there, or there twice: exit 2 with the names', async () => {
  const path = file('c.csv', 'SSN,#1,b,b\n1,2,3,4\n')
  const out = (...args: string[]): Promise<string> => fine(['tokenize', path, ...args, '-o', '-'], { env })
  assert.match(await out('--column', '#1'), new RegExp(`\\n1,${TOKEN},3,4$`))
  assert.match(await out('--column', '#4'), new RegExp(`\\n1,2,3,${TOKEN}$`))
  const wrong = (column: string): Promise<string> =>
    refused(2, ['tokenize', path, '--column', column], { env })
  assert.match(await wrong('ssn'), /no column "ssn".*"SSN" \(#1\)/)
  assert.match(await wrong('b'), /"b" is there twice.*#4/)
  assert.match(await wrong('#5'), /no column "#5"/)
  assert.deepEqual(
    beside(path).filter((name) => name.includes('c.tokens') || name.endsWith('.new')),
    [],
  )
})

test('CSV: delimiter , (.tsv: tab) or --delimiter, never guessed', async () => {
  const path = file('d.csv', 'a;ssn\n1;"x;y"\n')
  assert.match(await refused(2, ['tokenize', path, '--column', 'ssn'], { env }), /"a;ssn" \(#1\)/)
  const semicolon = ['tokenize', path, '--column', 'ssn', '--delimiter', ';', '-o', '-']
  assert.match(await fine(semicolon, { env }), new RegExp(`^a;ssn\\n1;"${TOKEN}"$`))
  const tab = [
    'tokenize',
    file('t.csv', 'a\tssn\n1\tx\n'),
    '--column',
    'ssn',
    '--delimiter',
    '\\t',
    '-o',
    '-',
  ]
  assert.match(await fine(tab, { env }), new RegExp(`^a\\tssn\\n1\\t${TOKEN}$`))
})

test('CSV values are text, "" the empty string, nothing at all is null and stays', async () => {
  const path = file('e.csv', 'ssn,n\n017,1\n"017",2\n17,3\n"",4\n,5\n')
  const told = await fine(['tokenize', path, '--column', 'ssn', '-o', '-'], { env })
  const fields = told
    .split('\n')
    .slice(1)
    .map((line) => line.split(',')[0])
  assert.equal(`"${fields[0]}"`, fields[1], 'quotes are no part of the value')
  assert.notEqual(fields[0], fields[2])
  assert.match(fields[3], new RegExp(`^"${TOKEN}"$`))
  assert.equal(fields[4], '')
  const input = { env, input: `${told}\n` }
  const back = await fine(['detokenize', '-', '--format', 'csv', '--column', 'ssn'], input)
  assert.equal(`${back}\n`, readFileSync(path, 'utf8'))
})

test('records that the path does not fit are counted (unmatched), told on stderr; --require: exit 1; null is a place, so CSV has one in each record', async () => {
  const json = file('u.ndjson', '{"a":1}\n{"a":null}\n{"b":2}\n')
  const { code, stdout, stderr } = await coffer(['tokenize', json, '--column', 'a', '--json'], { env })
  assert.equal(code, 0)
  assert.equal(JSON.parse(stdout).unmatched, 1)
  assert.match(stderr, /1 record without a place/)
  assert.match(
    await refused(1, ['tokenize', json, '--column', 'a', '--require', '--force'], { env }),
    /1 record/,
  )
  const csv = file('u.csv', 'ssn,n\n,1\nx,2\n')
  const told = JSON.parse(await fine(['tokenize', csv, '--column', 'ssn', '--require', '--json'], { env }))
  assert.deepEqual([told.unmatched, told.values], [0, 1])
})

test('a value that is a token already: exit 1 with its line, unless --allow-tokens', async () => {
  const token = await fine(['tokenize', '-', '--format', 'csv', '--column', 'ssn'], {
    env,
    input: 'ssn\nx\n',
  })
  const path = file('twice.csv', `id,ssn\n1,"a\nb"\n2,${token.split('\n')[1]}\n`)
  const args = ['tokenize', path, '--column', 'ssn']
  const told = await refused(1, args, { env })
  assert.match(told, /line 4: column "ssn": the value is a token already.*--allow-tokens/)
  assert.doesNotMatch(told, /tok_1/)
  assert.ok(!existsSync(folder.file('twice.tokens.csv')))
  await fine([...args, '--allow-tokens'], { env })
  const back = ['detokenize', folder.file('twice.tokens.csv'), '--column', 'ssn', '-o', '-']
  assert.equal(`${await fine(back, { env })}\n`, readFileSync(path, 'utf8'))
})

test('any error: exit 1, the line and column and never the value, no OUT', async () => {
  const faults = [
    ['ragged.csv', 'id,ssn\n1,secret-1\n2\n', /line 3/],
    ['open.csv', 'id,ssn\n1,"secret-2\n', /line 2/],
    ['behind.csv', 'id,ssn\n1,"secret-3"x\n', /line 2/],
    ['inside.csv', 'id,ssn\n1,secret"4\n', /line 2: column "ssn"/],
    ['long.csv', `id,ssn\n1,${'secret-5 '.repeat(4000)}\n`, /line 2: column "ssn"/],
    [
      'bytes.csv',
      Buffer.concat([Buffer.from('id,ssn\n1,secret-6'), Buffer.from([0xff, 0x0a])]),
      /line 2: column "ssn"/,
    ],
    ['half.ndjson', '{"ssn":"secret-7"}\n{"ssn":"secr', /line 2/],
    ['member.ndjson', '{"ssn":"secret-8","ssn":1}\n', /line 1/],
    ['object.ndjson', '{"n":1,"ssn":"a"}\n{"ssn":{"secret-9":1}}\n', /line 2/],
  ] as const
  for (const [name, content, expected] of faults) {
    const path = file(`faults/${name}`, content)
    const told = await refused(1, ['tokenize', path, '--column', 'ssn'], { env })
    assert.match(told, expected, name)
    assert.doesNotMatch(told, /secr/, name)
  }
  assert.deepEqual(beside(folder.file('faults/x')), faults.map(([name]) => name).sort())
})

test('2,000 columns, all of them named; a header alone; an empty file', async () => {
  const names = Array.from({ length: 2000 }, (_, i) => `c${i}`)
  const rows = [0, 1, 2].map((row) => names.map((_, i) => (i % 7 === row ? '' : `"${row},${i % 50}"`)).join())
  const content = `${names.join()}\n${rows.join('\r\n')}`
  const out = folder.file('many.tokens.csv')
  const named = names.flatMap((name) => ['--column', name])
  await fine(['tokenize', file('many.csv', content), ...named], { env })
  assert.match(readFileSync(out, 'utf8').split('\r\n')[2], new RegExp(`^(?:"${TOKEN}",|,)+"${TOKEN}"$`))
  await fine(['detokenize', out, ...named, '-o', folder.file('many.values.csv')], { env })
  assert.equal(readFileSync(folder.file('many.values.csv'), 'utf8'), content)
  const header = ['tokenize', file('header.csv', 'ssn,n'), '--column', 'ssn', '-o', '-']
  assert.equal(await fine(header, { env }), 'ssn,n')
  assert.match(await refused(2, ['tokenize', file('empty.csv', ''), '--column', 'ssn'], { env }), /is empty/)
  assert.ok(!existsSync(folder.file('empty.tokens.csv')))
})

test('a directory in which OUT cannot be made: exit 1, and nothing is left', async () => {
  const path = file('w.csv', 'ssn\nx\n')
  const isRoot = process.getuid?.() === 0
  const dir = isRoot ? '/proc' : folder.file('locked') // root may write wherever a file system takes files
  if (!isRoot) mkdirSync(dir, { mode: 0o500 })
  const told = await refused(1, ['tokenize', path, '--column', 'ssn', '-o', join(dir, 'out.csv')], { env })
  assert.match(told, /out\.csv cannot be (?:written|replaced)|EACCES|ENOENT/)
  if (!isRoot) assert.deepEqual(readdirSync(dir), [])
})

test('-o - is stdout, and never a file of that name; all else goes to stderr', async () => {
  const cwd = folder.file('dash')
  const path = file('dash/a.csv', 'ssn\nx\n')
  const args = ['tokenize', path, '--column', 'ssn', '-o', '-', '--json']
  const { code, stdout, stderr } = await coffer(args, { env, cwd })
  assert.equal(code, 0, stderr)
  assert.match(stdout, new RegExp(`^ssn\\n${TOKEN}\\n$`))
  assert.equal(JSON.parse(stderr).replaced, 1)
  assert.deepEqual(readdirSync(cwd), ['a.csv'])
})

test('--json: {"rows","values","distinct","replaced","not_found","unmatched","epochs":[…],"seconds"}', async () => {
  const path = file('count.csv', `ssn\nx\nx\n\ny\n`)
  const out = folder.file('count.tokens.csv')
  const told = JSON.parse(await fine(['tokenize', path, '--column', 'ssn', '--json'], { env }))
  const { seconds, ...counts } = told
  assert.ok(seconds > 0)
  const expected = { rows: 4, values: 3, distinct: 2, replaced: 3, not_found: 0, unmatched: 0, epochs: [1] }
  assert.deepEqual(counts, expected)
  assert.deepEqual(Object.keys(told), [...Object.keys(expected), 'seconds'])
  const strange = `${readFileSync(out, 'utf8')}tok_1_${'0'.repeat(32)}\ntok_1_x\n`
  const back = ['detokenize', file('strange.csv', strange), '--column', 'ssn', '--json']
  const found = await coffer([...back, '-o', folder.file('strange.values.csv')], { env })
  assert.equal(found.code, 0, 'a token that is not found stays')
  assert.match(found.stderr, /1 token not found/)
  const { replaced, not_found, values } = JSON.parse(found.stdout)
  assert.deepEqual([values, replaced, not_found], [5, 3, 1])
  const kept = readFileSync(folder.file('strange.values.csv'), 'utf8')
  assert.match(kept, /^ssn\nx\nx\n\ny\ntok_1_0{32}\ntok_1_x\n$/)
  const strict = [...back, '-o', folder.file('strict.csv'), '--strict']
  assert.match(await refused(1, strict, { env }), /1 token not found/)
  assert.ok(!existsSync(folder.file('strict.csv')))
})

test('retokenize --map NEW: records stay, and get a last field NEW, empty where not found; a NEW that is there is refused', async () => {
  const token = (
    await fine(['tokenize', '-', '--format', 'csv', '--column', 'a'], { env, input: 'a\nx\n' })
  ).slice(2)
  const path = file('map.csv', `a,b\r\n${token},"1"\r\nx,2\r\n,3\r\n`)
  const map = (name: string): string[] => ['retokenize', path, '--column', 'a', '--map', name]
  const told = await fine([...map('n,w'), '-o', '-'], { env })
  assert.equal(told, `a,b,"n,w"\r\n${token},"1",${token}\r\nx,2,\r\n,3,`)
  assert.match(await refused(2, map('b'), { env }), /column "b" already/)
  const json = file('map.ndjson', '{"a":"x"}\n')
  assert.equal((await coffer(['retokenize', json, '--column', 'a', '--map', 'n'], { env })).code, 2)
})

test('OUT with values in it is 0600; what else is replaced keeps its mode', async () => {
  const path = file('mode.csv', 'ssn\nx\n')
  const out = file('mode.tokens.csv', 'old')
  chmodSync(out, 0o644)
  await fine(['tokenize', path, '--column', 'ssn', '--force'], { env })
  assert.equal(statSync(out).mode & 0o777, 0o644)
  const back = file('mode.back.csv', 'old')
  chmodSync(back, 0o644)
  await fine(['detokenize', out, '--column', 'ssn', '-o', back, '--force'], { env })
  assert.equal(statSync(back).mode & 0o777, 0o600)
})

test('a pause of stdin: what was read comes out', async () => {
  const main = join(ROOT, 'src/cli/main.ts')
  const args = [main, 'tokenize', '-', '--format', 'csv', '--column', 'ssn']
  const child: ChildProcess = spawn(process.execPath, args, {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  let told = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    told += text
  })
  try {
    for (const [i, value] of ['x', 'y'].entries()) {
      child.stdin?.write(i === 0 ? `ssn\n${value}\n` : `${value}\n`)
      const whole = new RegExp(`^ssn\\n(?:${TOKEN}\\n){${i + 1}}$`)
      await until(`the token of ${value}`, () => whole.test(told))
    }
    child.stdin?.end()
    await until('the end', () => child.exitCode !== null)
    assert.equal(child.exitCode, 0)
  } finally {
    child.kill('SIGKILL')
  }
})

test('progress on a terminal, with rate and time left', async (t) => {
  if (process.platform !== 'linux' || !existsSync('/usr/bin/script'))
    return t.skip('there is no script(1) of Linux')
  const rows = `x,${'n'.repeat(2000)}\n`.repeat(20_000)
  const path = file('wide.csv', `ssn,note\n${rows}`)
  const command = `'${process.execPath}' '${join(ROOT, 'src/cli/main.ts')}' tokenize '${path}' --column ssn`
  const child = spawn('/usr/bin/script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, ...env, TERM: 'xterm', COLUMNS: '120' },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let told = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    told += text
  })
  await until('the end', () => child.exitCode !== null, 20_000)
  assert.equal(child.exitCode, 0, told)
  assert.match(told, /tokenizing \[.*\] \d+ %, \d+ of 41 MB, \d+ MB\/s, \S+ left/)
  assert.match(told, /20000 rows, 20000 of 20000 values tokenized/)
})
