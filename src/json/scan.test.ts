import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Problem } from '../errors.ts'
import { KIND, type Kind, type Scan } from './matches.ts'
import { memberPath, OTHERS, Paths } from './paths.ts'
import { LEVELS_MAX, MEMBERS_MAX, pathsOf, scan } from './scan.ts'

const FHIR = join(import.meta.dirname, '../../../shared/data/synthea/fhir')
const NONE = new Paths([])
const NOT_JSON = new RegExp(
  [
    /^The body (is not JSON|ends too early,) at byte \d+: expected [\w "',:[\]{}-]+$/,
    /^The member at byte \d+ stands twice in its object$/,
    /^The body nests deeper than 64 levels at byte \d+$/,
  ]
    .map((form) => form.source)
    .join('|'),
)

const seed = Number(process.env.COFFER_SEED ?? Math.floor(Math.random() * 2 ** 32))
console.log(`COFFER_SEED=${seed}`)

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

/** Random numbers from the seed, in [0, 1), other ones for each test (mulberry32). */
function randomFrom(salt: number): () => number {
  let state = (seed + salt * 0x9e3779b9) | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let z = Math.imul(state ^ (state >>> 15), state | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32
  }
}

function fault(body: string | Uint8Array): { at: number; path: unknown; expected: unknown; detail: string } {
  try {
    scan(typeof body === 'string' ? bytes(body) : body, NONE)
  } catch (error) {
    assert.ok(error instanceof Problem, String(error))
    assert.equal(error.slug, 'invalid-json')
    assert.match(error.message, NOT_JSON)
    const at = Number(/byte (\d+)/.exec(error.message)?.[1])
    return { at, path: error.members.path, expected: error.members.expected, detail: error.message }
  }
  assert.fail('the scan should have thrown')
}

// Random JSON texts.

const NAMES = ['a', 'b', 'c', 'records', 'x y', 'é', '😀', '\ud83d', '\ude00', '', '__proto__', '1', '0']
NAMES.push('toString', 'a.b', 'n\n"\\/', 'names', 'recordz', '[]')
const SPACES = ['', '', '', '', ' ', '\n', '\r\n', '\t', '  \n    ']
const NUMBERS = [
  '0',
  '-0',
  '1',
  '-12',
  '0.5',
  '10.250',
  '1e5',
  '1E+05',
  '-0e-0',
  '2.5e-3',
  '1e999',
  '90071992547409930',
]
const SHORTS: Record<string, string> = { '"': '\\"', '\\': '\\\\', '/': '\\/', '\b': '\\b', '\f': '\\f' }
Object.assign(SHORTS, { '\n': '\\n', '\r': '\\r', '\t': '\\t' })

class Writer {
  readonly random: () => number
  readonly repeats: number
  /** `repeats`: how often a name that an object has already is written again, 0 to 1. */
  constructor(random: () => number, repeats = 0) {
    this.random = random
    this.repeats = repeats
  }

  pick<T>(of: readonly T[]): T {
    return of[Math.floor(this.random() * of.length)]
  }

  space(): string {
    return this.pick(SPACES)
  }

  /** One of the ways to write this string. */
  string(text: string): string {
    let out = ''
    for (const char of text) {
      const mayBeRaw = char >= ' ' && char !== '"' && char !== '\\' && char.isWellFormed()
      if (mayBeRaw && this.random() < 0.7) out += char
      else if (char in SHORTS && this.random() < 0.5) out += SHORTS[char]
      else {
        for (let i = 0; i < char.length; i++) {
          const hex = char.charCodeAt(i).toString(16).padStart(4, '0')
          out += `\\u${this.random() < 0.5 ? hex : hex.toUpperCase()}`
        }
      }
    }
    return `"${out}"`
  }

  value(levels: number): string {
    const choice = this.random() * (levels > 0 ? 1 : 0.6)
    if (choice < 0.2) return this.string(this.pick(NAMES) + this.pick(NAMES))
    if (choice < 0.4) return this.pick(NUMBERS)
    if (choice < 0.6) return this.pick(['true', 'false', 'null'])
    const items: string[] = []
    const names = new Set<string>()
    for (let n = Math.floor(this.random() * 5); n > 0; n--) {
      const value = `${this.space()}${this.value(levels - 1)}${this.space()}`
      if (choice < 0.8) {
        items.push(value)
        continue
      }
      const name = this.pick(NAMES)
      if (names.has(name) && this.random() >= this.repeats) continue
      names.add(name)
      items.push(`${this.space()}${this.string(name)}${this.space()}:${value}`)
    }
    const inside = items.length === 0 ? this.space() : items.join(',')
    return choice < 0.8 ? `[${inside}]` : `{${inside}}`
  }

  body(): string {
    return `${this.space()}${this.value(6)}${this.space()}`
  }

  /** Some different paths; those with few parts are the most frequent. */
  paths(): string[] {
    const paths = new Set<string>()
    for (let n = Math.floor(this.random() * 12); n > 0; n--) {
      let path = ''
      do {
        const name = this.pick(NAMES.filter((name) => /^[^.[\]]+$/.test(name) && name.isWellFormed()))
        path += this.random() < 0.5 ? '[]' : path === '' ? name : `.${name}`
      } while (this.random() < 0.6)
      paths.add(path)
    }
    return [...paths]
  }
}

// What the scan should say, from the parsed body.

type Found = { path: string; leaf: number; kind: string; value: string }

function kindName(value: unknown, text: string | null): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'string' && text?.includes('\\')) return 'escaped'
  return typeof value
}

