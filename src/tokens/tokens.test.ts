import assert from 'node:assert/strict'
import { test } from 'node:test'
import { by, soon } from '../../test/deadlines.ts'
import { found } from '../../test/sim/genesis.ts'
import { Deadline, randomHex, systemClock } from '../clock.ts'
import { fromCanonical, type Scalar, Values } from '../crypto/canonical.ts'
import { Keyring, newRootKey } from '../crypto/keyring.ts'
import { readTokenText, tokenText } from '../crypto/token.ts'
import { Problem } from '../errors.ts'
import { rewrapKeys } from '../keys/rewrap.ts'
import { CheckedLedger } from '../ledger/checked.ts'
import { UnknownOutcome } from '../ledger/ledger.ts'
import { MemoryLedger } from '../ledger/memory.ts'
import { MemoryStore } from '../replica/memory-store.ts'
import { Replica } from '../replica/replica.ts'
import { encodeEntry } from '../state/entries.ts'
import { ledgerKey } from '../state/ledger-keys.ts'
import { DamagedReplica } from '../state/stored.ts'
import type { NamedTokens } from './detokenize.ts'
import { AlreadyToken, TokenService, type Tokens } from './tokens.ts'

type Vault = {
  ledger: MemoryLedger
  store: MemoryStore
  replica: Replica
  tokens: TokenService
  keyring: { now: Keyring }
}

const silent = { lost() {}, recovered() {}, caughtUp() {}, epoch() {}, applied() {} }

async function withVaults(count: number, run: (...vaults: Vault[]) => Promise<void>): Promise<void> {
  const ledger = new MemoryLedger()
  const keyring = { now: Keyring.create(systemClock) }
  await found(ledger, { keyring: keyring.now })
  const vaults: Vault[] = []
  try {
    for (let i = 0; i < count; i++) {
      const store = new MemoryStore()
      const replica = await Replica.open({
        store,
        ledger: new CheckedLedger(ledger),
        boot: randomHex(systemClock, 16),
        clock: systemClock,
        events: silent,
        fatal: (error) => assert.fail(error),
      })
      replica.follow()
      vaults.push({
        ledger,
        store,
        replica,
        keyring,
        tokens: new TokenService(replica, () => keyring.now, systemClock),
      })
    }
    await vaults[0].tokens.openFirst(by('o'))
    await run(...vaults)
  } finally {
    for (const { replica } of vaults) await replica.close()
  }
}

function valuesOf(...scalars: Scalar[]): Values {
  const values = new Values()
  for (const scalar of scalars) values.push(scalar, 1 << 16)
  return values
}

function texts({ epoch, bodies, checks }: Tokens): string[] {
  return Array.from({ length: bodies.length / 16 }, (_, i) =>
    tokenText(epoch, bodies.subarray(i * 16, i * 16 + 16), checks.subarray(i * 16, i * 16 + 4)),
  )
}

function named(...tokens: string[]): NamedTokens {
  const epochs = new Float64Array(tokens.length)
  const bodies = new Uint8Array(tokens.length * 16)
  const checks = new Uint8Array(tokens.length * 4)
  for (const [i, token] of tokens.entries()) {
    const text = Buffer.from(token)
    epochs[i] = readTokenText(text, 0, text.length, bodies, checks, i)
  }
  return { count: tokens.length, epochs, bodies, checks }
}

async function open({ tokens }: Vault, owner: string, ...asked: string[]): Promise<(Scalar | undefined)[]> {
  const { values, index } = await tokens.detokenize(by(owner), named(...asked))
  return Array.from(index, (i) =>
    i < 0 ? undefined : fromCanonical(values.bytes, values.offset[i] * 8, values.length[i]),
  )
}

test('what waits leaves together: many requests at once are few segments', () =>
  withVaults(1, async ({ tokens, ledger, replica }) => {
    const before = await ledger.head()
    await Promise.all(
      Array.from({ length: 500 }, (_, i) => tokens.tokenize(by('o'), valuesOf(`v${i}`), false)),
    )
    assert.ok((await ledger.head()) - before <= 5, `${(await ledger.head()) - before} segments`)
    await replica.barrier(soon())
    assert.equal(replica.contents.mappings, 500)
  }))

