// What only the etcd driver can run into: a stream that hangs, history that goes while it is read, a store that fills.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Deadline, systemClock } from '../../src/clock.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { FatalError } from '../../src/errors.ts'
import { EtcdLedger } from '../../src/ledger/etcd.ts'
import { EtcdEndpoint } from '../../src/ledger/etcd-client.ts'
import {
  COMMIT_BYTES,
  Compacted,
  LedgerUnavailable,
  type Reader,
  UnknownOutcome,
} from '../../src/ledger/ledger.ts'
import { until } from '../cli/cli.ts'
import { Vault } from '../node/child.ts'
import { Etcd } from './etcd.ts'
import { Relay } from './relay.ts'

const put = (key: string, bytes = 10): Parameters<EtcdLedger['commit']>[0] => ({
  if: [{ key, revision: 0 }],
  put: [{ key, value: new Uint8Array(bytes) }],
})

/** The range of all keys. */
const ALL = { from: '', to: '', largest: COMMIT_BYTES }

describe('the etcd driver', () => {
  let etcd: Etcd
  before(async () => {
    etcd = await Etcd.start()
  })
  after(() => etcd.remove())

  test('a snapshot leaves out what is known, by one count', async () => {
    const ledger = new EtcdLedger([etcd.url])
    try {
      for (const key of ['a', 's/1', 's/2', 's/4', 'z']) await ledger.commit(put(key), Deadline.never)
      const { entries } = await ledger.snapshot([{ ...ALL, known: [{ from: 's/1', to: 's/2', count: 2 }] }])
      const keys: string[] = []
      for await (const { key } of entries) keys.push(key)
      assert.deepEqual(keys, ['a', 's/4', 'z'])
    } finally {
      await ledger.close()
    }
  })

  test('history that is compacted while a snapshot is read: Compacted, and another one is whole', async () => {
    const ledger = new EtcdLedger([etcd.url])
    const endpoint = new EtcdEndpoint(etcd.url)
    try {
      for (let i = 0; i < 250; i++) await ledger.commit(put(`large/${i}`, 100_000), Deadline.never)
      const read = async (compact: boolean): Promise<number> => {
        let count = 0
        for await (const _ of (await ledger.snapshot([ALL])).entries) {
          if (count++ > 0 || !compact) continue
          const { revision } = await ledger.commit(put(`after/${Math.random()}`), Deadline.never)
          await endpoint.compact(revision + 1, 3000)
        }
        return count
      }
      await assert.rejects(read(true), Compacted)
      assert.ok((await read(false)) > 250)
      await assert.rejects(async () => {
        for await (const _ of ledger.follow(1)) assert.fail('that revision is gone')
      }, Compacted)
    } finally {
      endpoint.close()
      await ledger.close()
    }
  })

  test('more than 500 revisions behind are no matter for a watch, except behind a snapshot just taken', async () => {
    const ledger = new EtcdLedger([etcd.url])
    const endpoint = new EtcdEndpoint(etcd.url)
    try {
      const from = await ledger.head()
      const key = Buffer.from('many')
      const worker = async (): Promise<void> => {
        const request = { compare: [], success: [{ request_put: { key, value: key } }], failure: [] }
        for (let i = 0; i < 12; i++) await endpoint.txn(request, 3000)
      }
      await Promise.all(Array.from({ length: 60 }, worker))
      const head = await ledger.head()
      assert.equal(head - from, 720)
      await assert.rejects(async () => {
        for await (const _ of ledger.follow(from)) break
      }, Compacted)
      for await (const { revision } of ledger.follow(head - 500)) {
        assert.equal(revision, head - 499)
        break
      }
      const { revision: taken } = await ledger.snapshot([])
      await Promise.all(Array.from({ length: 60 }, worker))
      assert.equal(await ledger.head(), taken + 720)
      for await (const { revision } of ledger.follow(taken)) {
        assert.equal(revision, taken + 1)
        break
      }
    } finally {
      endpoint.close()
      await ledger.close()
    }
  })

  test('a stream that hangs is left for another member, when the head is seen to be ahead', async () => {
    const relay = await Relay.before(etcd.url)
    const ledger = new EtcdLedger([relay.url, etcd.url])
    const other = new EtcdLedger([etcd.url])
    const seen: number[] = []
    const told: string[] = []
    const stop = new AbortController()
    let last = await ledger.head()
    const following = (async () => {
      while (!stop.signal.aborted) {
        try {
          for await (const { revision } of ledger.follow(last, stop.signal)) {
            last = revision
            seen.push(revision)
          }
        } catch (error) {
          assert.ok(error instanceof LedgerUnavailable)
          told.push(error.message)
        }
      }
    })()
    try {
      await other.commit(put('before'), Deadline.never)
      await until('the stream runs', () => seen.length === 1)
      relay.silent = true
      const { revision } = await other.commit(put('behind'), Deadline.never)
      assert.equal(await ledger.head(), revision, 'a read goes to the other member')
      await until('so does the stream', () => seen.includes(revision), 15_000)
      assert.deepEqual(told, ['the stream of revisions hung'])
    } finally {
      stop.abort()
      await ledger.close()
      await following
      await other.close()
      relay.close()
    }
  })
})

