// Versions of secrets and receipts: their bytes, and what the state is made of them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../clock.ts'
import { Keyring, newRootKey, UnwrapError } from '../crypto/keyring.ts'
import { dataKeyContext, openSecret, sealSecret } from '../crypto/secret.ts'
import type { TokenTables } from './effects.ts'
import { decodeEntry, encodeEntry } from './entries.ts'
import { ledgerKey } from './ledger-keys.ts'
import { decodePuts } from './puts.ts'
import type { Receipt } from './receipt.ts'
import { State } from './state.ts'
import { step } from './step.ts'
import type { SecretVersion } from './version.ts'
import { CorruptEntry, decodeWriter, type Writer } from './writer.ts'

const WRITER: Writer = { boot: '0123456789abcdef0123456789abcdef', commit: 2 ** 40 + 7 }
const HASH = '0123456789abcdef'.repeat(4)
const RING = Keyring.create(systemClock)
/** The last instant that a Date can hold. */
const LAST = 8.64e15

function version(change: Partial<SecretVersion> = {}, value = 'a value', ring = RING): SecretVersion {
  const author = { validFrom: 1_767_225_600_123, keyId: 'k1', requestId: 'req-1' }
  const about = { owner: 'o', name: 'a/b', version: 3, ...author, ...change }
  return { kind: 'version', ...sealSecret(ring, about, Buffer.from(value), systemClock), ...about }
}

const keyOf = (entry: SecretVersion): string => ledgerKey.version(entry.owner, entry.name, entry.version)

const RECEIPT: Receipt = {
  kind: 'receipt',
  owner: 'o',
  hash: HASH,
  mac: Uint8Array.from({ length: 32 }, (_, i) => i * 7),
  at: 1_767_225_600_000,
  version: 12,
  validFrom: 1_767_225_600_123,
}

const plain = <T extends Record<string, unknown>>(entry: T): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(entry).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    ]),
  )

test('versions are decoded to what was encoded, with their writer', () => {
  for (const entry of [
    version(),
    version({}, ''),
    version({}, 'x'.repeat(64 * 1024)),
    version({ version: 1, validFrom: 0, keyId: 'k', requestId: 'r' }),
    version({ version: 9_999_999_999, validFrom: LAST, keyId: 'k'.repeat(64), requestId: 'r'.repeat(128) }),
    version({ owner: 'o'.repeat(64), name: 'n'.repeat(256) }),
  ]) {
    const bytes = encodeEntry(entry, WRITER)
    const decoded = decodeEntry(keyOf(entry), bytes)
    assert.ok(decoded?.kind === 'version')
    assert.deepEqual(plain(decoded), plain(entry))
    assert.deepEqual(decodeWriter(bytes), WRITER)
  }
})

test('a version that is cut does not decode, or does not open', () => {
  for (const value of ['', 'a value']) {
    const entry = version({}, value)
    const bytes = encodeEntry(entry, WRITER)
    for (let length = 0; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length)
      if (length < bytes.length - value.length)
        assert.throws(() => decodeEntry(keyOf(entry), cut), CorruptEntry, String(length))
      else {
        // The sealed value goes to the end: only who opens it sees that it lacks something.
        const decoded = decodeEntry(keyOf(entry), cut)
        assert.ok(decoded?.kind === 'version')
        assert.throws(() => openSecret(RING, entry, decoded), UnwrapError)
      }
    }
    const longer = decodeEntry(keyOf(entry), Buffer.concat([bytes, Buffer.of(0)]))
    assert.ok(longer?.kind === 'version')
    assert.throws(() => openSecret(RING, entry, longer), UnwrapError)
  }
})

test('what encoding never writes of a version is refused', () => {
  const entry = version()
  const bytes = encodeEntry(entry, WRITER)
  const changed = (at: number, ...values: number[]): Uint8Array => {
    const copy = Uint8Array.from(bytes)
    copy.set(values, at)
    return copy
  }
  const wrappedAt = 25 + 1 + 1 + 8 + 1 + 2 + 1 + 5 + 2
  for (const [what, bad] of [
    ['no format', changed(0, 0)],
    ['record format', changed(25, 1)],
    ['record format', changed(25, 3)],
    ['algorithm', changed(26, 2)],
    ['time', changed(27, ...Array(8).fill(255))],
    ['time', changed(27, ...Buffer.from((BigInt(LAST) + 1n).toString(16).padStart(16, '0'), 'hex'))],
    ['length of the key id', changed(35, 255)],
    ['length of the request id', changed(38, 255)],
    ['length of the data key', changed(wrappedAt - 2, 255, 255)],
    ['no data key', changed(wrappedAt - 2, 0, 0)],
    ['data key', changed(wrappedAt, 1)],
    ['root key id', changed(wrappedAt + 1, 0)],
  ] as const) {
    assert.throws(() => decodeEntry(keyOf(entry), bad), CorruptEntry, what)
  }
  assert.throws(() => decodeEntry(ledgerKey.version('o', 'a/b', 0), bytes), CorruptEntry)
})

