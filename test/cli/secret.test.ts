// coffer secret, against a node: values byte for byte, versions, lists, and refusals with the next step.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Coffer } from '../../src/client/index.ts'
import { SECRET_VALUE_BYTES } from '../../src/wire.ts'
import { coffer, Folder, fine, type NodeProcess, refused, startVault } from './cli.ts'

const folder = new Folder()
let node: NodeProcess
let env: { COFFER_URL: string; COFFER_KEY: string }
let client: Coffer

before(async () => {
  ;({ node, env, client } = await startVault(folder))
})

after(async () => {
  client?.close()
  await node?.[Symbol.asyncDispose]()
  folder[Symbol.dispose]()
})

/** The exact output of `secret get`. */
async function got(name: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await coffer(['secret', 'get', name, ...args], { env })
  assert.equal(code, 0, stderr)
  return stdout
}

test('values are stored and printed as they are, from stdin and from a file', async () => {
  const values = [
    'plain',
    '',
    ' blanks \n\n',
    'no end\r\n',
    '\ufeff{"x":"é😀"}\0',
    'x'.repeat(SECRET_VALUE_BYTES),
  ]
  for (const [i, value] of values.entries()) {
    const name = `as-is/${i}`
    if (i % 2 === 0) await fine(['secret', 'create', name], { env, input: value })
    else {
      writeFileSync(folder.file('value'), value)
      await fine(['secret', 'create', name, '--value-from', folder.file('value')], { env })
    }
    assert.equal(await got(name), value)
    assert.equal((await client.secret(name)).value, value)
  }
  await fine(['secret', 'create', 'as-is/dash', '--value-from', '-', '--json'], { env, input: 'dash' })
  assert.equal(await got('as-is/dash'), 'dash')
  await fine(['secret', 'create', 'as-is/none'], { env })
  assert.equal(await got('as-is/none'), '', 'a closed stdin')
})

test('versions: by number, by instant, and their history', async () => {
  const created = JSON.parse(await fine(['secret', 'create', 'v/a', '--json'], { env, input: 'one' }))
  assert.deepEqual([created.name, created.version], ['v/a', 1])
  assert.match(await fine(['secret', 'update', 'v/a'], { env, input: 'two' }), /version 2/)
  const updated = JSON.parse(
    await fine(['secret', 'update', 'v/a', '--if-version', '2', '--json'], { env, input: 'three' }),
  )
  assert.equal(updated.version, 3)
  assert.equal(await got('v/a'), 'three')
  assert.equal(await got('v/a', '--version', '2'), 'two')
  assert.equal(await got('v/a', '--at', created.valid_from), 'one')
  assert.equal(await got('v/a', '--at', updated.valid_from), 'three')
  const { value, version, valid_to } = JSON.parse(await got('v/a', '--version', '1', '--json'))
  assert.deepEqual([value, version, typeof valid_to], ['one', 1, 'string'])

  const history = await fine(['secret', 'history', 'v/a'], { env })
  const [head, ...rows] = history.split('\n').map((line) => line.split(/ {2,}/))
  assert.deepEqual(head, ['version', 'valid from', 'valid to', 'key', 'request'])
  assert.deepEqual(
    rows.map((row) => [row[0], row[3]]),
    [1, 2, 3].map((n) => [String(n), 'k1']),
  )
  assert.deepEqual([rows[0][1], rows[0][2], rows[2][2]], [created.valid_from, rows[1][1], 'latest'])
  assert.ok(!/one|two|three/.test(history))
  const told = JSON.parse(await fine(['secret', 'history', 'v/a', '--json'], { env }))
  assert.deepEqual(told, await client.secretHistory('v/a'))
})

test('a reference stands for its name: get takes the version, the others refuse one', async () => {
  await fine(['secret', 'create', 'coffer://ref/a'], { env, input: 'one' })
  await fine(['secret', 'update', 'coffer://ref/a'], { env, input: 'two' })
  assert.equal(await fine(['secret', 'get', 'coffer://ref/a'], { env }), 'two')
  assert.equal(await fine(['secret', 'get', 'coffer://ref/a@1'], { env }), 'one')
  assert.equal(await fine(['secret', 'get', 'coffer://ref/a@1', '--version', '1'], { env }), 'one')
  await fine(['secret', 'history', 'coffer://ref/a'], { env })
  await refused(2, ['secret', 'get', 'coffer://ref/a@1', '--version', '2'], { env })
  await refused(2, ['secret', 'update', 'coffer://ref/a@1'], { env, input: 'x' })
  await refused(2, ['secret', 'get', 'coffer://ref/a@x'], { env })
})

