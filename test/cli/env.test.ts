// coffer env encrypt and expand, against a node: the written files, their modes, and the refusals.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { after, before, test } from 'node:test'
import type { Coffer } from '../../src/client/index.ts'
import { coffer, Folder, fine, freePort, type NodeProcess, refused, startVault } from './cli.ts'

const CANARY = 'c4n4ry'

const vault = new Folder()
let node: NodeProcess
let env: { COFFER_URL: string; COFFER_KEY: string }
let client: Coffer

before(async () => {
  ;({ node, env, client } = await startVault(vault))
})

after(async () => {
  client?.close()
  await node?.[Symbol.asyncDispose]()
  vault[Symbol.dispose]()
})

/** A directory with a .env file; no other test has the name. */
class Project extends Folder {
  readonly env = this.file('.env')

  constructor(text: string) {
    super()
    writeFileSync(this.env, text)
  }

  get text(): string {
    return readFileSync(this.env, 'utf8')
  }

  get names(): string[] {
    return readdirSync(this.path).sort()
  }

  get journal(): string {
    return this.file('..env.coffer')
  }

  /** The files with a value in them. */
  get leaks(): string[] {
    return this.names.filter((name) => readFileSync(this.file(name), 'utf8').includes(CANARY))
  }
}

const modeOf = (path: string): number => statSync(path).mode & 0o777

async function valuesOf(prefix: string): Promise<Record<string, string>> {
  const { names } = await client.secretNames({ prefix, limit: 1000 })
  const values = await client.resolveSecrets(names.map((name) => `coffer://${name}`))
  return Object.fromEntries(names.map((name, i) => [name, values[i]]))
}

test('encrypt: in place, with the mode it had; and back', async () => {
  const text = `# db\r\nDB_URL="${CANARY}\nb" # why\r\nEMPTY=\r\n\r\nPORT = 80`
  using project = new Project(text)
  chmodSync(project.env, 0o640)
  assert.equal(
    await fine(['env', 'encrypt', '.env', '--prefix', 'e1/'], { env, cwd: project.path }),
    '.env: 3 values encrypted',
  )
  const encrypted =
    '# db\r\nDB_URL="coffer://e1/DB_URL" # why\r\nEMPTY=coffer://e1/EMPTY\r\n\r\nPORT = coffer://e1/PORT'
  assert.equal(project.text, encrypted)
  assert.equal(modeOf(project.env), 0o640)
  assert.deepEqual(project.names, ['.env'])
  assert.deepEqual(await valuesOf('e1/'), { 'e1/DB_URL': `${CANARY}\nb`, 'e1/EMPTY': '', 'e1/PORT': '80' })
  const { code, stdout } = await coffer(['env', 'expand', project.env], { env })
  assert.deepEqual([code, stdout], [0, text])
  assert.deepEqual(project.leaks, [])
})

test('encrypt: once more, or a file without values: nothing happens, no node is asked, a left-over journal goes', async () => {
  using project = new Project('A=coffer://x\n# B=1\n')
  const before = statSync(project.env)
  writeFileSync(project.journal, '{"key":"k","prefix":"p/"}')
  const result = await fine(['env', 'encrypt', project.env, '--json'], { cwd: project.path })
  assert.deepEqual(JSON.parse(result), { file: project.env, encrypted: 0, secrets: [] })
  assert.deepEqual([statSync(project.env).ino, statSync(project.env).mtimeMs], [before.ino, before.mtimeMs])
  assert.deepEqual(project.names, ['.env'])
  chmodSync(project.env, 0o604)
  await fine(['env', 'encrypt', project.env, '-o', project.file('copy')])
  assert.equal(readFileSync(project.file('copy'), 'utf8'), project.text)
  assert.equal(modeOf(project.file('copy')), 0o604)
})

