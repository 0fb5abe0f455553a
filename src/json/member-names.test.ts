import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unescapeTo } from './escapes.ts'
import { MemberNames, type Seed } from './member-names.ts'

// Under it the hash is the exclusive or of the depth and the bytes.
const BAD: Seed = { start: 0, factor: 1 }
const GOOD: Seed = { start: 0x1234567, factor: 0x9e3779b1 | 0 }

/** `count` different names of 8 bytes one after the other, of which each has the same hash under BAD. */
function colliding(count: number): Uint8Array {
  return Buffer.concat(
    Array.from({ length: count }, (_, i) => {
      const half = i.toString(16).padStart(4, '0')
      return Buffer.from(half + half)
    }),
  )
}

function ask(names: MemberNames, count: number, serial: number): boolean[] {
  return Array.from({ length: count }, (_, i) => names.seen(1, serial, i * 8, i * 8 + 8, false))
}

test('names that collide lead to a new seed, and no answer changes', () => {
  let made = 0
  const names = new MemberNames(() => (made++ === 0 ? BAD : GOOD))
  const count = 5000
  names.begin(colliding(count))
  assert.ok(ask(names, count, 1).every((seen) => !seen))
  assert.equal(made, 2)
  assert.ok(ask(names, count, 1).every((seen) => seen))
  assert.ok(ask(names, count, 2).every((seen) => !seen))
  names.end()
})

test('where every seed is bad, new ones are not tried for ever, and no answer changes', () => {
  let made = 0
  const names = new MemberNames(() => {
    made++
    return BAD
  })
  const count = 2000
  for (const tries of [4, 8]) {
    names.begin(colliding(count))
    assert.ok(ask(names, count, 1).every((seen) => !seen))
    assert.ok(ask(names, count, 1).every((seen) => seen))
    assert.equal(made, 1 + tries)
    names.end()
  }
})

test('a name with escapes is known again under a new seed', () => {
  let made = 0
  const names = new MemberNames(() => (made++ === 0 ? BAD : GOOD))
  const escaped = Buffer.from('\\u0061\\n')
  const count = 1000
  const body = Buffer.concat([colliding(count), escaped, Buffer.from('a\n')])
  const at = count * 8
  names.begin(body)
  assert.equal(names.seen(3, 1, at, at + escaped.length, true), false)
  assert.equal(Buffer.from(names.bytes.subarray(names.from, names.to)).toString(), 'a\n')
  assert.ok(ask(names, count, 2).every((seen) => !seen))
  assert.equal(made, 2)
  assert.equal(names.seen(3, 1, at + escaped.length, body.length, false), true)
  assert.equal(names.seen(2, 1, at + escaped.length, body.length, false), false)
  names.end()
})

test('a name is not the beginning of another one with the same hash', () => {
  const names = new MemberNames(() => BAD)
  names.begin(Buffer.from('abccab'))
  assert.equal(names.seen(1, 1, 0, 4, false), false)
  assert.equal(names.seen(1, 1, 4, 6, false), false)
  assert.equal(names.seen(1, 1, 0, 2, false), true)
  names.end()
})

test('escapes become UTF-8, and lone surrogates stay different', () => {
  const out = new Uint8Array(24)
  const escaped = (unit: number) => `\\u${unit.toString(16).padStart(4, '0')}`
  const unescaped = (raw: string, to = Buffer.byteLength(raw)) =>
    Buffer.from(out.subarray(2, unescapeTo(Buffer.from(raw), 0, to, out, 2)))
  const utf8 = (...units: number[]) => {
    const text = String.fromCharCode(...units)
    if (text.isWellFormed()) return Buffer.from(text)
    return Buffer.concat(
      units.map((unit) => Buffer.of(0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 63), 0x80 | (unit & 63))),
    )
  }
  for (let unit = 0; unit < 0x10000; unit++)
    assert.deepEqual(unescaped(escaped(unit)), utf8(unit), escaped(unit))
  const edges = [0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000]
  for (const a of edges) {
    for (const b of edges)
      assert.deepEqual(unescaped(escaped(a) + escaped(b)), utf8(a, b), escaped(a) + escaped(b))
  }
  assert.deepEqual(unescaped(escaped(0xd83d) + escaped(0xde00), 6), utf8(0xd83d))
  assert.equal(unescaped('\\"\\\\\\/\\b\\f\\n\\r\\t-é').toString(), '"\\/\b\f\n\r\t-é')
})
