// coffer keys remove: within 2 s the command returns and the key is 401, whatever the node waits for; and what a command
// has reported is so, whatever other commands run at the same time.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { Coffer } from '../../src/client/index.ts'
import { systemClock } from '../../src/clock.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { replaceFile } from '../../src/files.ts'
import { readConfig } from '../../src/node/config.ts'
import { seeded } from '../sim/seed.ts'
import { coffer, Folder, fine, freePort, init, NodeProcess, refused, until } from './cli.ts'

/** The whole of it: COFFER_ROUNDS=100. */
const ROUNDS = Number(process.env.COFFER_ROUNDS ?? 4)
const VERSIONS = Number(process.env.COFFER_VERSIONS ?? 30_000)
/** Within this the command returns, and the key is 401. */
const WITHIN_MS = 2000

class Place extends Folder {
  readonly config = this.file('v', 'n1.yaml')
  readonly ring = this.file('v', 'keyring.json')
  key = ''

  static async make(): Promise<Place> {
    const place = new Place()
    place.key = (await init(place.file('v'), '--port', String(await freePort()))).default
    return place
  }

  keys(...args: readonly string[]): string[] {
    return ['keys', ...args, '--config', this.config, '--owner', 'default']
  }

  async add(): Promise<{ id: string; key: string }> {
    return JSON.parse(await fine([...this.keys('add'), '--json']))
  }
}

async function status(url: string, key: string): Promise<number> {
  return (await fetch(`${url}/whoami`, { headers: { authorization: `Bearer ${key}` } })).status
}

/** Removes a key. The command returns in time, and the key is unknown when it does. */
async function removed(place: Place, url: string, { id, key }: { id: string; key: string }): Promise<void> {
  assert.equal(await status(url, key), 200)
  const began = performance.now()
  await fine([...place.keys('remove'), '--id', id])
  const took = performance.now() - began
  assert.equal(await status(url, key), 401)
  assert.ok(took < WITHIN_MS, `keys remove took ${Math.round(took)} ms`)
}

test('beside a keyring that cannot be used: the keys are in force, and the keyring stays as it was', async () => {
  using place = await Place.make()
  await using node = await NodeProcess.start(place.config)
  const good = readFileSync(place.ring, 'utf8')
  await init(place.file('w'))
  const faults: readonly (() => void)[] = [
    () => chmodSync(place.ring, 0o604),
    () => writeFileSync(place.ring, good.slice(0, 40)),
    () => writeFileSync(place.ring, readFileSync(place.file('w', 'keyring.json'))),
  ]
  for (const [i, breakIt] of faults.entries()) {
    breakIt()
    await removed(place, node.url, await place.add())
    assert.ok(node.told('the keyring stays as read before') > i)
    chmodSync(place.ring, 0o600)
    writeFileSync(place.ring, good)
  }
  const client = new Coffer({ urls: node.url, key: place.key })
  assert.equal((await client.tokenize(['x'])).epoch, 1)
  client.close()
})

test('beside a configuration that cannot be read: the keyring is in force', async () => {
  using place = await Place.make()
  await using node = await NodeProcess.start(place.config)
  writeFileSync(place.config, `${readFileSync(place.config, 'utf8')}\n]`)
  const added = newRootKey(systemClock)
  replaceFile(place.ring, Keyring.parse(readFileSync(place.ring, 'utf8')).add(added).serialize())
  node.signal('SIGHUP')
  await until('the keyring is read', async () =>
    (await (await fetch(`${node.url}/metrics`)).text()).includes(`coffer_root_keys{root_key="${added.id}"`),
  )
  assert.equal(node.told('the owners stay as read before'), 1)
  assert.equal(await status(node.url, place.key), 200)
})

test(`during a rewrap of ${VERSIONS} versions: the key is gone, and the rewrap is brought to its end`, async () => {
  using place = await Place.make()
  await using node = await NodeProcess.start(place.config)
  const client = new Coffer({ urls: node.url, key: place.key, timeoutMs: 20_000 })
  for (let made = 0; made < VERSIONS; made += 500)
    await client.createSecrets(Array.from({ length: 500 }, (_, i) => ({ name: `s${made + i}`, value: 'x' })))
  const victim = await place.add()
  const keyring = (...args: string[]): string[] => ['keyring', ...args, '--config', place.config]
  const old = Keyring.parse(readFileSync(place.ring, 'utf8')).active
  const fresh = await fine(keyring('add'))
  await fine(keyring('activate', fresh))
  const left = async (): Promise<number> => {
    const text = await (await fetch(`${node.url}/metrics`)).text()
    return Number(new RegExp(`coffer_wrapped_keys{root_key="${old}"} (\\d+)`).exec(text)?.[1] ?? 0)
  }
  const rewrap = coffer(keyring('rewrap', '--json'), { ms: 120_000 })
  await until('the rewrap has begun', async () => (await left()) < VERSIONS)
  await removed(place, node.url, victim)
  const during = await left()
  assert.ok(during > 0, 'the rewrap had ended before: more versions are needed')
  const { code, stdout, stderr } = await rewrap
  assert.equal(code, 0, stderr)
  assert.deepEqual(JSON.parse(stdout), { active: fresh, rewrapped: VERSIONS + 2 })
  assert.equal(await left(), 0)
  assert.equal((await client.secret('s0')).value, 'x')
  client.close()
})

