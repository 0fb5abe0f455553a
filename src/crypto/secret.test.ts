import assert from 'node:assert/strict'
import { createSecretKey } from 'node:crypto'
import { test } from 'node:test'
import { systemClock } from '../clock.ts'
import { SEAL_BYTES } from './aead.ts'
import { Keyring, newRootKey, UnknownRootKey, UnwrapError } from './keyring.ts'
import { type AskedRequest, type AskedUnder, receiptHash, requestMac, sameMac } from './receipt.ts'
import { dataKeyContext, openSecret, type SecretVersionId, sealSecret } from './secret.ts'

const RING = Keyring.create(systemClock)
const WHERE: SecretVersionId = {
  owner: 'clinic-a',
  name: 'app/db',
  version: 2,
  validFrom: 1_767_225_600_123,
  keyId: 'k1',
  requestId: 'r-1',
}
const VALUE = Buffer.from('a value é漢🩺\0')

/** Each differs from WHERE, and some so that a careless joining of the parts would not tell them apart. */
const ELSEWHERE: readonly SecretVersionId[] = [
  { ...WHERE, owner: 'clinic-b' },
  { ...WHERE, owner: 'clinic-' },
  { ...WHERE, owner: 'clinic-aa' },
  { ...WHERE, owner: 'clinic-aapp', name: '/db' },
  { ...WHERE, owner: 'clinic-a/app', name: 'db' },
  { ...WHERE, name: 'app/dB' },
  { ...WHERE, name: 'app/d' },
  { ...WHERE, name: 'app/db2', version: 2 },
  { ...WHERE, name: 'app/db@2', version: 2 },
  { ...WHERE, name: 'app', version: 2 },
  { ...WHERE, version: 1 },
  { ...WHERE, version: 3 },
  { ...WHERE, version: 22 },
  { ...WHERE, name: 'app/d', version: 2 },
  { ...WHERE, validFrom: WHERE.validFrom + 1 },
  { ...WHERE, validFrom: 0 },
  { ...WHERE, version: 21, validFrom: 767_225_600_123 },
  { ...WHERE, keyId: 'k2' },
  { ...WHERE, keyId: '' },
  { ...WHERE, requestId: 'r-2' },
  { ...WHERE, keyId: 'k1r', requestId: '-1' },
  { ...WHERE, keyId: 'r-1', requestId: 'k1' },
]

test('what was sealed opens, whatever its length, and says nothing but that', () => {
  for (const value of [Buffer.alloc(0), VALUE, Buffer.alloc(64 * 1024, 'x')]) {
    const { wrapped, sealed } = sealSecret(RING, WHERE, value, systemClock)
    assert.equal(sealed.length, value.length + SEAL_BYTES)
    assert.deepEqual(openSecret(RING, WHERE, { wrapped, sealed }), value)
  }
})

test('nothing opens under another owner, name or version, nor with another time or author', () => {
  const { wrapped, sealed } = sealSecret(RING, WHERE, VALUE, systemClock)
  for (const where of ELSEWHERE) {
    assert.throws(() => openSecret(RING, where, { wrapped, sealed }), UnwrapError, JSON.stringify(where))
    // Nor with its data key wrapped for that place: the sealed value is bound too.
    const moved = RING.wrap(RING.unwrap(wrapped, dataKeyContext(WHERE)), dataKeyContext(where), systemClock)
    assert.throws(
      () => openSecret(RING, where, { wrapped: moved, sealed }),
      UnwrapError,
      JSON.stringify(where),
    )
    // Nor the value of that place under the data key of this one.
    const other = sealSecret(RING, where, VALUE, systemClock)
    assert.throws(() => openSecret(RING, WHERE, { wrapped, sealed: other.sealed }), UnwrapError)
    assert.throws(() => openSecret(RING, WHERE, { wrapped: other.wrapped, sealed }), UnwrapError)
    assert.throws(() => openSecret(RING, where, { wrapped: other.wrapped, sealed }), UnwrapError)
  }
  // An epoch key wrapped for its own place is no data key.
  const epochKey = RING.wrap(new Uint8Array(32), ['epoch', WHERE.owner, '2'], systemClock)
  assert.throws(() => openSecret(RING, WHERE, { wrapped: epochKey, sealed }), UnwrapError)
})

test('no bit can be changed, and nothing cut', () => {
  const { wrapped, sealed } = sealSecret(RING, WHERE, VALUE, systemClock)
  for (let at = 0; at < sealed.length; at++) {
    for (const bit of [1, 128]) {
      const changed = Uint8Array.from(sealed)
      changed[at] ^= bit
      assert.throws(() => openSecret(RING, WHERE, { wrapped, sealed: changed }), UnwrapError, `${at}`)
    }
  }
  for (let length = SEAL_BYTES; length < sealed.length; length++) {
    const cut = { wrapped, sealed: sealed.subarray(0, length) }
    assert.throws(() => openSecret(RING, WHERE, cut), UnwrapError, `${length}`)
  }
})