test('encrypt -o: a file that exists is refused without --force, and keeps its mode; - is stdout', async () => {
  using project = new Project(`A=${CANARY}\n`)
  const out = project.file('out')
  writeFileSync(out, 'old')
  chmodSync(out, 0o640)
  const args = ['env', 'encrypt', '.env', '--prefix', 'of/', '-o']
  const options = { env, cwd: project.path }
  assert.match(await refused(1, [...args, 'out'], options), /out exists already.*--force/)
  assert.match(await refused(1, [...args, '.env'], options), /itself.*--force/)
  assert.equal(readFileSync(out, 'utf8'), 'old')
  assert.deepEqual(await valuesOf('of/'), {})
  await fine([...args, 'out', '--force'], options)
  assert.deepEqual([readFileSync(out, 'utf8'), modeOf(out)], ['A=coffer://of/A\n', 0o640])
  const piped = await coffer(['env', 'encrypt', '.env', '--prefix', 'op/', '-o', '-'], options)
  assert.deepEqual([piped.code, piped.stdout], [0, 'A=coffer://op/A\n'])
  assert.match(piped.stderr, /1 value encrypted/)
  assert.deepEqual(project.names, ['.env', 'out'])
})

test('encrypt: what stays in clear is told with its lines, and refused with --strict; own variables stay', async () => {
  const key = `cof_${'a'.repeat(52)}`
  const text =
    `COFFER_KEY=${key}\nCOFFER_URL=http://x\n# OLD=${CANARY}\nA=${CANARY} # B = x\nC="a $NAME"\nMIIEVQ\n` +
    'D=coffer://x\n'
  using project = new Project(text)
  const args = ['env', 'encrypt', '.env', '--prefix', 'rem/']
  const options = { env, cwd: project.path }
  const strict = await refused(1, [...args, '--strict'], options)
  assert.match(strict, /--strict/)
  assert.deepEqual([project.text, project.names, await valuesOf('rem/')], [text, ['.env'], {}])
  const { code, stderr } = await coffer(args, options)
  assert.equal(code, 0, stderr)
  for (const told of [strict, stderr]) {
    assert.match(told, /^\.env: warning: an API key stays in clear: do not commit .*\(line 1\)$/m)
    assert.match(told, /^\.env: warning: entries in comments .*\(2 lines: 3, 4\)$/m)
    assert.match(told, /^\.env: warning: values with \$NAME .*\(line 5\)$/m)
    assert.match(told, /^\.env: warning: bare names .*\(line 6\)$/m)
    assert.ok(!told.includes(CANARY) && !told.includes(key))
  }
  assert.match(stderr, /variables of coffer stay as they are.*\(2 lines: 1, 2\)$/m)
  const encrypted = text.replace(`A=${CANARY}`, 'A=coffer://rem/A').replace('a $NAME', 'coffer://rem/C')
  assert.equal(project.text, encrypted)
})

test('encrypt -o: the file stays', async () => {
  using project = new Project(`A=${CANARY}\nB=2\n`)
  chmodSync(project.env, 0o600)
  writeFileSync(project.file('out'), 'old', { mode: 0o644 })
  const args = [
    'env',
    'encrypt',
    project.env,
    '--prefix',
    'o/',
    '-o',
    project.file('out'),
    '--json',
    '--force',
  ]
  assert.deepEqual(JSON.parse(await fine(args, { env })), {
    file: project.file('out'),
    encrypted: 2,
    secrets: ['o/A', 'o/B'],
  })
  assert.equal(project.text, `A=${CANARY}\nB=2\n`)
  assert.equal(readFileSync(project.file('out'), 'utf8'), 'A=coffer://o/A\nB=coffer://o/B\n')
  assert.equal(modeOf(project.file('out')), 0o644)
  assert.deepEqual(project.names, ['.env', 'out'])
  assert.deepEqual(project.leaks, ['.env'])
})

