import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, parseConfig } from './config.ts'
import type { KeyConfig, OwnerConfig } from './owners.ts'

const SHA = 'a'.repeat(64)

function parseOwner(members: string): OwnerConfig {
  const lines = ['node: n1', 'listen: 127.0.0.1:1', 'data: ./n1', 'keyring: k.json']
  lines.push(`owners: [{ id: a, ${members} }]`, 'ledger: { kind: embedded }')
  return parseConfig(lines.join('\n'), '/etc/coffer/n1.yaml').owners[0]
}

function parse(limits: string): KeyConfig {
  return parseOwner(`keys: [{ id: k1, sha256: ${SHA}, ${limits} }]`).keys[0]
}

function faultsOf(text: string, read: (text: string) => unknown = parse): string[] {
  try {
    read(text)
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.faults.map(
      ({ path, message }) => `${path.replace(/^owners\[0\]\.(keys\[0\]\.)?/, '')}: ${message}`,
    )
  }
  return []
}

test('rights and limits of a key, in canonical form', () => {
  const key = { id: 'k1', sha256: SHA }
  assert.deepEqual(parse(''), key)
  assert.deepEqual(parse('may: []'), { ...key, may: [] })
  const all = 'may: [rotate, "secrets:read", tokenize], prefix: app/prod/, resolve_per_day: 100000'
  assert.deepEqual(parse(`${all}, until: 2027-01-01T01:00:00+01:00`), {
    ...key,
    may: ['tokenize', 'rotate', 'secrets:read'],
    prefix: 'app/prod/',
    until: Date.parse('2027-01-01T00:00:00Z'),
    resolve_per_day: 100_000,
  })
  for (const prefix of ['a', 'a/', 'a/.b', '..a', 'history', 'a/history', 'history/'])
    assert.equal(parse(`prefix: ${prefix}`).prefix, prefix)
  assert.deepEqual(faultsOf('until: 2020-01-01T00:00:00Z'), [], 'an end in the past is a warning')
})

test('every bad right or limit has its path and its message, without the value', () => {
  const bad: readonly (readonly [string, RegExp])[] = [
    ['may: tokenize', /^may: expected a list of rights \(\[\] for none\), found text$/],
    ['may: null', /^may: expected a list of rights .* found nothing$/],
    ['may: [read]', /^may\[0\]: expected one of tokenize, detokenize, .*, found other text$/],
    ['may: [tokenize, 7]', /^may\[1\]: expected one of .* found a number/],
    ['may: [tokenize, rotate, tokenize]', /^may\[2\]: the same as .*may\[0\]; name each right once$/],
    ...['""', '/a', 'a//', 'a/../b', 'a/..', '..', './', '"a b"', 'ä', 'a'.repeat(256)].map(
      (prefix): readonly [string, RegExp] => [
        `prefix: ${prefix}`,
        /^prefix: expected the beginning of names/,
      ],
    ),
    ['prefix: null', /^prefix: .* found nothing/],
    ['until: 2027-01-01', /^until: expected an instant/],
    ['until: 2027', /^until: .* found a number; put it in quotes$/],
    ...['0', '-1', '1.5', '"5"', 'null', '1e13'].map((count): readonly [string, RegExp] => [
      `resolve_per_day: ${count}`,
      /^resolve_per_day: expected a whole/,
    ]),
  ]
  for (const [text, message] of bad) {
    const faults = faultsOf(text)
    assert.equal(faults.length, 1, `${text}: ${faults.join('; ')}`)
    assert.match(faults[0], message)
  }
  const removed = `removed: 2026-01-01T00:00:00Z, may: [], prefix: a/`
  assert.equal(faultsOf(removed).length, 3, 'sha256, may and prefix')
})

test('a quota: bytes, or a number with a unit', () => {
  const quotas: readonly (readonly [string, number])[] = [
    ['1', 1],
    ['9007199254740991', 2 ** 53 - 1],
    ['1 KiB', 1024],
    ['512MiB', 512 * 1024 ** 2],
    ['10 GiB', 10 * 1024 ** 3],
    ['"1.5 GiB"', 1.5 * 1024 ** 3],
    ['0.3 KiB', 307],
  ]
  for (const [text, bytes] of quotas) assert.equal(parseOwner(`quota: ${text}`).quota, bytes, text)
  assert.ok(!('quota' in parseOwner('keys: []')))
})

test('every bad quota has its path and its message, without the value', () => {
  const bad = ['0', '-1', '1.5', '.inf', '.nan', '1e300', '9007199254740993', '0 GiB', '0.0001 KiB']
  bad.push('"5"', '10 GB', '10 gib', '10G', '-1 GiB', '1e3 KiB', '1 TiB', '99999999999 GiB', '" 1 KiB"', '""')
  bad.push('null', '[]', '{}', 'true', 'GiB', '10 GiB of bytes', '"1,5 GiB"')
  for (const text of bad) {
    const faults = faultsOf(`quota: ${text}`, parseOwner)
    assert.equal(faults.length, 1, `${text}: ${faults.join('; ')}`)
    assert.match(
      faults[0],
      /^quota: expected bytes, a whole number .* or GiB, as 10 GiB, found [a-z ]+$/,
      text,
    )
  }
})

test('10,000 keys of an owner, and a fault in the last', () => {
  const key = (i: number): string => `{ id: k${i}, sha256: a${i.toString(16).padStart(63, '0')} }`
  const keys = Array.from({ length: 10_000 }, (_, i) => key(i))
  assert.equal(parseOwner(`keys: [${keys.join(', ')}]`).keys.length, 10_000)
  const faults = faultsOf(`keys: [${[...keys, key(7)].join(', ')}]`, parseOwner)
  assert.deepEqual(
    faults.map((text) => text.replace(/;.*/, '')),
    [
      'keys[10000].id: the same as owners[0].keys[7].id',
      'keys[10000].sha256: the same as owners[0].keys[7].sha256',
    ],
  )
})