function expectedPlaces(body: unknown, paths: readonly string[]): Found[] {
  const found: Found[] = []
  const go = (value: unknown, parts: readonly string[], path: string, leaf: number): void => {
    const [part, ...rest] = parts
    if (part === undefined) {
      // Whether a string had escapes is gone: that is compared separately.
      found.push({ path, leaf, kind: kindName(value, null), value: JSON.stringify(value) })
    } else if (part === '[]') {
      if (Array.isArray(value)) for (const [i, item] of value.entries()) go(item, rest, `${path}[${i}]`, leaf)
    } else if (
      typeof value === 'object' &&
      value !== null &&
      !Array.isArray(value) &&
      Object.hasOwn(value, part)
    ) {
      const plain = /^[\w$-]+$/.test(part)
      const more = !plain ? `[${JSON.stringify(part)}]` : path === '' ? part : `.${part}`
      go(Object.getOwnPropertyDescriptor(value, part)?.value, rest, path + more, leaf)
    }
  }
  for (const [leaf, path] of paths.entries()) {
    go(
      body,
      path
        .replaceAll('[]', '.[]')
        .split('.')
        .filter((part) => part !== ''),
      '',
      leaf,
    )
  }
  return found.sort(byPath)
}

function byPath(a: Found, b: Found): number {
  return a.path === b.path ? a.leaf - b.leaf : a.path < b.path ? -1 : 1
}

function nameOf(kind: number): string {
  return Object.entries(KIND).find(([, number]) => number === kind)?.[0] ?? `no kind ${kind}`
}

function foundPlaces(body: Uint8Array, paths: Paths, result: Scan): Found[] {
  const all = Array.from({ length: result.count }, (_, i) => i)
  return pathsOf(body, paths, all)
    .map((path, i) => {
      const text = Buffer.from(body.subarray(result.start[i], result.end[i])).toString()
      assert.equal(text, text.trim(), 'a span begins and ends with its value')
      const value: unknown = JSON.parse(text)
      assert.equal(nameOf(result.kinds[i]), kindName(value, text))
      if (i > 0) assert.ok(result.start[i - 1] < result.start[i], 'places come in document order')
      return { path, leaf: result.leaf[i], kind: kindName(value, null), value: JSON.stringify(value) }
    })
    .sort(byPath)
}

