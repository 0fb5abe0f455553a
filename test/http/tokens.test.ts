// The tokens of the contract over HTTP: every form, every rule, on one node.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type Answer, bearer, KEY_B, TOKEN, Vault } from './vault.ts'

const FIELDS = [
  'ssn',
  'patient.mrn',
  'contacts[].phone',
  'tags[]',
  'grid[][]',
  'visits[].notes[].text',
  'straße.名',
  'two words',
]

const vault = await Vault.start({ fields: FIELDS })
after(() => vault[Symbol.asyncDispose]())

const FORGED = `tok_1_${'0'.repeat(32)}`

/** JSON without its insignificant white space: all that an answer may change of what is not configured. */
function tight(json: string): string {
  return json.replace(/("(?:[^"\\]|\\.)*")|[ \t\r\n]+/g, '$1')
}

/** Tokenizes records, given as JSON. The answer must be `expected`: JSON with `<value>` for a value's token. */
async function replaces(records: string, expected: string, replaced: number): Promise<void> {
  const answer = await vault.post('/tokenize', `{"records":${records}}`)
  assert.equal(answer.status, 200, answer.text)
  let wanted = expected
  for (const [mark, value] of expected.matchAll(/<(.*?)>/g)) {
    wanted = wanted.replace(mark, `"${await vault.token(JSON.parse(value))}"`)
  }
  assert.equal(tight(answer.text), tight(`{"epoch":1,"records":${wanted},"replaced":${replaced}}`))
  // And back, to what was sent.
  const back = await vault.post('/detokenize', `{"records":${wanted}}`)
  assert.equal(tight(back.text), tight(`{"records":${records},"not_found":[]}`))
}

/** The text of the one value that comes back for the JSON `value`. */
async function roundTrip(value: string): Promise<string> {
  const issued = await vault.post('/tokenize', `{"values":[${value}]}`)
  assert.equal(issued.status, 200, issued.text)
  const answer = await vault.post('/detokenize', { tokens: issued.json.tokens })
  return /^\{"values":\[(.*)\],"not_found":\[\]\}$/s.exec(answer.text)?.[1] ?? assert.fail(answer.text)
}

/** Status, body and headers but for the request id and the date. */
function visible(answer: Answer): unknown {
  const { 'x-request-id': id, date, ...headers } = answer.headers
  assert.ok(typeof id === 'string' && date)
  return { status: answer.status, headers, text: answer.text.replaceAll(id, '(id)') }
}

async function refused(
  answer: Promise<Answer>,
  status: number,
  slug: string,
  path?: string,
): Promise<Answer> {
  const got = await answer
  assert.deepEqual([got.status, got.json.type], [status, `/problems/${slug}`], got.text)
  if (path !== undefined) assert.equal(got.json.path, path)
  return got
}

test('records: the same order, configured fields replaced, and counted', async () => {
  await replaces(
    '[{"ssn":"1","a":1},{"a":2,"ssn":"2"},{"ssn":"1"}]',
    '[{"ssn":<"1">,"a":1},{"a":2,"ssn":<"2">},{"ssn":<"1">}]',
    3,
  )
})

test('values: aligned, of the form of the contract, null stays', async () => {
  const answer = await vault.post('/tokenize', { values: ['a', 17, true, null, 'a'] })
  assert.equal(answer.status, 200)
  assert.deepEqual(Object.keys(answer.json), ['epoch', 'tokens'])
  assert.equal(answer.json.epoch, 1)
  const tokens = answer.json.tokens as (string | null)[]
  assert.equal(tokens.length, 5)
  for (const i of [0, 1, 2]) assert.match(tokens[i] ?? '', TOKEN)
  assert.equal(tokens[3], null)
  assert.equal(tokens[4], tokens[0])
  assert.equal(new Set(tokens).size, 4)
})

test('an answer is application/json', async () => {
  const answer = await vault.post('/tokenize', { values: [] })
  assert.equal(answer.headers['content-type'], 'application/json')
})

test('detokenize: one token', async () => {
  const answer = await vault.post('/detokenize', { token: await vault.token('only') })
  assert.deepEqual([answer.status, answer.text], [200, '{"value":"only"}'])
})

test('detokenize: a list, aligned, with what was not found listed and null not', async () => {
  const [x, y] = await vault.tokens(['x', 7])
  const answer = await vault.post('/detokenize', { tokens: [x, FORGED, null, y, 'nonsense', x] })
  assert.equal(answer.status, 200)
  assert.equal(answer.text, '{"values":["x",null,null,7,null,"x"],"not_found":[1,4]}')
})

