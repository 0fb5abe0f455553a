// A .env file: its entries with the exact place of every value. Readers of such files differ in a hundred
// details, so an entry is what three of them agree on: the reading here, Node's util.parseEnv, and dotenv. A
// file that they read differently is refused. No message repeats a value, nor a line that may be a piece of
// one.
import { isUtf8 } from 'node:buffer'
import { parseEnv } from 'node:util'
import { parse as parseDotenv } from 'dotenv'
import { OperatorError } from '../errors.ts'
import { parseReference, REFERENCE_SCHEME } from '../wire.ts'

export type Quote = '' | "'" | '"' | '`'

/** Offsets are into the text, in UTF-16 units. */
export type Entry = {
  readonly key: string
  /** That of its key, from 1. */
  readonly line: number
  /** Where its first line begins, and where its last one ends, behind the line break. */
  readonly start: number
  readonly end: number
  readonly quote: Quote
  /** The value as it is written, with its quotes. */
  readonly from: number
  readonly to: number
  readonly value: string
}

export type EnvFile = {
  /** As the user has named it. */
  readonly file: string
  readonly text: string
  /** In the order of the file. */
  readonly entries: readonly Entry[]
  readonly faults: Faults
}

/** What is wrong in a file, by line. */
export class Faults {
  readonly #file: string
  readonly #faults: { readonly line: number; readonly text: string }[] = []

  constructor(file: string) {
    this.#file = file
  }

  get any(): boolean {
    return this.#faults.length > 0
  }

  /** `text` says what is wrong, and what to do. */
  add(line: number, text: string): void {
    this.#faults.push({ line, text })
  }

  /** Throws OperatorError with all of them, in the order of the lines, where there are any. */
  check(): void {
    if (!this.any) return
    const sorted = this.#faults.toSorted((a, b) => a.line - b.line)
    const lines = sorted.map(({ line, text }) => `${this.#file}:${line}: ${text}`)
    throw new OperatorError(
      [`nothing was done, ${lines.length} fault${lines.length === 1 ? '' : 's'} to correct:`, ...lines].join(
        '\n',
      ),
    )
  }
}

/**
 * What is wrong is in `faults`. Throws OperatorError where the file is not UTF-8: then nothing can be read of
 * it.
 */
export function readEnvFile(bytes: Buffer, file: string): EnvFile {
  const faults = new Faults(file)
  checkUtf8(bytes, faults)
  const text = bytes.toString('utf8')
  const entries = tokenize(text, faults)
  findDifferences(text, entries, faults)
  findRepeated(entries, faults)
  for (const { key, line, value } of entries) {
    if (value.startsWith(REFERENCE_SCHEME) && !parseReference(value))
      faults.add(
        line,
        `the value of ${key} begins with coffer:// and is no reference: coffer://NAME or coffer://NAME@VERSION`,
      )
  }
  return { file, text, entries, faults }
}

function valuesOf(entries: readonly Entry[]): ReadonlyMap<string, string> {
  return new Map(entries.map(({ key, value }) => [key, value]))
}

/** Both parsers read exactly these keys and values. */
export function readsAs(text: string, expected: ReadonlyMap<string, string>): boolean {
  const same = (found: ReadonlyMap<string, unknown>): boolean =>
    found.size === expected.size && [...expected].every(([key, value]) => found.get(key) === value)
  return readings(text).every(same)
}

/** Both parsers read this value of this key, whatever else. */
export function readsValue(text: string, key: string, value: string): boolean {
  return readings(text).every((found) => found.get(key) === value)
}

/** Own properties only: a key may be `constructor`. */
function readings(text: string): ReadonlyMap<string, unknown>[] {
  return [parseEnv(text), parseDotenv(text)].map((found) => new Map(Object.entries(found)))
}

/** Throws OperatorError. */
function checkUtf8(bytes: Buffer, faults: Faults): void {
  if (isUtf8(bytes)) return
  // No byte of a longer character is a line feed, so each line is judged for itself.
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const feed = bytes.indexOf('\n', start)
    const end = feed < 0 ? bytes.length : feed + 1
    if (!isUtf8(bytes.subarray(start, end))) faults.add(line, 'is not UTF-8: save the file in that encoding')
    start = end
  }
  faults.check()
}