function checkMembers(body: Uint8Array, parsed: unknown, result: Scan): void {
  const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
  const names = isObject ? Object.keys(parsed) : []
  assert.deepEqual(result.members.map((member) => member.name).sort(), names.sort())
  let end = 0
  for (const member of result.members) {
    const text = Buffer.from(body.subarray(member.start, member.end)).toString()
    const value: unknown = JSON.parse(text)
    assert.equal(text, text.trim())
    assert.deepEqual(value, Object.getOwnPropertyDescriptor(parsed, member.name)?.value)
    assert.equal(nameOf(member.kind), kindName(value, text))
    assert.ok(member.start > end, 'members come in order')
    end = member.end
  }
}

/** Of valid JSON: whether some object has a member twice. JSON.parse keeps only one of them. */
function hasTwice(text: string, parsed: unknown): boolean {
  const written = [...text.matchAll(/"(?:[^"\\]|\\.)*"\s*(:?)/g)].filter((found) => found[1] === ':').length
  const count = (value: unknown): number => {
    if (typeof value !== 'object' || value === null) return 0
    const own = Array.isArray(value) ? 0 : Object.keys(value).length
    return Object.values(value).reduce<number>((sum, item) => sum + count(item), own)
  }
  return written !== count(parsed)
}

test('random bodies: the places and the members are those of JSON.parse', () => {
  const writer = new Writer(randomFrom(1))
  let places = 0
  for (let round = 0; round < 4000; round++) {
    const text = writer.body()
    const list = writer.paths()
    const about = `COFFER_SEED=${seed}, round ${round}: ${JSON.stringify(list)} in ${text}`
    const paths = new Paths(list)
    const body = bytes(text)
    const parsed: unknown = JSON.parse(text)
    try {
      const result = scan(body, paths)
      assert.equal(nameOf(result.kind), kindName(parsed, text.trim()))
      assert.deepEqual(foundPlaces(body, paths, result), expectedPlaces(parsed, list))
      checkMembers(body, parsed, result)
      places += result.count
    } catch (error) {
      throw new Error(about, { cause: error })
    }
  }
  assert.ok(places > 1000, `the generator makes places, here ${places}`)
})

const STRUCTURE = '{}[]",:\\ \n\t\r\0\x1f\x7f0123456789-+.eEutrfalsn/b'

function mutated(writer: Writer, body: Uint8Array): Uint8Array | null {
  const at = Math.floor(writer.random() * (body.length + 1))
  const structure = writer.pick([...STRUCTURE]).charCodeAt(0)
  const byte = writer.random() < 0.8 ? structure : Math.floor(writer.random() * 256)
  const how = writer.random()
  const kept = how < 0.7 ? at + 1 : at
  let result = Buffer.concat([body.subarray(0, at), Buffer.of(byte), body.subarray(kept)])
  if (how < 0.3) result = Buffer.concat([body.subarray(0, at), body.subarray(at + 1)])
  if (how < 0.1) result = Buffer.from(body.subarray(0, at))
  const valid = Buffer.from(result.toString('utf8')).equals(result)
  return valid ? result : null
}

function parseOrFault(text: string): { parsed: unknown } | null {
  try {
    return { parsed: JSON.parse(text) }
  } catch {
    return null
  }
}

test('random mutations: the scan throws exactly when JSON.parse does or a member stands twice', () => {
  const writer = new Writer(randomFrom(2), 0.5)
  const seen = { good: 0, bad: 0, twice: 0 }
  for (let round = 0; round < 40_000; round++) {
    const body = mutated(writer, bytes(writer.body()))
    if (body === null) continue
    const text = body.toString()
    const oracle = parseOrFault(text)
    const about = `COFFER_SEED=${seed}, round ${round}: ${JSON.stringify(text)}`
    if (oracle === null) {
      seen.bad++
      // A member twice may come before the fault that JSON.parse found.
      assert.doesNotThrow(() => fault(body), about)
    } else if (hasTwice(text, oracle.parsed)) {
      seen.twice++
      assert.equal(fault(body).expected, 'each member once', about)
    } else {
      seen.good++
      assert.doesNotThrow(() => scan(body, NONE), about)
    }
  }
  assert.ok(seen.good > 1000 && seen.bad > 1000 && seen.twice > 50, JSON.stringify(seen))
})