test('detokenize: records, with the real paths of what was not found', async () => {
  const token = await vault.token('found')
  const record = {
    ssn: token,
    patient: { mrn: FORGED },
    contacts: [{ phone: token }, { phone: FORGED }, { phone: 'no token' }],
    grid: [[token], [token, FORGED]],
    visits: [{ notes: [] }, { notes: [{ text: 1 }, { text: FORGED }] }],
    'two words': FORGED,
    free: FORGED,
  }
  const answer = await vault.post('/detokenize', { records: [{ ssn: null }, record, { ssn: FORGED }] })
  assert.equal(answer.status, 200)
  assert.deepEqual(answer.json.not_found, [
    { record: 1, path: 'patient.mrn' },
    { record: 1, path: 'contacts[1].phone' },
    { record: 1, path: 'grid[1][1]' },
    { record: 1, path: 'visits[1].notes[1].text' },
    { record: 1, path: '["two words"]' },
    { record: 2, path: 'ssn' },
  ])
  const opened = JSON.parse(JSON.stringify(record).replaceAll(token, 'found'))
  assert.deepEqual(answer.json.records, [{ ssn: null }, opened, { ssn: FORGED }])
})

test('detokenize: what is no token stays in records and is not listed', async () => {
  const records = [{ ssn: 'plain' }, { ssn: 5 }, { ssn: { a: 1 } }, { ssn: [true] }, { ssn: null }, {}]
  const tail = '0'.repeat(32)
  const nearly = ['', '0_', '01_', '99999999999_', '-1_', '1_0'].map((epoch) => `tok_${epoch}${tail}`)
  const others = [...records, { tags: [...nearly, 'tok_1_', `Tok_1_${tail}`, `tok_1_${tail.slice(1)}u`] }]
  const answer = await vault.post('/detokenize', { records: others })
  assert.deepEqual(answer.json, { records: others, not_found: [] })
})

test('not_found is always there', async () => {
  const token = await vault.token('there')
  assert.deepEqual((await vault.post('/detokenize', { tokens: [token] })).json.not_found, [])
  assert.deepEqual((await vault.post('/detokenize', { records: [{ ssn: token }] })).json.not_found, [])
  assert.deepEqual((await vault.post('/retokenize', { tokens: [token] })).json.not_found, [])
})

test('a token written with escapes is the same token', async () => {
  const token = await vault.token('escaped token')
  const escaped = token.replace('tok', '\\u0074o\\u006B')
  const one = await vault.post('/detokenize', `{"token":"${escaped}"}`)
  assert.equal(one.text, '{"value":"escaped token"}')
  const records = await vault.post('/detokenize', `{"records":[{"ssn":"${escaped}"}]}`)
  assert.equal(records.text, '{"records":[{"ssn":"escaped token"}],"not_found":[]}')
})

test('types: equal values of other types are other values', async () => {
  const different = [17, '17', true, 'true', false, 'false', 'null', '', 0, '0', '-0', 1, 'é', 'e\u0301']
  assert.equal(new Set(await vault.tokens(different)).size, different.length)
})

test('types: one number has many spellings and one token', async () => {
  for (const spellings of [
    ['1', '1.0', '1e0', '10e-1', '0.1E+1'],
    ['0', '-0', '0.0', '-0.0', '0e5', '1e-400', '-1e-400'],
    ['0.1', '1e-1', '0.10', '0.1000000000000000055511151231257827'],
    ['9007199254740991', '9007199254740991.0', '9007199254740991e0'],
  ]) {
    const { json } = await vault.post('/tokenize', `{"values":[${spellings}]}`)
    assert.equal(new Set(json.tokens as string[]).size, 1, String(spellings))
  }
})

test('types: the JSON type survives, numbers in the form of RFC 8785', async () => {
  for (const [sent, back] of [
    ['17', '17'],
    ['"17"', '"17"'],
    ['true', 'true'],
    ['false', 'false'],
    ['"true"', '"true"'],
    ['1.50', '1.5'],
    ['-0', '0'],
    ['1e-7', '1e-7'],
    ['0.000001', '0.000001'],
    ['5e-324', '5e-324'],
    ['333333333.33333329', '333333333.3333333'],
    ['-9007199254740991', '-9007199254740991'],
    ['123456789012345e-30', '1.23456789012345e-16'],
  ]) {
    assert.equal(await roundTrip(sent), back)
  }
})