test('encrypt -o: a file that cannot be written is refused before any secret is created', async () => {
  using project = new Project(`A=${CANARY}\n`)
  mkdirSync(project.file('directory'))
  for (const [out, message] of [
    [project.file('directory'), /directory is a directory/],
    [project.file('a/b'), /the directory .*a does not exist: create it: mkdir -p .*a/],
    [`${project.file('new')}/`, /new\/' names no file: name a file/],
    ['', /'' names no file: name a file/],
  ] as const) {
    const args = ['env', 'encrypt', project.env, '--prefix', 'w/', '-o', out]
    assert.match(await refused(out.endsWith('/directory') ? 2 : 1, args, { env }), message)
  }
  assert.deepEqual(await valuesOf('w/'), {})
  assert.deepEqual(project.names, ['.env', 'directory'])
})

test('encrypt: a link goes on pointing at its file', async () => {
  using project = new Project('A=1\n')
  mkdirSync(project.file('sub'))
  const link = project.file('sub', 'link')
  symlinkSync('../.env', link)
  await fine(['env', 'encrypt', link, '--prefix', 'link/'], { env })
  assert.ok(lstatSync(link).isSymbolicLink())
  assert.equal(project.text, 'A=coffer://link/A\n')
  assert.deepEqual([project.names, readdirSync(project.file('sub'))], [['.env', 'sub'], ['link']])
})

test('encrypt: one name of fifty is there already: nothing is created', async () => {
  await client.createSecret('c/K17', 'other')
  using project = new Project(Array.from({ length: 50 }, (_, i) => `K${i}=${CANARY}${i}\n`).join(''))
  const { text } = project
  const told = await refused(1, ['env', 'encrypt', project.env, '--prefix', 'c/'], { env })
  assert.ok(told.includes(`${project.env}:18: K17=coffer://c/K17\n`), told)
  assert.equal(told.match(/coffer:\/\//g)?.length, 1)
  assert.match(told, /`coffer secret update NAME`/)
  assert.ok(!told.includes(CANARY))
  assert.equal(project.text, text)
  assert.deepEqual(project.names, ['.env'])
  assert.deepEqual(await valuesOf('c/'), { 'c/K17': 'other' })
})

test('encrypt: what is wrong in the file is told before anything is sent, and written', async () => {
  using project = new Project(`A="${CANARY}"x\nB=1\nB=2\nC=coffer://\nD='${CANARY}\n`)
  const { text } = project
  const told = await refused(1, ['env', 'encrypt', '.env'], { cwd: project.path })
  assert.deepEqual(
    [...told.matchAll(/^\.env:(\d): /gm)].map((match) => match[1]),
    ['1', '2', '3', '4', '5'],
  )
  assert.ok(!told.includes(CANARY))
  assert.equal(project.text, text)
  assert.deepEqual(project.names, ['.env'])
  await refused(2, ['env', 'encrypt', '.env', '--prefix', 'a//'], { cwd: project.path })
  await refused(1, ['env', 'encrypt', 'none'], { cwd: project.path })
})

test('encrypt: where no node answers, running it again is safe, and finishes', async () => {
  using project = new Project(`A=${CANARY}\n`)
  const args = ['env', 'encrypt', project.env, '--prefix', 'u/']
  const dead = { ...env, COFFER_URL: `http://127.0.0.1:${await freePort()}` }
  const told = await refused(1, args, { env: dead })
  assert.match(told, /Run the same command again/)
  assert.equal(project.text, `A=${CANARY}\n`)
  assert.deepEqual(project.names, ['..env.coffer', '.env'])
  assert.equal(modeOf(project.journal), 0o600)
  assert.deepEqual(project.leaks, ['.env'])

  const journal = readFileSync(project.journal, 'utf8')
  const other = await refused(1, ['env', 'encrypt', project.env, '--prefix', 'w/'], { env })
  assert.match(other, /--prefix u\//)
  // 401 says nothing about the run before.
  const wrong = { ...env, COFFER_KEY: `${env.COFFER_KEY.slice(0, -1)}!` }
  assert.match(await refused(1, args, { env: wrong }), /unauthorized/)
  assert.equal(readFileSync(project.journal, 'utf8'), journal)
  // Nor does 403: the right is checked before the Idempotency-Key, as the API key is.
  const problem = { type: '/problems/forbidden', status: 403, title: 'Forbidden', detail: 'no right' }
  await using node = await standIn((_, response) => {
    response.writeHead(403, { 'content-type': 'application/problem+json' })
    response.end(JSON.stringify({ ...problem, needs: 'secrets:write' }))
  })
  assert.match(await refused(1, args, { env: { ...env, COFFER_URL: node.url } }), /forbidden/)
  assert.equal(readFileSync(project.journal, 'utf8'), journal)

  await fine(args, { env })
  assert.equal(project.text, 'A=coffer://u/A\n')
  assert.deepEqual(project.names, ['.env'])
})

test('encrypt: a definite refusal leaves no journal, and one that was not finished is replaced', async () => {
  using project = new Project('A=1\n')
  writeFileSync(project.journal, '{"key":"half')
  const args = ['env', 'encrypt', project.env, '--prefix', 'd/']
  await refused(1, args, { env: { ...env, COFFER_KEY: 'cof_wrong' } })
  assert.deepEqual(project.names, ['.env'])
  writeFileSync(project.journal, '')
  await fine(args, { env })
  assert.deepEqual(project.names, ['.env'])
})

/** A server in a node's place. */
async function standIn(listener: RequestListener): Promise<AsyncDisposable & { readonly url: string }> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  return { url: `http://127.0.0.1:${address.port}`, [Symbol.asyncDispose]: close }
}

test('encrypt: what is there when the secrets are created; a file that is changed meanwhile stays', async () => {
  using project = new Project(`A=${CANARY}\n`)
  const seen: { names: string[]; mode: number; journal: string; key: unknown; text: string }[] = []
  await using server = await standIn((request, response) => {
    const journal = readFileSync(project.journal, 'utf8')
    const { text, names } = project
    seen.push({
      names,
      mode: modeOf(project.journal),
      journal,
      key: request.headers['idempotency-key'],
      text,
    })
    writeFileSync(project.env, 'A=changed\n')
    request.resume().once('end', () => {
      const secrets = [{ name: 'm/A', version: 1, valid_from: '2026-01-01T00:00:00.000Z' }]
      response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ secrets }))
    })
  })
  const told = await refused(1, ['env', 'encrypt', project.env, '--prefix', 'm/'], {
    env: { ...env, COFFER_URL: server.url },
  })
  assert.match(told, /was changed/)
  assert.equal(project.text, 'A=changed\n')
  assert.deepEqual(project.names, ['..env.coffer', '.env'], 'the journal stays: it knows what was done')
  assert.equal(seen.length, 1)
  const { key, prefix } = JSON.parse(seen[0].journal)
  assert.deepEqual([seen[0].key, prefix], [`"${key}"`, 'm/'])
  assert.deepEqual(
    [seen[0].names, seen[0].mode, seen[0].text],
    [['..env.coffer', '.env'], 0o600, `A=${CANARY}\n`],
  )
  assert.ok(!seen[0].journal.includes(CANARY))
})

