import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { readConfig } from '../../src/node/config.ts'
import { coffer, Folder, fine, refused } from './cli.ts'

const KEY = /^cof_[0-9a-hjkmnp-tv-z]{52}$/

test('init: a keyring, a configuration, and keys that are printed once', async () => {
  using folder = new Folder()
  const dir = folder.file('vault')
  const owners = ['--owner', 'clinic-a', '--owner', '17', '--owner', 'true']
  const fields = ['--field', 'patient.ssn', '--field', 'contacts[].phone']
  const made = JSON.parse(await fine(['init', dir, '--json', '--port', '8300', ...owners, ...fields]))
  assert.deepEqual(Object.keys(made), ['owners', 'nodes'])
  assert.deepEqual(made.nodes, ['http://127.0.0.1:8300'])
  assert.deepEqual(Object.keys(made.owners).sort(), ['17', 'clinic-a', 'true'])
  assert.deepEqual(readdirSync(dir).sort(), ['keyring.json', 'n1.yaml'])
  const config = readConfig(`${dir}/n1.yaml`)
  assert.deepEqual(config.fields, ['patient.ssn', 'contacts[].phone'])
  assert.equal(config.listen.port, 8300)
  for (const { id, keys } of config.owners) {
    assert.match(made.owners[id], KEY)
    assert.deepEqual(keys, [{ id: 'k1', sha256: createHash('sha256').update(made.owners[id]).digest('hex') }])
  }
  for (const name of readdirSync(dir)) {
    assert.equal(statSync(`${dir}/${name}`).mode & 0o777, 0o600, name)
    assert.doesNotMatch(readFileSync(`${dir}/${name}`, 'utf8'), /cof_/, 'only hashes are stored')
  }
})

test('init: without --owner there is one, and its key is all of stdout that is secret', async () => {
  using folder = new Folder()
  const { code, stdout } = await coffer(['init', folder.file('v')])
  assert.equal(code, 0)
  const keys = stdout.split(/\s+/).filter((word) => KEY.test(word))
  assert.equal(keys.length, 1)
  assert.equal(readConfig(folder.file('v', 'n1.yaml')).owners[0].id, 'default')
})

test('init: a directory that is not empty is refused and left as it is', async () => {
  using folder = new Folder()
  mkdirSync(folder.file('v'))
  writeFileSync(folder.file('v', 'mine'), 'x')
  assert.match(await refused(1, ['init', folder.file('v')]), /is not empty/)
  assert.deepEqual(readdirSync(folder.file('v')), ['mine'])
})

test('init: names that cannot be are all told, and nothing is written', async () => {
  using folder = new Folder()
  const args = [
    '--owner',
    'Clinic',
    '--owner',
    'a',
    '--owner',
    'a',
    '--field',
    'p',
    '--field',
    'p.q',
    '--field',
    'x..y',
  ]
  const told = await refused(2, ['init', folder.file('v'), ...args])
  for (const place of ['owner no. 1:', 'owner no. 3:', 'field no. 2:', 'field no. 3:'])
    assert.ok(told.includes(place), told)
  for (const each of [
    ['--port', '65536'],
    ['--port', 'http'],
    ['--nodes', '2'],
    ['--nodes', 'three'],
  ])
    await refused(2, ['init', folder.file('v'), ...each])
  assert.deepEqual(readdirSync(folder.path), [])
})

const COMMANDS = [
  'init',
  'start',
  'cluster',
  'cluster start',
  'cluster stop',
  'cluster status',
  'member',
  'member list',
  'member replace',
  'backup',
  'restore',
  'keys',
  'keys add',
  'keys remove',
  'keys list',
  'keyring',
  'keyring add',
  'keyring activate',
  'keyring rewrap',
  'keyring remove',
  'keyring list',
  'epoch',
  'epoch rotate',
  'status',
  'tokenize',
  'detokenize',
  'retokenize',
  'sql',
  'replica',
  'secret create',
  'secret update',
  'secret get',
  'secret history',
  'secret list',
  'env encrypt',
  'env expand',
  'env run',
  'replica verify',
  'replica reset',
  'demo',
  'dev',
  'log',
  'ledger',
  'ledger show',
]

test('every command helps with an example', async () => {
  for (const command of ['', ...COMMANDS]) {
    const { code, stdout, stderr } = await coffer([...command.split(' ').filter(Boolean), '--help'])
    assert.deepEqual([code, stderr], [0, ''], command)
    assert.match(stdout, /^Example:\n {2}\$ .*coffer |^ {2}\$ coffer keyring /m, command)
    for (const line of stdout.split('\n')) assert.ok(line.length <= 110, line)
  }
  const { stdout } = await coffer(['--help'])
  const listed = [...stdout.matchAll(/^ {2}([a-z]+) (?=.* {2})/gm)].map(([, name]) => name)
  const known = new Set(COMMANDS.map((command) => command.split(' ')[0]))
  assert.deepEqual(new Set(listed.filter((name) => name !== 'help')), known)
})

test('used wrongly is 2, and says what is wrong on stderr', async () => {
  const wrong = [
    ['nothing-of-ours'],
    ['init'],
    ['init', 'a', 'b'],
    ['start', '--colour'],
    ['cluster', 'start'],
    ['cluster', 'start', 'x', '--wait', '0'],
    ['cluster', 'stop', 'x', '--force'],
    ['keys', 'add', '--owner', 'a'],
    ['keyring', 'activate', '--config', 'x'],
    ['epoch', 'rotate'],
    ['tokenize', 'x.csv'],
    ['detokenize', '--column', 'x'],
    ['epoch', 'rotate', '--to', 'x'],
    ['demo', 'magic'],
  ]
  for (const args of wrong) await refused(2, args, { env: { COFFER_KEY: 'cof_x' } })
  const { code, stdout, stderr } = await coffer([])
  assert.deepEqual([code, stdout], [2, ''])
  assert.match(stderr, /^Usage: coffer/)
  assert.match(await fine(['--version']), /^\d+\.\d+\.\d+$/)
})