/** A check for `checkConnections`: the ledger is the one with this value under `id`. */
const identity =
  (value: string, wrong: () => Error) =>
  async (reader: Reader): Promise<void> => {
    const found = await reader.read('id')
    if (Buffer.from(found.value ?? []).toString() !== value) throw wrong()
  }

const named = (value: string): Parameters<EtcdLedger['commit']>[0] => ({
  if: [],
  put: [{ key: 'id', value: Buffer.from(value) }],
})

/** An etcd of another ledger: later revisions, a later term of another election, full, and with an alarm. */
async function fullOf(value: string): Promise<Etcd> {
  const etcd = await Etcd.start({ 'quota-backend-bytes': String(4 * 1024 * 1024) })
  await etcd.kill()
  await etcd.start()
  const ledger = new EtcdLedger([etcd.url])
  await ledger.commit(named(value), Deadline.never)
  for (let i = 0; i < 600; i++) await ledger.commit(named(value), Deadline.never)
  await assert.rejects(async () => {
    for (let i = 0; ; i++) await ledger.commit(put(`filler/${i}`, 500_000), Deadline.never)
  }, UnknownOutcome)
  await until('the alarm is raised', async () => (await ledger.health()).problems.length > 1)
  await ledger.close()
  return etcd
}

test('one wrong member of three: it is not used, and nothing that it says counts', async () => {
  const right = await Etcd.start()
  const wrong = await fullOf('another')
  const relay = await Relay.before(right.url)
  const ledger = new EtcdLedger([relay.url, wrong.url, right.url])
  const changed = (): Error => new LedgerUnavailable('ledger-changed', 'the ledger is another')
  try {
    const direct = new EtcdLedger([right.url])
    await direct.commit(named('right'), Deadline.never)
    await direct.close()
    for (const error of [() => new FatalError('an entry does not decode'), changed]) {
      ledger.checkConnections(identity('right', error))
      assert.equal(await ledger.head(), 1)
      relay.silent = true
      assert.equal(await ledger.head(), 1, 'the third member is asked')
      relay.silent = false
    }
    const told = await ledger.health()
    assert.deepEqual([told.problems, told.quorum, ledger.full], [[], true, false])
    assert.ok(ledger.right)
    assert.ok(told.used < 0.1)
    assert.equal(told.members.length, 1)
    const { revision } = await ledger.commit(put('more'), Deadline.never)
    assert.equal(revision, 2)
    for await (const { revision: followed } of ledger.follow(0)) if (followed === 2) break
    await right.kill()
    await until('only the wrong member is left', async () => {
      const error = await ledger.head().catch((failed: unknown) => failed)
      return error instanceof LedgerUnavailable && error.reason === 'ledger-changed'
    })
    assert.equal((await ledger.health()).quorum, false)
    assert.ok(!ledger.right, 'a wrong member alone is connected')
    await right.start()
    await until('the right one is back', async () => (await ledger.head().catch(() => 0)) === 2)
    assert.deepEqual((await ledger.health()).problems, [])
    assert.ok(ledger.right)
  } finally {
    await ledger.close()
    relay.close()
    for (const etcd of [right, wrong]) await etcd.remove()
  }
})