test('strings come back as they were, whatever is in them', async () => {
  const texts = [
    '',
    ' ',
    '\0',
    '"\\/\b\f\n\r\t\u001f\u007f',
    '\u2028\u2029\ufeff',
    '\ufffe\uffff',
    'Zoë 漢字 🩺 \u{10ffff}',
    'tok_1_',
    '{"a":1}',
    'x'.repeat(10_000),
    '\u0001'.repeat(10_000),
  ]
  for (const text of texts) assert.equal(JSON.parse(await roundTrip(JSON.stringify(text))), text)
  assert.deepEqual(await vault.values(await vault.tokens(texts)), texts)
})

test('one string has many spellings and one token', async () => {
  const spellings = ['"A/é🩺"', '"\\u0041/é🩺"', '"A\\/\\u00E9🩺"', '"A/\\u00e9\\uD83E\\uDE7A"']
  const { json } = await vault.post('/tokenize', `{"values":[${spellings}]}`)
  assert.equal(new Set(json.tokens as string[]).size, 1)
})

test('one value has one token, in whichever form, field, request and spelling', async () => {
  const token = await vault.token('same everywhere')
  const { json } = await vault.post('/tokenize', {
    records: [
      { ssn: 'same everywhere', patient: { mrn: 'same everywhere' } },
      { contacts: [{ phone: 'same everywhere' }], tags: ['same everywhere'] },
    ],
  })
  assert.deepEqual(json.records, [
    { ssn: token, patient: { mrn: token } },
    { contacts: [{ phone: token }], tags: [token] },
  ])
  assert.equal((await vault.post('/tokenize', gzip({ values: ['same everywhere'] }), GZIP)).status, 200)
  assert.equal(await vault.token('same everywhere'), token)
})

const GZIP = { 'content-encoding': 'gzip' }

function gzip(body: Record<string, unknown>): Buffer {
  return gzipSync(JSON.stringify(body))
}

test('a gzip body is the body', async () => {
  const plain = await vault.post('/tokenize', { values: ['zipped'] })
  for (const headers of [GZIP, { 'content-encoding': 'GZIP' }]) {
    assert.equal((await vault.post('/tokenize', gzip({ values: ['zipped'] }), headers)).text, plain.text)
  }
})

test('the answer does not tell a new token from one already there', async () => {
  const first = await vault.post('/tokenize', { values: ['new or not'] })
  const second = await vault.post('/tokenize', { values: ['new or not'] })
  assert.deepEqual(visible(first), visible(second))
})

test('duplicates in a request cost nothing: one mapping', async () => {
  const before = await vault.count()
  const tokens = await vault.tokens(Array(1000).fill('a thousand times'))
  assert.equal(new Set(tokens).size, 1)
  assert.equal(await vault.count(), before + 1)
})

test('what is not configured comes back byte for byte', async () => {
  await replaces(
    `[{"z":1.50,"ssn":"s","id":12345678901234567890,"e":1E+2,"neg":-0.0,
       "big":1e400,"esc":"\\u0041\\/\\ud83e\\uDE7A\\ud800","__proto__":{"x":1},"constructor":null,"":"",
       "10":0,"2":1,"a b":[ ],"o":{ },"n":[1, 2 ,3],"long":0.1000000000000000055511151231257827}]`,
    `[{"z":1.50,"ssn":<"s">,"id":12345678901234567890,"e":1E+2,"neg":-0.0,
       "big":1e400,"esc":"\\u0041\\/\\ud83e\\uDE7A\\ud800","__proto__":{"x":1},"constructor":null,"":"",
       "10":0,"2":1,"a b":[ ],"o":{ },"n":[1, 2 ,3],"long":0.1000000000000000055511151231257827}]`,
    1,
  )
})

test('white space of every kind, in the body and in records', async () => {
  const spaced = '\r\n\t {\n"records"\t:\r[ {"ssn" :\n"w" , "a":\t[ 1 ,2 ] }\n,\r{ } ]\n}\n\n'
  const answer = await vault.post('/tokenize', spaced)
  const token = await vault.token('w')
  assert.equal(tight(answer.text), `{"epoch":1,"records":[{"ssn":"${token}","a":[1,2]},{}],"replaced":1}`)
})

test('a name is the same name however it is written', async () => {
  await replaces('[{"\\u0073sn":"esc"}]', '[{"\\u0073sn":<"esc">}]', 1)
  await replaces('[{"stra\\u00dfe":{"\\u540d":"u"}}]', '[{"stra\\u00dfe":{"\\u540d":<"u">}}]', 1)
})