test('where commits are slow, callers that have just been answered share the next one', () =>
  withVaults(1, async ({ tokens, ledger }) => {
    const commit = ledger.commit.bind(ledger)
    ledger.commit = async (each, deadline) => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      return commit(each, deadline)
    }
    const before = await ledger.head()
    const rounds = 8
    const client = async (id: number): Promise<void> => {
      for (let i = 0; i < rounds; i++) {
        await tokens.tokenize(by('o'), valuesOf(`client ${id}, value ${i}`), false)
        // They come back one after the other, some turns later.
        for (let turn = 0; turn < id; turn++) await new Promise((resolve) => setImmediate(resolve))
      }
    }
    await Promise.all([0, 1, 2, 3, 4].map(client))
    // The first comes alone; without waiting for the others every round would be two commits.
    const commits = (await ledger.head()) - before
    assert.ok(commits <= rounds + 3, `${commits} commits`)
  }))

test('duplicates in one request, and in requests at the same time, are one mapping', () =>
  withVaults(1, async ({ tokens, replica }) => {
    const all = await Promise.all(
      Array.from({ length: 40 }, () => tokens.tokenize(by('o'), valuesOf('x', 'y', 'x', 'x'), false)),
    )
    for (const each of all) {
      const [x, y, ...again] = texts(each)
      assert.notEqual(x, y)
      assert.deepEqual(again, [x, x])
      assert.deepEqual(texts(each), texts(all[0]))
    }
    await replica.barrier(soon())
    assert.equal(replica.contents.mappings, 2)
    assert.equal(replica.counts.ignoredDuplicates, 0)
  }))

test('a request larger than a segment is several commits, answered whole', () =>
  withVaults(1, async (vault) => {
    const scalars = Array.from({ length: 30_000 }, (_, i) => `a longer value that fills segments ${i}`)
    const issued = await vault.tokens.tokenize(by('o'), valuesOf(...scalars), false)
    assert.equal(issued.fresh, 30_000)
    assert.ok((await vault.ledger.head()) > 10)
    const found = await open(vault, 'o', ...texts(issued))
    assert.deepEqual(found, scalars)
    assert.equal((await vault.tokens.tokenize(by('o'), valuesOf(...scalars), false)).fresh, 0)
  }))

test('whoever joins a commit waits for it, and fails with it', () =>
  withVaults(1, async ({ tokens, ledger }) => {
    ledger.faults.push(...new Array<'lost'>(1000).fill('lost'))
    const first = tokens.tokenize(by('o'), valuesOf('x'), false)
    const outcomes = [first]
    await ledger.head() // the first has been sent by now
    outcomes.push(tokens.tokenize(by('o'), valuesOf('x'), false))
    for (const outcome of outcomes) await assert.rejects(outcome, UnknownOutcome)
    ledger.faults.length = 0
    assert.equal(texts(await tokens.tokenize(by('o'), valuesOf('x'), false)).length, 1)
  }))

test('a request that reached the ledger in part does not say that nothing did', () =>
  withVaults(1, async ({ tokens, ledger }) => {
    const many = valuesOf(
      ...Array.from({ length: 30_000 }, (_, i) => `a longer value that fills segments ${i}`),
    )
    // The first of its segments is accepted, the ones behind it find no ledger.
    ledger.faults.push('none', ...new Array<'refuse'>(100).fill('refuse'))
    const asked = tokens.tokenize(by('o'), many, false)
    await assert.rejects(asked, UnknownOutcome)
  }))

test('a rotation on one node is obeyed by the next request on another', () =>
  withVaults(2, async (one, two) => {
    const old = await one.tokens.tokenize(by('o'), valuesOf('x'), false)
    for (let epoch = 2; epoch <= 20; epoch++) {
      await (epoch % 2 ? one : two).tokens.rotate(by('o'), epoch)
      const next = await (epoch % 2 ? two : one).tokens.tokenize(by('o'), valuesOf('x', `${epoch}`), false)
      assert.equal(next.epoch, epoch)
    }
    assert.deepEqual(await open(two, 'o', ...texts(old)), ['x'])
  }))