test('where connections hold all descriptors: the key is 401 within 2 s', async (t) => {
  using place = await Place.make()
  await using node = await NodeProcess.start(place.config)
  const victim = await place.add()
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const ask = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${victim.key}` }
      get(`${node.url}/whoami`, { agent, headers }, (answer) => {
        answer.resume().on('end', () => resolve(answer.statusCode ?? 0))
      }).on('error', reject)
    })
  assert.equal(await ask(), 200)
  const descriptors = (): number[] => readdirSync(`/proc/${node.pid}/fd`).map(Number)
  // More than the reserve: else the reserve takes what the connections give back.
  const most = descriptors().length + 40
  const limited = spawnSync('prlimit', ['--pid', String(node.pid), `--nofile=${most}:${most}`])
  if (limited.status !== 0) return t.skip('prlimit is not there')
  const { hostname, port } = new URL(node.url)
  const held: Socket[] = []
  try {
    while (descriptors().length < most) {
      held.push(connect(Number(port), hostname).on('error', () => undefined))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const remove = coffer([...place.keys('remove'), '--id', victim.id])
    const began = performance.now()
    await until('the key is unknown', async () => (await ask()) === 401, WITHIN_MS)
    t.diagnostic(`401 after ${Math.round(performance.now() - began)} ms with ${held.length} connections`)
    const reserve = readdirSync(`/proc/${node.pid}/fd`).filter(
      (each) => linkOf(node.pid, each) === '/dev/null',
    )
    assert.ok(reserve.length >= 2, 'the reserve is whole again')
    for (const socket of held.splice(0)) socket.destroy()
    const { code, stderr } = await remove
    assert.equal(code, 0, stderr)
  } finally {
    for (const socket of held) socket.destroy()
    agent.destroy()
  }
})

function linkOf(pid: number, descriptor: string): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/${descriptor}`)
  } catch {
    return ''
  }
}

test('a node that does not answer: exit 1 names the node, add prints the key, and the command can be repeated', async () => {
  using place = await Place.make()
  await using node = await NodeProcess.start(place.config)
  const victim = await place.add()
  node.signal('SIGSTOP')
  const [add, remove] = await Promise.all([
    coffer([...place.keys('add'), '--json']),
    coffer([...place.keys('remove'), '--id', victim.id, '--json']),
  ])
  for (const { code, stderr } of [add, remove]) {
    assert.equal(code, 1)
    assert.match(
      stderr,
      /^coffer: node n1 \(process \d+\) does not have the owners of its file in force: it does not answer: .*repeat the command/m,
    )
  }
  assert.equal(remove.stdout, '')
  node.signal('SIGCONT')
  assert.deepEqual(JSON.parse(await fine([...place.keys('remove'), '--id', victim.id, '--json'])), {
    owner: 'default',
    id: victim.id,
    removed: true,
  })
  assert.deepEqual(
    [await status(node.url, victim.key), await status(node.url, JSON.parse(add.stdout).key)],
    [401, 200],
  )
})

test('the id of a removed key is not given again, and the file keeps the instant', async () => {
  using place = await Place.make()
  const config = readFileSync(place.config, 'utf8').replace('id: k1', 'id: k1 # of the first day')
  writeFileSync(place.config, config)
  assert.equal((await place.add()).id, 'k2')
  await fine([...place.keys('remove'), '--id', 'k2'])
  await fine([...place.keys('remove'), '--id', 'k1'])
  const text = readFileSync(place.config, 'utf8')
  const [{ keys, removed: gone }] = readConfig(place.config).owners
  assert.deepEqual([keys, gone.map(({ id }) => id)], [[], ['k1', 'k2']])
  assert.match(text, /id: k1 # of the first day\n +removed: \d{4}-\d\d-\d\dT/)
  await fine([...place.keys('remove'), '--id', 'k1'])
  assert.equal(readFileSync(place.config, 'utf8'), text, 'removed once')
  assert.match(
    await refused(1, [...place.keys('add'), '--id', 'k2']),
    /had a key k2, removed at .* another --id/,
  )
  assert.equal((await place.add()).id, 'k3')
  const [listed] = JSON.parse(await fine([...place.keys('list'), '--json'])).owners
  assert.deepEqual(listed.removed, gone)
  assert.match(await fine(place.keys('list')), /k1 +removed at \d{4}-/)
})

test(`two commands at once, ${ROUNDS} rounds: what was reported is so`, async () => {
  const random = seeded()
  console.log(`seed ${random.seed}: COFFER_SEED=${random.seed} repeats`)
  using place = await Place.make()
  await using node = await NodeProcess.start(place.config)
  let last = await place.add()
  for (let round = 0; round < ROUNDS; round++) {
    const pair: (() => Promise<unknown>)[] = [
      async () => fine([...place.keys('remove'), '--id', last.id]),
      async () => place.add(),
    ]
    if (random.chance(0.5)) pair.reverse()
    const results = await Promise.all(pair.map((run) => run()))
    const added = results.find((result) => typeof result === 'object') as { id: string; key: string } // of add
    const statuses = [await status(node.url, last.key), await status(node.url, added.key)]
    assert.deepEqual(statuses, [401, 200], `round ${round}: ${last.id} is removed, ${added.id} is added`)
    const [{ keys, removed: gone }] = readConfig(place.config).owners
    assert.ok(keys.some(({ id }) => id === added.id) && gone.some(({ id }) => id === last.id))
    last = added
  }
})