test('neither time nor author of a stored version can be changed without its data key', () => {
  const entry = version()
  const bytes = encodeEntry(entry, WRITER)
  assert.equal(openSecret(RING, entry, entry).toString(), 'a value')
  const [timeAt, keyIdAt, requestIdAt] = [27, 36, 39]
  const wrappedAt = bytes.length - entry.sealed.length - entry.wrapped.length
  for (const [what, at] of [
    ...Array.from({ length: 6 }, (_, i) => ['validFrom', timeAt + 2 + i] as const),
    ...Array.from({ length: 2 }, (_, i) => ['keyId', keyIdAt + i] as const),
    ...Array.from({ length: 5 }, (_, i) => ['requestId', requestIdAt + i] as const),
  ]) {
    const forged = Buffer.from(bytes)
    forged[at] ^= 1
    const read = decodeEntry(keyOf(entry), forged)
    assert.ok(read?.kind === 'version' && read[what] !== entry[what], `${what} is at ${at}`)
    assert.throws(() => openSecret(RING, read, read), UnwrapError, what)
    // Neither under a data key that the forger has made, which cannot be the key of the sealed value.
    const known = sealSecret(RING, read, Buffer.from('a value'), systemClock)
    assert.throws(() => openSecret(RING, read, { ...read, wrapped: known.wrapped }), UnwrapError, what)
    assert.throws(() => openSecret(RING, read, { ...read, sealed: known.sealed }), UnwrapError, what)
    // Nor where an operator has wrapped the data key anew for the forged version.
    const dataKey = RING.unwrap(entry.wrapped, dataKeyContext(entry))
    const wrapped = RING.wrap(dataKey, dataKeyContext(read), systemClock)
    assert.throws(() => openSecret(RING, read, { ...read, wrapped }), UnwrapError, what)
  }
  assert.equal(wrappedAt, requestIdAt + 5 + 2)
})

test('receipts are decoded to what was encoded; nothing cut, longer or out of range is', () => {
  const key = ledgerKey.receipt('o', HASH)
  for (const change of [
    {},
    { at: 0, validFrom: 0, version: 1 },
    { at: LAST, validFrom: LAST, version: 9_999_999_999 },
  ]) {
    const bytes = encodeEntry({ ...RECEIPT, ...change }, WRITER)
    const decoded = decodeEntry(key, bytes)
    assert.ok(decoded?.kind === 'receipt')
    assert.deepEqual(plain(decoded), plain({ ...RECEIPT, ...change }))
    assert.deepEqual(decodeWriter(bytes), WRITER)
    for (let length = 0; length < bytes.length; length++)
      assert.throws(() => decodeEntry(key, bytes.subarray(0, length)), CorruptEntry, String(length))
    assert.throws(() => decodeEntry(key, Buffer.concat([bytes, Buffer.of(0)])), CorruptEntry)
  }
  const bytes = encodeEntry(RECEIPT, WRITER)
  const numbersAt = 25 + 1 + 32
  for (const [at, ...values] of [
    [25, 1],
    [25, 3],
    [numbersAt, 255],
    [numbersAt + 16, 255],
    [numbersAt + 8, 0, 0, 0, 0, 0, 0, 0, 0],
    [numbersAt + 8, 0, 32, 0, 0, 0, 0, 0, 1],
  ]) {
    const bad = Uint8Array.from(bytes)
    bad.set(values, at)
    assert.throws(() => decodeEntry(key, bad), CorruptEntry, `${at}`)
  }
})

test('receipts may be removed, versions may not', () => {
  const key = ledgerKey.receipt('o', HASH)
  assert.deepEqual(decodePuts(1, [{ key, value: null, created: 0 }]), {
    decoded: [],
    removed: [{ kind: 'receipt', owner: 'o', hash: HASH, key }],
    foreign: 0,
  })
  assert.throws(
    () => decodePuts(1, [{ key: ledgerKey.version('o', 'a', 1), value: null, created: 0 }]),
    CorruptEntry,
  )
})

// ---- the state

type Applied = { readonly revision: number; readonly entry: SecretVersion }

