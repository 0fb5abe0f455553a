// References of a .env file replaced by values, written for one kind of reader, or so that as many readers as
// possible read the same.
import { assert } from '../assert.ts'
import { composeReads, quotedForCompose } from './compose.ts'
import { type EnvEntry, type EnvFile, parsersReadValue, type Quote, unquotable, verify } from './file.ts'
import { isReference } from './replace.ts'
import { isShName, quotedForSh, shReads } from './sh.ts'

/** node: Node and dotenv, and sh and compose as far as quotes make all of them read the same. */
export const READERS = ['node', 'sh', 'compose'] as const
export type Reader = (typeof READERS)[number]

export type Expanded = {
  readonly text: string
  /** All that sh or compose read differently, where the file is not written for them; by line. */
  readonly misread: { readonly sh: readonly Misread[]; readonly compose: readonly Misread[] }
}

type Misread = Pick<EnvEntry, 'key' | 'line'>

/** The value of every reference, by reference. */
type Resolved = ReadonlyMap<string, string>

/** Replaces every reference. Throws OperatorError with the keys whose values no quotes can carry. */
export function expand(env: EnvFile, resolved: Resolved, reader: Reader): Expanded {
  const intended = (entry: EnvEntry): string => {
    const value = isReference(entry) ? resolved.get(entry.value) : entry.value
    assert(value !== undefined, 'every reference is resolved')
    return value
  }
  if (reader === 'node') return expandForAll(env, intended)
  return { text: expandFor(env, intended, reader), misread: { sh: [], compose: [] } }
}

/** For Node and dotenv; a line that all readers read as intended stays. */
function expandForAll(env: EnvFile, intended: (entry: EnvEntry) => string): Expanded {
  const sh = commandsIn(env)
  const compose: Misread[] = []
  // From the end: how a line is read depends on the lines after it, never on the lines before it.
  let rest = ''
  let start = env.text.length
  for (const entry of env.entries.toReversed()) {
    rest = env.text.slice(entry.end, start) + rest
    const value = intended(entry)
    const line = lineWith(env.text, entry, value, rest)
    if (line === undefined) env.faults.add(entry.line, unquotable(entry))
    else {
      if (shReads(line) !== value) sh.push(entry)
      if (composeReads(line) !== value) compose.push(entry)
    }
    rest = (line ?? '') + rest
    start = entry.start
  }
  env.faults.throwIfAny()
  const text = env.text.slice(0, start) + rest
  verify(env, text, intended)
  const [bySh, byCompose] = [sh, compose].map((each) => each.toSorted((a, b) => a.line - b.line))
  return { text, misread: { sh: bySh, compose: byCompose } }
}

/** The bare names: a shell would run commands of these names. */
function commandsIn({ text, entries }: EnvFile): Misread[] {
  const ofEntries = entries.flatMap(({ line, start, end }) => {
    const count = text.slice(start, end).trimEnd().split('\n').length
    return Array.from({ length: count }, (_, i) => line + i)
  })
  const taken = new Set(ofEntries)
  return text.split('\n').flatMap((each, i) => {
    const key = /^[ \t]*([^#\s]\S*)\s*$/.exec(each)?.[1]
    return key === undefined || taken.has(i + 1) ? [] : [{ key, line: i + 1 }]
  })
}

/**
 * The line with the value; undefined: no way to write the value is read back by Node and dotenv. Of several
 * ways the first that sh and compose read as well. `rest`: the text after the line.
 */
function lineWith(text: string, entry: EnvEntry, value: string, rest: string): string | undefined {
  const { key, start, end, from, to } = entry
  const forms = isReference(entry) ? [] : [text.slice(from, to)]
  forms.push(...quotedForms(value, entry.quote))
  const lines = forms
    .map((written) => ({ written, line: text.slice(start, from) + written + text.slice(to, end) }))
    .filter(({ written, line }) => {
      // The text after the line matters for an empty value, and for a value with a backslash at the end:
      // dotenv does not end the quotes at a \" if there is another quote later.
      const restMatters = written === '' || /\\['"`]$/.test(written)
      return parsersReadValue(restMatters ? line + rest : line, key, value)
    })
    .map(({ line }) => line)
  const bySh = lines.filter((line) => shReads(line) === value)
  const byCompose = (line: string): boolean => composeReads(line) === value
  return bySh.find(byCompose) ?? bySh[0] ?? lines.find(byCompose) ?? lines[0]
}

function quotedForms(value: string, own: Quote): string[] {
  const quotes: readonly Quote[] = [own, "'", '"', '`']
  // An unquoted value with a quote at the start would be read on to the next quote in later lines.
  const possible = quotes.filter((quote) => quote !== '' || !/^['"`]/.test(value))
  return [...possible.map((quote) => quote + value + quote), `"${value.replaceAll('\n', '\\n')}"`]
}

/** For one reader, whose own quoting carries every value. */
function expandFor(
  env: EnvFile,
  intended: (entry: EnvEntry) => string,
  reader: Exclude<Reader, 'node'>,
): string {
  const [quoted, reads] = reader === 'sh' ? [quotedForSh, shReads] : [quotedForCompose, composeReads]
  let text = ''
  let copied = 0
  for (const entry of env.entries) {
    const { key, line, start, end, from, to } = entry
    const value = intended(entry)
    if (reader === 'sh' && !isShName(key))
      env.faults.add(line, `sh has no variable ${key}: rename the key, or run \`coffer env run\``)
    if (value.includes('\0'))
      env.faults.add(line, `the value of ${key} has a NUL character, which no variable can hold`)
    const isExported = /^[ \t]*export[ \t]/.test(env.text.slice(start, from))
    const comment = commentAt(env.text.slice(to, end))
    const written = `${isExported ? 'export ' : ''}${key}=${quoted(value)}${comment}`
    if (!env.faults.any) assert(reads(written) === value, 'a line is read as it is written')
    text += `${others(env.text.slice(copied, start), reader)}${written}\n`
    copied = end
  }
  env.faults.throwIfAny()
  return text + others(env.text.slice(copied), reader)
}

/** The comment behind a value, with a blank before. */
function commentAt(rest: string): string {
  const comment = /^[ \t]+(#.*)/.exec(rest)?.[1].trimEnd()
  return comment === undefined ? '' : ` ${comment}`
}

/** The lines between entries. A bare name is a command to a shell. */
function others(text: string, reader: Reader): string {
  const unix = text.replaceAll(/\r+\n/g, '\n')
  return reader === 'sh' ? unix.replace(/^[ \t]*(?=[^#\s])/gm, '# ') : unix
}