test('two seals of one value have nothing in common', () => {
  const one = sealSecret(RING, WHERE, VALUE, systemClock)
  const two = sealSecret(RING, WHERE, VALUE, systemClock)
  assert.notDeepEqual(
    RING.unwrap(one.wrapped, dataKeyContext(WHERE)),
    RING.unwrap(two.wrapped, dataKeyContext(WHERE)),
  )
  assert.notDeepEqual(one.sealed.subarray(0, 12), two.sealed.subarray(0, 12))
  assert.notDeepEqual(one.sealed.subarray(12, -16), two.sealed.subarray(12, -16))
})

test('rewrapped, the same sealed value opens, and not under the old root key alone', () => {
  const { wrapped, sealed } = sealSecret(RING, WHERE, VALUE, systemClock)
  const added = RING.add(newRootKey(systemClock))
  const both = added.activate(added.ids[1])
  const place = dataKeyContext(WHERE)
  const again = both.wrap(both.unwrap(wrapped, place), place, systemClock)
  const fresh = both.remove(added.ids[0])
  assert.deepEqual(openSecret(fresh, WHERE, { wrapped: again, sealed }), VALUE)
  assert.throws(() => openSecret(fresh, WHERE, { wrapped, sealed }), UnknownRootKey)
  assert.throws(() => openSecret(RING, WHERE, { wrapped: again, sealed }), UnknownRootKey)
})

const keyOf = (fill: number) => createSecretKey(Buffer.alloc(32, fill))

const UNDER: AskedUnder = { owner: 'clinic-a', keyId: 'k1', idempotencyKey: 'job' }

/** Each differs from UNDER, and some so that a careless joining of the parts would not tell them apart. */
const UNDER_OTHERS: readonly AskedUnder[] = [
  { ...UNDER, owner: 'clinic-b' },
  { ...UNDER, keyId: 'k2' },
  { ...UNDER, idempotencyKey: 'Job' },
  { ...UNDER, idempotencyKey: 'job ' },
  { ...UNDER, owner: 'clinic-', keyId: 'ak1' },
  { ...UNDER, owner: 'clinic-ak', keyId: '1' },
  { ...UNDER, keyId: 'k', idempotencyKey: '1job' },
  { ...UNDER, keyId: 'k1j', idempotencyKey: 'ob' },
  { owner: 'k1', keyId: 'clinic-a', idempotencyKey: 'job' },
]

test('hashes of Idempotency-Keys: of owner, API key and Idempotency-Key, under the secret key', () => {
  const key = keyOf(1)
  const hash = receiptHash(key, UNDER)
  assert.match(hash, /^[0-9a-f]{64}$/)
  assert.equal(receiptHash(keyOf(1), { ...UNDER }), hash)
  assert.notEqual(receiptHash(keyOf(2), UNDER), hash)
  for (const under of UNDER_OTHERS) assert.notEqual(receiptHash(key, under), hash, JSON.stringify(under))
})

test('MACs of requests: of caller, Idempotency-Key, method, name, If-Match and body, each in its place', () => {
  const key = keyOf(1)
  const macOf = (request: AskedRequest, under = UNDER): Uint8Array => requestMac(key, under, request)
  const asked: AskedRequest = {
    method: 'PUT',
    name: 'a',
    ifMatch: undefined,
    body: Buffer.from('{}'),
  }
  const mac = macOf(asked)
  assert.equal(mac.length, 32)
  assert.ok(sameMac(requestMac(keyOf(1), { ...UNDER }, { ...asked }), mac))
  assert.ok(!sameMac(requestMac(keyOf(2), UNDER, asked), mac))
  for (const under of [...UNDER_OTHERS, { ...UNDER, idempotencyKey: 'jobPUT' }])
    assert.ok(!sameMac(macOf(asked, under), mac), JSON.stringify(under))
  for (const change of [
    { method: 'POST' },
    { method: 'PU', name: 'T/a' },
    { name: 'a?' },
    { name: '' },
    { ifMatch: '' },
    { ifMatch: '*' },
    { ifMatch: '{}', body: Buffer.alloc(0) },
    { name: 'a=*' },
    { body: Buffer.from('{} ') },
    { body: Buffer.alloc(0) },
    { name: 'a\0=*', ifMatch: undefined },
    { name: 'a\0' },
    { name: 'a%00' },
  ]) {
    assert.ok(!sameMac(macOf({ ...asked, ...change }), mac), JSON.stringify(change))
  }
  const [none, empty, star] = [undefined, '', '*'].map((ifMatch) => macOf({ ...asked, ifMatch }))
  assert.ok(!sameMac(none, empty) && !sameMac(empty, star) && !sameMac(none, star))
  assert.ok(!sameMac(mac, mac.subarray(1)))
})
