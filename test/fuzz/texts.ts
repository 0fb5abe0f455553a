// Texts that are read: names, references, instants, tokens, values, `If-Match`, `.env` files, CSV and JSON. Each is read as
// a second reader here reads it, or refused by a typed error.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { fromCanonical, unpaddedLength, Values } from '../../src/crypto/canonical.ts'
import { MAX_EPOCH, readTokenText, tokenText } from '../../src/crypto/token.ts'
import { readEnvFile } from '../../src/env/file.ts'
import { replaceValues } from '../../src/env/replace.ts'
import { OperatorError, Problem, UsageError } from '../../src/errors.ts'
import { ifMatch } from '../../src/http/conditional.ts'
import { isKeyPrefix, isSecretName, parseInstant, parseReference } from '../../src/wire.ts'
import { FakeVault } from '../table/fake-vault.ts'
import { splice } from '../table/splice.ts'
import { damage, damaged, type Target } from './target.ts'

export const id = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,63}$/)
export const secretName = fc
  .array(fc.stringMatching(/^[A-Za-z0-9_.-]{1,12}$/), { minLength: 1, maxLength: 5 })
  .map((parts) => parts.join('/'))
  .filter(isSecretName)

/** Of few characters, so that the odd places meet often. */
const nearName = fc
  .array(fc.constantFrom('a', '/', '.', '..', 'history', '@', '1', '-', 'é', ' ', '%2F', 'x'.repeat(120)), {
    maxLength: 8,
  })
  .map((parts) => parts.join(''))

/** The rule of the contract, word by word. */
function isNameByTheRule(text: string): boolean {
  const segments = text.split('/')
  return (
    text.length >= 1 &&
    text.length <= 256 &&
    [...text].every((char) => /[A-Za-z0-9_./-]/.test(char)) &&
    segments.every((segment) => segment !== '' && segment !== '.' && segment !== '..') &&
    segments.at(-1) !== 'history'
  )
}

const two = (most: number, least = 0): fc.Arbitrary<string> =>
  fc.integer({ min: least, max: most }).map((number) => String(number).padStart(2, '0'))
const instant = fc
  .tuple(
    fc.integer({ min: 1, max: 9999 }).map((year) => String(year).padStart(4, '0')),
    fc.tuple(two(13), two(32), two(24), two(60), two(61)),
    fc.constantFrom('', '.5', '.123', '.9999', '.'),
    fc.oneof(
      fc.constantFrom('Z', 'z', ''),
      fc.tuple(fc.constantFrom('+', '-'), two(24), two(60)).map(zoneOf),
    ),
  )
  .map(([year, [month, day, hour, minute, second], part, zone]) => ({
    text: `${year}-${month}-${day}T${hour}:${minute}:${second}${part}${zone}`,
    isOfClock: second !== '60' && second !== '61',
  }))

function zoneOf([sign, hours, minutes]: readonly [string, string, string]): string {
  return `${sign}${hours}:${minutes}`
}

const CONTRACT_TOKEN = /^tok_[1-9][0-9]{0,9}_[0-9a-hjkmnp-tv-z]{32}$/

function readToken(text: string): { epoch: number; body: Uint8Array; check: Uint8Array } {
  const [body, check] = [new Uint8Array(16), new Uint8Array(4)]
  const bytes = Buffer.from(text, 'latin1')
  return { epoch: readTokenText(bytes, 0, bytes.length, body, check, 0), body, check }
}

const scalar = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc
    .double({ noNaN: true, noDefaultInfinity: true })
    .filter((n) => !Number.isInteger(n) || Number.isSafeInteger(n)),
  fc.boolean(),
)

const VALUES = Buffer.from(
  'A=1\nB="two # x"\n# no\nexport C=\'it\'\n\nD=`x\ny`\nE=\nF=coffer://a/b@2\nG=a$B\nH="x\\ny" # c\n',
)
const CSV = Buffer.from('a,ssn,"b"\r\n1,"x ""y""",\n,,\r"q\n",é,"z"\n')
const LINES = Buffer.from('{"ssn":"a","x":[1.50,{"y":null}]}\n{"ssn":17}\n\n{"z":{}}\n')

function isRefusal(error: unknown): boolean {
  return error instanceof OperatorError || error instanceof UsageError
}

/** Tokens in, values out: the same bytes; or refused. */
async function thereAndBack(
  bytes: Buffer,
  format: 'csv' | 'ndjson',
  sizes: readonly number[],
): Promise<void> {
  let next = 0
  const part = (): number => sizes[next++ % sizes.length]
  const options = { vault: new FakeVault(), columns: ['ssn'], format, part }
  try {
    const there = await splice(bytes, options)
    const back = await splice(there.bytes, { ...options, operation: 'detokenize' })
    if (format === 'csv') assert.deepEqual(back.bytes.toString('latin1'), bytes.toString('latin1'))
  } catch (error) {
    if (!isRefusal(error)) throw error
  }
}