test('nulls in fields stay and are not counted', async () => {
  await replaces('[{"ssn":null,"tags":[null,"t",null]}]', '[{"ssn":null,"tags":[null,<"t">,null]}]', 1)
})

test('`[]` is every element, also in another list', async () => {
  await replaces(
    '[{"contacts":[{"phone":"1"},{"x":1},{"phone":2}],"grid":[["a"],[],["b","c"]],"tags":[]}]',
    '[{"contacts":[{"phone":<"1">},{"x":1},{"phone":<2>}],"grid":[[<"a">],[],[<"b">,<"c">]],"tags":[]}]',
    5,
  )
  await replaces(
    '[{"visits":[{"notes":[{"text":"n1"},{"text":"n2"}]},{"notes":[]}]}]',
    '[{"visits":[{"notes":[{"text":<"n1">},{"text":<"n2">}]},{"notes":[]}]}]',
    2,
  )
})

test('a path that does not fit a record matches nothing there', async () => {
  for (const record of [
    '{}',
    '{"SSN":"x","Ssn":"x","ssn ":"x"}',
    '{"patient":"x"}',
    '{"patient":[{"mrn":"x"}]}',
    '{"patient":null}',
    '{"contacts":{"phone":"x"}}',
    '{"contacts":["x",["x"],{"phones":"x"}]}',
    '{"tags":"x"}',
    '{"tags":{"0":"x"}}',
    '{"grid":["x",{"a":"x"}]}',
    '{"patient.mrn":"x","contacts[].phone":"x","tags[]":"x"}',
    '{"inner":{"ssn":"x"},"list":[{"ssn":"x"}]}',
    '{"owner_id":"clinic-b","owner":"x"}',
  ]) {
    await replaces(`[${record}]`, `[${record}]`, 0)
  }
})

test('empty lists are fine', async () => {
  const token = async (path: string, body: string) => (await vault.post(path, body)).text
  assert.equal(await token('/tokenize', '{"records":[]}'), '{"epoch":1,"records":[],"replaced":0}')
  assert.equal(await token('/tokenize', '{"records":[{}]}'), '{"epoch":1,"records":[{}],"replaced":0}')
  assert.equal(await token('/tokenize', '{"values":[]}'), '{"epoch":1,"tokens":[]}')
  assert.equal(await token('/detokenize', '{"tokens":[]}'), '{"values":[],"not_found":[]}')
  assert.equal(await token('/detokenize', '{"records":[]}'), '{"records":[],"not_found":[]}')
  assert.equal(await token('/retokenize', '{"tokens":[]}'), '{"epoch":1,"tokens":[],"not_found":[]}')
})

test('only nulls are fine', async () => {
  const before = await vault.count()
  assert.deepEqual((await vault.post('/tokenize', { values: [null, null] })).json.tokens, [null, null])
  assert.deepEqual((await vault.post('/detokenize', { tokens: [null] })).json, {
    values: [null],
    not_found: [],
  })
  assert.equal(await vault.count(), before)
})

test('a token of the caller is not tokenized again, and nothing of the request is stored', async () => {
  const token = await vault.token('once')
  const before = await vault.count()
  for (const allow of [undefined, false]) {
    const values = { values: ['fresh', null, token], allow_tokens: allow }
    await refused(vault.post('/tokenize', values), 422, 'already-a-token', 'values[2]')
    const records = { records: [{ ssn: 'fresh' }, { contacts: [{}, { phone: token }] }], allow_tokens: allow }
    await refused(vault.post('/tokenize', records), 422, 'already-a-token', 'records[1].contacts[1].phone')
  }
  const escaped = `{"values":["${token.replace('tok', '\\u0074ok')}"]}`
  await refused(vault.post('/tokenize', escaped), 422, 'already-a-token', 'values[0]')
  assert.equal(await vault.count(), before)
  // Where it is not a configured field it is data.
  assert.equal((await vault.post('/tokenize', { records: [{ free: token }] })).status, 200)
})

test('allow_tokens: a token is a string like any other', async () => {
  const token = await vault.token('inner')
  const { json } = await vault.post('/tokenize', { allow_tokens: true, values: [token] })
  const [outer] = json.tokens as string[]
  assert.notEqual(outer, token)
  assert.deepEqual(await vault.values([outer]), [token])
})

test('what only looks like a token, or is one of another owner, is a string like any other', async () => {
  const foreign = await vault.token('b has it', KEY_B)
  const strings = [foreign, FORGED, foreign.toUpperCase(), `${foreign} `, 'tok_7_'.padEnd(38, '0')]
  assert.deepEqual(await vault.values(await vault.tokens(strings)), strings)
})