test('list: all pages, in byte order, by prefix', async () => {
  const names = Array.from({ length: 1_200 }, (_, i) => `l/${String(i).padStart(4, '0')}`)
  for (let i = 0; i < names.length; i += 400)
    await client.createSecrets(names.slice(i, i + 400).map((name) => ({ name, value: '' })))
  assert.deepEqual((await fine(['secret', 'list', 'l/'], { env })).split('\n'), names)
  assert.deepEqual(JSON.parse(await fine(['secret', 'list', 'l/11', '--json'], { env })), {
    names: names.slice(1_100),
  })
  assert.equal(await fine(['secret', 'list', 'l/x'], { env }), '')
  const all = (await fine(['secret', 'list'], { env })).split('\n')
  assert.ok(all.includes('l/0000') && all.length >= names.length)
})

test('what is refused tells the next step, and no value', async () => {
  await fine(['secret', 'create', 'r/a'], { env, input: 'one' })
  const input = 'c4n4ry'
  const cases: readonly (readonly [args: readonly string[], expected: RegExp])[] = [
    [['create', 'r/a'], /`coffer secret update r\/a`/],
    [['update', 'r/b'], /`coffer secret create r\/b`/],
    [['update', 'r/a', '--if-version', '2'], /has version 1 by now/],
    [['get', 'r/b'], /`coffer secret list`/],
    [['get', 'r/a', '--version', '2'], /`coffer secret history r\/a`/],
    [['get', 'r/a', '--at', '2020-01-01T00:00:00Z'], /`coffer secret history r\/a`/],
    [['history', 'r/b'], /there is no secret r\/b/],
    [['create', 'r/c', '--value-from', folder.file('none')], /ENOENT/],
  ]
  for (const [args, expected] of cases) {
    const told = await refused(1, ['secret', ...args], { env, input })
    assert.match(told, expected)
    assert.ok(!told.includes(input))
  }
  assert.deepEqual(await client.secretNames({ prefix: 'r/' }), { names: ['r/a'], next: null })
  assert.equal((await client.secret('r/a')).version, 1)
})

test('what cannot be a value is not sent', async () => {
  const latin = Buffer.from('caf\xe9', 'latin1')
  assert.match(await refused(1, ['secret', 'create', 'n/a'], { env, input: latin }), /not UTF-8/)
  const long = 'x'.repeat(SECRET_VALUE_BYTES + 1)
  assert.match(await refused(1, ['secret', 'create', 'n/a'], { env, input: long }), /more than 65536 bytes/)
  if (existsSync('/dev/zero')) {
    const endless = ['secret', 'create', 'n/a', '--value-from', '/dev/zero']
    assert.match(await refused(1, endless, { env }), /more than 65536 bytes/)
  }
  assert.deepEqual((await client.secretNames({ prefix: 'n/' })).names, [])
})

test('bad usage ends with 2', async () => {
  const cases: readonly (readonly string[])[] = [
    ['create'],
    ['create', 'a//b'],
    ['get', '../x'],
    ['get', 'a', '--version', '0'],
    ['get', 'a', '--version', '1', '--at', '2026-01-01T00:00:00Z'],
    ['get', 'a', '--at', 'yesterday'],
    ['get', 'a', '--at', '2999-01-01T00:00:00Z'],
    ['update', 'a', '--if-version', 'x'],
    ['create', 'a', 'the value'],
    ['list', 'a b'],
  ]
  for (const args of cases) await refused(2, ['secret', ...args], { env, input: '' })
  // Without a key and a node, too.
  assert.match(await refused(2, ['secret', 'get', 'a', '--at', 'yesterday']), /--at is not an instant/)
})

test('a terminal gets a line feed at the end, and a note that it is read from', async (t) => {
  try {
    execFileSync('script', ['--version'], { stdio: 'ignore' })
  } catch {
    return t.skip('no script(1)')
  }
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const onTerminal = (command: string, input = ''): string =>
    execFileSync('script', ['-qec', `${process.execPath} ${main} secret ${command}`, '/dev/null'], {
      env: { PATH: process.env.PATH, ...env },
      input,
      encoding: 'utf8',
      timeout: 30_000,
    })
  assert.match(onTerminal('create t/a', 'typed\n\x04'), /Ctrl-D/)
  assert.equal(await got('t/a'), 'typed\n')
  await client.updateSecret('t/a', 'value')
  assert.match(onTerminal('get t/a'), /value\r\n$/)
  return undefined
})
