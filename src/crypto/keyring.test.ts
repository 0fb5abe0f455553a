import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../clock.ts'
import { Keyring, KeyringError, newRootKey, UnknownRootKey, UnwrapError, wrappedBy } from './keyring.ts'

const secret = Uint8Array.from({ length: 32 }, (_, i) => i * 3)
const place = ['epoch', 'clinic-a', '1']

test('a wrapped key opens at its place only, and only whole', () => {
  const keyring = Keyring.create(systemClock)
  const wrapped = keyring.wrap(secret, place, systemClock)
  assert.deepEqual(keyring.unwrap(wrapped, place), secret)
  assert.equal(wrappedBy(wrapped), keyring.active)
  for (const other of [
    ['epoch', 'clinic-b', '1'],
    ['epoch', 'clinic-a', '11'],
    ['epoch', 'clinic-a1', ''],
    ['epoch', 'clinic-a'],
  ]) {
    assert.throws(() => keyring.unwrap(wrapped, other), UnwrapError)
  }
  for (let i = 2 + wrapped[1]; i < wrapped.length; i++) {
    const changed = Uint8Array.from(wrapped)
    changed[i] ^= 1
    assert.throws(() => keyring.unwrap(changed, place), UnwrapError)
  }
  assert.throws(() => keyring.unwrap(wrapped.subarray(0, wrapped.length - 20), place), UnwrapError)
  assert.throws(() => keyring.unwrap(new Uint8Array(0), place), UnwrapError)
})

test('add, activate, remove: old keys open until they are removed', () => {
  const first = Keyring.create(systemClock)
  const wrapped = first.wrap(secret, place, systemClock)
  const added = first.add(newRootKey(systemClock))
  const [, second] = added.ids
  assert.equal(added.active, first.active)
  assert.throws(() => added.remove(added.active), KeyringError)
  const active = added.activate(second)
  assert.equal(wrappedBy(active.wrap(secret, place, systemClock)), second)
  assert.deepEqual(active.unwrap(wrapped, place), secret)
  const removed = active.remove(first.active)
  assert.throws(() => removed.unwrap(wrapped, place), UnknownRootKey)
  assert.throws(() => removed.activate('rk-none'), KeyringError)
})

test('the file is read back, and its faults are told without a key', () => {
  const keyring = Keyring.create(systemClock).add(newRootKey(systemClock))
  const again = Keyring.parse(keyring.serialize())
  assert.deepEqual(again.ids, keyring.ids)
  assert.deepEqual(again.unwrap(keyring.wrap(secret, place, systemClock), place), secret)
  const file = JSON.parse(keyring.serialize())
  const key: string = file.root_keys[0].key
  const faults = ['', '[]', '{}', '{"format":2}', JSON.stringify({ ...file, active: 'rk-x' })]
  faults.push(JSON.stringify({ ...file, root_keys: [{ ...file.root_keys[0], key: key.slice(4) }] }))
  faults.push(JSON.stringify({ ...file, root_keys: [file.root_keys[0], file.root_keys[0]] }))
  for (const text of faults) {
    assert.throws(
      () => Keyring.parse(text),
      (error: unknown) => error instanceof KeyringError && !error.message.includes(key.slice(4, 20)),
    )
  }
})

test('a keyring has as many root keys as a node can name in the ledger', () => {
  const keys = Array.from({ length: 1001 }, (_, i) => {
    const key = Buffer.alloc(32)
    key.writeUInt32BE(i)
    return { id: `rk-${i}`, key, createdAt: '2026-01-01T00:00:00.000Z' }
  })
  assert.equal(new Keyring(keys.slice(1), 'rk-1').ids.length, 1000)
  assert.throws(() => new Keyring(keys, 'rk-1'), /more than 1000 root keys: rewrap, and remove old ones/)
})
