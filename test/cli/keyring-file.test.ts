// The keyring file under faults: whole after a kill at any step and on a full disk, and never older than what a command
// has reported.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/clock.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { seeded } from '../sim/seed.ts'
import { coffer, Folder, fine, freePort, init, NodeProcess, spawnCoffer } from './cli.ts'

const PRELOAD = fileURLToPath(new URL('./kill-at.ts', import.meta.url))
/** The whole of it: COFFER_ROUNDS=100. */
const ROUNDS = Number(process.env.COFFER_ROUNDS ?? 4)
const PAGE = 4096

/** Throws where the file is not whole, or others can read it. */
function ringOf(file: string): Keyring {
  assert.equal(statSync(file).mode & 0o777, 0o600)
  return Keyring.parse(readFileSync(file, 'utf8'))
}

const keyring = (folder: Folder, ...args: string[]): string[] => [
  'keyring',
  ...args,
  '--config',
  folder.file('v', 'n1.yaml'),
]

test('every change keeps the keyring before it, and remove says where the root key still is', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', '0')
  const file = folder.file('v', 'keyring.json')
  const older = `${file}.old`
  const first = readFileSync(file, 'utf8')
  const old = ringOf(file).active
  const fresh = await fine(keyring(folder, 'add'))
  assert.equal(readFileSync(older, 'utf8'), first)
  const second = readFileSync(file, 'utf8')
  await fine(keyring(folder, 'activate', fresh))
  assert.equal(readFileSync(older, 'utf8'), second)
  await fine(keyring(folder, 'rewrap'))
  const { code, stderr } = await coffer(keyring(folder, 'remove', old))
  assert.equal(code, 0, stderr)
  assert.ok(
    stderr.includes(`keyring.json.old still has root key ${old}. Next: `) && stderr.includes(`rm ${older}`),
  )
  assert.deepEqual([ringOf(file).ids, ringOf(older).ids], [[fresh], [old, fresh]])
  await fine(keyring(folder, 'add'))
  assert.ok(!readFileSync(older, 'utf8').includes(old), 'the next change lets go of it')
})

test('keyring add, killed before any step: the old keyring or the new one, whole', async () => {
  using origin = new Folder()
  await init(origin.file('v'))
  const before = ringOf(origin.file('v', 'keyring.json')).ids
  const killedBefore = async (step: number): Promise<string | undefined> => {
    using folder = new Folder()
    cpSync(origin.file('v'), folder.file('v'), { recursive: true })
    const file = folder.file('v', 'keyring.json')
    const env = { NODE_OPTIONS: `--import ${PRELOAD}`, KILL_FILE: file, KILL_AT: String(step) }
    const { code, stderr } = await coffer(keyring(folder, 'add'), { env })
    const { ids } = ringOf(file)
    assert.deepEqual(ids.slice(0, 1), before, `step ${step}: a root key is lost`)
    if (existsSync(`${file}.old`)) assert.deepEqual(ringOf(`${file}.old`).ids, before, `step ${step}`)
    if (code === 0) return undefined
    assert.equal(code, null, stderr)
    await fine(keyring(folder, 'add'))
    assert.equal(ringOf(file).ids.length, ids.length + 1)
    const left = readdirSync(folder.file('v')).filter((name) => name.endsWith('.new'))
    assert.deepEqual(left, [], `step ${step}: root keys stay in another file`)
    return ids.length === 1 ? 'old' : 'new'
  }
  const found: (string | undefined)[] = []
  while (!found.includes(undefined)) {
    const step = found.length + 1
    found.push(...(await Promise.all([killedBefore(step), killedBefore(step + 1)])))
  }
  const steps = found.indexOf(undefined)
  assert.ok(steps > 30, `there were only ${steps} steps`)
  assert.deepEqual([...new Set(found.slice(0, steps))].sort(), ['new', 'old'])
})