test('expand: references with versions, at an instant; OUT has mode 0600 before it has a value', async () => {
  const { valid_from: first } = await client.createSecret('x/a', 'one')
  await client.updateSecret('x/a', CANARY)
  using project = new Project("A=coffer://x/a # why\nB='coffer://x/a@1'\nC=plain\n")
  assert.equal(await fine(['env', 'expand', project.env], { env }), `A=${CANARY} # why\nB='one'\nC=plain`)
  assert.equal(
    await fine(['env', 'expand', project.env, '--at', first], { env }),
    "A=one # why\nB='one'\nC=plain",
  )
  const out = project.file('out')
  for (const there of [undefined, 0o644]) {
    if (there !== undefined) {
      writeFileSync(out, 'longer than what will be in it, by far: '.repeat(10))
      chmodSync(out, there)
    }
    if (there !== undefined)
      assert.match(
        await refused(1, ['env', 'expand', project.env, '-o', out], { env }),
        /exists already.*--force/,
      )
    assert.equal(await fine(['env', 'expand', project.env, '-o', out, '--force'], { env }), '')
    assert.equal(readFileSync(out, 'utf8'), `A=${CANARY} # why\nB='one'\nC=plain\n`)
    assert.equal(modeOf(out), 0o600)
  }
  assert.deepEqual(project.names, ['.env', 'out'])
  assert.deepEqual(project.leaks, ['out'])
  await refused(2, ['env', 'expand', project.env, '-o', project.env], { env })
  await refused(2, ['env', 'expand', project.env, '--at', 'x'], { env })
  assert.deepEqual(project.leaks, ['out'])
})

test('expand: all that is missing is told with its lines, and nothing is written', async () => {
  await client.createSecret('f/a', CANARY)
  using project = new Project('A=coffer://f/a\nB=coffer://f/b\nC=1\nD=coffer://f/a@2\nE=coffer://f/b\n')
  const out = project.file('out')
  const told = await refused(1, ['env', 'expand', '.env', '-o', out], { env, cwd: project.path })
  assert.deepEqual(
    [...told.matchAll(/^\.env:(\d): (\w)/gm)].map((match) => match.slice(1).join('')),
    ['2B', '4D', '5E'],
  )
  assert.ok(!told.includes(CANARY))
  assert.ok(!existsSync(out))
  const { code, stdout } = await coffer(['env', 'expand', '.env'], { env, cwd: project.path })
  assert.deepEqual([code, stdout], [1, ''])
})

