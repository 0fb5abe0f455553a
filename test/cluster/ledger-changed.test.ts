// A ledger that is not the one that was followed: wiped, older, older and written on, or another one. Every node refuses,
// deletes nothing, and goes on as before when the right one is back. A foreign key in the right one does no harm.

import assert from 'node:assert/strict'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { Deadline, randomHex, systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import { EtcdLedger } from '../../src/ledger/etcd.ts'
import { EtcdEndpoint } from '../../src/ledger/etcd-client.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { LmdbLedger } from '../../src/ledger/lmdb.ts'
import { MemoryStore } from '../../src/replica/memory-store.ts'
import { Replica } from '../../src/replica/replica.ts'
import { SecretService } from '../../src/secrets/secrets.ts'
import { decodeEntry, encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { TokenService } from '../../src/tokens/tokens.ts'
import { freePort, until } from '../cli/cli.ts'
import { by, soon } from '../deadlines.ts'
import { Vault } from '../node/child.ts'
import { sendSignal } from '../signals.ts'
import { Etcd } from './etcd.ts'

const NAMES = ['n1', 'n2', 'n3']
const RING = Keyring.create(systemClock)
const keyring = RING.serialize()
/** How long a node that reaches another ledger may take to say so. */
const NOTICED_MS = 10_000

/** Puts what only the lost history has. */
const LOST: { readonly [what: string]: (node: Vault, ledger: () => Promise<Ledger>) => Promise<unknown> } = {
  secrets: async (node) => {
    const { status } = await node.call('/secrets', { name: randomHex(systemClock, 8), value: 'lost' })
    assert.equal(status, 201)
  },
  versions: async (node) => {
    const { status } = await node.call('/secrets/db', { value: 'lost' }, 'a', 'PUT')
    assert.equal(status, 200)
  },
  'a rotation': async (node) => {
    const { json } = await node.call('/epochs', undefined, 'b')
    const { status } = await node.call('/rotate-epoch', { to: Number(json.active) + 1 }, 'b')
    assert.equal(status, 200)
  },
  'rewrapped keys': async (_, open) => {
    const ledger = await open()
    await rewrap(ledger)
    await ledger.close()
  },
}

/** Wraps the first epoch keys anew, by the same root key. */
async function rewrap(ledger: Ledger): Promise<void> {
  for (const owner of ['a', 'b']) {
    const key = ledgerKey.wrappedKey(owner, 1)
    const { value, revision } = await ledger.read(key)
    const entry = value && decodeEntry(key, value)
    assert.ok(entry?.kind === 'key')
    const context = ['epoch', owner, '1']
    const wrapped = RING.wrap(RING.unwrap(entry.wrapped, context), context, systemClock)
    const put = { key, value: encodeEntry({ ...entry, wrapped }, writer()) }
    assert.ok((await ledger.commit({ if: [{ key, revision }], put: [put] }, Deadline.never)).ok)
  }
}

function writer(): { boot: string; commit: number } {
  return { boot: randomHex(systemClock, 16), commit: 1 }
}

/** Another node writes on: no tokens and no start, so that only secrets and epochs tell the histories apart. */
async function writeOn(ledger: Ledger): Promise<void> {
  const replica = await Replica.open({
    store: new MemoryStore(),
    ledger,
    boot: randomHex(systemClock, 16),
    clock: systemClock,
    fatal: (error) => assert.fail(error),
    events: { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} },
  })
  try {
    replica.follow()
    await replica.barrier(soon())
    const tokens = new TokenService(replica, () => RING, systemClock)
    const secrets = new SecretService(replica, () => RING, systemClock)
    await tokens.rotate(by('b'), (await tokens.epochs(by('b'))).active + 1)
    for (let i = 0; i < 6; i++)
      await secrets.update(
        { ...by('a'), keyId: 'k', request: 'r' },
        { name: 'db', value: Buffer.from('another') },
        () => true,
      )
  } finally {
    await replica.close()
    await ledger.close()
  }
}

/** What a node answers while the ledger is not its own: what it holds, and 503 for all else. */
async function refuses(node: Vault, tokens: readonly string[]): Promise<void> {
  await until(
    'the node has seen it',
    async () => {
      const { json } = await node.call('/ready')
      return /follows|ends at revision|does not hold|is empty/.test(String(json.reasons))
    },
    NOTICED_MS,
  )
  const held = await node.call('/detokenize', { tokens: [...tokens, null] })
  assert.deepEqual([held.status, held.json], [200, { values: ['old', 'new', null], not_found: [] }])
  const records = [{ ssn: tokens[0] }, { ssn: 'no token' }, { ssn: null }]
  const opened = [{ ssn: 'old' }, ...records.slice(1)]
  assert.deepEqual((await node.call('/detokenize', { records })).json, { records: opened, not_found: [] })
  assert.equal((await node.call('/secrets/db?version=1')).json.value, 'kept')
  const forged = `${tokens[0].slice(0, -1)}${tokens[0].endsWith('0') ? '1' : '0'}`
  const all = await Promise.all([
    node.call('/tokenize', { values: ['newer'] }),
    node.call('/tokenize', { values: ['old'] }),
    node.call('/detokenize', { tokens: [forged] }),
    node.call('/detokenize', { tokens: ['nothing'] }),
    node.call('/secrets', { name: 'db', value: 'x' }),
    node.call('/secrets/db', { value: 'x' }, 'a', 'PUT'),
    node.call('/secrets/db'),
    node.call('/secrets/no?version=1'),
    node.call('/epochs'),
  ])
  for (const { status, json } of all) assert.deepEqual([status, json.type], [503, '/problems/ledger-changed'])
}

describe('a ledger that is not the one that was followed', () => {
  let etcd: Etcd
  const nodes: Vault[] = []
  let tokens: string[] = []
  /** What the etcd was at first, and at last. */
  let older = ''
  let newest = ''

  before(async () => {
    etcd = await Etcd.start()
    older = `${etcd.dir}-older`
    newest = `${etcd.dir}-newest`
    const ledger = `{ kind: etcd, endpoints: ['${etcd.url}'] }`
    for (const node of NAMES)
      nodes.push(new Vault(undefined, { keyring, node, ledger, port: await freePort(), fields: ['ssn'] }))
    for (const node of nodes) await node.start()
    tokens = (await nodes[0].tokenize(['old'])).tokens
    assert.equal((await nodes[0].call('/secrets', { name: 'db', value: 'kept' })).status, 201)
    await etcd.kill()
    cpSync(etcd.dir, older, { recursive: true })
    await etcd.start()
    await until(
      'writes again',
      async () => (await nodes[0].call('/tokenize', { values: ['new'] })).status === 200,
    )
    tokens = (await nodes[0].tokenize(['old', 'new'])).tokens
    // Each of them holds all: a lag of 0 would only say that it knows of nothing more.
    for (const node of nodes) assert.deepEqual((await node.detokenize(tokens)).not_found, [])
    for (const node of nodes) assert.equal((await node.call('/secrets/db')).status, 200)
  })
  after(async () => {
    for (const node of nodes) await node.remove()
    await etcd.remove()
    for (const dir of [older, newest]) rmSync(dir, { recursive: true, force: true })
  })
  beforeEach(async () => {
    await etcd.kill()
    cpSync(etcd.dir, newest, { recursive: true })
  })

  const swap = (dir?: string): void => {
    rmSync(etcd.dir, { recursive: true })
    if (dir) cpSync(dir, etcd.dir, { recursive: true })
  }

  const refused = (): Promise<unknown> => Promise.all(nodes.map((node) => refuses(node, tokens)))

  const open = async (): Promise<Ledger> => new CheckedLedger(new EtcdLedger([etcd.url]))

  async function head(): Promise<number> {
    const ledger = await open()
    try {
      return await ledger.head()
    } finally {
      await ledger.close()
    }
  }

  /** Every node has applied all that there is. */
  async function caughtUp(): Promise<void> {
    const least = await head()
    for (const node of nodes) {
      await until('applied', async () => {
        const { json } = await node.call('/status')
        return (json.replica as { revision: number }).revision >= least // the contract's answer
      })
    }
  }

  /** The right one comes back, and all goes on. */
  async function restored(): Promise<void> {
    await etcd.kill()
    swap(newest)
    await etcd.start()
    for (const node of nodes) {
      await until('ready again', async () => (await node.call('/ready')).status === 200, 20_000)
      assert.deepEqual((await node.tokenize(['old', 'new'])).tokens, tokens)
    }
    rmSync(newest, { recursive: true })
    assert.equal(new Set(await Promise.all(nodes.map((node) => node.digest()))).size, 1)
  }

  test('wiped', async () => {
    swap()
    await etcd.start()
    await refused()
    const endpoint = new EtcdEndpoint(etcd.url)
    assert.equal((await endpoint.range({ key: Buffer.of(0), range_end: Buffer.of(0) }, 2000)).count, '0')
    endpoint.close()
    await restored()
  })

  test('older', async () => {
    swap(older)
    await etcd.start()
    await refused()
    await restored()
  })

  for (const [what, lose] of Object.entries(LOST)) {
    test(`older and written on, without only ${what}`, async () => {
      await etcd.start()
      await until('writes again', async () => (await nodes[0].call('/epochs')).status === 200, 20_000)
      await lose(nodes[0], open)
      await caughtUp()
      await etcd.kill()
      const back = `${etcd.dir}-back`
      cpSync(newest, back, { recursive: true })
      rmSync(newest, { recursive: true })
      cpSync(etcd.dir, newest, { recursive: true })
      swap(back)
      rmSync(back, { recursive: true })
      await etcd.start()
      await writeOn(await open())
      const before = await head()
      await refused()
      assert.equal(await head(), before, 'nothing is written')
      await restored()
    })
  }

  test('another one, and longer', async () => {
    swap()
    await etcd.start()
    const other = new Vault(undefined, { node: 'n9', ledger: `{ kind: etcd, endpoints: ['${etcd.url}'] }` })
    try {
      await other.start()
      for (let i = 0; i < 60; i++) await other.tokenize([`another ${i}`])
      await refused()
    } finally {
      await other.remove()
    }
    await restored()
  })

  test('a node that is started on another one refuses too, and serves what it knows', async () => {
    await nodes[2].end()
    swap()
    await etcd.start()
    await nodes[2].begin()
    await until('not ready', async () =>
      /is empty/.test(String((await nodes[2].call('/ready')).json.reasons)),
    )
    assert.equal((await nodes[2].call('/ready?for=reads')).status, 200)
    assert.deepEqual(await nodes[2].detokenize(tokens), { values: ['old', 'new'], not_found: [] })
    await refused()
    await restored()
  })

  test('a node that was halted while others rotated, rewrapped, restarted and swept a receipt is ready again', async () => {
    await etcd.start()
    const ledger = await open()
    const receipt = ledgerKey.receipt('a', 'ab'.repeat(32))
    const about = {
      owner: 'a',
      hash: 'ab'.repeat(32),
      mac: new Uint8Array(32),
      at: 1,
      version: 1,
      validFrom: 1,
    }
    await ledger.commit(
      {
        if: [{ key: receipt, revision: 0 }],
        put: [{ key: receipt, value: encodeEntry({ kind: 'receipt', ...about }, writer()) }],
      },
      Deadline.never,
    )
    await until('writes again', async () => (await nodes[0].call('/epochs')).status === 200, 20_000)
    await caughtUp()
    sendSignal(nodes[2].pid, 'SIGSTOP')
    try {
      await LOST['a rotation'](nodes[0], open)
      await rewrap(ledger)
      for (const node of nodes.slice(0, 2)) {
        await node.end()
        await node.start()
      }
      await ledger.commit({ if: [], put: [{ key: receipt, value: null }] }, Deadline.never)
      await ledger.close()
      // Its connection is a new one.
      await etcd.kill()
      await etcd.start()
    } finally {
      sendSignal(nodes[2].pid, 'SIGCONT')
    }
    for (const node of nodes)
      await until('ready', async () => (await node.call('/ready')).status === 200, 20_000)
    await caughtUp()
    assert.equal(new Set(await Promise.all(nodes.map((node) => node.digest()))).size, 1)
    rmSync(newest, { recursive: true })
  })

  test('a foreign key harms nothing, and is counted', async () => {
    await etcd.start()
    const endpoint = new EtcdEndpoint(etcd.url)
    const put = { request_put: { key: Buffer.from('somebody/else'), value: Buffer.from('x') } }
    await endpoint.txn({ compare: [], success: [put], failure: [] }, 2000)
    endpoint.close()
    for (const node of nodes) {
      await until('writes', async () => (await node.call('/tokenize', { values: ['newest'] })).status === 200)
      assert.deepEqual(await node.detokenize(tokens), { values: ['old', 'new'], not_found: [] })
      await until('counted', async () => /coffer_replica_foreign_keys 1$/m.test(await node.text('/metrics')))
    }
    rmSync(newest, { recursive: true })
  })
})

describe('an embedded ledger that is not the one that was followed', () => {
  let vault: Vault
  let tokens: string[] = []
  let saved = ''
  let back = ''
  const ledger = (): string => join(vault.data, 'ledger')
  const open = async (): Promise<Ledger> => new CheckedLedger(new LmdbLedger(ledger()))
  const put = (dir: string, to: string): void => {
    rmSync(to, { recursive: true })
    cpSync(dir, to, { recursive: true })
  }

  before(async () => {
    vault = new Vault(undefined, { keyring, port: await freePort(), fields: ['ssn'] })
    await vault.start()
    tokens = (await vault.tokenize(['old', 'new'])).tokens
    assert.equal((await vault.call('/secrets', { name: 'db', value: 'kept' })).status, 201)
    await vault.end()
    saved = join(vault.dir, 'saved')
    cpSync(vault.data, saved, { recursive: true })
    await writeOn(await open())
    back = join(vault.dir, 'back')
    cpSync(ledger(), back, { recursive: true })
  })
  after(() => vault.remove())

  for (const [what, lose] of Object.entries(LOST)) {
    test(`older and written on, without only ${what}`, async () => {
      put(saved, vault.data)
      if (what === 'rewrapped keys') await lose(vault, open)
      await vault.start()
      if (what !== 'rewrapped keys') await lose(vault, open)
      await vault.end()
      put(back, ledger())
      await vault.begin()
      await refuses(vault, tokens)
      await vault.end()
      const after = await open()
      const before = new LmdbLedger(back)
      assert.equal(await after.head(), await before.head(), 'nothing is written')
      await Promise.all([after.close(), before.close()])
    })
  }
})
