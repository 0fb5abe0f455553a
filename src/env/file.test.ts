// .env files: values out, references in, and back. The parsers that judge are Node's and dotenv's own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseEnv } from 'node:util'
import { parse as parseDotenv } from 'dotenv'
import { type Random, seeded } from '../../test/sim/seed.ts'
import { OperatorError } from '../errors.ts'
import { SECRET_VALUE_BYTES, SECRETS_A_REQUEST } from '../wire.ts'
import { expand as expandEnv } from './expand.ts'
import { readEnvFile } from './file.ts'
import { replaceValues } from './replace.ts'

const PREFIX = 'p/'

type Values = Readonly<Record<string, string | undefined>>

/** What both parsers read; fails where they differ. */
function read(text: string): Values {
  const byNode = { ...parseEnv(text) }
  assert.deepEqual({ ...parseDotenv(text) }, byNode)
  return byNode
}

function encrypt(text: string, prefix = PREFIX): { text: string; secrets: Record<string, string> } {
  const { text: encrypted, secrets } = replaceValues(readEnvFile(Buffer.from(text), '.env'), prefix)
  return { text: encrypted, secrets: Object.fromEntries(secrets.map(({ name, value }) => [name, value])) }
}

function expand(text: string, secrets: Values): string {
  const references = Object.entries(secrets).map(
    ([name, value]) => [`coffer://${name}`, value ?? ''] as const,
  )
  const env = readEnvFile(Buffer.from(text), '.env')
  env.faults.throwIfAny()
  return expandEnv(env, new Map(references), 'node').text
}

/** What the refusal tells. */
function told(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof OperatorError, String(error))
    return error.message
  }
  assert.fail('it was taken')
}

/** The lines that a refusal names. */
function lines(text: string | Buffer, prefix = PREFIX): number[] {
  const message = told(() => replaceValues(readEnvFile(Buffer.from(text), '.env'), prefix))
  return [...message.matchAll(/^\.env:(\d+): /gm)].map((match) => Number(match[1]))
}

/** There and back: the values are the same, and only they have changed. Returns the encrypted text. */
function roundTrip(text: string): string {
  const values = read(text)
  const { text: encrypted, secrets } = encrypt(text)
  assert.deepEqual(
    read(encrypted),
    Object.fromEntries(Object.keys(values).map((key) => [key, `coffer://p/${key}`])),
  )
  assert.deepEqual(
    secrets,
    Object.fromEntries(Object.entries(values).map(([key, value]) => [PREFIX + key, value])),
  )
  assert.deepEqual(encrypt(encrypted), { text: encrypted, secrets: {} }, 'once more changes nothing')
  assert.deepEqual(read(expand(encrypted, secrets)), values)
  return encrypted
}

const PEM = ['-----BEGIN PRIVATE KEY-----', 'MIIEvQIBADANBg+kq/hkiG9w==', '-----END PRIVATE KEY-----']

