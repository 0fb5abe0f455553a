import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { test } from 'node:test'
import { Coffer, CofferError } from '../../src/client/index.ts'
import { hashKey } from '../../src/http/auth.ts'
import { readConfig } from '../../src/node/config.ts'
import { coffer, Folder, fine, freePort, init, NodeProcess, refused } from './cli.ts'

/** Whether the node accepts the key. */
async function known(url: string, key: string): Promise<boolean> {
  const coffer = new Coffer({ urls: url, key })
  try {
    await coffer.epochs()
    return true
  } catch (error) {
    if (error instanceof CofferError && error.slug === 'unauthorized') return false
    throw error
  } finally {
    coffer.close()
  }
}

test('keys of a running node: added, listed and removed without a pause', async () => {
  using folder = new Folder()
  const { default: first } = await init(folder.file('v'), '--port', String(await freePort()))
  const config = folder.file('v', 'n1.yaml')
  await using node = await NodeProcess.start(config)
  const added = JSON.parse(await fine(['keys', 'add', '--config', config, '--owner', 'default', '--json']))
  assert.deepEqual([added.owner, added.id], ['default', 'k2'])
  assert.ok(await known(node.url, added.key))
  const other = await fine(['keys', 'add', '--config', config, '--owner', 'new', '--id', 'laptop'])
  assert.ok(await known(node.url, other))
  const client = new Coffer({ urls: node.url, key: other })
  assert.equal((await client.tokenize(['x'])).epoch, 1)
  client.close()

  const list = JSON.parse(await fine(['keys', 'list', '--config', config, '--json']))
  const ids = list.owners.map(({ id, keys }: { id: string; keys: { id: string }[] }) => [
    id,
    keys.map((key) => key.id),
  ])
  assert.deepEqual(ids, [
    ['default', ['k1', 'k2']],
    ['new', ['laptop']],
  ])
  const shown = await fine(['keys', 'list', '--config', config, '--owner', 'new'])
  assert.match(shown, /laptop/)
  assert.doesNotMatch(shown, /default|cof_/)

  await fine(['keys', 'remove', '--config', config, '--owner', 'default', '--id', 'k1'])
  assert.ok(!(await known(node.url, first)))
  assert.ok(await known(node.url, added.key))
  assert.equal(node.told('"level":50'), 0)
})

test('the file keeps its comments, its mode and its place; nothing wrong is written', async () => {
  using folder = new Folder()
  await init(folder.file('v'))
  const config = folder.file('v', 'n1.yaml')
  const before = `${readFileSync(config, 'utf8')}# the last line\n`
  writeFileSync(config, before)
  chmodSync(config, 0o640)
  symlinkSync(config, folder.file('link.yaml'))
  const comments = (text: string): string[] => text.split('\n').filter((line) => line.startsWith('#'))
  await fine(['keys', 'add', '--config', folder.file('link.yaml'), '--owner', 'default'])
  const after = readFileSync(config, 'utf8')
  assert.deepEqual(comments(after), comments(before))
  assert.ok(after.startsWith(before.slice(0, before.indexOf('    keys:'))), 'what stands before is as it was')
  assert.equal(statSync(config).mode & 0o777, 0o640)
  const add = ['keys', 'add', '--config', config]
  assert.match(await refused(2, [...add, '--owner', 'Not An Owner']), /owners\[1\]\.id/)
  assert.match(await refused(1, [...add, '--owner', 'default', '--id', 'k1']), /has a key k1 already/)
  const remove = ['keys', 'remove', '--config', config, '--owner', 'default']
  assert.match(await refused(2, remove), /--id/)
  assert.match(await refused(1, [...remove, '--id', 'k9']), /has no key k9/)
  assert.match(await refused(1, ['keys', 'list', '--config', config, '--owner', 'nobody']), /no owner nobody/)
  assert.equal(readFileSync(config, 'utf8'), after)
  // After the removal of the last key a key can be added again.
  for (const id of ['k1', 'k2']) await fine([...remove, '--id', id])
  const [{ keys, removed }] = readConfig(config).owners
  assert.deepEqual([keys, removed.map(({ id }) => id)], [[], ['k1', 'k2']])
  await fine([...add, '--owner', 'default'])
  assert.equal(readConfig(config).owners[0].keys.length, 1)
})