test('a node with one wrong endpoint of three: ready, and right, whichever of the others answers', async () => {
  const right = await Etcd.start()
  const wrong = await Etcd.start()
  const relay = await Relay.before(right.url)
  const endpoints = (...urls: string[]): string =>
    `{ kind: etcd, endpoints: [${urls.map((url) => `'${url}'`).join(', ')}] }`
  const other = new Vault(undefined, { node: 'n9', ledger: endpoints(wrong.url) })
  const node = new Vault(undefined, { node: 'n1', ledger: endpoints(relay.url, wrong.url, right.url) })
  const ready = async (): Promise<boolean> => (await node.call('/ready')).status === 200
  try {
    await other.start()
    for (let i = 0; i < 30; i++) await other.tokenize([`another ${i}`])
    await node.start()
    const { tokens } = await node.tokenize(['one'])
    for (let round = 0; round < 3; round++) {
      relay.silent = true
      await until('the third member is used', ready, 5000)
      assert.deepEqual((await node.detokenize(tokens)).values, ['one'])
      const { tokens: more } = await node.tokenize(['one', `round ${round}`])
      assert.equal(more[0], tokens[0])
      relay.silent = false
      await until('the first member is connected again', ready, 5000)
    }
    const { quorum, members } = (await node.call('/status')).json
    assert.equal(quorum, true)
    assert.equal(Array.isArray(members) ? members.length : 1, 1)
    const events = readFileSync(join(node.data, 'events.ndjson'), 'utf8')
    assert.ok(!/follows|ledger-changed/.test(events), events)
  } finally {
    for (const each of [node, other]) await each.remove()
    relay.close()
    for (const etcd of [right, wrong]) await etcd.remove()
  }
})

test('a member that accepted a connection and said nothing is connected again, once it speaks', async () => {
  const etcd = await Etcd.start()
  const relay = await Relay.before(etcd.url)
  const ledger = new EtcdLedger([relay.url])
  try {
    relay.silent = true
    await assert.rejects(ledger.head(), LedgerUnavailable)
    await assert.rejects(ledger.commit(put('a'), Deadline.never), LedgerUnavailable)
    relay.silent = false // what the member should have answered first is lost
    await until('it is connected again', async () => (await ledger.head().catch(() => -1)) === 0, 20_000)
    assert.ok((await ledger.commit(put('a'), Deadline.never)).ok)
  } finally {
    await ledger.close()
    relay.close()
    await etcd.remove()
  }
})

for (const how of ['close', 'abort'] as const) {
  test(`a page that hangs is ended by ${how}`, { timeout: 9_000 }, async () => {
    const etcd = await Etcd.start()
    const relay = await Relay.before(etcd.url)
    const ledger = new EtcdLedger([relay.url])
    const stop = new AbortController()
    const end = { close: () => ledger.close(), abort: async () => stop.abort() }
    try {
      for (let i = 0; i < 60; i++) await ledger.commit(put(`small/${i}`), Deadline.never)
      let seen = 0
      await assert.rejects(
        async () => {
          for await (const _ of (await ledger.snapshot([ALL], stop.signal)).entries) {
            relay.silent = true // the next pages never come
            if (++seen === 16) setImmediate(() => void end[how]())
          }
        },
        (error) => error instanceof LedgerUnavailable && error.reason === 'closed',
      )
      assert.ok(seen < 60, `${seen} entries`)
    } finally {
      await ledger.close()
      relay.close()
      await etcd.remove()
    }
  })
}

