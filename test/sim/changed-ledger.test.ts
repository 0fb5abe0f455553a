// A ledger that is put back from a copy and written on, under a replica that has applied more than the copy: the replica
// refuses it at the first contact, or at the first commit, writes nothing, and says "not found" of nothing.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Deadline, randomHex, systemClock } from '../../src/clock.ts'
import { fromCanonical, type Scalar, Values } from '../../src/crypto/canonical.ts'
import { Keyring, newRootKey } from '../../src/crypto/keyring.ts'
import { readTokenText, tokenText } from '../../src/crypto/token.ts'
import { rewrapKeys } from '../../src/keys/rewrap.ts'
import { CheckedLedger } from '../../src/ledger/checked.ts'
import { type Ledger, LedgerUnavailable, type Revision } from '../../src/ledger/ledger.ts'
import { MemoryLedger } from '../../src/ledger/memory.ts'
import { MemoryStore } from '../../src/replica/memory-store.ts'
import { Replica } from '../../src/replica/replica.ts'
import { type Caller, SecretService } from '../../src/secrets/secrets.ts'
import { encodeEntry } from '../../src/state/entries.ts'
import { ledgerKey } from '../../src/state/ledger-keys.ts'
import { TokenService } from '../../src/tokens/tokens.ts'
import { until } from '../../src/waiting.ts'
import { by, soon } from '../deadlines.ts'
import { found } from './genesis.ts'
import { AT_ONCE } from './nodes.ts'

const caller = (): Caller => ({ ...by('o'), keyId: 'k', request: 'r' })

/** Passes everything on to a ledger that can be exchanged under a running node. */
class Exchanged implements Ledger {
  readonly full = false
  readonly right = true
  now: MemoryLedger

  constructor(now: MemoryLedger) {
    this.now = now
  }

  /** The other ledger stands at the address of the old one, and streams break. */
  exchange(other: MemoryLedger): void {
    const before = this.now
    this.now = other
    before.disconnect()
  }

  commit: Ledger['commit'] = (...asked) => this.now.commit(...asked)
  read = (key: string): ReturnType<Ledger['read']> => this.now.read(key)
  head = (): Promise<number> => this.now.head()
  follow = (after: number, signal?: AbortSignal): AsyncIterable<Revision> => this.now.follow(after, signal)
  snapshot: Ledger['snapshot'] = (...asked) => this.now.snapshot(...asked)
  checkConnections(): void {}
  health = (): ReturnType<Ledger['health']> => this.now.health()
  async close(): Promise<void> {}
}

type Node = {
  readonly way: Exchanged
  readonly replica: Replica
  readonly tokens: TokenService
  readonly secrets: SecretService
}

class World {
  readonly ring = Keyring.create(systemClock)
  keyring = this.ring
  readonly #stores = new Map<string, MemoryStore>()
  readonly #nodes: Node[] = []

  async open(name: string, ledger: MemoryLedger): Promise<Node> {
    const way = new Exchanged(ledger)
    const replica = await Replica.open({
      store: this.#storeOf(name),
      ledger: new CheckedLedger(way),
      boot: randomHex(systemClock, 16),
      clock: systemClock,
      fatal: (error) => assert.fail(error),
      events: { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} },
    })
    replica.follow()
    await replica.recognized
    const tokens = new TokenService(replica, () => this.keyring, systemClock)
    const secrets = new SecretService(replica, () => this.keyring, systemClock)
    const node = { way, replica, tokens, secrets }
    this.#nodes.push(node)
    return node
  }

  /** The store of a name lasts over restarts. */
  #storeOf(name: string): MemoryStore {
    const store = this.#stores.get(name) ?? new MemoryStore()
    this.#stores.set(name, store)
    return store
  }

  /** A second root key, with which everything is wrapped from now on. */
  addRootKey(): void {
    const added = this.ring.add(newRootKey(systemClock))
    this.keyring = added.activate(added.ids[1])
  }

  async rewrap({ replica }: Node): Promise<void> {
    await rewrapKeys({ replica, keyring: () => this.keyring, clock: systemClock }, AT_ONCE)
    await replica.barrier(soon())
  }

  async close(): Promise<void> {
    for (const { replica } of this.#nodes) await replica.close()
  }
}