/** Up to where the value begins. */
const HEAD = /[ \t]*(?:export[ \t]+)?([A-Za-z0-9_.-]+)[ \t]*=[ \t]*/y
/** Nothing, a comment, or the bare name of a variable. Anything else may be the rest of a value, in clear. */
const NO_ENTRY = /^[ \t]*(?:#.*|(?:export[ \t]+)?[A-Z_][A-Z0-9_]{0,39}[ \t]*)?\r*$/s
/** Behind a closing quote. */
const TAIL = /^[ \t]*(?:#.*)?\r*$/s
const UNQUOTED = /[^#\n]*/y
const BYTE_ORDER_MARK = 0xfeff

function tokenize(text: string, faults: Faults): Entry[] {
  const entries: Entry[] = []
  for (let start = 0, line = 1; start < text.length; ) {
    const entry = entryAt(text, start, line, faults)
    if (entry) entries.push(entry)
    const end = entry?.end ?? lineEnd(text, start)
    line += text.slice(start, end).split('\n').length - 1
    start = end
  }
  return entries
}

/** undefined where this line begins none; one that should goes to the faults. */
function entryAt(text: string, start: number, line: number, faults: Faults): Entry | undefined {
  HEAD.lastIndex = start
  const head = HEAD.exec(text)
  if (!head) {
    if (text.charCodeAt(start) === BYTE_ORDER_MARK)
      faults.add(line, 'a byte order mark, which Node takes for a part of the key: save the file without it')
    else if (!NO_ENTRY.test(lineAt(text, start)))
      faults.add(line, 'neither KEY=VALUE nor a comment: put # before it, or quotes round all of its value')
    return undefined
  }
  const [before, key] = head
  const from = start + before.length
  const quote = quoteAt(text, from)
  if (quote === '') {
    UNQUOTED.lastIndex = from
    const value = (UNQUOTED.exec(text)?.[0] ?? '').replace(/[ \t\r]+$/, '')
    // An empty one stands at the sign, before the blanks that a comment may follow.
    const at = value === '' ? start + before.lastIndexOf('=') + 1 : from
    return { key, line, start, end: lineEnd(text, from), quote, from: at, to: at + value.length, value }
  }
  const close = text.indexOf(quote, from + 1)
  const content = text.slice(from + 1, close)
  const followed = !TAIL.test(lineAt(text, close + 1))
  if (close < 0 || (followed && content.includes('\n'))) {
    faults.add(line, `nothing closes the ${quote} that the value of ${key} begins with: close it`)
    return undefined
  }
  if (followed) {
    faults.add(
      line,
      `the value of ${key} goes on behind its closing quote: use quotes that it does not contain`,
    )
    return undefined
  }
  const value = readQuoted(content, quote)
  return { key, line, start, end: lineEnd(text, close), quote, from, to: close + 1, value }
}

/** To both parsers a line break is a line feed, however it is written; in "…" also as \n. */
function readQuoted(content: string, quote: Quote): string {
  const text = content.replaceAll('\r\n', '\n')
  return quote === '"' ? text.replaceAll('\\n', '\n') : text
}

function quoteAt(text: string, at: number): Quote {
  const char = text.charAt(at)
  return char === "'" || char === '"' || char === '`' ? char : ''
}

/** From `at`, without the line feed. */
function lineAt(text: string, at: number): string {
  const feed = text.indexOf('\n', at)
  return text.slice(at, feed < 0 ? text.length : feed)
}

/** Behind the line feed. */
function lineEnd(text: string, at: number): number {
  const feed = text.indexOf('\n', at)
  return feed < 0 ? text.length : feed + 1
}

const DIFFERENT = 'Node and dotenv read this differently:'

/**
 * The whole file decides. Where it is not read alike, the lines are those that are not read alike by
 * themselves.
 */
function findDifferences(text: string, entries: readonly Entry[], faults: Faults): void {
  if (!faults.any && readsAs(text, valuesOf(entries))) return
  const odd = entries.filter(({ key, start, end, value }, i) => {
    // With the next one: some readers take it for the value of an empty one.
    const next = entries[i + 1]
    return !readsValue(text.slice(start, next && next.key !== key ? next.end : end), key, value)
  })
  const breaks = odd.length === 0 && !faults.any ? linesOfBreaks(text) : []
  for (const line of breaks) faults.add(line, `${DIFFERENT} use line feeds, and nothing else, to end lines`)
  for (const { key, line, quote, from, to } of odd) {
    const what =
      from === to && quote === '' ? `write ${key}=""` : 'use other quotes, and no blanks or text outside'
    faults.add(line, `${DIFFERENT} ${what}`)
  }
}

/**
 * Lines with a character in them that only some readers take for a line break; the first one where there is
 * none.
 */
function linesOfBreaks(text: string): number[] {
  const lines = text.split('\n').flatMap((line, i) => (/\r(?!$)|[\u2028\u2029]/.test(line) ? [i + 1] : []))
  return lines.length > 0 ? lines : [1]
}

function findRepeated(entries: readonly Entry[], faults: Faults): void {
  for (const [key, same] of Map.groupBy(entries, (entry) => entry.key)) {
    const lines = same.map(({ line }) => line)
    if (lines.length === 1) continue
    for (const line of lines)
      faults.add(line, `${key} is set in the lines ${lines.join(', ')}: keep one of them`)
  }
}