test('a request that meets a rotation at each try ends', () =>
  withVaults(2, async (one, two) => {
    let ahead = 0
    const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + ahead }
    const { tokens } = one
    const request = { owner: 'o', deadline: new Deadline(clock, 1000) }
    const commit = one.ledger.commit.bind(one.ledger)
    let rotations = 0
    one.ledger.commit = async (each, deadline) => {
      if (each.put.some(({ key }) => key.startsWith('seg/'))) {
        one.ledger.commit = commit
        await two.tokens.rotate(by('o'), 2 + rotations++)
        one.ledger.commit = rotating
        ahead += 400
      }
      return commit(each, deadline)
    }
    const rotating = one.ledger.commit
    await assert.rejects(tokens.tokenize(request, valuesOf('x'), false), UnknownOutcome)
    assert.equal(rotations, 3)
    one.ledger.commit = commit
    assert.equal((await tokens.tokenize(by('o'), valuesOf('x'), false)).epoch, 4)
  }))

test('of nodes that rotate at once one does; to the active epoch is the safe retry', () =>
  withVaults(2, async (one, two) => {
    const both = await Promise.all([
      one.tokens.rotate(by('o'), 2),
      two.tokens.rotate(by('o'), 2),
      one.tokens.rotate(by('o'), 2),
    ])
    assert.equal(both.filter((each) => each.rotated).length, 1)
    for (const each of both) assert.equal(each.epoch, 2)
    await assert.rejects(
      one.tokens.rotate(by('o'), 4),
      (error: unknown) => error instanceof Problem && error.members.epoch === 2,
    )
    await assert.rejects(one.tokens.rotate(by('o'), 1), Problem)
    const { active, epochs } = await two.tokens.epochs(by('o'))
    assert.equal(active, 2)
    assert.equal(epochs[0].closed_at, epochs[1].opened_at)
    assert.equal(epochs[1].closed_at, null)
  }))

test('an epoch under a tombstone keeps the times of its opening and its end', () =>
  withVaults(1, async ({ ledger, tokens }) => {
    await tokens.rotate(by('o'), 2)
    const { epochs } = await tokens.epochs(by('o'))
    const key = ledgerKey.wrappedKey('o', 1)
    const tombstone = { kind: 'tombstone', owner: 'o', epoch: 1, openedAt: epochs[0].opened_at } as const
    const value = encodeEntry(tombstone, { boot: 'e'.repeat(32), commit: 1 })
    const { revision } = await ledger.read(key)
    assert.ok((await ledger.commit({ if: [{ key, revision }], put: [{ key, value }] }, soon())).ok)
    assert.deepEqual((await tokens.epochs(by('o'))).epochs, epochs)
  }))

test('tokens of an epoch whose tombstone is being applied are not found; a lost page is damage', () =>
  withVaults(1, async (vault) => {
    const { ledger, tokens, replica, store } = vault
    const old = texts(await tokens.tokenize(by('o'), valuesOf('old'), false))
    await tokens.rotate(by('o'), 2)
    const now = texts(await tokens.tokenize(by('o'), valuesOf('now'), false))
    await replica.barrier(soon())
    assert.deepEqual(await open(vault, 'o', ...old, ...now), ['old', 'now'])
    // The pages are gone with the write, and the effects of the step come after the second pause.
    const written = Promise.withResolvers<void>()
    const applied = Promise.withResolvers<void>()
    let pauses = 0
    store.pause = () => {
      if (++pauses === 1) return Promise.resolve()
      written.resolve()
      return applied.promise
    }
    const key = ledgerKey.wrappedKey('o', 1)
    const { openedAt } = replica.owner('o')?.keys.get(1) ?? assert.fail()
    const tombstone = { kind: 'tombstone', owner: 'o', epoch: 1, openedAt } as const
    const value = encodeEntry(tombstone, { boot: 'e'.repeat(32), commit: 1 })
    const { revision } = await ledger.read(key)
    assert.ok((await ledger.commit({ if: [{ key, revision }], put: [{ key, value }] }, soon())).ok)
    try {
      await written.promise
      assert.equal(store.page(0), undefined)
      assert.deepEqual(await open(vault, 'o', ...old, ...now), [undefined, 'now'])
    } finally {
      applied.resolve()
    }
    await replica.barrier(soon())
    assert.deepEqual(await open(vault, 'o', ...old, ...now), [undefined, 'now'])
    store.page = () => undefined
    await assert.rejects(open(vault, 'o', ...now), DamagedReplica)
  }))