async function withWorld(
  run: (world: World, ledger: MemoryLedger, n1: Node) => Promise<void>,
): Promise<void> {
  const world = new World()
  try {
    const ledger = new MemoryLedger()
    await found(ledger, { keyring: world.ring })
    const n1 = await world.open('n1', ledger)
    await begin(n1)
    await n1.tokens.openFirst(by('o'))
    await n1.secrets.create(caller(), [secret('db', 'v1')])
    await tokenize(n1, 'known')
    await n1.tokens.openFirst(by('p'))
    await n1.replica.barrier(soon())
    await run(world, ledger, n1)
  } finally {
    await world.close()
  }
}

/** A boot entry, as every start of a node makes. */
async function begin({ replica }: Node): Promise<void> {
  const boot = randomHex(systemClock, 16)
  const key = ledgerKey.boot(boot)
  const value = encodeEntry({ kind: 'boot', boot, node: 'n1' }, replica.nextWriter())
  await replica.commit({ if: [{ key, revision: 0 }], put: [{ key, value }] }, key, soon())
}

function receiptOf({ replica }: Node): Uint8Array {
  const about = {
    owner: 'o',
    hash: 'ab'.repeat(32),
    mac: new Uint8Array(32),
    at: 1,
    version: 1,
    validFrom: 1,
  }
  return encodeEntry({ kind: 'receipt', ...about }, replica.nextWriter())
}

async function copyOf(ledger: MemoryLedger): Promise<MemoryLedger> {
  const copy = new MemoryLedger()
  const head = await ledger.head()
  for await (const { revision, puts } of ledger.follow(0)) {
    await copy.commit({ if: [], put: puts }, Deadline.never)
    if (revision === head) break
  }
  return copy
}

function secret(name: string, value: string): { name: string; value: Buffer } {
  return { name, value: Buffer.from(value) }
}

async function tokenize({ tokens }: Node, value: string): Promise<string> {
  const values = new Values()
  values.push(value, 1 << 16)
  const { epoch, bodies, checks } = await tokens.tokenize(by('o'), values, true)
  return tokenText(epoch, bodies, checks)
}

async function detokenize({ tokens }: Node, token: string): Promise<Scalar | undefined> {
  const [bodies, checks] = [new Uint8Array(16), new Uint8Array(4)]
  const text = Buffer.from(token)
  const epochs = Float64Array.of(readTokenText(text, 0, text.length, bodies, checks, 0))
  const { values, index } = await tokens.detokenize(by('o'), { count: 1, epochs, bodies, checks })
  return index[0] < 0 ? undefined : fromCanonical(values.bytes, 0, values.length[0])
}

async function settles(done: () => boolean): Promise<void> {
  assert.ok(await until(done, { every: 5, within: 10_000 }))
}

function changed(asked: Promise<unknown>): Promise<void> {
  return assert.rejects(
    asked,
    (error) => error instanceof LedgerUnavailable && error.reason === 'ledger-changed',
  )
}

/** What a node holds is answered, all else is refused, and nothing is written. */
async function refuses(node: Node, known: string): Promise<void> {
  const { tokens, secrets, way, replica } = node
  const before = await way.now.head()
  assert.equal(await detokenize(node, known), 'known')
  assert.equal((await secrets.read(by('o'), 'db', { version: 1 })).value.toString(), 'v1')
  const forged = `${known.slice(0, -1)}${known.endsWith('0') ? '1' : '0'}`
  for (const token of [forged, 'tok_7_00000000000000000000000000000000', 'nothing'])
    await changed(detokenize(node, token))
  for (const value of ['known', 'new']) await changed(tokenize(node, value))
  await changed(secrets.create(caller(), [secret('db', 'x')]))
  await changed(secrets.create(caller(), [secret('new', 'x')]))
  await changed(secrets.update(caller(), secret('db', 'x'), () => true))
  await changed(secrets.read(by('o'), 'db', {}))
  await changed(secrets.read(by('o'), 'db', { version: 7 }))
  await changed(secrets.read(by('o'), 'no', { version: 1 }))
  await changed(secrets.history(by('o'), 'db'))
  await changed(secrets.names(by('o'), { prefix: '', after: '', limit: 10 }))
  await changed(secrets.resolve(by('o'), [{ name: 'db', version: 7 }], undefined, () => undefined))
  await changed(tokens.rotate(by('o'), 2))
  await changed(tokens.epochs(by('o')))
  assert.notDeepEqual(replica.problems, [])
  assert.equal(await way.now.head(), before)
}