test('a ledger that fills: new tokens are refused, known ones, epochs and all else go on', async () => {
  // Large enough: pages that etcd writes anew beside the old ones must not reach the quota itself.
  const etcd = await Etcd.start({ 'quota-backend-bytes': String(96 * 1024 * 1024) })
  const vault = new Vault(undefined, { ledger: `{ kind: etcd, endpoints: ['${etcd.url}'] }` })
  const ledger = new EtcdLedger([etcd.url])
  try {
    await vault.start()
    const { tokens } = await vault.tokenize(['before'])
    for (let i = 0; i < 113; i++) await ledger.commit(put(`filler/${i}`, 700_000), Deadline.never)
    await until(
      'it is seen',
      async () => /the ledger is \d+ % full/.test(String((await vault.call('/ready')).json.reasons)),
      20_000,
    )
    const { status, json } = await vault.call('/tokenize', { values: ['new'] })
    assert.deepEqual([status, json.type], [503, '/problems/ledger-full'])
    assert.deepEqual((await vault.tokenize(['before'])).tokens, tokens)
    assert.deepEqual((await vault.detokenize(tokens)).values, ['before'])
    assert.deepEqual((await vault.call('/rotate-epoch', { to: 2 })).json, { epoch: 2, rotated: true })
    assert.match(await vault.text('/metrics'), /^coffer_ledger_used_ratio 0\.[789]/m)
  } finally {
    await vault.remove()
    await ledger.close()
    await etcd.remove()
  }
})

test('a node that is cut off: what it holds is answered, the rest is 503 within 5 s, and it is told everywhere', async () => {
  const etcd = await Etcd.start()
  const relay = await Relay.before(etcd.url)
  const keyring = Keyring.create(systemClock).serialize()
  const ledger = (url: string): string => `{ kind: etcd, endpoints: ['${url}'] }`
  const cut = new Vault(undefined, { keyring, node: 'n1', ledger: ledger(relay.url) })
  const other = new Vault(undefined, { keyring, node: 'n2', ledger: ledger(etcd.url) })
  try {
    for (const node of [cut, other]) await node.start()
    const { tokens } = await cut.tokenize(['held'])
    await cut.digest()
    relay.silent = true
    const asked = performance.now()
    const answers = await Promise.all([
      cut.call('/tokenize', { values: ['new'] }),
      cut.call('/tokenize', { values: ['held'] }),
      cut.call('/epochs'),
    ])
    assert.ok(performance.now() - asked < 5000)
    for (const { status, json } of answers)
      assert.deepEqual([status, json.type], [503, '/problems/no-quorum'])
    assert.deepEqual((await cut.detokenize(tokens)).values, ['held'])
    await until('not ready', async () => (await cut.call('/ready')).status === 503, 5000)
    assert.equal((await cut.call('/status')).json.quorum, false)
    assert.match(await cut.text('/metrics'), /^coffer_quorum 0$/m)
    const { tokens: newer } = await other.tokenize(['meanwhile'])
    relay.silent = false
    await until('ready again', async () => (await cut.call('/ready')).status === 200, 20_000)
    assert.deepEqual((await cut.detokenize(newer)).values, ['meanwhile'])
    const events = (): string => readFileSync(join(cut.data, 'events.ndjson'), 'utf8')
    for (const event of ['ledger.lost', 'ledger.recovered'])
      await until(event, () => events().includes(`"event":"${event}"`))
    assert.match(events(), /"event":"request.refused"[^\n]*"reason":"no-quorum"/)
  } finally {
    for (const node of [cut, other]) await node.remove()
    relay.close()
    await etcd.remove()
  }
})
