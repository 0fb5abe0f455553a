import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isSecretName, parseInstant, parseReference } from './wire.ts'

const GOOD = [
  ...['a', 'Z', '0', '_', '-', '...', '.a', 'a.', '..a', 'a..', '-/_', 'a/b', 'a/.../b', 'a/..b', 'a/.b/c.'],
  ...[
    'app/prod/DB_URL',
    'history/a',
    'a/historys',
    'History',
    'resolve',
    'n'.repeat(256),
    `${'a/'.repeat(127)}bb`,
  ],
]
const BAD = [
  ...['', '.', '..', '/', '//', '/a', 'a/', 'a//b', './a', '../a', 'a/.', 'a/..', 'a/./b', 'a/../b', './..'],
  ...['history', 'a/history', 'a/b/history', 'history/history', '-history/history'],
  ...['a b', ' a', 'a ', 'a\n', '\na', 'a\nb', 'a\0', 'a@', 'a@1', '@', 'a:b', 'a%2Fb', 'a\\b', 'a+b', 'a~b'],
  ...['é', 'ａ', 'a\u0301', '\ud800', '🩺', '\u017f', '\u212a', 'n'.repeat(257), `${'a/'.repeat(128)}b`],
]

test('names: 1 to 256 of the characters, no empty, `.` or `..` segment, the last one not `history`', () => {
  for (const name of GOOD) assert.equal(isSecretName(name), true, name)
  for (const name of BAD) assert.equal(isSecretName(name), false, JSON.stringify(name))
  // Exactly the characters of the contract.
  const fine = Array.from({ length: 0x3000 }, (_, i) => String.fromCharCode(i)).filter((c) =>
    isSecretName(`x${c}x`),
  )
  assert.equal(fine.join(''), '-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz')
})

test('the look at a name takes no longer than the name: nothing backtracks', () => {
  const started = process.cpuUsage()
  for (const text of [
    'a/'.repeat(50_000),
    '.'.repeat(100_000),
    `${'a.'.repeat(50_000)}@`,
    '/'.repeat(100_000),
  ]) {
    assert.equal(isSecretName(text), false)
  }
  const { user, system } = process.cpuUsage(started)
  assert.ok(user + system < 500_000, `${user + system} µs`)
})

test('references: a name, or a name and a version', () => {
  for (const name of GOOD) {
    assert.deepEqual(parseReference(`coffer://${name}`), { name, version: undefined })
    for (const version of [1, 10, 9_999_999_999])
      assert.deepEqual(parseReference(`coffer://${name}@${version}`), { name, version })
  }
  for (const name of BAD) {
    if (name === 'a@1') continue // with the scheme before it, a good one
    assert.equal(parseReference(`coffer://${name}`), undefined, name)
    assert.equal(parseReference(`coffer://${name}@1`), undefined, name)
  }
  for (const version of [
    '',
    '0',
    '01',
    '-1',
    '+1',
    '1.0',
    '1e0',
    ' 1',
    '1 ',
    '1\n',
    'x',
    '1@1',
    '١',
    '12345678901',
    '0000000001',
  ])
    assert.equal(parseReference(`coffer://a@${version}`), undefined, version)
  for (const text of [
    '',
    'a',
    'coffer:',
    'coffer:a',
    'coffer:/a',
    'coffer//a',
    'Coffer://a',
    'COFFER://a',
    ' coffer://a',
    'xcoffer://a',
  ])
    assert.equal(parseReference(text), undefined, text)
})

