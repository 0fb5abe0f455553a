// .env files as in real projects: all lines encrypted, told and refused; and the values that Node,
// dotenv, a real shell and compose read in the expanded file.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseEnv } from 'node:util'
import { parse as parseDotenv } from 'dotenv'
import { composeGoReads } from '../../test/compose-go.ts'
import { OperatorError } from '../errors.ts'
import { expand, type Reader } from './expand.ts'
import { readEnvFile } from './file.ts'
import { remarksOn } from './remarks.ts'
import { replaceValues } from './replace.ts'
import { isShName } from './sh.ts'

const SHAPES = new URL('../../test/env/shapes.txt', import.meta.url)
const PREFIX = 'p/'
/** The work of encrypt on a line, by the first column. */
const MARKS: readonly (readonly [mark: string, remark: RegExp])[] = [
  ['$', /^values with \$NAME/],
  ['#*', /^entries in comments/],
  ['?', /^bare names/],
  ['=', /^variables of coffer/],
]

type Shape = { readonly name: string; readonly text: string; readonly marks: string }

const dir = mkdtempSync(join(tmpdir(), 'coffer-shapes-'))
after(() => rmSync(dir, { recursive: true }))

/** A shape a section; `marks` has a character a line. */
function shapes(): Shape[] {
  const [, ...sections] = readFileSync(SHAPES, 'utf8').split(/^== /m)
  return sections.map((section) => {
    const [name, ...lines] = section.trimEnd().split('\n')
    const end = name.endsWith('CRLF') ? '\r\n' : '\n'
    const text = lines.map((line) => line.slice(2).replaceAll('␠', ' ') + end).join('')
    return { name, text, marks: lines.map((line) => line.charAt(0) || ' ').join('') }
  })
}

function linesOf(marks: string, which: string): number[] {
  return [...marks].flatMap((mark, i) => (which.includes(mark) ? [i + 1] : []))
}

/** The lines of a refusal; undefined: the text was taken. */
function refusedLines(work: () => unknown): number[] | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    assert.ok(error instanceof OperatorError, String(error))
    const lines = [...error.message.matchAll(/^\.env:(\d+): /gm)].map((match) => Number(match[1]))
    return [...new Set(lines)].sort((a, b) => a - b)
  }
}

const encrypt = (text: string) => {
  const env = readEnvFile(Buffer.from(text), '.env')
  return { env, ...replaceValues(env, PREFIX) }
}

/** Each line stays, or has a reference in its value's place; a line of a longer value has gone. */
function checkLines({ name, text, marks }: Shape, encrypted: string): void {
  const before = text.split('\n').filter((_, i) => marks[i] !== '|')
  const kinds = [...marks].filter((mark) => mark !== '|')
  const now = encrypted.split('\n')
  assert.equal(now.length, before.length, name)
  for (const [i, line] of before.entries()) {
    const isEncrypted = '+$*'.includes(kinds[i] ?? ' ')
    assert.equal(now[i].includes(`coffer://${PREFIX}`), isEncrypted, `${name}: ${line}`)
    if (!isEncrypted) assert.equal(now[i], line, name)
  }
}