test('faults of the grammar: where they are and what belongs there', () => {
  const cases: [string, number, string, string][] = [
    ['', 0, '', 'a value'],
    [' \r\n\t', 4, '', 'a value'],
    ['\ufeff{}', 0, '', 'a value'],
    ['{} {}', 3, '', 'the end of the body'],
    ['{"a":1', 6, '', '"," or "}"'],
    ['{"values":[1 2]}', 13, 'values', '"," or "]"'],
    ['{"values":["x","y",17,01]}', 23, 'values', '"," or "]"'],
    ['{"values":["x","y",17,]}', 22, 'values[3]', 'a value'],
    ['{"values":["x","\u0001"]}', 16, 'values[1]', 'no control character in a string'],
    ['{"values":["\\x"]}', 13, 'values[0]', 'an escape of JSON'],
    ['{"values":["\\u00g0"]}', 16, 'values[0]', 'a hexadecimal digit'],
    ['{"values":["\\u00', 16, 'values[0]', 'a hexadecimal digit'],
    ['{"values":["\\', 13, 'values[0]', 'an escape of JSON'],
    ['{"values":["x', 13, 'values[0]', "'\"'"],
    ['{"values":[-]}', 12, 'values[0]', 'a digit'],
    ['{"values":[1.]}', 13, 'values[0]', 'a digit'],
    ['{"values":[1e+]}', 14, 'values[0]', 'a digit'],
    ['{"values":[tru]}', 14, 'values[0]', 'a value'],
    ['{"to" 4}', 6, 'to', '":"'],
    ['{"to":}', 6, 'to', 'a value'],
    ['{"to":4,}', 8, '', 'a member name'],
    ['{"a":{to:4}}', 6, 'a', 'a member name or "}"'],
    ['{"a":{"to\n":4}}', 9, 'a', 'no control character in a string'],
    ['{"a":[{},[0,{"b":[]]', 19, 'a[1][1]', '"," or "}"'],
    ['{"records":[{"contacts":[{},{"id":1,"phone":+1}]}]}', 44, 'records[0].contacts[1].phone', 'a value'],
    ['{"x y":{"\\u0022":{"":nul}}}', 24, '["x y"]["\\""][""]', 'a value'],
  ]
  for (const [text, at, path, expected] of cases) {
    const { detail: _, ...rest } = fault(text)
    assert.deepEqual(rest, { at, path, expected }, text)
  }
})

test('a member twice in one object is refused, compared after unescaping', () => {
  const twice: [string, string, number][] = [
    ['{"a":1,"b":{"a":2},"a":3}', 'a', 19],
    ['{"a":1,"\\u0061":2}', 'a', 7],
    ['{"\\u0061":1,"\\u0061":2}', 'a', 12],
    ['{"😀":1,"\\uD83D\\ude00":2}', '["😀"]', 10],
    ['{"é":1,"\\u00e9":2}', '["é"]', 8],
    ['{"€":1,"\\u20aC":2}', '["€"]', 9],
    ['{"\\/\\n":1,"/\\u000A":2}', '["/\\n"]', 10],
    ['{"\\ud800":1,"\\uD800":2}', '["\\ud800"]', 12],
    ['{"__proto__":1,"__proto__":2}', '__proto__', 15],
    ['{"":1,"":2}', '[""]', 6],
    ['{"r":[{"x":1},{"x":1,"y":{"x":1,"y":{}},"x":2}]}', 'r[1].x', 40],
  ]
  for (const [text, path, at] of twice) {
    const { detail: _, ...rest } = fault(text)
    assert.deepEqual(rest, { at, path, expected: 'each member once' }, text)
  }
  const fine = [
    '{"a":{"x":1},"b":{"x":1}}',
    '{"a":{"a":{"a":1}}}',
    '[{"x":1},{"x":2},{"\\u0078":3},{"x":4}]',
    '{"\\ud800":1,"\\ud801":2,"\\udc00":3,"\\ud800\\udc00":4,"\ufffd":5}',
    '{"\\ud83d\\ud83d\\ude00":1,"\\ud83d":2,"😀":3}',
    '{"ab":1,"ba":2,"a":3,"b":4,"abc":5}',
    '{"__proto__":1,"constructor":2,"toString":3}',
  ]
  for (const text of fine) assert.doesNotThrow(() => scan(bytes(text), NONE), text)
})