test('expand: a value that no quotes carry is told by its key', async () => {
  await client.createSecret('q/a', `${CANARY}\r'"\``)
  using project = new Project('A=1\nB=coffer://q/a\n')
  const told = await refused(1, ['env', 'expand', '.env', '-o', 'out'], { env, cwd: project.path })
  assert.match(told, /^\.env:2: .*\bB\b/m)
  assert.ok(!told.includes(CANARY))
  assert.deepEqual(project.names, ['.env'])
})

test('expand: what sh and compose read otherwise is told by its key, and refused with --strict; --for writes for one', async () => {
  await client.createSecret('all/a', `${CANARY}'s "\\$(touch ran)`)
  await client.createSecret('all/b', 'x; echo $(touch ran)')
  using project = new Project('A=coffer://all/a\nB=coffer://all/b\nC = "plain"\n')
  const options = { env, cwd: project.path }
  const { code, stdout, stderr } = await coffer(['env', 'expand', '.env'], options)
  assert.deepEqual([code, stdout.split('\n')[1]], [0, "B='x; echo $(touch ran)'"])
  assert.match(stderr, /sh read .*: A, C; .*--for sh.* \(2 lines: 1, 3\)/)
  assert.match(stderr, /compose read .*: A; .*--for compose.* \(line 1\)/)
  const strict = await refused(1, ['env', 'expand', '.env', '-o', 'out', '--strict'], options)
  assert.ok(!`${stderr}${strict}`.includes(CANARY))
  assert.deepEqual(project.names, ['.env'])
  await fine(['env', 'expand', '.env', '--for', 'sh', '-o', 'out', '--strict'], options)
  const read = spawnSync('sh', ['-c', '. ./out; printf %s "$A|$B|$C"'], {
    cwd: project.path,
    encoding: 'utf8',
  })
  assert.equal(read.stdout, `${CANARY}'s "\\$(touch ran)|x; echo $(touch ran)|plain`)
  assert.deepEqual(project.names, ['.env', 'out'], 'nothing ran')
  assert.equal(
    await fine(['env', 'expand', '.env', '--for', 'compose'], options),
    `A="${CANARY}'s \\"\\\\$$(touch ran)"\nB='x; echo $(touch ran)'\nC=plain`,
  )
  await refused(2, ['env', 'expand', '.env', '--for', 'fish'], options)
})

test('expand and run: a # without a blank before it is only told', async () => {
  using project = new Project('A=ab#1\n')
  for (const args of [
    ['expand', '.env'],
    ['run', '.env', '--', 'true'],
  ]) {
    const { code, stderr } = await coffer(['env', ...args], { cwd: project.path })
    assert.equal(code, 0)
    assert.match(stderr, /^\.env: warning: .*#.*\(line 1\)$/m)
  }
  assert.match(
    await refused(1, ['env', 'encrypt', '.env'], { cwd: project.path }),
    /^\.env:1: a # follows .* A /m,
  )
})

test('expand: a file without references is given out as it is, and no node is asked', async () => {
  using project = new Project('# A\r\nB="1"')
  const { code, stdout } = await coffer(['env', 'expand', project.env])
  assert.deepEqual([code, stdout], [0, '# A\r\nB="1"'])
  for (const at of ['nonsense', '', '2026-02-30T00:00:00Z'])
    assert.match(
      await refused(2, ['env', 'expand', project.env, '--at', at]),
      /--at is not an instant/,
      'before the file is read',
    )
})

test('expand: more references than one call resolves', async () => {
  const refs = (count: number): string =>
    Array.from({ length: count }, (_, i) => `K${i}=coffer://many/${i}\n`).join('')
  using project = new Project(refs(1_001))
  assert.match(await refused(1, ['env', 'expand', project.env], { env }), /1001 references, and at most 1000/)
  await client.createSecret('many/same', 'v')
  writeFileSync(project.env, refs(1_500).replace(/many\/\d+/g, 'many/same'))
  const expanded = await fine(['env', 'expand', project.env], { env })
  assert.equal(expanded.match(/=v$/gm)?.length, 1_500, 'each is asked for once')
})