for (const pages of [0, 1, 2, 3, 4, 8]) {
  test(`keyring add on a disk with ${pages} free pages: the old keyring or the new one, whole`, async (t) => {
    using folder = new Folder()
    const dir = folder.file('v')
    mkdirSync(dir)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', dir])
    if (mounted.status !== 0) return t.skip('no right to mount a file system')
    try {
      using origin = new Folder()
      await init(origin.file('v'))
      cpSync(origin.file('v'), dir, { recursive: true })
      const file = folder.file('v', 'keyring.json')
      let ring = ringOf(file)
      while (ring.serialize().length < PAGE) ring = ring.add(newRootKey(systemClock))
      writeFileSync(file, ring.serialize())
      writeFileSync(folder.file('v', 'filler'), Buffer.alloc((statfsSync(dir).bavail - pages) * PAGE))
      assert.equal(statfsSync(dir).bavail, pages)
      const { code, stderr } = await coffer(keyring(folder, 'add'))
      const { ids } = ringOf(file)
      if (code === 0) assert.deepEqual(ids.slice(0, -1), ring.ids)
      else {
        assert.equal(code, 1, stderr)
        assert.match(stderr, /^coffer: .*cannot be written: .*ENOSPC/m)
        assert.deepEqual(ids, ring.ids)
      }
      if (existsSync(`${file}.old`)) assert.deepEqual(ringOf(`${file}.old`).ids, ring.ids)
      assert.deepEqual(
        readdirSync(dir).filter((name) => name.endsWith('.new')),
        [],
      )
      t.diagnostic(`exit ${code}`)
      // The old keyring and the new one take two pages each.
      assert.equal(code, pages >= 4 ? 0 : 1)
    } finally {
      spawnSync('umount', ['-l', dir])
    }
  })
}

test(`a rewrap that is suspended and resumed, ${ROUNDS} rounds: no root key is lost, none comes back`, async () => {
  const random = seeded()
  console.log(`seed ${random.seed}: COFFER_SEED=${random.seed} repeats`)
  using folder = new Folder()
  await init(folder.file('v'), '--port', String(await freePort()))
  const file = folder.file('v', 'keyring.json')
  await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  for (let round = 0; round < ROUNDS; round++) {
    const first = await fine(keyring(folder, 'add'))
    await fine(keyring(folder, 'activate', first))
    const rewrap = spawnCoffer(keyring(folder, 'rewrap'))
    const ended = once(rewrap, 'close')
    let [told, printed] = ['', '']
    rewrap.stderr?.on('data', (chunk) => {
      told += chunk
    })
    rewrap.stdout?.on('data', (chunk) => {
      printed += chunk
    })
    await new Promise((resolve) => setTimeout(resolve, 100 + random.below(300)))
    rewrap.kill('SIGSTOP')
    const second = await coffer(keyring(folder, 'add'))
    const added = second.stdout.trim()
    // The suspended command may hold the lock.
    if (second.code !== 0) assert.match(second.stderr, /is being changed by another command/)
    const activated = second.code === 0 && (await coffer(keyring(folder, 'activate', added))).code === 0
    rewrap.kill('SIGCONT')
    const [code] = await ended
    const ring = ringOf(file)
    const where = `round ${round}, rewrap: ${code} ${printed}${told}`
    assert.ok(ring.ids.includes(first), where)
    if (second.code === 0) assert.ok(ring.ids.includes(added), `an added root key is lost: ${where}`)
    assert.equal(ring.active, activated ? added : first, where)
    // Suspended before the command has read the keyring, the rewrap is one by the second root key.
    if (code === 0) assert.match(printed, new RegExp(`(${first}|${added}) wraps all keys`), where)
    else assert.match(told, /another active root key|has not activated root key .* repeat this one/, where)
    // Brought to its end, so that the next round begins with one root key.
    await fine(keyring(folder, 'rewrap'))
    for (const id of ringOf(file).ids) if (id !== ring.active) await fine(keyring(folder, 'remove', id))
    assert.deepEqual(ringOf(file).ids, [ring.active])
    assert.equal(ringOf(file).rewrap, false)
  }
  assert.equal(node.told('"level":50'), 0)
})

test('between the last rewrap of a remove and its change no command activates the root key', async () => {
  using folder = new Folder()
  await init(folder.file('v'), '--port', String(await freePort()))
  const file = folder.file('v', 'keyring.json')
  const old = ringOf(file).active
  await using node = await NodeProcess.start(folder.file('v', 'n1.yaml'))
  const fresh = await fine(keyring(folder, 'add'))
  await fine(keyring(folder, 'activate', fresh))
  await fine(keyring(folder, 'rewrap'))
  const genesis = async (): Promise<string | undefined> => {
    const text = await (await fetch(`${node.url}/metrics`)).text()
    return /^coffer_genesis_revision (\d+)$/m.exec(text)?.[1]
  }
  const before = await genesis()
  assert.notEqual(before, undefined)
  const remove = spawnCoffer(keyring(folder, 'remove', old))
  const ended = once(remove, 'close')
  while ((await genesis()) === before) assert.equal(remove.exitCode, null, 'the last rewrap is seen')
  remove.kill('SIGSTOP')
  const activate = await coffer(keyring(folder, 'activate', old))
  remove.kill('SIGCONT')
  assert.match(activate.stderr, /is being changed by another command/)
  assert.deepEqual(await ended, [0, null])
  assert.deepEqual([ringOf(file).active, ringOf(file).ids], [fresh, [fresh]])
})
