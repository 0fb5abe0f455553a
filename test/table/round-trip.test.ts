// Generated files with every oddity, in parts of a few bytes: tokenize and detokenize is the identity, and only
// the named values change.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Random, seeded } from '../sim/seed.ts'
import { FakeVault } from './fake-vault.ts'
import { splice } from './splice.ts'

const FILES = 2000
const random = seeded()
console.log(`COFFER_SEED=${random.seed}`)

const TEXTS = [
  '',
  'a',
  '0017',
  '1.50',
  'Zoë',
  '😀',
  ' x ',
  'true',
  'null',
  'a,b',
  'a;b',
  'a\tb',
  'say "x"',
  '"',
]
TEXTS.push(
  'two\nlines',
  'cr\rlf',
  'three\r\n"lines"',
  '\ufeff',
  '\ufffd',
  'x'.repeat(300),
  "o'x",
  '#3',
  '\\',
  '\0',
)

type Field = { readonly raw: string; readonly text: string | null }

/** By RFC 4180, one character after the other; `content` is latin1, so a character is a byte. */
function parse(content: string, delimiter: string): Field[][] {
  const records: Field[][] = [[]]
  let raw = ''
  let isOpen = false
  const endField = (): void => {
    const bytes = Buffer.from(raw, 'latin1').toString('utf8')
    const text = raw.startsWith('"') ? bytes.slice(1, -1).replaceAll('""', '"') : raw === '' ? null : bytes
    records.at(-1)?.push({ raw, text })
    raw = ''
  }
  for (let i = 0; i < content.length; i++) {
    const c = content[i]
    if (c === '"' && (isOpen || raw === '')) {
      isOpen = !isOpen
      raw += c
    } else if (c === '"' && raw.startsWith('"')) {
      isOpen = true
      raw += c
    } else if (isOpen) raw += c
    else if (c === delimiter) endField()
    else if (c === '\n' || c === '\r') {
      endField()
      if (c === '\r' && content[i + 1] === '\n') i++
      records.push([])
    } else raw += c
  }
  if (raw !== '' || (records.at(-1)?.length ?? 0) > 0) endField()
  return records.filter((record) => record.length > 0)
}

