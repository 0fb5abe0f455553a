// The replica is disposable, the ledger is not: after any damage to the replica or its checkpoint the same tokens come.
import assert from 'node:assert/strict'
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { until } from '../cli/cli.ts'
import { seeded } from '../sim/seed.ts'
import { freePort, Vault } from './child.ts'

const random = seeded()
const values = Array.from({ length: 5000 }, (_, i) => `value ${i}`)
const vault = new Vault(undefined, { port: await freePort() })
const replica = join(vault.data, 'replica')
const file = join(replica, 'data.mdb')
const saved = join(vault.dir, 'saved')
const older = join(vault.dir, 'older')
const olderLedger = join(vault.dir, 'older-ledger')
let tokens: string[] = []
let digest = ''

const checkpoints = (dir = replica): string[] =>
  readdirSync(dir).filter((name) => name.startsWith('checkpoint-'))

function damagePages(path: string, count: number): void {
  const bytes = readFileSync(path)
  const pages = bytes.length >> 12
  for (let i = 0; i < count; i++) {
    const at = random.below(pages) << 12
    for (let j = 0; j < 4096; j++) bytes[at + j] = random.below(256)
  }
  writeFileSync(path, bytes)
}

const damages: Record<string, () => void> = {
  'the replica deleted': () => rmSync(replica, { recursive: true }),
  'random bytes': () => writeFileSync(file, Buffer.from(readFileSync(file).map(() => random.below(256)))),
  'cut in half': () => truncateSync(file, statSync(file).size >> 1),
  'cut to nothing': () => truncateSync(file, 0),
  '40 random pages': () => damagePages(file, 40),
  'the checkpoint damaged': () => damagePages(join(replica, checkpoints()[0]), 2),
  'the checkpoint deleted': () => rmSync(join(replica, checkpoints()[0])),
  'an older checkpoint': () => {
    rmSync(join(replica, checkpoints()[0]))
    cpSync(join(older, checkpoints(older)[0]), join(replica, checkpoints(older)[0]))
  },
  'an older checkpoint under the newer name': () => {
    cpSync(join(older, checkpoints(older)[0]), join(replica, checkpoints()[0]))
  },
  'both damaged': () => {
    damagePages(join(replica, checkpoints()[0]), 1)
    damagePages(file, 40)
  },
  'an older copy of the replica': () => {
    rmSync(replica, { recursive: true })
    cpSync(older, replica, { recursive: true })
  },
  'an older copy of the file beside a newer checkpoint': () => {
    cpSync(join(older, 'data.mdb'), file)
  },
}

describe('damage to the replica', () => {
  before(async () => {
    await vault.start()
    tokens = (await vault.tokenize(values.slice(0, 2000))).tokens
    await vault.end()
    cpSync(replica, older, { recursive: true })
    cpSync(join(vault.data, 'ledger'), olderLedger, { recursive: true })
    await vault.start()
    tokens = (await vault.tokenize(values)).tokens
    digest = await vault.digest()
    await vault.end()
    cpSync(replica, saved, { recursive: true })
  })
  after(() => vault.remove())

  for (const [name, damage] of Object.entries(damages)) {
    test(`${name}: the same tokens, the same digest`, async (t) => {
      t.diagnostic(`COFFER_SEED=${random.seed}`)
      rmSync(replica, { recursive: true, force: true })
      cpSync(saved, replica, { recursive: true })
      damage()
      await vault.start()
      try {
        assert.deepEqual(await vault.detokenize(tokens), { values, not_found: [] })
        assert.deepEqual((await vault.tokenize(values)).tokens, tokens)
        assert.equal(await vault.digest(), digest)
        assert.equal(new Set((await vault.tokenize(['new', 'newer'])).tokens).size, 2)
      } finally {
        await vault.end()
      }
      // What came new belongs to the next damage's ledger too: the digest is of all of it.
      await vault.start()
      digest = await vault.digest()
      await vault.end()
    })
  }

  test('what was set aside is told, and goes when the replica is whole again', async () => {
    const events = readFileSync(join(vault.data, 'events.ndjson'), 'utf8')
    assert.match(events, /"event":"replica.rebuilt"/)
    assert.match(vault.log, /the replica is set aside and rebuilt/)
    assert.match(vault.log, /replicas set aside are removed/)
    assert.ok(!existsSync(`${replica}.damaged`))
    cpSync(replica, `${replica}.damaged`, { recursive: true })
    cpSync(replica, `${replica}.damaged.1`, { recursive: true })
    await vault.start()
    await vault.end()
    assert.deepEqual(
      readdirSync(vault.data).filter((name) => name.includes('damaged')),
      [],
    )
  })

  test('a second vault with a copy of the ledger and the keyring has the same tokens', async () => {
    const second = new Vault(join(vault.dir, 'second'), {
      keyring: readFileSync(join(vault.dir, 'keyring.json'), 'utf8'),
    })
    cpSync(join(vault.data, 'ledger'), join(second.data, 'ledger'), { recursive: true })
    await second.start()
    try {
      assert.deepEqual((await second.tokenize(values)).tokens, tokens)
      assert.equal(await second.digest(), digest)
    } finally {
      await second.end()
    }
  })

  /** The node serves what it holds, and says what to do. */
  async function refused(reason: RegExp): Promise<void> {
    await vault.begin()
    await until('refused', async () => reason.test(String((await vault.call('/ready')).json.reasons)))
    assert.deepEqual(await vault.detokenize(tokens), { values, not_found: [] })
    assert.equal((await vault.call('/tokenize', { values: ['x'] })).json.type, '/problems/ledger-changed')
    await vault.end()
    assert.match(vault.log, /coffer replica reset/)
  }

  test('an older ledger beside a newer replica is refused, and nothing is deleted', async () => {
    const ledger = join(vault.data, 'ledger')
    const newest = join(vault.dir, 'newest-ledger')
    cpSync(ledger, newest, { recursive: true })
    cpSync(olderLedger, ledger, { recursive: true })
    await refused(/ends at revision/)
    cpSync(newest, ledger, { recursive: true })
    await vault.start()
    assert.deepEqual(await vault.detokenize(tokens), { values, not_found: [] })
    await vault.end()
  })

  test('another history of the same length is refused too', async () => {
    const ledger = join(vault.data, 'ledger')
    const newest = join(vault.dir, 'newest-ledger')
    const mine = join(vault.dir, 'my-replica')
    cpSync(ledger, newest, { recursive: true })
    cpSync(replica, mine, { recursive: true })
    // The older ledger goes its own way, past the revision that the replica knows.
    cpSync(olderLedger, ledger, { recursive: true })
    rmSync(replica, { recursive: true })
    await vault.start()
    for (let i = 0; i < 80; i++) await vault.tokenize([`another history ${i}`])
    await vault.end()
    rmSync(replica, { recursive: true })
    cpSync(mine, replica, { recursive: true })
    await refused(/does not hold/)
    cpSync(newest, ledger, { recursive: true })
    await vault.start()
    assert.deepEqual(await vault.detokenize(tokens), { values, not_found: [] })
    await vault.end()
  })

  test('a damaged ledger ends the start, names the backup, and is left as it is', async () => {
    const ledger = join(vault.data, 'ledger', 'data.mdb')
    const whole = readFileSync(ledger)
    damagePages(ledger, 40)
    const damaged = readFileSync(ledger)
    await assert.rejects(vault.start(), /backup/)
    assert.ok(readFileSync(ledger).equals(damaged))
    writeFileSync(ledger, whole)
    await vault.start()
    assert.deepEqual(await vault.detokenize(tokens), { values, not_found: [] })
    await vault.end()
  })
})