export const TEXTS: readonly Target[] = [
  {
    name: 'names, prefixes and references: as the contract has them, and read back',
    inputs: 5000,
    property: () =>
      fc.property(fc.oneof(nearName, fc.string(), secretName), fc.nat(1e11), (text, version) => {
        assert.equal(isSecretName(text), isNameByTheRule(text))
        if (isKeyPrefix(text)) assert.ok(isSecretName(`${text}x`))
        if (text.includes('@')) return
        assert.equal(parseReference(`coffer://${text}`)?.name, isNameByTheRule(text) ? text : undefined)
        const isVersion = version >= 1 && version <= 9_999_999_999
        assert.equal(
          parseReference(`coffer://${text}@${version}`)?.version,
          isVersion && isNameByTheRule(text) ? version : undefined,
        )
      }),
  },
  {
    name: 'instants: as a Date reads them, where a Date reads them',
    inputs: 5000,
    property: () =>
      fc.property(instant, fc.string(), ({ text, isOfClock }, any) => {
        const time = parseInstant(text)
        if (time !== undefined && isOfClock) assert.equal(time, Math.floor(Date.parse(text.toUpperCase())))
        if (time !== undefined) assert.ok(Number.isSafeInteger(time))
        parseInstant(any)
      }),
  },
  {
    name: 'tokens: read as written; every other text of the form or not, as the pattern says',
    inputs: 5000,
    property: () =>
      fc.property(
        fc.integer({ min: 1, max: MAX_EPOCH }),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        damage,
        (epoch, body, check, steps) => {
          const text = tokenText(epoch, body, check)
          assert.match(text, CONTRACT_TOKEN)
          assert.deepEqual(readToken(text), { epoch, body, check })
          const other = damaged(Buffer.from(text), steps).toString('latin1')
          const read = readToken(other)
          assert.equal(read.epoch !== 0, CONTRACT_TOKEN.test(other))
          if (read.epoch !== 0) assert.equal(tokenText(read.epoch, read.body, read.check), other)
        },
      ),
  },
  {
    name: 'values: the same after their canonical form',
    inputs: 3000,
    property: () =>
      fc.property(fc.array(scalar, { minLength: 1, maxLength: 20 }), (list) => {
        const values = new Values()
        for (const value of list) values.push(value, 1000)
        for (const [i, value] of list.entries()) {
          const start = values.offset[i] * 8
          const end = i + 1 < list.length ? values.offset[i + 1] : values.used
          const length = unpaddedLength(values.bytes, start, end - values.offset[i])
          assert.equal(length, values.length[i])
          assert.deepEqual(fromCanonical(values.bytes, start, length), Object.is(value, -0) ? 0 : value)
        }
      }),
  },
  {
    name: 'If-Match: a list of tags names its versions; all else is refused',
    inputs: 3000,
    property: () =>
      fc.property(
        fc.array(fc.integer({ min: 1, max: 99 }), { minLength: 1, maxLength: 5 }),
        damage,
        (list, steps) => {
          const header = list.map((version) => `"${version}"`).join(' ,\t')
          const matches = ifMatch(header)
          for (let version = 1; version <= 99; version++)
            assert.equal(matches(version), list.includes(version))
          try {
            ifMatch(damaged(Buffer.from(header), steps).toString('latin1'))
          } catch (error) {
            assert.ok(error instanceof Problem && error.slug === 'invalid-request')
          }
        },
      ),
  },
  {
    name: '.env: damaged: refused by its lines, or encrypted without a value left',
    inputs: 1500,
    property: () =>
      fc.property(damage, fc.nat(), (steps, at) => {
        const bytes = damaged(Buffer.concat([VALUES.subarray(at % 40), VALUES]), steps)
        try {
          const { text, secrets } = replaceValues(readEnvFile(bytes, '.env'), 'p/')
          const again = replaceValues(readEnvFile(Buffer.from(text), '.env'), 'p/')
          assert.deepEqual([again.text, again.secrets], [text, []], `of ${secrets.length}`)
        } catch (error) {
          if (!isRefusal(error)) throw error
        }
      }),
  },
  {
    name: 'CSV and JSON lines: damaged, in parts of any size: refused, or the same bytes back',
    inputs: 400,
    property: () =>
      fc.asyncProperty(
        damage,
        fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 5 }),
        fc.uint8Array({ maxLength: 60 }),
        async (steps, sizes, any) => {
          await thereAndBack(damaged(CSV, steps), 'csv', sizes)
          await thereAndBack(Buffer.concat([Buffer.from('ssn\n'), any]), 'csv', sizes)
          await thereAndBack(damaged(LINES, steps), 'ndjson', sizes)
        },
      ),
  },
]