function field(pick: Random, delimiter: string, isNamed: boolean): Buffer {
  if (!isNamed && pick.chance(0.1)) return Buffer.from([0xff, 0xc3, 0x28])
  if (!isNamed && pick.chance(0.1)) return Buffer.from('5" x "y"')
  if (pick.chance(0.15)) return Buffer.alloc(0)
  const text = pick.chance(0.5) ? pick.pick(TEXTS) : `v${pick.below(20)}`
  const mustQuote = text === '' || /["\r\n]/.test(text) || text.includes(delimiter)
  return Buffer.from(mustQuote || pick.chance(0.3) ? `"${text.replaceAll('"', '""')}"` : text)
}

type File = { readonly bytes: Buffer; readonly columns: readonly string[]; readonly named: readonly number[] }

function csvFile(pick: Random, delimiter: string): File {
  const width = 1 + pick.below(5)
  const named = Array.from({ length: width }, (_, i) => i).filter((i) => i === 0 || pick.chance(0.4))
  const names = Array.from({ length: width }, (_, i) => pick.pick([`c${i}`, `"c${i}"`]))
  const ends = pick.chance(0.5) ? [pick.pick(['\n', '\r\n', '\r'])] : ['\n', '\r\n', '\r']
  const parts: Buffer[] = [Buffer.from(pick.chance(0.2) ? '\ufeff' : ''), Buffer.from(names.join(delimiter))]
  for (let rows = pick.below(12); rows > 0; rows--) {
    parts.push(Buffer.from(pick.pick(ends)))
    for (let i = 0; i < width; i++) {
      if (i > 0) parts.push(Buffer.from(delimiter))
      parts.push(field(pick, delimiter, named.includes(i)))
    }
  }
  if (pick.chance(0.7)) parts.push(Buffer.from(pick.pick(ends)))
  const columns = named.map((i) => (pick.chance(0.2) ? `#${i + 1}` : `c${i}`))
  return { bytes: Buffer.concat(parts), columns, named }
}

test('CSV: the way back is the identity on bytes, and no other field changes', async () => {
  for (let i = 0; i < FILES; i++) {
    const delimiter = random.pick([',', ';', '\t', '|'])
    const { bytes, columns, named } = csvFile(random, delimiter)
    const about = `file ${i}, columns ${columns.join()}: ${JSON.stringify(bytes.toString('latin1'))}`
    const vault = new FakeVault()
    const part = (): number => 1 + random.below(9)
    const options = { vault, columns, delimiter, part }
    const out = await splice(bytes, options).catch((error) => assert.fail(`${about}\n${error.stack}`))
    const before = parse(bytes.toString('latin1'), delimiter)
    const after = parse(out.bytes.toString('latin1'), delimiter)
    assert.equal(after.length, before.length, about)
    for (const [row, record] of before.entries()) {
      assert.equal(after[row].length, record.length, about)
      for (const [at, { raw, text }] of record.entries()) {
        if (row === 0 || !named.includes(at) || text === null) assert.equal(after[row][at].raw, raw, about)
        else assert.equal(after[row][at].text, vault.token(text), about)
      }
    }
    const back = await splice(out.bytes, { ...options, operation: 'detokenize' })
    assert.deepEqual(back.bytes.toString('latin1'), bytes.toString('latin1'), about)
    assert.equal(out.report.rows, before.length - 1, about)
    assert.equal(out.report.replaced, out.report.values, about)
  }
})

// JSON is written twice at once: as the file has it, and with the named values in RFC 8785 form.

type Written = { readonly file: string; readonly canonical: string; readonly tokens: string }

const SCALARS: readonly (readonly [string, string | number | boolean | null])[] = [
  ['"a"', 'a'],
  ['"\\u0041\\/"', 'A/'],
  ['"\\ud83d\\ude00"', '😀'],
  ['"Zo\\u00eb\\n"', 'Zoë\n'],
  ['1.50', 1.5],
  ['1E5', 100000],
  ['-0', 0],
  ['17', 17],
  ['"17"', '17'],
  ['true', true],
  ['false', false],
  ['null', null],
  ['""', ''],
]
const OTHERS = [
  '1.50',
  '12345678901234567890',
  '"{[,]}\\""',
  '[]',
  '{}',
  '[ 1 ,[2]]',
  '{"ssn":1,"q":[{}]}',
  'null',
]

class JsonWriter {
  readonly #vault: FakeVault
  readonly #isLines: boolean

  constructor(vault: FakeVault, isLines: boolean) {
    this.#vault = vault
    this.#isLines = isLines
  }

  space(): string {
    return random.pick(['', '', '', ' ', '\t', '  ', ...(this.#isLines ? ['\r'] : ['\n', '\r\n'])])
  }

  /** A value at a named path. */
  scalar(): Written {
    const [file, value] = random.pick(SCALARS)
    const canonical = value === null ? file : JSON.stringify(value)
    return { file, canonical, tokens: value === null ? file : JSON.stringify(this.#vault.token(value)) }
  }

  joined(parts: readonly (string | Written)[]): Written {
    const text = (of: keyof Written): string =>
      parts.map((part) => (typeof part === 'string' ? part : part[of])).join('')
    return { file: text('file'), canonical: text('canonical'), tokens: text('tokens') }
  }

  record(): Written {
    const members: Written[] = []
    const add = (name: string, value: string | Written): void => {
      members.push(
        this.joined([this.space(), `"${name}"`, this.space(), ':', this.space(), value, this.space()]),
      )
    }
    if (random.chance(0.8)) add(random.pick(['ssn', '\\u0073sn']), this.scalar())
    if (random.chance(0.7)) add('other', random.pick(OTHERS))
    if (random.chance(0.6)) {
      const phones = Array.from({ length: random.below(4) }, () =>
        this.joined(['{"phone":', this.scalar(), '}']),
      )
      add('contacts', this.joined(['[', ...phones.flatMap((each, i) => (i > 0 ? [',', each] : [each])), ']']))
    }
    if (random.chance(0.3)) add('last', random.pick(OTHERS))
    return this.joined(['{', ...members.flatMap((each, i) => (i > 0 ? [',', each] : [each])), '}'])
  }

  file(): Written {
    // The first record has all paths, so that no path is missing in all records.
    const first = this.joined(['{"ssn":', this.scalar(), ',"contacts":[{"phone":', this.scalar(), '}]}'])
    const records = [first, ...Array.from({ length: random.below(8) }, () => this.record())]
    const bom = random.chance(0.1) ? '\ufeff' : ''
    if (this.#isLines) {
      const blank = (): string => (random.chance(0.2) ? '\n \r\n' : '\n')
      const lines = records.flatMap((each, i) => [
        ...(i > 0 ? [blank()] : []),
        this.space(),
        each,
        this.space(),
      ])
      return this.joined([bom, ...lines, random.chance(0.7) ? '\n' : ''])
    }
    if (random.chance(0.1)) return this.joined([bom, this.space(), first, this.space()])
    const list = records.flatMap((each, i) => [...(i > 0 ? [','] : []), this.space(), each, this.space()])
    return this.joined([bom, this.space(), '[', ...list, ']', this.space()])
  }
}

test('JSON: only the named values change, and come back in RFC 8785 form', async () => {
  for (let i = 0; i < FILES; i++) {
    const format = random.pick(['ndjson', 'json'] as const)
    const vault = new FakeVault()
    const { file, canonical, tokens } = new JsonWriter(vault, format === 'ndjson').file()
    const part = (): number => 1 + random.below(40)
    const options = { vault, format, columns: ['ssn', 'contacts[].phone'], part }
    const about = `file ${i}: ${JSON.stringify(file)}`
    const out = await splice(file, options).catch((error) => assert.fail(`${about}\n${error.stack}`))
    assert.equal(out.bytes.toString(), tokens, about)
    const back = await splice(out.bytes, { ...options, operation: 'detokenize' })
    assert.equal(back.bytes.toString(), canonical, about)
  }
})