/** As they are found in projects, with what they become. */
const FOUND: readonly (readonly [name: string, text: string, encrypted: string])[] = [
  [
    'Rails',
    'RAILS_ENV=production\nSECRET_KEY_BASE=0a1b2c\nDATABASE_URL=postgres://u:p@db/app?pool=5\n',
    'RAILS_ENV=coffer://p/RAILS_ENV\nSECRET_KEY_BASE=coffer://p/SECRET_KEY_BASE\nDATABASE_URL=coffer://p/DATABASE_URL\n',
  ],
  [
    'Django: a key of all characters',
    "DEBUG=False\nSECRET_KEY='django-insecure-=x$9(#k&^q!'\nALLOWED_HOSTS=.a.org,b.org",
    "DEBUG=coffer://p/DEBUG\nSECRET_KEY='coffer://p/SECRET_KEY'\nALLOWED_HOSTS=coffer://p/ALLOWED_HOSTS",
  ],
  [
    'Laravel: empty values, and names of others in them',
    'APP_KEY=base64:Zm9v=\nAPP_DEBUG=\n\nMAIL_FROM="hi@a.org"\nMAIL_NAME="$APP_NAME & co"\nREDIS_PASSWORD=null\n',
    'APP_KEY=coffer://p/APP_KEY\nAPP_DEBUG=coffer://p/APP_DEBUG\n\nMAIL_FROM="coffer://p/MAIL_FROM"\nMAIL_NAME="coffer://p/MAIL_NAME"\nREDIS_PASSWORD=coffer://p/REDIS_PASSWORD\n',
  ],
  [
    'Next.js: comments after values',
    'NEXT_PUBLIC_URL=https://a.org # shown\nAPI_KEY="k#1" # not shown\nEMPTY=   # nothing yet\n',
    'NEXT_PUBLIC_URL=coffer://p/NEXT_PUBLIC_URL # shown\nAPI_KEY="coffer://p/API_KEY" # not shown\nEMPTY=coffer://p/EMPTY   # nothing yet\n',
  ],
  [
    'docker compose: names that the shell gives, CRLF',
    'HOME\r\nTAG=v1.5\r\n# ports\r\nPORT = 80:80 \r\n',
    'HOME\r\nTAG=coffer://p/TAG\r\n# ports\r\nPORT = coffer://p/PORT \r\n',
  ],
  [
    'a key in PEM, over lines and in one',
    `KEY="${PEM.join('\n')}"\nONE="${PEM.join('\\n')}"\n`,
    'KEY="coffer://p/KEY"\nONE="coffer://p/ONE"\n',
  ],
  [
    'a key in PEM, over lines that end as on Windows',
    `KEY='${PEM.join('\r\n')}'\r\nNEXT=1\r\n`,
    "KEY='coffer://p/KEY'\r\nNEXT=coffer://p/NEXT\r\n",
  ],
  [
    'JSON in single quotes',
    'ACCOUNT=\'{"type":"sa","key":"a\\nb","n":[1,2]}\'\nMORE=`{"it\'s": "\\"x\\""}`\n',
    "ACCOUNT='coffer://p/ACCOUNT'\nMORE=`coffer://p/MORE`\n",
  ],
  [
    'connection strings',
    `MONGO=mongodb+srv://u:p%40s$w@c.net/db?retryWrites=true&w=majority\nSQL="Server=a;Password=x#y;"\nAMQP='amqp://u:p#w@h/%2f'\n`,
    'MONGO=coffer://p/MONGO\nSQL="coffer://p/SQL"\nAMQP=\'coffer://p/AMQP\'\n',
  ],
  [
    'exported for a shell',
    'export AWS_ACCESS_KEY_ID=AKIA\nexport  AWS_SECRET_ACCESS_KEY="a/b+c="\n  export REGION=eu-1\nexport PATH_ONLY\n',
    'export AWS_ACCESS_KEY_ID=coffer://p/AWS_ACCESS_KEY_ID\nexport  AWS_SECRET_ACCESS_KEY="coffer://p/AWS_SECRET_ACCESS_KEY"\n  export REGION=coffer://p/REGION\nexport PATH_ONLY\n',
  ],
  [
    'sections, dots and dashes, all quotes',
    "#=== db ===#\ndb.host=localhost\ndb-port=5432\n\n\t# === mail ===\nMail_Subject=`He said \"it's\"`\nSIGN='--\n me'   \n",
    "#=== db ===#\ndb.host=coffer://p/db.host\ndb-port=coffer://p/db-port\n\n\t# === mail ===\nMail_Subject=`coffer://p/Mail_Subject`\nSIGN='coffer://p/SIGN'   \n",
  ],
  [
    'blanks about the sign, values that only look like quotes',
    'A = b\nC\t=\td e f\nD=it\'s\nE=x"y"\nF=""\nG=\'\'\nH=a\\nb\n',
    'A = coffer://p/A\nC\t=\tcoffer://p/C\nD=coffer://p/D\nE=coffer://p/E\nF="coffer://p/F"\nG=\'coffer://p/G\'\nH=coffer://p/H\n',
  ],
  ['nothing at all', '', ''],
  ['only comments', '# A=1\n\n  #', '# A=1\n\n  #'],
]

