// Generated files, encrypted and expanded: nothing of a value stays in the file of references, a real shell
// reads as told, and runs nothing.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseEnv } from 'node:util'
import { parse as parseDotenv } from 'dotenv'
import { composeGoReads } from '../../test/compose-go.ts'
import { type Random, seeded } from '../../test/sim/seed.ts'
import { OperatorError } from '../errors.ts'
import { type Expanded, expand, type Reader } from './expand.ts'
import { readEnvFile } from './file.ts'
import { replaceValues } from './replace.ts'

const FILES = 300
const KEYS = 4

const dir = mkdtempSync(join(tmpdir(), 'coffer-readers-'))
after(() => rmSync(dir, { recursive: true }))

const PARTS = [
  ...['#', ' #', '$', '$HOME', `\${A:-b}`, '$(touch ran)', '`touch ran`', '; touch ran;', '&', '|', '>ran'],
  ...["'", '"', '\\', '\\n', ' ', '\t', '\n', '=', '~', '*', '!', 'é', '(', '{a,b}', ' && touch ran #'],
]

let canaries = 0

/** With a text that is in no other value. */
function someValue(random: Random): string {
  const around = (): string => Array.from({ length: random.below(4) }, () => random.pick(PARTS)).join('')
  const value = `${around()}c4n4ry${canaries++}.${around()}`
  // Else a second line would be a key, and messages name keys.
  return value.includes('\n') ? value.replaceAll('=', '') : value
}

function lineOf(random: Random, key: string, value: string): string {
  const quote = random.pick(['', '', "'", '"', '`'])
  const comment = random.pick(['', '', ' # why', '# glued', '\t#x'])
  const head = random.pick(['', 'export ']) + key + random.pick(['=', '=', ' = '])
  return `${head}${quote}${value}${quote}${comment}\n`
}

/** undefined where the file is refused; then nothing was done. */
function unlessRefused<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    assert.ok(error instanceof OperatorError, (error as Error).stack)
    assert.ok(!error.message.includes('c4n4ry'), error.message)
    return undefined
  }
}

type Case = {
  readonly which: string
  readonly values: ReadonlyMap<string, string>
  readonly written: Expanded
}

/** A file of references expanded for a reader. */
function casesOf(random: Random, reader: Reader): Case[] {
  const cases: Case[] = []
  for (let tried = 0; cases.length < FILES && tried < 20 * FILES; tried++) {
    const text = Array.from({ length: 1 + random.below(KEYS) }, (_, i) =>
      lineOf(random, `K${i}`, someValue(random)),
    ).join('')
    const which = `COFFER_SEED=${random.seed}: ${JSON.stringify(text)}`
    const done = unlessRefused(() => replaceValues(readEnvFile(Buffer.from(text), '.env'), 'p/'))
    if (!done) continue
    // A # behind a blank begins a comment: text behind it is no value, for all readers.
    const canariesOf = done.secrets.flatMap(({ value }) => value.match(/c4n4ry\d+\./g) ?? [])
    for (const canary of canariesOf) assert.ok(!done.text.includes(canary), which)
    const values = new Map(done.secrets.map(({ name, value }) => [`coffer://${name}`, value]))
    const env = readEnvFile(Buffer.from(done.text), '.env')
    const written = unlessRefused(() => expand(env, values, reader))
    if (!written) continue
    const byKey = new Map(done.secrets.map(({ entry, value }) => [entry.key, value]))
    cases.push({ which, values: byKey, written })
  }
  assert.equal(cases.length, FILES)
  return cases
}

/** What one shell finds after each file: the value of each key, '' where it is not set. */
function bySh(texts: readonly string[]): string[][] {
  for (const [i, text] of texts.entries()) writeFileSync(join(dir, `${i}.env`), text)
  const keys = Array.from({ length: KEYS }, (_, i) => `"\${K${i}-}"`).join(' ')
  const script = `for i in $(seq 0 ${texts.length - 1}); do ( . ./$i.env; printf '%s\\0' ${keys} ); done`
  const out = execFileSync('sh', ['-c', script], { cwd: dir, encoding: 'utf8' }).split('\0')
  assert.ok(!readdirSync(dir).includes('ran'), 'a value was executed')
  return texts.map((_, i) => out.slice(i * KEYS, (i + 1) * KEYS))
}

test('for all: Node and dotenv read every value, sh and compose all that are not told; what sh reads runs nothing', (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const cases = casesOf(random, 'node')
  for (const { which, values, written } of cases) {
    for (const read of [parseEnv(written.text), parseDotenv(written.text)])
      assert.deepEqual(new Map(Object.entries(read)), values, which)
  }
  const forSh = cases.filter(({ written }) => written.misread.sh.length === 0)
  t.diagnostic(`${forSh.length} of ${cases.length} files for sh, too`)
  assert.ok(forSh.length > FILES / 10)
  const found = bySh(forSh.map(({ written }) => written.text))
  for (const [i, { which, values }] of forSh.entries())
    for (const [key, value] of values) assert.equal(found[i][Number(key.slice(1))], value, which)
})

test('for sh and for compose: every value, and nothing runs', (t) => {
  const random = seeded()
  t.diagnostic(`COFFER_SEED=${random.seed}`)
  const cases = casesOf(random, 'sh')
  const found = bySh(cases.map(({ written }) => written.text))
  for (const [i, { which, values }] of cases.entries())
    for (const [key, value] of values) assert.equal(found[i][Number(key.slice(1))], value, which)
  // Each line is asserted to be read back by the rules of compose.
  const forCompose = casesOf(random, 'compose')
  const paths = forCompose.map(({ written }, i) => {
    const path = join(dir, `${i}.env`)
    writeFileSync(path, written.text)
    return path
  })
  for (const [i, read] of composeGoReads(paths)?.entries() ?? [])
    assert.deepEqual(new Map(Object.entries(read)), forCompose[i].values, forCompose[i].which)
})
