import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { Problem } from '../errors.ts'
import { idempotencyKey, ifMatch } from './conditional.ts'

const badRequest = (path: string) => (error: unknown) =>
  error instanceof Problem && error.slug === 'invalid-request' && error.members.path === path

test('no If-Match, and *, match every version', () => {
  for (const header of [undefined, '*', ' *', '*\t']) {
    for (const version of [1, 2, 9_999_999_999]) assert.equal(ifMatch(header)(version), true, header)
  }
})

test('If-Match: one of a list, compared as strings and strongly', () => {
  for (const [header, matching] of [
    ['"3"', [3]],
    [' "3" ', [3]],
    ['"3","4"', [3, 4]],
    ['"3"\t , "4" ', [3, 4]],
    [',"3",,"5",', [3, 5]],
    [', , "3"', [3]],
    ['"3", "3"', [3]],
    ['W/"3"', []],
    ['W/"3", "4"', [4]],
    ['W/"3", "3"', [3]],
    ['"3,4"', []],
    ['"3,4", "4"', [4]],
    ['""', []],
    ['"03"', []],
    ['"+3"', []],
    ['"3.0"', []],
    ['"0x3"', []],
    ['"*"', []],
    ['"W/3"', []],
    ['"\\"', []],
    ['"\x80\xff"', []],
  ] as const) {
    const matches = ifMatch(header)
    const found = [1, 2, 3, 4, 5, 33].filter((version) => matches(version))
    assert.deepEqual(found, matching, header)
  }
})

test('If-Match: what is no list of entity tags is refused', () => {
  for (const header of [
    ...[
      '',
      ' ',
      ',',
      ', ,\t',
      '3',
      "'3'",
      '"3',
      '3"',
      '"',
      '"""',
      '"3""4"',
      '"3" "4"',
      '"3";"4"',
      '"3" x',
      'x "3"',
    ],
    ...['w/"3"', 'W/ "3"', 'W"3"', 'W/', 'W/3', '/"3"', '*,"3"', '"3",*', '* *', '**', '*,*', '"3" *'],
    ...['"a b"', '"a\tb"', '"a\nb"', '"a\x7fb"', '"\u0100"'],
  ]) {
    assert.throws(() => ifMatch(header), badRequest('if-match'), JSON.stringify(header))
  }
})

test('If-Match: a long one is read in the time that its length asks for', () => {
  const started = process.cpuUsage()
  assert.throws(() => ifMatch(`${' '.repeat(100_000)}x`))
  assert.throws(() => ifMatch(`${',\t '.repeat(50_000)}x`))
  assert.equal(ifMatch(`${'"1", '.repeat(20_000)}"7"`)(7), true)
  const { user, system } = process.cpuUsage(started)
  assert.ok(user + system < 1_000_000, `${user + system} µs`)
})

/** As Node reads header lines of one name; of a request nothing else is looked at. */
function keyOf(...lines: string[]): string | undefined {
  const name = 'idempotency-key'
  const [headers, headersDistinct] =
    lines.length > 0 ? [{ [name]: lines.join(', ') }, { [name]: lines }] : [{}, {}]
  return idempotencyKey({ headers, headersDistinct } as unknown as IncomingMessage)
}

test('Idempotency-Key: 1 to 128 printable ASCII characters, without the quotes around them', () => {
  assert.equal(keyOf(), undefined)
  for (const [line, key] of [
    ['k', 'k'],
    ['"k"', 'k'],
    ['" k "', ' k '],
    ['"', '"'],
    ['"k', '"k'],
    ['k"', 'k"'],
    ['""k""', '"k"'],
    ['"""', '"'],
    ['"a"b"', 'a"b'],
    ['~!a b,;', '~!a b,;'],
    ['k'.repeat(128), 'k'.repeat(128)],
    [`"${'k'.repeat(128)}"`, 'k'.repeat(128)],
  ]) {
    assert.equal(keyOf(line), key, line)
  }
  for (const line of [
    '',
    '""',
    'k'.repeat(129),
    `"${'k'.repeat(129)}"`,
    'é',
    '"é"',
    'a\tb',
    'a\x7f',
    '\x00',
    'k\n',
  ]) {
    assert.throws(() => keyOf(line), badRequest('idempotency-key'), JSON.stringify(line))
  }
  for (const lines of [
    ['k', 'k'],
    ['a', 'b'],
    ['k', ''],
    ['', ''],
  ])
    assert.throws(() => keyOf(...lines), badRequest('idempotency-key'), JSON.stringify(lines))
})