for (const [name, text, encrypted] of FOUND) {
  test(`there and back: ${name}`, () => assert.equal(roundTrip(text), encrypted))
}

test('references that are there stay, with their versions, and expand', () => {
  const text = 'A=coffer://x/a@3 # pinned\nB="coffer://x/b"\nC=new\n'
  const { text: encrypted, secrets } = encrypt(text)
  assert.equal(encrypted, text.replace('new', 'coffer://p/C'))
  assert.deepEqual(secrets, { 'p/C': 'new' })
  const expanded = expand(encrypted, { 'x/a@3': 'one', 'x/b': 'two', ...secrets })
  assert.equal(expanded, 'A=one # pinned\nB="two"\nC=new\n')
})

test('what is refused, with all its lines', () => {
  const cases: readonly (readonly [what: string, text: string | Buffer, expected: readonly number[]])[] = [
    ['a key twice', 'A=1\nB=2\nexport A=3\n A = 4\n', [1, 3, 4]],
    ['an unclosed quote', 'A="x\nB=1\nC=`y', [1, 3]],
    ['an unclosed quote before another', "A='x\nB='y'\n", [1]],
    ['text behind the quotes', "A=\"x\"y\nB=1\nC='it's'\n", [1, 3]],
    ['an escaped quote', 'A=1\nB="a\\"b"\n', [2]],
    [
      'no reference',
      'A=coffer://\nB="coffer://a/../b"\nC=coffer://a@0\nD=coffer://a@x\nE=coffer://a\n',
      [1, 2, 3, 4],
    ],
    ['no line of such a file', 'A=-----BEGIN\nMIIEvQIB\nAoIBAQC7+/x\n-----END\nB: c\n=d\n', [2, 3, 4, 5, 6]],
    ['an empty value that Node takes the next line for', 'A= \nB=1\n', [1]],
    ['an exported empty value, whose key Node takes otherwise', 'A=1\nexport B=\n', [2]],
    ['\\r in double quotes', 'A=1\nB="a\\r\\nb"\n', [2]],
    ['a tab behind export', 'A=1\nexport\tB=1\n', [2]],
    ['a byte order mark', '\ufeffA=1\n', [1]],
    ['a carriage return for a line break', 'A=1\nB=2\rC=3\n', [2]],
    ['an entry that only dotenv sees', '# one\n# two\rA=1\n', [2]],
    ['a key that is no property', '__proto__=x\nA=1', [1]],
    ['not UTF-8', Buffer.from('A=1\nB=\xe9\n\nC=\xff', 'latin1'), [2, 4]],
    [
      'a value too long',
      `A=1\nB=${'é'.repeat(SECRET_VALUE_BYTES / 2)}\nC="${'x'.repeat(SECRET_VALUE_BYTES + 1)}"\n`,
      [3],
    ],
    ['too much', Array.from({ length: 8 }, (_, i) => `K${i}=${'x'.repeat(60_000)}`).join('\n'), [7]],
    ['a # without a blank before', 'A=ab#1\nB="ab"#cd\nC=#ab\nD=ab #1\nE= # x\nF="a#b"#\n', [1, 2, 3, 6]],
    ['several things', 'A=1\nB="x"y\nC=coffer://\nA=2\nD="a\\"b"\n', [1, 2, 3, 4, 5]],
  ]
  for (const [what, text, expected] of cases) assert.deepEqual(lines(text), expected, what)
  assert.deepEqual(lines('A=1\n.=2\n..=3\nB.=4\n', ''), [2, 3], 'keys that are no names')
  assert.deepEqual(lines(`A=1\n${'B'.repeat(255)}=2\n`), [2], 'a name too long')
})

