// Columns of files by the command line: against a node, whole files, and files that must not be left.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import https from 'node:https'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { systemClock } from '../../src/clock.ts'
import { createAuthority, issueCertificate } from '../../src/node/certificates.ts'
import { Folder, fine, freePort, init, NodeProcess, refused, spawnCoffer, until } from './cli.ts'

const SYNTHEA = join(import.meta.dirname, '../../../shared/data/synthea')
const skip = !existsSync(SYNTHEA)

const folder = new Folder()
let node: NodeProcess
let env: Record<string, string> = {}
let other: Record<string, string> = {}

before(async () => {
  const keys = await init(folder.file('v'), '--port', '0', '--owner', 'a', '--owner', 'b')
  node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  env = { COFFER_URL: node.url, COFFER_KEY: keys.a }
  other = { ...env, COFFER_KEY: keys.b }
})

after(async () => {
  await node[Symbol.asyncDispose]()
  folder[Symbol.dispose]()
})

/** Fields of simple CSV by name: the files have no line breaks in fields. */
function column(file: string, name: string): string[] {
  const [head, ...lines] = readFileSync(file, 'utf8').trimEnd().split('\n')
  const at = head.split(',').indexOf(name)
  assert.ok(at >= 0, name)
  return lines.map((line) => [...line.matchAll(/("(?:[^"]|"")*"|[^,]*)(?:,|$)/g)][at][1])
}

/** How many rows of the second list each row of the first one joins, in order. */
function joins(left: readonly string[], right: readonly string[]): number[] {
  return left.map((value) => right.filter((each) => each === value).length)
}

const TABLES = [
  ['patients', 'Id', 'SSN', 'PASSPORT', 'FIRST', 'LAST', 'ADDRESS'],
  ['encounters', 'Id', 'PATIENT'],
  ['conditions', 'PATIENT', 'ENCOUNTER'],
  ['medications', 'PATIENT', 'ENCOUNTER'],
] as const

test('tables of a clinic: joins over tokens are the joins over values, and the way back is exact', {
  skip,
}, async () => {
  const out = (name: string, kind: string): string => folder.file(`${name}.${kind}.csv`)
  for (const [name, ...columns] of TABLES) {
    const file = join(SYNTHEA, `${name}.csv`)
    const named = columns.flatMap((each) => ['--column', each])
    const told = JSON.parse(
      await fine(['tokenize', file, ...named, '-o', out(name, 'tokens'), '--json'], { env }),
    )
    assert.equal(told.rows, column(file, 'PATIENT' in columns ? 'PATIENT' : columns[0]).length)
    assert.deepEqual([told.replaced, told.not_found, told.epochs], [told.values, 0, [1]])
    await fine(['detokenize', out(name, 'tokens'), ...named, '-o', out(name, 'values')], { env })
    assert.ok(readFileSync(out(name, 'values')).equals(readFileSync(file)), name)
    for (const each of columns) {
      for (const value of column(out(name, 'tokens'), each)) assert.match(value, /^("?tok_1_\w{32}"?)?$/)
    }
  }
  const pairs = [
    ['patients', 'Id', 'encounters', 'PATIENT'],
    ['patients', 'Id', 'conditions', 'PATIENT'],
    ['encounters', 'Id', 'medications', 'ENCOUNTER'],
  ] as const
  for (const [left, id, right, reference] of pairs) {
    const original = joins(
      column(join(SYNTHEA, `${left}.csv`), id),
      column(join(SYNTHEA, `${right}.csv`), reference),
    )
    const tokenized = joins(column(out(left, 'tokens'), id), column(out(right, 'tokens'), reference))
    assert.deepEqual(tokenized, original)
    assert.ok(original.some((count) => count > 1))
  }
  const strange = folder.file('strange.csv')
  const args = ['detokenize', out('patients', 'tokens'), '--column', 'SSN', '-o', strange]
  const told = JSON.parse(await fine([...args, '--json'], { env: other }))
  assert.deepEqual([told.replaced, told.not_found], [0, told.values])
  assert.ok(readFileSync(strange).equals(readFileSync(out('patients', 'tokens'))), 'the tokens stay')
  assert.match(await refused(1, [...args, '--force', '--strict'], { env: other }), /tokens not found/)
})

test('OUT: its name, its mode, and when it is refused', async () => {
  const file = folder.file("p '*.csv")
  writeFileSync(file, 'ssn\n17\n')
  const out = folder.file("p '*.tokens.csv")
  const args = ['tokenize', file, '--column', 'ssn']
  await fine(args, { env })
  assert.equal(statSync(out).mode & 0o777, 0o600)
  const token = readFileSync(out, 'utf8').split('\n')[1]
  assert.match(await refused(1, args, { env }), /exists already.*--force/)
  await fine([...args, '--force'], { env })
  assert.match(await refused(1, [...args, '-o', file], { env }), /is the file itself/)
  for (const unnamed of ['', `${folder.file('new')}/`])
    assert.match(await refused(1, [...args, '-o', unnamed], { env }), /names no file: name a file/)
  assert.match(await refused(2, [...args, '-o', folder.file('x.tsv')], { env }), /would not be tsv/)
  assert.match(await refused(2, [...args, '-o', folder.file('x.csv.gz')], { env }), /not compressed/)
  assert.match(await refused(1, [...args, '-o', folder.file('no', 'x.csv')], { env }), /mkdir/)
  assert.equal(await fine([...args, '-o', '-'], { env }), `ssn\n${token}`)
  const input = { env, input: 'ssn\n17\n' }
  assert.equal(await fine(['tokenize', '-', '--format', 'csv', '--column', 'ssn'], input), `ssn\n${token}`)
  assert.match(await refused(2, ['tokenize', '-', '--column', 'ssn'], input), /--format/)
  assert.match(await refused(2, [...args, '--delimiter', 'ab'], input), /--delimiter/)
  for (const delimiter of ['_', 'a', 'u', '7'])
    assert.match(
      await refused(2, [...args, '--delimiter', delimiter], input),
      /--delimiter must not be \w: tokens/,
    )
  assert.match(
    await refused(1, ['tokenize', folder.file('none.csv'), '--column', 'a'], { env }),
    /cannot be read/,
  )
  await fine([...args, '-o', file, '--force'], { env })
  assert.equal(readFileSync(file, 'utf8'), `ssn\n${token}\n`)
})

test('gzip and zstd by the first bytes, several members too', async () => {
  const lines = ['ssn\n17\n', '18\n19']
  const zipped = [
    [folder.file('z.csv.gz'), lines.map((text) => gzipSync(text)), gunzipSync],
    [folder.file('z.csv.zst'), lines.map((text) => zstdCompressSync(text)), zstdDecompressSync],
    [folder.file('named-otherwise.csv'), lines.map((text) => gzipSync(text)), gunzipSync],
  ] as const
  for (const [file, members, unzip] of zipped) {
    writeFileSync(file, Buffer.concat(members))
    await fine(['tokenize', file, '--column', 'ssn', '--json'], { env })
    const out = file.replace('.csv', '.tokens.csv')
    assert.match(unzip(readFileSync(out)).toString(), /^ssn\n(tok_1_\w+\n){2}tok_1_\w+$/, file)
    await fine(['detokenize', out, '--column', 'ssn', '-o', file, '--force'], { env })
    assert.equal(unzip(readFileSync(file)).toString(), lines.join(''), file)
  }
  for (const [extension, bytes] of [
    ['gz', gzipSync('ssn\n17\n')],
    ['zst', zstdCompressSync('ssn\n17\n')],
    ['zst', Buffer.concat(lines.map((text) => zstdCompressSync(text)))],
  ] as const) {
    const cut = folder.file(`cut.csv.${extension}`)
    writeFileSync(cut, bytes.subarray(0, -1))
    assert.match(await refused(1, ['tokenize', cut, '--column', 'ssn'], { env }), /damaged/)
    assert.ok(!existsSync(folder.file(`cut.tokens.csv.${extension}`)))
  }
})

test('zeros behind the members of gzip are padding; a member behind zeros is damage', async () => {
  const file = folder.file('padded.csv.gz')
  const [first, second] = ['ssn\n17\n', '18\n'].map((text) => gzipSync(text))
  for (const zeros of [8, 3_000_000]) {
    const padding = Buffer.alloc(zeros)
    const out = folder.file(`padded.${zeros}.csv.gz`)
    const args = ['tokenize', file, '--column', 'ssn', '-o', out]
    for (const behind of [second, Buffer.from('x')]) {
      writeFileSync(file, Buffer.concat([first, padding, behind]))
      assert.match(await refused(1, args, { env }), /damaged/)
      assert.ok(!existsSync(out))
    }
    writeFileSync(file, Buffer.concat([first, second, padding]))
    await fine(args, { env })
    assert.match(gunzipSync(readFileSync(out)).toString(), /^ssn\n(tok_1_\w+\n){2}$/)
  }
})

test('Parquet by its extension: the way back has the values, and a fault leaves no file', async (t) => {
  const { DuckDBInstance } = await import('@duckdb/node-api').catch(() => ({ DuckDBInstance: undefined }))
  if (!DuckDBInstance) return t.skip('DuckDB is not installed')
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  const [file, out, back] = ['q.parquet', 'q.tokens.parquet', 'q.back.parquet'].map((name) =>
    folder.file(name),
  )
  await connection.run(`COPY (SELECT 'v' || range AS ssn, range AS n FROM range(1000)) TO '${file}'`)
  const named = ['--column', 'ssn']
  const told = JSON.parse(await fine(['tokenize', file, ...named, '--json'], { env }))
  assert.deepEqual([told.rows, told.values, told.distinct, told.replaced], [1000, 1000, 1000, 1000])
  assert.equal(statSync(out).mode & 0o777, 0o600)
  assert.match(await refused(1, ['tokenize', file, ...named], { env }), /exists already/)
  assert.match(await refused(2, ['tokenize', file, ...named, '-o', '-'], { env }), /Parquet/)
  assert.match(await refused(2, ['tokenize', file, '--column', 'x', '--force'], { env }), /"?ssn"?/)
  await fine(['detokenize', out, ...named, '-o', back], { env })
  const rows = async (path: string): Promise<unknown> =>
    (await connection.runAndReadAll(`SELECT * FROM '${path}'`)).getRowsJson()
  assert.deepEqual(await rows(back), await rows(file))
  assert.deepEqual(leftovers(), [])
  connection.closeSync()
  instance.closeSync()
})

test('JSON lines: values keep their types, records without a place are told', async () => {
  const file = folder.file('j.ndjson')
  const content = '{"a":{"b":17},"c":1.50}\n{"a":{"b":"17"}}\n{"a":1}\n'
  writeFileSync(file, content)
  const args = ['tokenize', file, '--column', 'a.b', '-o', folder.file('k.ndjson')]
  assert.match(await refused(1, [...args, '--require'], { env }), /1 record without a place/)
  assert.ok(!existsSync(folder.file('k.ndjson')))
  const told = JSON.parse(await fine([...args, '--json'], { env }))
  assert.deepEqual([told.values, told.distinct, told.unmatched], [2, 2, 1])
  const back = ['detokenize', folder.file('k.ndjson'), '--column', 'a.b', '-o', '-']
  assert.equal(await fine(back, { env }), content.trimEnd())
})

/** A vault that is asked and does not answer. */
async function silentVault(): Promise<{ readonly url: string; readonly server: Server; asked(): boolean }> {
  let asked = false
  const server = createServer(() => {
    asked = true
  })
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${port}`, server, asked: () => asked }
}

const leftovers = (): string[] => readdirSync(folder.path).filter((name) => name.endsWith('.new'))

test('SIGINT and SIGTERM leave nothing, and what a killed run left goes at the next one', async () => {
  const file = folder.file('s.csv')
  writeFileSync(file, 'ssn\n17\n')
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    const vault = await silentVault()
    const child = spawnCoffer(['tokenize', file, '--column', 'ssn'], {
      env: { ...env, COFFER_URL: vault.url },
    })
    await until('a request', vault.asked)
    assert.equal(leftovers().length, 1)
    child.kill(signal)
    await until('the end', () => child.exitCode !== null || child.signalCode !== null)
    vault.server.closeAllConnections()
    vault.server.close()
    assert.equal(leftovers().length, signal === 'SIGKILL' ? 1 : 0, signal)
  }
  await fine(['tokenize', file, '--column', 'ssn'], { env })
  assert.deepEqual(leftovers(), [])
})

test('a vault that is away is an error within 12 s, and no file is left', async () => {
  const file = folder.file('away.csv')
  writeFileSync(file, 'ssn\n17\n')
  const dead = { ...env, COFFER_URL: `http://127.0.0.1:${await freePort()}` }
  const began = performance.now()
  assert.match(await refused(1, ['tokenize', file, '--column', 'ssn'], { env: dead }), /unreachable/)
  assert.ok(performance.now() - began < 12_000)
  assert.ok(!existsSync(folder.file('away.tokens.csv')))
  assert.deepEqual(leftovers(), [])
})

test('a full disk ends with 1 and leaves no file', { skip: !existsSync('/dev/full') }, async () => {
  const file = folder.file('full.csv')
  writeFileSync(file, 'ssn\n17\n')
  const told = await refused(1, ['tokenize', file, '--column', 'ssn', '-o', '/dev/full'], { env })
  assert.match(told, /ENOSPC/)
})

test('a fifo is written into', { skip: process.platform === 'win32' }, async () => {
  const file = folder.file('f.csv')
  const fifo = folder.file('pipe')
  writeFileSync(file, 'ssn\n17\n')
  const reader = spawn('sh', ['-c', 'mkfifo "$1" && cat "$1"', 'sh', fifo], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  reader.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  await until('the fifo', () => existsSync(fifo))
  await fine(['tokenize', file, '--column', 'ssn', '-o', fifo], { env })
  await until('the end of the reader', () => reader.exitCode !== null)
  assert.match(text, /^ssn\ntok_1_\w+\n$/)
})

/** A shell that makes a fifo and runs a command of the shell with the fifo as `$1`. */
async function fifoOf(fifo: string, command: string): Promise<ChildProcess> {
  const made = `mkfifo "$1" && exec ${command}`
  const shell = spawn('sh', ['-c', made, 'sh', fifo], { stdio: ['ignore', 'ignore', 'inherit'] })
  await until('the fifo', () => existsSync(fifo))
  return shell
}

test('a fifo is read; with a writer that is silent an error ends the command, too', {
  skip: process.platform === 'win32',
}, async () => {
  const whole = folder.file('whole.csv')
  await fifoOf(whole, `sh -c 'printf "ssn\\n17\\n" > "$0"' "$1"`)
  assert.match(await fine(['tokenize', whole, '--column', 'ssn', '-o', '-'], { env }), /^ssn\ntok_\d_\w+$/)
  const silent = folder.file('silent.csv')
  const writer = await fifoOf(silent, `sh -c 'exec > "$0"; printf "ssn\\n17\\n"; exec sleep 60' "$1"`)
  try {
    const dead = { ...env, COFFER_URL: `http://127.0.0.1:${await freePort()}` }
    const out = folder.file('silent.tokens.csv')
    const began = performance.now()
    const args = ['tokenize', silent, '--column', 'ssn', '-o', out]
    assert.match(await refused(1, args, { env: dead }), /unreachable/)
    assert.ok(performance.now() - began < 12_000)
    assert.ok(!existsSync(out))
  } finally {
    writer.kill('SIGKILL')
  }
})

test('COFFER_CA: the authority of the certificate of a node', async () => {
  const authority = await createAuthority(systemClock)
  const server = https.createServer(
    await issueCertificate(authority, { node: 'n1' }, systemClock),
    (_, response) => response.end('{"active":1,"epochs":[]}'),
  )
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const secure = { COFFER_URL: `https://127.0.0.1:${port}`, COFFER_KEY: 'cof_x' }
  const ca = folder.file('ca.crt')
  writeFileSync(ca, authority.cert)
  try {
    await fine(['epoch'], { env: { ...secure, COFFER_CA: ca } })
    assert.match(await refused(1, ['epoch'], { env: secure }), /unreachable/)
    const missing = { ...secure, COFFER_CA: folder.file('none.crt') }
    assert.match(await refused(2, ['epoch'], { env: missing }), /COFFER_CA cannot be read/)
    const empty = { ...secure, COFFER_CA: folder.file('s.csv') }
    assert.match(await refused(2, ['epoch'], { env: empty }), /has no certificate/)
  } finally {
    server.close()
  }
})

test('a rotation between the two halves of a table, and the tables after it', async () => {
  const file = folder.file('r.csv')
  writeFileSync(file, 'ssn\na\nb\n')
  await fine(['tokenize', file, '--column', 'ssn'], { env })
  await fine(['epoch', 'rotate', '--to', '2'], { env })
  const old = folder.file('r.tokens.csv')
  await fine(['retokenize', old, '--column', 'ssn'], { env })
  const again = folder.file('again.csv')
  await fine(['tokenize', file, '--column', 'ssn', '-o', again], { env })
  assert.ok(readFileSync(folder.file('r.tokens.retokenized.csv')).equals(readFileSync(again)))
  const mapped = await fine(['retokenize', old, '--column', 'ssn', '--map', 'new', '-o', '-'], { env })
  assert.match(mapped, /^ssn,new\ntok_1_\w+,tok_2_\w+\ntok_1_\w+,tok_2_\w+$/)
  assert.match(
    await refused(1, ['tokenize', old, '--column', 'ssn', '--force', '-o', again], { env }),
    /line 2: column "ssn"/,
  )
})