test('many names: none is lost while the table grows, and the next body begins without them', () => {
  for (const count of [511, 512, 513, 2048, 40_000]) {
    const members = Array.from({ length: count }, (_, i) => (i % 3 === 0 ? `"\\u006e${i}":0` : `"n${i}":0`))
    const text = `{"r":{${members.join(',')}`
    for (let round = 0; round < 2; round++)
      assert.doesNotThrow(() => scan(bytes(`${text}}}`), NONE), `${count}`)
    for (const again of [0, 1, count >> 1, count - 1]) {
      assert.equal(fault(`${text},"n${again}":0}}`).path, `r.n${again}`, `${count}`)
    }
  }
})

test('64 levels are read, 65 are refused, and more cost nothing', () => {
  assert.equal(LEVELS_MAX, 64)
  const nested = (n: number) => '['.repeat(n) + ']'.repeat(n)
  assert.doesNotThrow(() => scan(bytes(nested(64)), NONE))
  assert.doesNotThrow(() => scan(bytes(`${'{"a":'.repeat(64)}1${'}'.repeat(64)}`), NONE))
  assert.doesNotThrow(() => scan(bytes(`[${`${nested(63)},`.repeat(3)}1]`), NONE))
  const deep = { at: 64, path: '[0]'.repeat(64), expected: 'at most 64 levels' }
  const bodies = [nested(65), nested(10_000), '['.repeat(10_000)].map(bytes)
  for (const body of [...bodies, new Uint8Array(16 << 20).fill(0x5b)]) {
    const { detail: _, ...rest } = fault(body)
    assert.deepEqual(rest, deep)
  }
  assert.equal(fault(`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`).path, Array(64).fill('a').join('.'))
})

test('places: leaves inside leaves, and what does not fit', () => {
  const list = ['r[].p', 'r[].p.q', 'r', 'to', 'a[][]', '😀.é']
  const paths = new Paths(list)
  const text =
    '{"r":[{"p":{"q":1}},{"p":[{"q":2}]},{"p":"\\u0000"},7],"to":4,' +
    '"a":[[1],{"x":[2]},3],"\\ud83d\\ude00":{"é":5}}'
  const body = bytes(text)
  const result = scan(body, paths)
  const all = Array.from({ length: result.count }, (_, i) => i)
  const texts = all.map((i) => Buffer.from(body.subarray(result.start[i], result.end[i])).toString())
  const kinds: Kind[] = [KIND.array, KIND.object, KIND.number, KIND.array, KIND.escaped, KIND.number]
  assert.deepEqual([...result.leaf], [2, 0, 1, 0, 0, 3, 4, 5])
  assert.deepEqual([...result.kinds], [...kinds, KIND.number, KIND.number])
  const values = ['{"q":1}', '1', '[{"q":2}]', '"\\u0000"', '4', '1', '5']
  assert.deepEqual(texts, [text.slice(5, text.indexOf(',"to"')), ...values])
  const real = ['r', 'r[0].p', 'r[0].p.q', 'r[1].p', 'r[2].p', 'to', 'a[0][0]', '["😀"]["é"]']
  assert.deepEqual(pathsOf(body, paths, all), real)
  assert.deepEqual(pathsOf(body, paths, [2, 7]), ['r[0].p.q', '["😀"]["é"]'])
  assert.deepEqual(pathsOf(body, paths, []), [])
  for (const wrong of [[8], [1, 0], [0, 0]])
    assert.throws(() => pathsOf(body, paths, wrong), /internal error/)
})