test('tokens are their owner’s alone; mixed epochs resolve together', () =>
  withVaults(1, async (vault) => {
    await vault.tokens.openFirst(by('p'))
    const first = texts(await vault.tokens.tokenize(by('o'), valuesOf('x', 17, '17', true), false))
    await vault.tokens.rotate(by('o'), 2)
    const second = texts(await vault.tokens.tokenize(by('o'), valuesOf('x', 17, '17', true), false))
    assert.equal(new Set([...first, ...second]).size, 8)
    const mixed = [
      first[0],
      second[0],
      first[1],
      second[3],
      'tok_9_00000000000000000000000000000000',
      'nothing',
    ]
    assert.deepEqual(await open(vault, 'o', ...mixed), ['x', 'x', 17, true, undefined, undefined])
    assert.deepEqual(await open(vault, 'p', ...mixed), new Array(6).fill(undefined))
    const again = await vault.tokens.retokenize(by('o'), named(...first, 'nothing'))
    assert.deepEqual(
      Array.from(again.index, (i) => texts(again)[i]),
      [...second, undefined],
    )
  }))

test('a valid token is not tokenized again, unless allowed', () =>
  withVaults(1, async ({ tokens }) => {
    const [token] = texts(await tokens.tokenize(by('o'), valuesOf('x'), false))
    await assert.rejects(
      tokens.tokenize(by('o'), valuesOf('a', token), false),
      (error: unknown) => error instanceof AlreadyToken && error.index === 1,
    )
    assert.equal(texts(await tokens.tokenize(by('o'), valuesOf(token), true)).length, 1)
    const forged = `${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}`
    assert.equal(texts(await tokens.tokenize(by('o'), valuesOf(forged), false)).length, 1)
  }))

test('the search for tokens among many strings of their form takes turns', () =>
  withVaults(1, async ({ tokens }) => {
    const [token] = texts(await tokens.tokenize(by('o'), valuesOf('a'), false))
    const forged = new Array<string>(60_000).fill(token.slice(0, -1) + (token.endsWith('0') ? '1' : '0'))
    let turns = 0
    const count = setInterval(() => turns++, 0)
    await assert.rejects(tokens.tokenize(by('o'), valuesOf(...forged, token), false), {
      index: forged.length,
    })
    clearInterval(count)
    assert.ok(turns >= 2, `${turns}`)
  }))

test('without the ledger, what is certain is answered and the rest is refused', () =>
  withVaults(2, async (one, two) => {
    const known = texts(await one.tokens.tokenize(by('o'), valuesOf('x'), false))
    await two.replica.barrier(soon())
    const unknown = texts(await one.tokens.tokenize(by('o'), valuesOf('y'), false))
    await one.replica.barrier(soon())
    const late = await withUnreachable(two, known, unknown)
    assert.ok(late)
    assert.deepEqual(await open(two, 'o', ...unknown), ['y'])
  }))

async function withUnreachable(vault: Vault, known: string[], unknown: string[]): Promise<boolean> {
  vault.ledger.reachable = false
  try {
    assert.deepEqual(await open(vault, 'o', ...known), ['x'])
    const forged = `${unknown[0].slice(0, -1)}${unknown[0].endsWith('0') ? '1' : '0'}`
    assert.deepEqual(await open(vault, 'o', forged, 'nothing'), [undefined, undefined])
    await assert.rejects(vault.tokens.tokenize(by('o'), valuesOf('x'), false), /cannot be reached/)
    await assert.rejects(vault.tokens.tokenize(by('o'), valuesOf('z'), false), /cannot be reached/)
    return true
  } finally {
    vault.ledger.reconnect()
  }
}

