// `require` beside `records`: shapes of records, each as the contract says; what is refused stores nothing.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Coffer, CofferError } from '../../src/client/index.ts'
import { KEY_A, Vault } from './vault.ts'

const FIELDS = [
  'ssn',
  'patient.mrn',
  'contacts[].phone',
  'tags[]',
  'grid[][]',
  'visits[].notes[].text',
  'two words.x',
]
const PHONE = 'contacts[].phone'
const TEXT = 'visits[].notes[].text'

const vault = await Vault.start({ fields: FIELDS })
after(() => vault[Symbol.asyncDispose]())

/** `missing`: the path of field-missing; null: accepted; `#path`: not-a-scalar there. */
type Shape = readonly [require: readonly string[], records: unknown, missing: string | null]

const SHAPES: readonly Shape[] = [
  [[], [{}], null],
  [['ssn'], [], null],
  [['ssn'], [{ ssn: 'a' }], null],
  [['ssn'], [{ ssn: 0 }, { ssn: false }, { ssn: '' }, { ssn: -0 }], null],
  [['ssn'], [{}], 'records[0].ssn'],
  [['ssn'], [{ ssn: null }], 'records[0].ssn'],
  [['ssn'], [{ ssn: 'b' }, { SSN: 'b' }], 'records[1].ssn'],
  [['ssn'], [{ other: { ssn: 'b' } }], 'records[0].ssn'],
  [['ssn'], [{ ssn: {} }], '#records[0].ssn'],
  [['ssn'], [{ ssn: [] }], '#records[0].ssn'],
  [['ssn'], [{ ssn: ['a'] }], '#records[0].ssn'],
  [['ssn', 'patient.mrn'], [{ ssn: 'a', patient: { mrn: 1 } }], null],
  [['ssn', 'patient.mrn'], [{ patient: { mrn: 1 }, ssn: 'a' }], null],
  [['ssn', 'patient.mrn'], [{ ssn: 'a' }], 'records[0].patient.mrn'],
  [['patient.mrn', 'ssn'], [{ patient: {} }], 'records[0].patient.mrn'],
  [['patient.mrn'], [{ patient: null }], 'records[0].patient.mrn'],
  [['patient.mrn'], [{ patient: 'x' }], 'records[0].patient.mrn'],
  [['patient.mrn'], [{ patient: [] }], 'records[0].patient.mrn'],
  [['patient.mrn'], [{ patient: [{ mrn: 1 }] }], 'records[0].patient.mrn'],
  [['patient.mrn'], [{ 'patient.mrn': 1 }], 'records[0].patient.mrn'],
  [[PHONE], [{ contacts: [{ phone: 'a' }] }], null],
  [[PHONE], [{ contacts: [{ phone: 'a' }, { more: 1, phone: 2 }] }], null],
  [[PHONE], [{ contacts: [{ phone: 'a' }, {}] }], 'records[0].contacts[1].phone'],
  [[PHONE], [{ contacts: [{ phone: 'a' }, { phone: null }, {}] }], 'records[0].contacts[1].phone'],
  [[PHONE], [{ contacts: [{ phone: 'a' }, null] }], 'records[0].contacts[1].phone'],
  [[PHONE], [{ contacts: ['a'] }], 'records[0].contacts[0].phone'],
  [[PHONE], [{ contacts: [[{ phone: 'a' }]] }], 'records[0].contacts[0].phone'],
  [[PHONE], [{ contacts: [] }], 'records[0].contacts[]'],
  [[PHONE], [{}], 'records[0].contacts[]'],
  [[PHONE], [{ contacts: null }], 'records[0].contacts[]'],
  [[PHONE], [{ contacts: { phone: 'a' } }], 'records[0].contacts[]'],
  [[PHONE], [{ contacts: 'a' }], 'records[0].contacts[]'],
  [[PHONE], [{ contacts: [{ phone: {} }] }], '#records[0].contacts[0].phone'],
  [['tags[]'], [{ tags: ['a', 1, true] }], null],
  [['tags[]'], [{ tags: ['a', null] }], 'records[0].tags[1]'],
  [['tags[]'], [{ tags: [] }], 'records[0].tags[]'],
  [['tags[]'], [{ tags: 'a' }], 'records[0].tags[]'],
  [['tags[]'], [{ tags: [['a']] }], '#records[0].tags[0]'],
  [['grid[][]'], [{ grid: [['a'], ['b', 'c']] }], null],
  [['grid[][]'], [{ grid: [['a'], []] }], 'records[0].grid[1][]'],
  [['grid[][]'], [{ grid: [['a'], 'b'] }], 'records[0].grid[1][]'],
  [['grid[][]'], [{ grid: [['a', null]] }], 'records[0].grid[0][1]'],
  [[TEXT], [{ visits: [{ notes: [{ text: 'a' }, { text: 'b' }] }, { notes: [{ text: 'c' }] }] }], null],
  [[TEXT], [{ visits: [{ notes: [{ text: 'a' }] }, {}] }], 'records[0].visits[1].notes[]'],
  [[TEXT], [{ visits: [{ notes: [] }] }], 'records[0].visits[0].notes[]'],
  [[TEXT], [{ visits: [{ notes: [{}] }] }], 'records[0].visits[0].notes[0].text'],
  [['two words.x'], [{}], 'records[0]["two words"].x'],
  [FIELDS.slice(0, 3), [{ contacts: [{ phone: 1 }], patient: { mrn: 2 }, ssn: 3 }, {}], 'records[1].ssn'],
]

