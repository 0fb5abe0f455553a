import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, parseConfig } from './config.ts'

const SHA = 'a'.repeat(64)

function parse(limits: string) {
  const keys = `[{ id: k1, sha256: ${SHA}, ${limits} }]`
  const lines = ['node: n1', 'listen: 127.0.0.1:1', 'data: ./n1', 'keyring: k.json']
  lines.push(`owners: [{ id: a, keys: ${keys} }]`, 'ledger: { kind: embedded }')
  return parseConfig(lines.join('\n'), '/etc/coffer/n1.yaml').owners[0].keys[0]
}

function faultsOf(limits: string): string[] {
  try {
    parse(limits)
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.faults.map(({ path, message }) => `${path.replace('owners[0].keys[0].', '')}: ${message}`)
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