/** The lost history had only rewraps, and the keys were rewrapped again after the cursor: no witness can tell. */
async function rewrappedTwice(world: World, ledger: MemoryLedger, n1: Node): Promise<MemoryLedger> {
  const back = await copyOf(ledger)
  world.addRootKey()
  await world.rewrap(n1)
  const n2 = await world.open('n2', back)
  await n2.tokens.rotate(by('o'), 2)
  await n2.secrets.update(caller(), secret('db', 'another v2'), () => true)
  await n2.secrets.create(caller(), [secret('other', 'x')])
  while ((await back.head()) < n1.replica.applied)
    await n2.secrets.create(caller(), [secret(randomName(), 'x')])
  await world.rewrap(n2)
  return back
}

const randomName = (): string => `fill-${randomHex(systemClock, 8)}`

const COMMITS: { readonly [what: string]: (node: Node) => Promise<unknown> } = {
  'a new value': (node) => tokenize(node, 'new'),
  'a rotation': ({ tokens }) => tokens.rotate(by('o'), 2),
  'an update': ({ secrets }) => secrets.update(caller(), secret('db', 'x'), () => true),
  'a new secret': ({ secrets }) => secrets.create(caller(), [secret('other', 'y')]),
}

for (const [what, commit] of Object.entries(COMMITS)) {
  test(`${what}, refused by an entry that was not applied here, shows that the ledger is another one`, () =>
    withWorld(async (world, ledger, n1) => {
      const known = await tokenize(n1, 'known')
      n1.way.exchange(await rewrappedTwice(world, ledger, n1))
      await settles(() => n1.replica.head === n1.replica.applied)
      await n1.replica.barrier(soon())
      assert.deepEqual(n1.replica.problems, [], 'no witness tells')
      await changed(commit(n1))
      await refuses(n1, known)
      // Two histories are mixed here by now, so the first one is not believed either.
      n1.way.exchange(ledger)
      await settles(() => n1.replica.problems.some((each) => each.includes('ends at revision')))
      await refuses(n1, known)
    }))
}

test('a snapshot with an entry up to the cursor that was not applied here shows it too', () =>
  withWorld(async (world, ledger, n1) => {
    const known = await tokenize(n1, 'known')
    const back = await rewrappedTwice(world, ledger, n1)
    back.compact(await back.head())
    n1.way.exchange(back)
    await settles(() => n1.replica.problems.some((each) => each.includes('not applied here')))
    await refuses(n1, known)
    assert.ok(n1.replica.applied < (await back.head()))
    n1.way.exchange(ledger)
    await settles(() => n1.replica.problems.length === 0)
    assert.equal(await tokenize(n1, 'known'), known)
  }))

/** What only the lost history has. The ledger put back goes on otherwise, and further. */
const LOST: { readonly [what: string]: (node: Node, world: World) => Promise<unknown> } = {
  secrets: ({ secrets }) => secrets.create(caller(), [secret('lost', 'x'), secret('lost/2', 'y')]),
  versions: ({ secrets }) => secrets.update(caller(), secret('db', 'lost'), () => true),
  'a rotation': ({ tokens }) => tokens.rotate(by('o'), 2),
  'rewrapped keys': (node, world) => {
    world.addRootKey()
    return world.rewrap(node)
  },
  tokens: (node) => tokenize(node, 'lost'),
  'a run of a node': begin,
}

for (const [what, lose] of Object.entries(LOST)) {
  test(`an older ledger that lacks only ${what} is refused, and the right one is followed again`, () =>
    withWorld(async (world, ledger, n1) => {
      const known = await tokenize(n1, 'known')
      const back = await copyOf(ledger)
      await lose(n1, world)
      await n1.replica.barrier(soon())
      const n2 = await world.open('n2', back)
      await n2.tokens.rotate(by('o'), 2)
      while ((await back.head()) < n1.replica.applied + 3)
        await n2.secrets.update(caller(), secret('db', 'x'), () => true)
      await n2.replica.close()

      n1.way.exchange(back)
      await settles(() => n1.replica.problems.length > 0)
      await refuses(n1, known)
      n1.way.exchange(ledger)
      await settles(() => n1.replica.problems.length === 0)
      await n1.replica.barrier(soon())
      assert.equal(await detokenize(n1, await tokenize(n1, 'new')), 'new')

      // The same at a start.
      await n1.replica.close()
      const again = await world.open('n1', back)
      await refuses(again, known)
    }))
}