test('an owner whose key is wrapped by a root key that is missing gets 503, the others go on', () =>
  withVaults(2, async (one, two) => {
    await one.tokens.openFirst(by('p'))
    const added = one.keyring.now.add(newRootKey(systemClock))
    one.keyring.now = added.activate(added.ids[1])
    await one.tokens.rotate(by('o'), 2)
    one.keyring.now = new Keyring([added.rootKeys[0]], added.ids[0])
    await assert.rejects(
      two.tokens.tokenize(by('o'), valuesOf('x'), false),
      (error: unknown) => error instanceof Problem && error.slug === 'unknown-root-key',
    )
    assert.equal(texts(await two.tokens.tokenize(by('p'), valuesOf('x'), false)).length, 1)
  }))

test('a node that is behind a rewrap, and lacks the old root key, looks again after a barrier', () =>
  withVaults(3, async (one, ...others) => {
    const [token] = texts(await one.tokens.tokenize(by('o'), valuesOf('x'), false))
    const added = one.keyring.now.add(newRootKey(systemClock))
    const asks = [
      async (vault: Vault) => (await vault.tokens.tokenize(by('o'), valuesOf('x'), false)).fresh === 0,
      async (vault: Vault) => (await open(vault, 'o', token))[0] === 'x',
    ]
    for (const { replica } of others) await replica.barrier(soon())
    const before = others.map(({ replica }) => replica.owner('o')?.keys.get(1))
    one.keyring.now = added.activate(added.ids[1])
    const parts = { replica: one.replica, keyring: () => one.keyring.now, clock: systemClock }
    await rewrapKeys(parts, { signal: new AbortController().signal, room: async () => undefined })
    one.keyring.now = one.keyring.now.remove(added.ids[0])
    for (const [i, vault] of others.entries()) {
      await vault.replica.barrier(soon())
      const keys = vault.replica.owner('o')?.keys
      const rewrapped = keys?.get(1)
      const [old, barrier] = [before[i], vault.replica.barrier]
      assert.ok(keys && rewrapped && old)
      keys.set(1, old) // as after a start with an older checkpoint
      vault.replica.barrier = async (deadline) => {
        await barrier.call(vault.replica, deadline)
        keys.set(1, rewrapped)
      }
      assert.ok(await asks[i](vault))
    }
  }))

test('an epoch on its way while all is rewrapped is refused, and wrapped by the root key active now', () =>
  withVaults(2, async (one, two) => {
    const commit = one.ledger.commit.bind(one.ledger)
    for (const [owner, open] of [
      ['o', () => one.tokens.rotate(by('o'), 2)],
      ['p', () => one.tokens.openFirst(by('p'))],
    ] as const) {
      one.ledger.commit = async (...sent) => {
        one.ledger.commit = commit
        const before = two.keyring.now
        const added = before.add(newRootKey(systemClock))
        two.keyring.now = added.activate(added.ids[1])
        const parts = { replica: two.replica, keyring: () => two.keyring.now, clock: systemClock }
        await rewrapKeys(parts, { signal: new AbortController().signal, room: async () => undefined })
        two.keyring.now = two.keyring.now.remove(before.active)
        return commit(...sent)
      }
      await open()
      assert.equal(texts(await two.tokens.tokenize(by(owner), valuesOf('x'), false)).length, 1)
    }
    assert.equal((await one.tokens.epochs(by('o'))).active, 2)
  }))

test('a rotation whose answer is lost while its key is wrapped anew has opened the epoch', () =>
  withVaults(2, async (one, two) => {
    const commit = one.ledger.commit.bind(one.ledger)
    one.ledger.commit = async (...sent) => {
      one.ledger.commit = commit
      await commit(...sent)
      const added = two.keyring.now.add(newRootKey(systemClock))
      two.keyring.now = added.activate(added.ids[1])
      const parts = { replica: two.replica, keyring: () => two.keyring.now, clock: systemClock }
      await rewrapKeys(parts, { signal: new AbortController().signal, room: async () => undefined })
      await two.tokens.rotate(by('o'), 3)
      throw new UnknownOutcome('the answer was lost')
    }
    const { epoch, rotated } = await one.tokens.rotate(by('o'), 2)
    assert.deepEqual({ epoch, rotated }, { epoch: 2, rotated: true })
  }))