test('owners: the same value has another token', async () => {
  const mine = await vault.token('shared value')
  const theirs = await vault.token('shared value', KEY_B)
  assert.notEqual(mine, theirs)
  assert.deepEqual(await vault.values([mine, theirs]), ['shared value', null])
  assert.deepEqual(await vault.values([mine, theirs], KEY_B), [null, 'shared value'])
})

test('not found is one answer: foreign, forged, malformed, never issued', async () => {
  const foreign = await vault.token('not yours', KEY_B)
  const mine = await vault.token('mine')
  const flip = (at: number) => mine.slice(0, at) + (mine[at] === 'z' ? 'y' : 'z') + mine.slice(at + 1)
  const absent = [foreign, FORGED, flip(10), flip(37), mine.replace('tok_1_', 'tok_2_'), '', 'x', `${mine}0`]
  const answers = []
  for (const token of absent) answers.push(visible(await vault.post('/detokenize', { token })))
  for (const answer of answers) assert.deepEqual(answer, answers[0])
  const first = await refused(vault.post('/detokenize', { token: foreign }), 404, 'not-found')
  assert.deepEqual(Object.keys(first.json), ['type', 'title', 'status', 'detail', 'instance'])
  const listed = await vault.post('/detokenize', { tokens: absent })
  assert.deepEqual(listed.json, { values: absent.map(() => null), not_found: absent.map((_, i) => i) })
})

test('retokenize: nothing found still names the epoch', async () => {
  const foreign = await vault.token('theirs', KEY_B)
  const answer = await vault.post('/retokenize', { tokens: [null, foreign, FORGED, ''] })
  assert.equal(answer.text, '{"epoch":1,"tokens":[null,null,null,null],"not_found":[1,2,3]}')
})

test('rotate-epoch: one step, the safe retry, and conflicts', async () => {
  await using own = await Vault.start()
  const to = (value: unknown) => own.post('/rotate-epoch', `{"to":${value}}`)
  assert.equal((await to(1)).text, '{"epoch":1,"rotated":false}')
  assert.equal((await to(2)).text, '{"epoch":2,"rotated":true}')
  assert.equal((await to(2)).text, '{"epoch":2,"rotated":false}')
  for (const other of [1, 4, 100, '9007199254740991', '9007199254740993', '1e300']) {
    const conflict = await refused(to(other), 409, 'epoch-conflict')
    assert.equal(conflict.json.epoch, 2)
  }
  for (const bad of ['0', '-1', '1.5', '"3"', 'null', 'true', '[3]', '{}', '-0']) {
    await refused(to(bad), 400, 'invalid-request', 'to')
  }
  assert.equal((await own.get('/epochs')).json.active, 2)
  // A number is its value, not its spelling.
  assert.equal((await to('3.0')).text, '{"epoch":3,"rotated":true}')
  // Of the caller only.
  assert.equal((await own.get('/epochs', bearer(KEY_B))).json.active, 1)
})