test('a body that is an array, or in a larger buffer', () => {
  const inside = Buffer.from('###[{"id":7},[{"id":8}]]###').subarray(3, -3)
  const paths = new Paths(['[].id', '[][]'])
  const result = scan(inside, paths)
  assert.equal(result.kind, KIND.array)
  assert.deepEqual(result.members, [])
  assert.deepEqual([...result.start], [7, 11])
  assert.deepEqual(pathsOf(inside, paths, [0, 1]), ['[0].id', '[1][0]'])
})

test('one scan is not changed by the next, with few places and with many', () => {
  const paths = new Paths(['values[]', 'tokens[]'])
  const body = (name: string, count: number) =>
    bytes(JSON.stringify({ [name]: Array.from({ length: count }, (_, i) => `${name}${i}`) }))
  for (const count of [3, 1024, 1025, 100_000]) {
    const first = scan(body('values', count), paths)
    assert.equal(first.count, count)
    const copy = structuredClone(first)
    scan(body('tokens', count), paths)
    assert.throws(() => scan(bytes('{"tokens":[1,2,{"a":1,"a":2}'), paths))
    assert.deepEqual(first, copy)
    assert.deepEqual([...new Set(first.leaf.subarray(0, count))], [0])
    const last = body('values', count).subarray(first.start[count - 1], first.end[count - 1])
    assert.equal(Buffer.from(last).toString(), `"values${count - 1}"`)
  }
})

test('counted objects and faulty values before the limit take no room, however many there are', () => {
  const paths = new Paths(['records[]', 'require[]', 'values[]', 'records[].a'])
  const limit = { leaf: 2, matches: 2, what: 'values', counted: 0, before: 3 }
  const many = (text: string): string => Array(100_000).fill(text).join(',')
  const empty = scan(bytes(`{"records":[${many('{}')},{"a":1}]}`), paths, limit)
  assert.deepEqual([empty.objects, empty.count, empty.start.length], [100_001, 1, 1])
  const body = bytes(`{"records":[{"a":1},[],{"a":{}},${many('7')}],"require":[${many('"a"')}]}`)
  const found = scan(body, paths, limit)
  assert.deepEqual([found.objects, ...found.leaf], [2, 3, 0, 3, 0, 0])
  assert.deepEqual([...found.start], [17, 20, 28, 32, 34])
  const texts = ['records[0].a', 'records[1]', 'records[2].a', 'records[3]', 'records[4]']
  assert.deepEqual(pathsOf(body, paths, [0, 1, 2, 3, 4], limit), texts)
  assert.equal(found.start.length, 5)
  assert.throws(() => scan(bytes('{"records":[{},{}],"values":[1,2,3]}'), paths, limit), /more than 2 values/)
})

test('places grow where they come densely at first and late', () => {
  const paths = new Paths(['none', 'values[]', 'late[]'])
  const pad = 'x'.repeat(100_000)
  const early = bytes(`{"values":[${Array(5000).fill(1)}],"pad":"${pad}","late":[${Array(9000).fill(2)}]}`)
  const late = bytes(`{"pad":"${pad}","values":[${Array(5000).fill(1)}],"late":[${Array(9000).fill(2)}]}`)
  for (const body of [early, late]) {
    const result = scan(body, paths)
    assert.equal(result.count, 14_000)
    for (let i = 0; i < result.count; i++) {
      assert.equal(body[result.start[i]], i < 5000 ? 0x31 : 0x32)
      assert.equal(result.end[i], result.start[i] + 1)
      assert.equal(result.leaf[i], i < 5000 ? 1 : 2)
      assert.equal(result.kinds[i], KIND.number)
    }
  }
})

test('top-level members: unescaped names, and not more than the first ones', () => {
  const result = scan(bytes('{ "\\u0061\\n" : [1] , "é":"\\t"}'), NONE)
  assert.equal(result.kind, KIND.object)
  assert.deepEqual(result.members, [
    { name: 'a\n', kind: KIND.array, start: 15, end: 18 },
    { name: 'é', kind: KIND.escaped, start: 26, end: 30 },
  ])
  const many = Array.from({ length: MEMBERS_MAX + 5 }, (_, i) => `"m${i}":${i}`)
  const { members } = scan(bytes(`{${many.join(',')}}`), NONE)
  assert.deepEqual([members.length, members.at(-1)?.name], [MEMBERS_MAX, `m${MEMBERS_MAX - 1}`])
})