const NO_TABLES: TokenTables = {
  add: () => assert.fail('there are no mappings'),
  insert: () => assert.fail('there are no mappings'),
  drop: () => assert.fail('there are no mappings'),
}

function apply(state: State, revision: number, key: string, entry: SecretVersion | Receipt): void {
  const put = { revision, created: 1, key, entry, value: encodeEntry(entry, WRITER) }
  const part = { revision: 20, decoded: [put], removed: [], snapshot: 'part' } as const
  const { effects } = step(state, { revisions: [part], ledger: 'l' })
  for (const effect of effects) state.apply(effect, NO_TABLES)
}

function stateOf(list: readonly Applied[]): State {
  const state = new State()
  for (const { revision, entry } of list) apply(state, revision, keyOf(entry), entry)
  return state
}

function told(state: State): unknown {
  const owners = [...state.owners].map(([owner, { secrets, latest }]) => [
    owner,
    latest,
    // Numbers of records are the replica's own.
    [...secrets].map(([name, versions]) => [name, versions.map((each) => ({ ...each, record: 0 }))]).sort(),
  ])
  return {
    owners: owners.sort(),
    dataKeys: [...state.dataKeys].filter(([, count]) => count > 0).sort(),
    digest: state.digest(),
  }
}

const [OLD_ID] = RING.ids

/**
 * Two secrets of one owner and one of another; the second version of the first was rewrapped at revision 9.
 */
function history(): Applied[] {
  const added = RING.add(newRootKey(systemClock))
  const ring = added.activate(added.ids[1])
  const at = (revision: number, change: Partial<SecretVersion>): Applied => ({
    revision,
    entry: version(change),
  })
  const list = [
    at(1, { name: 'a', version: 1, validFrom: 1000 }),
    at(2, { name: 'a', version: 2, validFrom: 1001 }),
    at(3, { name: 'a/1', version: 1, validFrom: 5000 }),
    at(4, { name: 'a', version: 3, validFrom: 2000 }),
    at(5, { owner: 'p', name: 'a', version: 1, validFrom: 9000 }),
  ]
  const second = list[1].entry
  const context = dataKeyContext(second)
  const wrapped = ring.wrap(RING.unwrap(second.wrapped, context), context, systemClock)
  return [...list, { revision: 9, entry: { ...second, wrapped } }]
}

test('the state is a function of the live entries, not of their order', () => {
  const list = history()
  const wanted = told(stateOf(list))
  const orders = list.map((_, i) => [...list.slice(i), ...list.slice(0, i)])
  for (const order of [...orders, ...orders.map((each) => each.toReversed())]) {
    assert.deepEqual(told(stateOf(order)), wanted)
  }
  // Neither does it matter whether what was rewrapped since was ever learnt, or anything came twice.
  assert.deepEqual(told(stateOf(list.filter(({ revision }) => revision !== 2))), wanted)
  assert.deepEqual(told(stateOf([...list, ...list])), wanted)
  const state = stateOf(list)
  assert.equal(state.owners.get('o')?.latest, 5000)
  assert.deepEqual(
    state.owners
      .get('o')
      ?.secrets.get('a')
      ?.map(({ validFrom, revision }) => [validFrom, revision]),
    [
      [1000, 1],
      [1001, 9],
      [2000, 4],
    ],
  )
  assert.equal(state.dataKeys.get(OLD_ID), 4)
})

test('the digest is of what versions say, not of how their data keys are wrapped, nor of receipts', () => {
  const list = history()
  const digest = stateOf(list).digest()
  assert.equal(stateOf(list.slice(0, 5)).digest(), digest, 'rewrapping changes nothing')
  const state = stateOf(list)
  apply(state, 10, ledgerKey.receipt('o', HASH), RECEIPT)
  assert.equal(state.digest(), digest)
  for (const i of [0, 2, 4]) {
    assert.notEqual(stateOf(list.filter((_, j) => j !== i)).digest(), digest)
    const { revision, entry } = list[i]
    const moved = Buffer.from(entry.sealed)
    moved[moved.length - 1] ^= 1
    for (const change of [
      { validFrom: entry.validFrom + 1 },
      { keyId: 'k2' },
      { requestId: 'req-2' },
      { keyId: 'k1 ', requestId: 'req-1' },
      { owner: 'q' },
      { name: 'a/2' },
      { version: 7 },
      { sealed: moved },
      { sealed: moved.subarray(1) },
    ]) {
      const other = list.with(i, { revision, entry: { ...entry, ...change } })
      assert.notEqual(stateOf(other).digest(), digest, JSON.stringify(change))
    }
  }
})