test('more values than one request takes', () => {
  const text = (count: number): string => Array.from({ length: count }, (_, i) => `K${i}=${i}\n`).join('')
  const most = text(SECRETS_A_REQUEST)
  assert.equal(Object.keys(encrypt(`R=coffer://r\n${most}`).secrets).length, SECRETS_A_REQUEST)
  assert.deepEqual(lines(text(SECRETS_A_REQUEST + 20)), [SECRETS_A_REQUEST + 1])
  assert.match(
    told(() => encrypt(text(SECRETS_A_REQUEST + 20))),
    /the lines 501 to 520/,
  )
})

test('a refusal repeats no value', () => {
  const canary = 'c4n4ry'
  const text = `A="${canary}"x\nB=coffer://${canary}@x\n${canary}+/x\nA="${canary}\\"${canary}"\nC='${canary}\n`
  const message = told(() => encrypt(text))
  assert.ok(!message.includes(canary), message)
})

test('values in quotes that both parsers read as they are', () => {
  const cases: readonly (readonly [line: string, value: string, expected: string])[] = [
    ['A=coffer://a', 'plain', 'A=plain'],
    ['A=coffer://a', 'two words', "A='two words'"],
    ['A=coffer://a # why', 'a#b', "A='a#b' # why"],
    ['A=coffer://a', " it's ", 'A=" it\'s "'],
    ['A=coffer://a', ` "it's" `, `A=\` "it's" \``],
    ['A="coffer://a" # why', 'say "x"', 'A=\'say "x"\' # why'],
    ['A="coffer://a"', 'a\\nb', "A='a\\nb'"],
    ["A='coffer://a'", "it's", 'A="it\'s"'],
    ['A=coffer://a', 'a\nb', "A='a\nb'"],
    ['A="coffer://a"\r\nB=1\r\n', 'a\nb', 'A="a\nb"\r\nB=1\r\n'],
    ['A=coffer://a', '', 'A='],
    ['A=coffer://a \nB=1', '', "A='' \nB=1"],
    ['A=coffer://a', '\ttab', "A='\ttab'"],
    ['A=coffer://a', '$(x) $y $$ $&', "A='$(x) $y $$ $&'"],
    ['A=coffer://a', 'x; echo $(id)', "A='x; echo $(id)'"],
    ['A=coffer://a', `it's`, `A="it's"`],
    ['A=plain; echo $(id) # why', '', "A='plain; echo $(id)' # why"],
    // dotenv takes \' for no end of the quotes, where it finds another one.
    ["A='coffer://a'\nB='# y'", ' x\\', 'A=" x\\"\nB=\'# y\''],
    ["A='coffer://a'\n# it's", ' x\\', "A=' x\\'\n# it's"],
  ]
  for (const [line, value, expected] of cases) {
    const expanded = expand(line, { a: value })
    assert.equal(read(expanded).A, line.startsWith('A=plain') ? 'plain; echo $(id)' : value, line)
    assert.equal(expanded, expected)
  }
  for (const value of ['a\rb', `'"\``, '"a\\nb\'`']) {
    const message = told(() => expand('B=1\nA=coffer://a\n', { a: value }))
    assert.match(message, /^\.env:2: .*\bA\b/m)
    assert.ok(!message.includes(value))
  }
})

/** A file, as it is, and as it is to be when it is encrypted. */
type Made = { text: string; encrypted: string; keys: string[]; glued: boolean }

const CHARS = [
  'a',
  'B',
  '7',
  '#',
  '$',
  '=',
  ' ',
  '\t',
  '\\',
  '\\n',
  '\\r',
  '"',
  "'",
  '`',
  '\n',
  '\r',
  'é',
  '😀',
  ':',
  ';',
  '$A',
]

function content(random: Random, without: readonly string[]): string {
  const chars = CHARS.filter((char) => !without.some((each) => char.includes(each)))
  return Array.from({ length: random.below(9) }, () => random.pick(chars)).join('')
}