test('epochs: members, times, and exact counts', async () => {
  await using own = await Vault.start()
  const started = Date.now()
  await own.tokens(['a', 'b', 'a', null, 1, '1'])
  await own.tokens(['a', 'c'])
  await own.post('/rotate-epoch', { to: 2 })
  await own.tokens(['a'])
  await own.tokens(['x'], KEY_B)
  await own.post('/rotate-epoch', { to: 3 })
  const { json } = await own.get('/epochs')
  assert.deepEqual(Object.keys(json), ['active', 'epochs'])
  const epochs = json.epochs as Record<string, unknown>[]
  assert.equal(json.active, 3)
  assert.deepEqual(
    epochs.map(({ epoch, tokens }) => [epoch, tokens]),
    [
      [1, 5],
      [2, 1],
      [3, 0],
    ],
  )
  for (const [i, epoch] of epochs.entries()) {
    assert.deepEqual(Object.keys(epoch), ['epoch', 'opened_at', 'closed_at', 'tokens'])
    assert.match(String(epoch.opened_at), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.ok(Math.abs(Date.parse(String(epoch.opened_at)) - started) < 60_000)
    assert.equal(epoch.closed_at, epochs[i + 1]?.opened_at ?? null)
  }
})

test('epochs: counts are exact when many requests bring the same values at once', async () => {
  await using own = await Vault.start()
  const lists = Array.from({ length: 20 }, (_, n) => Array.from({ length: 100 }, (_, i) => `v${i + n * 10}`))
  const answers = await Promise.all(lists.map((list) => own.tokens(list)))
  const byValue = new Map<string, string>()
  for (const [n, list] of lists.entries()) {
    for (const [i, value] of list.entries()) {
      assert.equal(byValue.get(value) ?? answers[n][i], answers[n][i])
      byValue.set(value, answers[n][i])
    }
  }
  assert.equal(await own.count(), byValue.size)
  assert.equal(byValue.size, 290)
})

test('over epochs: old tokens stay, new ones differ, retokenize leads from one to the other', async () => {
  await using own = await Vault.start({ fields: FIELDS })
  const [a1, b1] = await own.tokens(['a', 1])
  await own.post('/rotate-epoch', { to: 2 })
  const [a2] = await own.tokens(['a'])
  assert.match(a2, /^tok_2_/)
  assert.deepEqual(await own.values([a2, a1, b1, a2, a1]), ['a', 'a', 1, 'a', 'a'])
  const mixed = await own.post('/detokenize', { records: [{ ssn: b1, tags: [a2, a1] }] })
  assert.deepEqual(mixed.json.records, [{ ssn: 1, tags: ['a', 'a'] }])

  const again = await own.post('/retokenize', { tokens: [b1, null, FORGED, a1, a2, a1] })
  const tokens = again.json.tokens as string[]
  assert.deepEqual(again.json, { epoch: 2, tokens: [tokens[0], null, null, a2, a2, a2], not_found: [2] })
  assert.match(tokens[0], /^tok_2_/)
  assert.equal(tokens[0], await own.token(1))
  assert.ok(!again.text.includes('"a"'))
  // A token of a closed epoch is a token of the caller too.
  await refused(own.post('/tokenize', { values: [a1] }), 422, 'already-a-token', 'values[0]')
})

test('a request has one epoch, also while epochs are rotated, and none from before it', async () => {
  await using own = await Vault.start()
  let acknowledged = 1
  const rotations = (async () => {
    for (let to = 2; to <= 10; to++) {
      await own.post('/rotate-epoch', { to })
      acknowledged = to
    }
  })()
  const requests = Array.from({ length: 8 }, async (_, worker) => {
    for (let n = 0; acknowledged < 10; n++) {
      const least = acknowledged
      const values = Array.from({ length: 20 }, (_, i) => (i % 2 ? `w${worker}-${n}-${i}` : `common-${i}`))
      const { json } = await own.post('/tokenize', { values })
      const epoch = Number(json.epoch)
      assert.ok(epoch >= least, `epoch ${epoch} after the rotation to ${least}`)
      for (const token of json.tokens as string[]) assert.ok(token.startsWith(`tok_${epoch}_`))
      assert.deepEqual(await own.values(json.tokens as string[]), values)
    }
  })
  await Promise.all([rotations, ...requests])
})

test('rotations at once: each epoch is opened once', async () => {
  await using own = await Vault.start()
  const answers = await Promise.all(Array.from({ length: 10 }, () => own.post('/rotate-epoch', { to: 2 })))
  for (const answer of answers) assert.deepEqual([answer.status, answer.json.epoch], [200, 2])
  assert.equal(answers.filter(({ json }) => json.rotated === true).length, 1)
})

test('after a restart: the same tokens, values and counts', async () => {
  const first = await Vault.start()
  const values = ['kept', 5, false, 'é'.repeat(1000)]
  const tokens = await first.tokens(values)
  const epochs = (await first.get('/epochs')).text
  await first.stop()
  await using second = await Vault.start({}, first.dir)
  assert.deepEqual(await second.values(tokens), values)
  assert.deepEqual(await second.tokens(values), tokens)
  assert.equal((await second.get('/epochs')).text, epochs)
})

test('what was asked for, found and missed is counted without nulls', async () => {
  await using own = await Vault.start({ fields: ['ssn'] })
  const token = await own.token('counted')
  await own.post('/detokenize', { tokens: [token, null, FORGED, token] })
  await own.post('/detokenize', {
    records: [{ ssn: token }, { ssn: 'no token' }, { ssn: null }, { ssn: FORGED }],
  })
  await own.post('/retokenize', { tokens: [null, token, FORGED] })
  assert.equal(await own.metric('coffer_tokens_resolved_total'), 3)
  assert.equal(await own.metric('coffer_tokens_missing_total'), 3)
  assert.equal(await own.metric('coffer_tokens_issued_total'), 2)
})