test('instants: RFC 3339, rounded down to milliseconds', () => {
  const noon = Date.UTC(2026, 0, 31, 12)
  for (const [text, instant] of [
    ['2026-01-31T12:00:00Z', noon],
    ['2026-01-31t12:00:00z', noon],
    ['2026-01-31 12:00:00Z', noon],
    ['2026-01-31T12:00:00.0Z', noon],
    ['2026-01-31T12:00:00.1Z', noon + 100],
    ['2026-01-31T12:00:00.12Z', noon + 120],
    ['2026-01-31T12:00:00.123Z', noon + 123],
    ['2026-01-31T12:00:00.123999999999Z', noon + 123],
    ['2026-01-31T12:00:00.0009Z', noon],
    ['2026-01-31T12:00:00+00:00', noon],
    ['2026-01-31T12:00:00-00:00', noon],
    ['2026-01-31T14:00:00+02:00', noon],
    ['2026-01-31T17:30:00+05:30', noon],
    ['2026-01-31T02:30:00-09:30', noon],
    ['2026-02-01T11:59:00+23:59', noon],
    ['2026-01-30T12:01:00-23:59', noon],
    ['2016-12-31T23:59:60Z', Date.UTC(2017, 0)],
    ['2016-12-31T23:59:60.5Z', Date.UTC(2017, 0) + 500],
    ['2016-12-31T18:59:60-05:00', Date.UTC(2017, 0)],
    ['2017-01-01T05:29:60+05:30', Date.UTC(2017, 0)],
    ['2024-02-29T00:00:00Z', Date.UTC(2024, 1, 29)],
    ['2000-02-29T00:00:00Z', Date.UTC(2000, 1, 29)],
    ['1969-12-31T23:59:59.999Z', -1],
    ['1969-12-31T23:59:59.9989Z', -2],
    ['0000-01-01T00:00:00Z', Date.parse('0000-01-01T00:00:00Z')],
    ['9999-12-31T23:59:59.999Z', Date.parse('9999-12-31T23:59:59.999Z')],
  ] as const) {
    assert.equal(parseInstant(text), instant, text)
  }
  for (const text of [
    ...['', 'x', '2026', '2026-01-31', '2026-01-31T12:00:00', '2026-01-31T12:00Z', '20260131T120000Z'],
    ...['2026-00-01T00:00:00Z', '2026-13-01T00:00:00Z', '2026-01-00T00:00:00Z', '2026-01-32T00:00:00Z'],
    ...['2026-02-29T00:00:00Z', '1900-02-29T00:00:00Z', '2026-04-31T00:00:00Z', '2026-06-31T00:00:00Z'],
    ...['2026-01-31T24:00:00Z', '2026-01-31T12:60:00Z', '2026-01-31T12:00:61Z', '2026-01-31T12:00:00.Z'],
    ...['2026-01-31T12:00:60Z', '2026-01-31T23:59:60+01:00', '2026-01-31T00:59:60Z'],
    ...['2026-01-31T12:00:00,1Z', '2026-01-31T12:00:00+24:00', '2026-01-31T12:00:00+01:60'],
    ...[
      '2026-01-31T12:00:00+1:00',
      '2026-01-31T12:00:00+0100',
      '2026-01-31T12:00:00+01',
      '2026-01-31T12:00:00 Z',
    ],
    ...[' 2026-01-31T12:00:00Z', '2026-01-31T12:00:00Z ', '2026-01-31T12:00:00Z\n', '2026-1-31T12:00:00Z'],
    ...['-2026-01-31T12:00:00Z', '+12026-01-31T12:00:00Z', '12026-01-31T12:00:00Z', '2026-01-31X12:00:00Z'],
    ...['2026-01-31T12:00:00\u221201:00', '２026-01-31T12:00:00Z', '2026-01-31T12:00:00UTC'],
  ]) {
    assert.equal(parseInstant(text), undefined, JSON.stringify(text))
  }
})

test('every millisecond reads back from what an answer writes, in every zone', () => {
  for (let day = -800; day < 22_000; day += 97) {
    const instant = day * 86_400_000 + ((day * 7919) % 86_400_000)
    assert.equal(parseInstant(new Date(instant).toISOString()), instant)
    for (const minutes of [-1439, -570, -1, 1, 330, 1439]) {
      const local = new Date(instant + minutes * 60_000).toISOString().slice(0, -1)
      const size = Math.abs(minutes)
      const hours = String(Math.floor(size / 60)).padStart(2, '0')
      const zone = `${minutes < 0 ? '-' : '+'}${hours}:${String(size % 60).padStart(2, '0')}`
      assert.equal(parseInstant(local + zone), instant, local + zone)
    }
  }
})