test('rights and limits: added, warned of, in force, listed; a bad one changes nothing', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', String(await freePort()))
  const config = folder.file('v', 'n1.yaml')
  const before = readFileSync(config, 'utf8')
  const add = ['keys', 'add', '--config', config, '--owner', 'default']
  const bad: readonly (readonly [string[], RegExp])[] = [
    [['--may', 'read'], /keys\[1\]\.may\[0\]: expected one of tokenize, /],
    [['--may', 'none', '--may', 'rotate'], /may\[0\]: expected one of tokenize, /],
    [['--may', 'rotate', '--may', 'rotate'], /may\[1\]: the same as /],
    [['--prefix', 'a/../'], /prefix: expected the beginning/],
    [['--until', 'soon'], /until: expected an instant/],
    [['--per-day', '0'], /resolve_per_day: expected a whole number/],
    [['--per-day', 'x'], /resolve_per_day: expected a whole number/],
  ]
  for (const [options, message] of bad) assert.match(await refused(2, [...add, ...options]), message)
  assert.equal(readFileSync(config, 'utf8'), before)
  await using node = await NodeProcess.start(config)
  const limits = ['--may', 'secrets:read', '--may', 'tokenize', '--prefix', 'app', '--per-day', '7']
  const added = await coffer([...add, ...limits, '--until', '2037-01-01T00:00:00Z'])
  assert.equal(added.code, 0)
  assert.match(added.stderr, /warning: the prefix does not end in \//)
  const headers = { authorization: `Bearer ${added.stdout.trim()}` }
  const me = JSON.parse(await (await fetch(`${node.url}/whoami`, { headers })).text())
  const until = '2037-01-01T00:00:00.000Z'
  const wanted = { may: ['tokenize', 'secrets:read'], prefix: 'app', until, resolve_per_day: 7 }
  assert.deepEqual(me, { owner: 'default', key_id: 'k2', ...wanted, quota: null, used: me.used })
  const list = JSON.parse(await fine(['keys', 'list', '--config', config, '--json']))
  const { sha256: _sha256, ...shown } = list.owners[0].keys[1]
  assert.deepEqual(shown, { id: 'k2', ...wanted })
  const text = await fine(['keys', 'list', '--config', config])
  assert.match(
    text,
    /k2 .*may tokenize, secrets:read; prefix app; until 2037-01-01T00:00:00\.000Z; 7 values a day/,
  )
  const idle = await fine([...add, '--may', 'none'])
  const answer = await fetch(`${node.url}/whoami`, { headers: { authorization: `Bearer ${idle.trim()}` } })
  assert.deepEqual(JSON.parse(await answer.text()).may, [])
  const past = await coffer([...add, '--until', '2020-01-01T00:00:00Z'])
  assert.deepEqual([past.code, /warning: --until has passed/.test(past.stderr)], [0, true])
})

test('several files get the same key, or none gets one', async () => {
  using folder = new Folder()
  await init(folder.file('v'))
  const [one, two] = [folder.file('v', 'n1.yaml'), folder.file('v', 'n2.yaml')]
  writeFileSync(
    two,
    readFileSync(one, 'utf8').replace('node: n1', 'node: n2').replace('data: ./n1', 'data: ./n2'),
  )
  const both = ['--config', one, two]
  await fine(['keys', 'add', ...both, '--owner', 'shared'])
  const [left, right] = [one, two].map((file) => readConfig(file).owners)
  assert.deepEqual(left, right)
  assert.equal(left.length, 2)
  await fine(['keys', 'add', '--config', two, '--owner', 'shared'])
  const list = await fine(['keys', 'list', ...both])
  assert.match(list, /k2 .*missing in n1/)
  assert.match(await fine(['keys', 'add', ...both, '--owner', 'shared', '--json']), /"id":"k3"/)
  writeFileSync(two, 'node: broken\n')
  const before = readFileSync(one, 'utf8')
  await refused(1, ['keys', 'add', ...both, '--owner', 'shared'])
  assert.equal(readFileSync(one, 'utf8'), before)
})

test('a disk that is full at the second file: the key is printed, and what is changed is told', async (t) => {
  using folder = new Folder()
  await init(folder.file('v'))
  const dir = folder.file('full')
  mkdirSync(dir)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', dir])
  if (mounted.status !== 0) return t.skip('no right to mount a file system')
  try {
    const [one, two] = [folder.file('v', 'n1.yaml'), folder.file('full', 'n2.yaml')]
    const text = readFileSync(one, 'utf8').replace('node: n1', 'node: n2')
    writeFileSync(two, text.replaceAll('./', `${folder.file('v')}/`), { mode: 0o600 })
    const { bavail, bsize } = statfsSync(dir)
    writeFileSync(folder.file('full', 'filler'), Buffer.alloc(bavail * bsize))
    const both = ['--config', one, two, '--owner', 'shared']
    const { code, stdout, stderr } = await coffer(['keys', 'add', ...both])
    assert.equal(code, 1)
    assert.match(stdout, /^cof_[0-9a-z]{52}\n$/)
    assert.ok(stderr.includes(`; changed, and not told to the nodes yet: ${one}`), stderr)
    assert.equal(readConfig(one).owners.at(-1)?.keys[0].sha256, hashKey(stdout.trim()))
    assert.ok(!readFileSync(two, 'utf8').includes('shared'))
    rmSync(folder.file('full', 'filler'))
    await fine(['keys', 'remove', ...both, '--id', 'k1'])
    assert.deepEqual(readConfig(one).owners.at(-1)?.removed[0].id, 'k1')
  } finally {
    spawnSync('umount', ['-l', dir])
  }
})