test('a node that was away while others rotated, rewrapped, restarted and swept the last receipt is back at once', () =>
  withWorld(async (world, ledger, n1) => {
    const known = await tokenize(n1, 'known')
    const receipt = { key: ledgerKey.receipt('o', 'ab'.repeat(32)), value: receiptOf(n1) }
    await n1.replica.commit({ if: [{ key: receipt.key, revision: 0 }], put: [receipt] }, receipt.key, soon())
    await n1.replica.barrier(soon())
    await n1.replica.close()
    const n2 = await world.open('n2', ledger)
    await n2.replica.barrier(soon())
    await begin(n2)
    await n2.tokens.rotate(by('o'), 2)
    await n2.secrets.update(caller(), secret('db', 'v2'), () => true)
    world.addRootKey()
    await world.rewrap(n2)
    assert.ok(await n2.replica.removeReceipts([...n2.replica.receipts()], soon()))
    await n2.replica.barrier(soon())
    for (const compacted of [false, true]) {
      if (compacted) ledger.compact(await ledger.head())
      const again = await world.open('n1', ledger)
      for (const { replica } of [again, n2]) await replica.barrier(soon())
      assert.deepEqual(again.replica.problems, [])
      assert.equal(again.replica.digest().digest, n2.replica.digest().digest)
      assert.equal(await detokenize(again, known), 'known')
      await again.replica.close()
      await n2.tokens.rotate(by('o'), compacted ? 4 : 3)
    }
  }))

test('a head, or a commit, below what was applied here shows that the ledger is another one', () =>
  withWorld(async (_, ledger, n1) => {
    const known = await tokenize(n1, 'known')
    const back = await copyOf(ledger)
    for (let i = 0; i < 3; i++) await n1.secrets.create(caller(), [secret(randomName(), 'x')])
    await n1.replica.barrier(soon())
    for (const ask of [
      () => n1.replica.barrier(soon()),
      () => n1.secrets.create(caller(), [secret('new', 'x')]),
    ]) {
      n1.way.now = await copyOf(back) // the stream of the right one goes on
      await changed(ask())
      await refuses(n1, known)
      n1.way.exchange(ledger)
      await settles(() => n1.replica.problems.length === 0)
    }
  }))

/** A ledger whose stream brings nothing until the stream breaks. */
class Silent extends MemoryLedger {
  readonly #opened = Promise.withResolvers<void>()
  readonly #broken = Promise.withResolvers<void>()

  override follow(): AsyncIterable<Revision> {
    this.#opened.resolve()
    const next = async (): Promise<never> => {
      await this.#broken.promise
      throw new LedgerUnavailable('no-quorum', 'the stream is broken')
    }
    return { [Symbol.asyncIterator]: () => ({ next }) }
  }

  get opened(): Promise<void> {
    return this.#opened.promise
  }

  breakStream(): void {
    this.#broken.resolve()
  }
}

test('a replica from nothing that has only looked at a wrong ledger follows the right one', () =>
  withWorld(async (world, ledger, n1) => {
    const wrong = new Silent()
    await found(wrong, { keyring: world.ring, identity: 'f'.repeat(32) })
    for (let i = 0; i < 100; i++)
      await wrong.commit({ if: [], put: [{ key: `x/${i}`, value: new Uint8Array(1) }] }, soon())
    const n2 = await world.open('n2', wrong)
    await wrong.opened
    assert.equal(n2.replica.identity, 'f'.repeat(32))
    n2.way.now = ledger
    wrong.breakStream()
    await settles(() => n2.replica.applied === n1.replica.applied)
    await n2.replica.barrier(soon())
    assert.equal(n2.replica.identity, n1.replica.identity)
    assert.deepEqual(n2.replica.digest(), n1.replica.digest())
  }))