/** A value of its own in every shape: a token that was stored would be counted. */
function withOwnValues(json: string, n: number): string {
  return json.replace(/"([abc])"/g, `"$1 of shape ${n}"`)
}

for (const spaces of [0, 300_000]) {
  const how = spaces === 0 ? '' : ', in bodies that a thread scans'
  test(`${SHAPES.length} shapes of records: accepted, or refused with the place and nothing stored${how}`, async () => {
    const before = await vault.count()
    let accepted = 0
    for (const [n, [require, records, missing]] of SHAPES.entries()) {
      const json = withOwnValues(JSON.stringify(records), n + spaces)
      const body = `{"require":${JSON.stringify(require)}${' '.repeat(spaces)},"records":${json}}`
      const told = `shape ${n}: ${body.replaceAll(/ {9,}/g, ' ')}`
      const stored = await vault.count()
      const answer = await vault.post('/tokenize', body)
      if (missing === null) {
        assert.equal(answer.status, 200, told)
        accepted++
        const plain = await vault.post('/tokenize', `{"records":${json}}`)
        assert.equal(answer.text, plain.text, told)
        continue
      }
      const scalar = missing.startsWith('#')
      assert.equal(answer.status, 422, told)
      assert.equal(answer.json.type, `/problems/${scalar ? 'not-a-scalar' : 'field-missing'}`, told)
      assert.equal(answer.json.path, missing.replace('#', ''), told)
      assert.equal(await vault.count(), stored, told)
    }
    assert.ok(accepted >= 10 && (await vault.count()) > before)
  })
}

test('a gap at the end of many records is found, and nothing of them is stored', async () => {
  const records: object[] = Array.from({ length: 20_000 }, (_, i) => ({
    ssn: `many ${i}`,
    contacts: [{ phone: i }],
  }))
  records.push({ ssn: 'the last', contacts: [{}] })
  const before = await vault.count()
  const answer = await vault.post('/tokenize', { records, require: ['ssn', PHONE] })
  assert.equal(answer.json.path, 'records[20000].contacts[0].phone')
  assert.equal(await vault.count(), before)
})

test('a record that is no object is found behind more records than a request may have values', async () => {
  const records = `${Array(150_000).fill('{}').join(',')},7,8`
  for (const path of ['/tokenize', '/detokenize']) {
    const answer = await vault.post(path, `{"records":[${records}]}`)
    assert.deepEqual([answer.status, answer.json.path], [400, 'records[150000]'])
  }
})

test('require names configured fields, each once, beside records', async () => {
  const records = [{ ssn: 'never stored' }]
  const cases: readonly (readonly [body: unknown, path: string])[] = [
    [{ records, require: ['patient'] }, 'require[0]'],
    [{ records, require: ['ssn', 'patient.mrn '] }, 'require[1]'],
    [{ records, require: ['records[].ssn'] }, 'require[0]'],
    [{ records, require: ['contacts[0].phone'] }, 'require[0]'],
    [{ records, require: [''] }, 'require[0]'],
    [{ records, require: ['ssn', 'ssn'] }, 'require[1]'],
    [{ records, require: [null] }, 'require[0]'],
    [{ records, require: [['ssn']] }, 'require[0]'],
    [{ records, require: [{ ssn: true }] }, 'require[0]'],
    [{ records, require: 'ssn' }, 'require'],
    [{ records, require: null }, 'require'],
    [{ records, require: { ssn: true } }, 'require'],
    [{ records, require: true }, 'require'],
    [{ values: ['never stored'], require: ['ssn'] }, 'require'],
    [{ values: ['never stored'], require: [] }, 'require'],
    [{ require: ['ssn'] }, ''],
  ]
  const before = await vault.count()
  for (const [body, path] of cases) {
    const answer = await vault.post('/tokenize', JSON.stringify(body))
    assert.equal(answer.status, 400, JSON.stringify(body))
    assert.equal(answer.json.type, '/problems/invalid-request', JSON.stringify(body))
    assert.equal(answer.json.path, path, JSON.stringify(body))
  }
  const escaped = await vault.post('/tokenize', '{"records":[{}],"require":["\\u0073sn"]}')
  assert.equal(escaped.json.type, '/problems/field-missing', 'a name may be escaped')
  const detokenized = await vault.post('/detokenize', { records, require: ['ssn'] })
  assert.equal(detokenized.json.path, 'require', 'only tokenize has require')
  assert.equal(await vault.count(), before)
})

test('tokenizeRecords takes require, and tells the place', async () => {
  const coffer = new Coffer({ urls: vault.node.url, key: KEY_A })
  try {
    const { replaced } = await coffer.tokenizeRecords([{ ssn: 'of the client' }], { require: ['ssn'] })
    assert.equal(replaced, 1)
    await assert.rejects(
      coffer.tokenizeRecords([{ ssn: null }], { require: ['ssn'] }),
      (error) =>
        error instanceof CofferError &&
        error.slug === 'field-missing' &&
        error.members.path === 'records[0].ssn',
    )
  } finally {
    coffer.close()
  }
})