/** Only lines told have a part of a value. */
function checkNothingLeft({ name, marks }: Shape, values: readonly string[], encrypted: string): void {
  const kinds = [...marks].filter((mark) => mark !== '|')
  const lines = encrypted.split('\n').filter((_, i) => !'#*?='.includes(kinds[i] ?? ' '))
  // A short value such as `memory` is in comments by chance.
  const untold = [lines.join('\n'), lines.map((line) => line.replace(/(?:^|\s)#.*/, '')).join('\n')]
  for (const piece of values.flatMap((value) => value.split('\n')).filter(({ length }) => length >= 5)) {
    assert.ok(!untold[piece.length < 12 ? 1 : 0].includes(piece), `${name}: ${piece}`)
  }
}

type Taken = {
  readonly name: string
  readonly marks: string
  readonly encrypted: string
  readonly values: ReadonlyMap<string, string>
}

const [refused, taken] = [[] as string[], [] as Taken[]]
function tryShape(shape: ReturnType<typeof shapes>[number]): void {
  const { name, text, marks } = shape
  const faults = linesOf(marks, '!')
  assert.deepEqual(refusedLines(() => encrypt(text)) ?? [], faults)
  if (faults.length > 0) {
    refused.push(name)
    return
  }
  const { env, secrets, text: encrypted } = encrypt(text)
  const remarks = remarksOn(env, secrets)
  for (const [which, remark] of MARKS)
    assert.deepEqual(
      remarks.find((each) => remark.test(each.text))?.lines ?? [],
      linesOf(marks, which),
      which,
    )
  checkLines(shape, encrypted)
  const values = new Map(Object.entries(parseEnv(text)) as [string, string][])
  assert.deepEqual(new Map(Object.entries(parseDotenv(text))), values)
  const secretValues = new Map(secrets.map(({ entry, value }) => [entry.key, value]))
  for (const [key, value] of secretValues) assert.equal(value, values.get(key), key)
  checkNothingLeft(shape, [...secretValues.values()], encrypted)
  assert.deepEqual(encrypt(encrypted).secrets, [], 'once more changes nothing')
  taken.push({ name, marks, encrypted, values })
}

// A single test: the runner may lose lines of a file with many tests that end at once.
test('encrypt: every shape is refused with its lines, or nothing of a value is left and the rest is told', () => {
  for (const shape of shapes()) {
    try {
      tryShape(shape)
    } catch (error) {
      throw new Error(shape.name, { cause: error })
    }
  }
})

/** The file of references with its values, for a reader. */
function expanded({ encrypted, values }: Taken, reader: Reader) {
  const env = readEnvFile(Buffer.from(encrypted), '.env')
  const resolved = new Map([...values].map(([key, value]) => [`coffer://${PREFIX}${key}`, value]))
  return expand(env, resolved, reader)
}

/** Checks the values that a real shell finds after each text; nothing must have run. */
function checkSh(
  texts: readonly { name: string; text: string; values: ReadonlyMap<string, string> }[],
): void {
  for (const [i, { text }] of texts.entries()) writeFileSync(join(dir, `${i}.env`), text)
  const blocks = texts.map(({ values }, i) => {
    const keys = [...values.keys()].map((key) => `"\${${key}-unset}"`).join(' ')
    return `( unset HOME; . ./${i}.env; printf '%s\\0' ${keys} end )`
  })
  const script = `PATH=; ${blocks.join('\n')}`
  const out = execFileSync('/bin/sh', ['-c', script], { cwd: dir, encoding: 'utf8' }).split('\0')
  assert.deepEqual(
    out.slice(0, -1),
    texts.flatMap(({ values }) => [...values.values(), 'end']),
  )
  assert.equal(readdirSync(dir).length, texts.length, 'a line was executed')
  for (const i of texts.keys()) rmSync(join(dir, `${i}.env`))
}

function byComposeGo(files: readonly { readonly text: string }[]): Map<string, string>[] | undefined {
  const paths = files.map((_, i) => join(dir, `${i}.env`))
  for (const [i, { text }] of files.entries()) writeFileSync(paths[i], text)
  const read = composeGoReads(paths)?.map((each) => new Map(Object.entries(each)))
  for (const path of paths) rmSync(path)
  return read
}

function only(values: ReadonlyMap<string, string>, not: readonly { readonly key: string }[]) {
  const told = new Set(not.map(({ key }) => key))
  return new Map([...values].filter(([key]) => !told.has(key)))
}

test('all shapes were tried; expand: Node and dotenv read every value, sh and compose all but those told', (t) => {
  assert.ok(refused.length >= 9 && taken.length >= 55, `${refused.length} refused, ${taken.length} taken`)
  const files = taken.map((each) => ({ ...each, ...expanded(each, 'node') }))
  for (const { name, marks, text, values, misread } of files) {
    for (const line of linesOf(marks, '?'))
      assert.ok(
        misread.sh.some((each) => each.line === line),
        `${name}: a shell would run line ${line}`,
      )
    for (const read of [parseEnv(text), parseDotenv(text)])
      assert.deepEqual(new Map(Object.entries(read)), values, name)
  }
  const forSh = files.filter(({ misread }) => misread.sh.length === 0)
  t.diagnostic(`${files.length} files, ${forSh.length} for sh, too`)
  assert.ok(forSh.length > files.length / 3)
  checkSh(forSh)
  const byCompose = byComposeGo(files)
  t.diagnostic(byCompose ? 'read by compose-go' : 'no compose-go here')
  for (const [i, found] of byCompose?.entries() ?? []) {
    const { name, values, misread } = files[i]
    assert.deepEqual(only(found, misread.compose), only(values, misread.compose), name)
  }
})

test('expand --for sh and --for compose: every value', () => {
  const withShNames = taken.filter(({ values }) => [...values.keys()].every(isShName))
  assert.ok(withShNames.length > taken.length / 2)
  checkSh(withShNames.map((each) => ({ ...each, ...expanded(each, 'sh') })))
  // Each line is asserted to be read back by the rules of compose.
  const forCompose = taken.map((each) => ({ ...each, ...expanded(each, 'compose') }))
  for (const [i, found] of byComposeGo(forCompose)?.entries() ?? [])
    assert.deepEqual(found, forCompose[i].values, forCompose[i].name)
})