test('paths: the members that no path names', () => {
  const paths = new Paths(['list[].a', `list[].${OTHERS}`, 'list[]'])
  const body = Buffer.from('{"x":{"b":1},"list":[{"a":1,"b":{"a":2,"c":3}},{"\\u0061":4},5,{"":6}]}')
  const { count, leaf, start, end } = scan(body, paths)
  const found = Array.from({ length: count }, (_, i) => [leaf[i], String(body.subarray(start[i], end[i]))])
  assert.deepEqual(found, [
    [2, '{"a":1,"b":{"a":2,"c":3}}'],
    [0, '1'],
    [1, '{"a":2,"c":3}'],
    [2, '{"\\u0061":4}'],
    [0, '4'],
    [2, '5'],
    [2, '{"":6}'],
    [1, '6'],
  ])
  assert.deepEqual(pathsOf(body, paths, [2, 7]), ['list[0].b', 'list[3][""]'])
})

test('paths: what is no path, and many of them', () => {
  const bad = ['', '.', '.a', 'a.', 'a..b', 'a[', 'a[]b', 'a[0]', 'a]', 'a.[]', '[].', '[]a', 'a\ud800']
  for (const path of bad) assert.throws(() => new Paths([path]), /^Error: bad path/, path)
  assert.throws(() => new Paths(['a.b', 'a', 'a.b']), /"a\.b" stands twice/)
  assert.throws(() => new Paths(Array.from({ length: 65_537 }, (_, i) => `p${i}`)), /more than 65536/)
  const paths = new Paths(Array.from({ length: 65_536 }, (_, i) => `p${i}`))
  const result = scan(bytes('{"p7":1,"p65535":2,"p65536":3,"p":4}'), paths)
  assert.deepEqual([...result.leaf], [7, 65_535])
})

test('the text of a path: names that are not plain, and its length', () => {
  assert.equal(memberPath('', 'to'), 'to')
  assert.equal(memberPath('a[1]', 'x_$-9'), 'a[1].x_$-9')
  assert.equal(memberPath('', 'x y'), '["x y"]')
  assert.equal(memberPath('a', '"\u0000.[é\ud800'), 'a["\\"\\u0000.[é\\ud800"]')
  assert.equal(memberPath('a', ''), 'a[""]')
  assert.equal(memberPath('', 'n'.repeat(1000)), 'n'.repeat(1000))
  const long = memberPath('a', 'n'.repeat(999))
  assert.equal(long, `a.${'n'.repeat(997)}…`)
  assert.equal(memberPath(long, 'more'), long)
  for (const pad of ['', 'x']) {
    const path = memberPath('', pad + '😀'.repeat(600))
    assert.ok(path.length <= 1000 && path.isWellFormed() && path.endsWith('…'), path)
    assert.equal(memberPath(path, 'more'), path)
  }
  const { path } = fault(`{"${'a'.repeat(600)}":{"${'b'.repeat(600)}":[{"c":x}]}}`)
  assert.equal(path, `${'a'.repeat(600)}.${'b'.repeat(398)}…`)
})

test('patient records of Synthea', { skip: !existsSync(FHIR) }, () => {
  const list = [
    'entry[].resource.name[].given[]',
    'entry[].resource.birthDate',
    'entry[].resource.telecom',
    'type',
  ]
  const paths = new Paths(list)
  for (const file of readdirSync(FHIR)) {
    const body = readFileSync(`${FHIR}/${file}`)
    const parsed: unknown = JSON.parse(body.toString())
    const result = scan(body, paths)
    assert.ok(result.count > 2)
    assert.deepEqual(foundPlaces(body, paths, result), expectedPlaces(parsed, list))
    checkMembers(body, parsed, result)
  }
})
