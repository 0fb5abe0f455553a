import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareKeys, ledgerKey, parseKey, snapshotRanges } from './ledger-keys.ts'

const HASH = '0123456789abcdef'.repeat(4)
const LONGEST = 'n'.repeat(256)

test('keys of secrets and receipts are parsed back to what they were made of', () => {
  for (const owner of ['o', '0', 'clinic-a', 'a.b_c-d', 'o'.repeat(64)]) {
    for (const name of ['a', 'a/1', 'a/0000000001', '...', '-', 'version/o/a', 'receipt/x', LONGEST]) {
      for (const version of [1, 17, 9_999_999_999]) {
        const key = ledgerKey.version(owner, name, version)
        assert.deepEqual(parseKey(key), { kind: 'version', owner, name, version }, key)
        assert.ok(key.length <= 512)
      }
    }
    assert.deepEqual(parseKey(ledgerKey.receipt(owner, HASH)), { kind: 'receipt', owner, hash: HASH })
  }
})

test('no two keys meet, and the versions of a secret are in their order', () => {
  const owners = ['a', 'a-', 'a.b', 'a0', 'b']
  const names = ['a', 'a/1', 'a/0000000001', 'a.0000000001', 'a-0000000001', 'a0000000001', 'b/a', 'a/a']
  const keys = owners.flatMap((owner) => [
    ...names.flatMap((name) =>
      [1, 2, 10, 9_999_999_999].map((version) => ledgerKey.version(owner, name, version)),
    ),
    ...[1, 2].map((epoch) => ledgerKey.wrappedKey(owner, epoch)),
    ...[ledgerKey.epoch(owner), ledgerKey.receipt(owner, HASH), ledgerKey.node(owner)],
  ])
  keys.push(ledgerKey.boot('0'.repeat(32)), ledgerKey.segment('0'.repeat(32), 1))
  assert.equal(new Set(keys).size, keys.length)
  for (const key of keys) assert.ok(parseKey(key), key)
  const versions = [10, 9, 1, 9_999_999_999, 100, 2].map((version) => ledgerKey.version('a', 'a', version))
  const sorted = versions.toSorted().map((key) => parseKey(key))
  assert.deepEqual(
    sorted.map((key) => key?.kind === 'version' && key.version),
    [1, 2, 9, 10, 100, 9_999_999_999],
  )
  // All of them, and nothing else, begin with the secret and its `@`.
  assert.equal(keys.filter((key) => key.startsWith('version/a/a@')).length, 4)
})

test('what only looks like one of our keys is foreign', () => {
  for (const key of [
    'version/o/a',
    'version/o/a@',
    'version/o/a@1',
    'version/o/a@000000001',
    'version/o/a@00000000001',
    'version/o/a@000000000x',
    'version/o/a@-000000001',
    'version/o/a@0000000001 ',
    'version/o/a@0000000001\n',
    'version/o/a@0000000001@',
    'version/o/a@b@0000000001',
    'version/o/a@0000000001@0000000001',
    'version/o/@0000000001',
    'version/o/a/@0000000001',
    'version/o//a@0000000001',
    'version/o/a//b@0000000001',
    'version/o/.@0000000001',
    'version/o/a/../b@0000000001',
    'version/o/a b@0000000001',
    'version/o/é@0000000001',
    `version/o/${LONGEST}n@0000000001`,
    'version/O/a@0000000001',
    'version/-o/a@0000000001',
    'version//a@0000000001',
    `version/${'o'.repeat(65)}/a@0000000001`,
    'version/a@0000000001',
    'Version/o/a@0000000001',
    'versions/o/a@0000000001',
    ' version/o/a@0000000001',
    'x/version/o/a@0000000001',
    `receipt/o/${HASH.slice(1)}`,
    `receipt/o/${HASH}0`,
    `receipt/o/${HASH.toUpperCase()}`,
    `receipt/o/${HASH.slice(1)}g`,
    `receipt/o/${HASH}\n`,
    `receipt/O/${HASH}`,
    `receipt//${HASH}`,
    `receipt/${HASH}`,
    `receipt/o/x/${HASH}`,
    'receipt/o/',
    'receipt/',
  ]) {
    assert.equal(parseKey(key), undefined, JSON.stringify(key))
  }
})

test('the ranges of a snapshot hold every key in one range, foreign keys after all kinds', () => {
  const boot = 'b'.repeat(32)
  const known = [
    { from: ledgerKey.segment(boot, 7), to: ledgerKey.segment(boot, 9), count: 2 },
    { from: ledgerKey.segment(boot, 1), to: ledgerKey.segment(boot, 5), count: 5 },
  ]
  const ranges = snapshotRanges(known)
  const rangeOf = (key: string): number => {
    const all = ranges.flatMap(({ from, to }, i) => (key >= from && (to === '' || key < to) ? [i] : []))
    assert.equal(all.length, 1, key)
    return all[0]
  }
  const kinds = [
    ledgerKey.genesis,
    ledgerKey.boot(boot),
    ledgerKey.node('n'),
    ledgerKey.wrappedKey('o', 1),
    ledgerKey.epoch('o'),
    ledgerKey.receipt('o', HASH),
    ledgerKey.version('o', 'a', 1),
    ledgerKey.segment(boot, 1),
  ]
  assert.deepEqual(kinds.map(rangeOf), [0, 1, 2, 3, 4, 5, 6, 7])
  assert.deepEqual(ranges[7].known, known.toReversed())
  assert.ok(ranges.every(({ known: parts }, i) => i === 7 || parts === undefined))
  for (const foreign of ['a', 'genesis/', 'genesi', 'boot', 'boot00', 'kez', 'version1', 'seg', '~'])
    assert.ok(rangeOf(foreign) > 7, foreign)
})

test('keys compare as a snapshot gives them', () => {
  const boot = '0'.repeat(32)
  const keys = [
    ...['genesis', ledgerKey.boot(boot), ledgerKey.boot('1'.repeat(32)), ledgerKey.node('n1')],
    ...[ledgerKey.wrappedKey('a', 1), ledgerKey.wrappedKey('a', 10), ledgerKey.wrappedKey('b', 2)],
    ...[ledgerKey.epoch('a'), ledgerKey.epoch('b'), ledgerKey.receipt('a', HASH)],
    ...[ledgerKey.version('a', 'a/1', 1), ledgerKey.version('a', 'a', 1), ledgerKey.version('b', 'a', 1)],
    ...[ledgerKey.segment(boot, 1), ledgerKey.segment(boot, 2), ledgerKey.segment('1'.repeat(32), 1)],
    ...['a', 'boot', 'genesis/', 'key0', 'z'],
  ]
  const within = (key: string): number =>
    snapshotRanges([]).findIndex(({ from, to }) => key >= from && (to === '' || key < to))
  for (const [i, a] of keys.entries()) {
    assert.ok(within(a) >= within(keys[Math.max(0, i - 1)]))
    for (const [j, b] of keys.entries())
      assert.equal(Math.sign(compareKeys(a, b)), Math.sign(i - j), `${a} ${b}`)
  }
})