function makeLine(random: Random, made: Made, line: string): void {
  const quote = random.pick(['', '', "'", '"', '`'])
  const inside = random.chance(0.1)
    ? random.pick(['coffer://there/x', 'coffer://there/x@2'])
    : content(random, quote === '' ? ['\n', '\r', '#'] : [quote])
  const value = quote === '' ? inside.trim().replace(/^['"`]+/, 'v') : inside
  const key =
    random.pick(['A', 'Db_Url', 'db.host', 'x-y', '_z', '9', 'export', 'constructor']) + made.keys.length
  const blank = (): string => random.pick(['', '', '', ' ', '  ', '\t'])
  const sign = `${blank()}=`
  const before = value === '' && quote === '' ? '' : blank()
  const head = random.pick(['', '', '\t', 'export ', ' export  ']) + key + sign + before
  const comment = random.chance(0.3) ? `#${content(random, ['\n', '\r'])}` : ''
  const gap = comment === '' || random.chance(0.03) ? '' : random.pick([' ', '  ', '\t'])
  const tail = (comment === '' && !(value === '' && quote === '') ? blank() : gap) + comment + line
  const reference = value.startsWith('coffer://') ? value : `coffer://${PREFIX}${key}`
  const text = head + quote + value + quote + tail
  // What the parsers read differently by itself would only be refused.
  if (parseEnv(text)[key] !== parseDotenv(text)[key]) return
  made.keys.push(key)
  made.glued ||= tail.startsWith('#')
  made.text += text
  made.encrypted += head + quote + reference + quote + tail
}

function make(random: Random): Made {
  const made: Made = { text: '', encrypted: '', keys: [], glued: false }
  const windows = random.chance(0.3)
  for (let count = random.below(12); count > 0; count--) {
    const line = count === 1 && random.chance(0.5) ? '' : windows ? '\r\n' : '\n'
    if (random.chance(0.7)) {
      makeLine(random, made, line)
      continue
    }
    const other =
      random.pick(['', ' ', '\t', 'NAME', 'export NAME', `# ${content(random, ['\n', '\r'])}`, '#\r']) + line
    made.text += other
    made.encrypted += other
  }
  return made
}

/** undefined where the parsers differ. */
function agreed(text: string): Values | undefined {
  try {
    return read(text)
  } catch {
    return undefined
  }
}

/** undefined where a value that ends in a backslash would be read on to a quote of a later value. */
function expandUnlessRefused(text: string, secrets: Values): string | undefined {
  try {
    return expand(text, secrets)
  } catch (error) {
    assert.match(String(error), /no quotes let both Node and dotenv read the value/)
    return undefined
  }
}

test('there and back: any file', (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const there: Values = { 'there/x': "it's\n#2 $A", 'there/x@2': '' }
  const resolved = (value = ''): string | undefined =>
    value.startsWith('coffer://') ? there[value.slice('coffer://'.length)] : value
  const taken = { files: 0, values: 0, refused: 0 }
  for (let run = 0; run < 2_000; run++) {
    const { text, encrypted, keys, glued } = make(random)
    const which = `COFFER_SEED=${random.seed}, run ${run}: ${JSON.stringify(text)}`
    const values = agreed(text)
    if (values === undefined || glued) {
      assert.ok(lines(text).length > 0, which)
      continue
    }
    const result = encrypt(text)
    assert.equal(result.text, encrypted, which)
    assert.deepEqual(Object.keys(values).sort(), keys.sort(), which)
    const expected = Object.entries(values).map(([key, value]) => [key, resolved(value)])
    const expanded = expandUnlessRefused(encrypted, { ...there, ...result.secrets })
    if (expanded === undefined) taken.refused++
    else assert.deepEqual(read(expanded), Object.fromEntries(expected), which)
    assert.deepEqual(encrypt(encrypted), { text: encrypted, secrets: {} }, which)
    taken.files++
    taken.values += Object.keys(result.secrets).length
  }
  assert.ok(taken.files >= 200 && taken.values >= 500 && taken.refused <= 5, JSON.stringify(taken))
})
