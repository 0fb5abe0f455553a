// A .env file: the entries with the exact position of every value. Readers of .env files differ in a hundred
// details, so an entry counts only if three readers agree: the reader below, Node's util.parseEnv, and
// dotenv. Otherwise the file is refused. No message repeats a value, nor a line with a possible part of a
// value.
import { isUtf8 } from 'node:buffer'
import { parseEnv } from 'node:util'
import { parse as parseDotenv } from 'dotenv'
import { OperatorError } from '../errors.ts'
import { parseReference, REFERENCE_SCHEME } from '../wire.ts'

/** Bound of a .env file: the values of a run have fewer bytes, by far. */
export const ENV_FILE_BYTES = 16 * 1024 * 1024

export type Quote = '' | "'" | '"' | '`'

/** Offsets are positions in the text, in UTF-16 units. */
export type EnvEntry = {
  readonly key: string
  /** The line of the key, from 1. */
  readonly line: number
  /** Where the entry's first line begins, and where its last line ends, after the line break. */
  readonly start: number
  readonly end: number
  readonly quote: Quote
  /** Start and end of the value as written, quotes included. */
  readonly from: number
  readonly to: number
  readonly value: string
  /** A `#` follows the value without a blank before: Node and dotenv end the value there, others go on. */
  readonly glued: boolean
}

export type EnvFile = {
  /** The path as the user gave it. */
  readonly file: string
  readonly text: string
  /** In the order of the file. */
  readonly entries: readonly EnvEntry[]
  readonly faults: LineFaults
}

/** The faults of a file, by line. */
export class LineFaults {
  readonly #file: string
  readonly #faults: { readonly line: number; readonly text: string }[] = []

  constructor(file: string) {
    this.#file = file
  }

  get any(): boolean {
    return this.#faults.length > 0
  }

  /** `text` names the fault and the next step. */
  add(line: number, text: string): void {
    this.#faults.push({ line, text })
  }

  /** A line for each fault, in the order of the file. */
  get texts(): string[] {
    const sorted = this.#faults.toSorted((a, b) => a.line - b.line)
    return sorted.map(({ line, text }) => `${this.#file}:${line}: ${text}`)
  }

  /** Throws OperatorError with all faults, if there are any. */
  throwIfAny(): void {
    throwFaults([this])
  }
}

/** Throws OperatorError with the faults of all files, if there are any. */
export function throwFaults(files: readonly LineFaults[]): void {
  const lines = files.flatMap(({ texts }) => texts)
  if (lines.length === 0) return
  const these = lines.length === 1 ? 'this fault' : `these ${lines.length} faults`
  throw new OperatorError([`nothing was done; correct ${these}:`, ...lines].join('\n'))
}

/** Faults go to `faults`. Throws OperatorError if the file is not UTF-8, since nothing can be read then. */
export function readEnvFile(bytes: Buffer, file: string): EnvFile {
  const faults = new LineFaults(file)
  checkUtf8(bytes, faults)
  const text = bytes.toString('utf8')
  const entries = tokenize(text, faults)
  findDifferences(text, entries, faults)
  findRepeated(entries, faults)
  for (const { key, line, value } of entries) {
    if (value.startsWith(REFERENCE_SCHEME) && !parseReference(value))
      faults.add(
        line,
        `the value of ${key} begins with coffer:// but is not a reference: ` +
          'write coffer://NAME or coffer://NAME@VERSION',
      )
  }
  return { file, text, entries, faults }
}

function valuesOf(entries: readonly EnvEntry[]): ReadonlyMap<string, string> {
  return new Map(entries.map(({ key, value }) => [key, value]))
}

/** Whether Node and dotenv both read exactly the expected keys and values. */
function parsersRead(text: string, expected: ReadonlyMap<string, string>): boolean {
  const same = (found: ReadonlyMap<string, unknown>): boolean =>
    found.size === expected.size && [...expected].every(([key, value]) => found.get(key) === value)
  return readings(text).every(same)
}

/** Whether Node and dotenv both read the value of the key; other keys may differ. */
export function parsersReadValue(text: string, key: string, value: string): boolean {
  return readings(text).every((found) => found.get(key) === value)
}

/** The readings of Node and of dotenv. Maps, since a key may be `constructor`. */
function readings(text: string): ReadonlyMap<string, unknown>[] {
  return [parseEnv(text), parseDotenv(text)].map((found) => new Map(Object.entries(found)))
}

/** Throws OperatorError. */
function checkUtf8(bytes: Buffer, faults: LineFaults): void {
  if (isUtf8(bytes)) return
  // No byte of a multi-byte character is a line feed, so each line is checked by itself.
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const feed = bytes.indexOf('\n', start)
    const end = feed < 0 ? bytes.length : feed + 1
    if (!isUtf8(bytes.subarray(start, end))) faults.add(line, 'is not UTF-8: save the file as UTF-8')
    start = end
  }
  faults.throwIfAny()
}

/** From the start of the line to the start of the value. */
const HEAD = /[ \t]*(?:export[ \t]+)?([A-Za-z0-9_.-]+)[ \t]*=[ \t]*/y
/**
 * A line without an entry: blank, a comment, or the bare name of a variable. Any other text may be the rest
 * of a value, in clear.
 */
const NO_ENTRY = /^[ \t]*(?:#.*|(?:export[ \t]+)?[A-Z_][A-Z0-9_]{0,39}[ \t]*)?\r*$/s
/** The rest of a line after a closing quote. */
const TAIL = /^[ \t]*(?:#.*)?\r*$/s
const UNQUOTED = /[^#\n]*/y
const BYTE_ORDER_MARK = 0xfeff

function tokenize(text: string, faults: LineFaults): EnvEntry[] {
  const entries: EnvEntry[] = []
  for (let start = 0, line = 1; start < text.length; ) {
    const entry = entryAt(text, start, line, faults)
    if (entry) entries.push(entry)
    const end = entry?.end ?? lineEnd(text, start)
    line += text.slice(start, end).split('\n').length - 1
    start = end
  }
  return entries
}

/** undefined: no entry begins at `start`; a faulty entry is added to the faults. */
function entryAt(text: string, start: number, line: number, faults: LineFaults): EnvEntry | undefined {
  HEAD.lastIndex = start
  const head = HEAD.exec(text)
  if (!head) {
    if (text.charCodeAt(start) === BYTE_ORDER_MARK)
      faults.add(line, 'a byte order mark, which Node reads as part of the key: save the file without it')
    else if (!NO_ENTRY.test(lineAt(text, start)))
      faults.add(
        line,
        'neither KEY=VALUE nor a comment: put # before the line, or quotes around the whole value',
      )
    return undefined
  }
  const [before, key] = head
  const from = start + before.length
  const quote = quoteAt(text, from)
  if (quote === '') {
    UNQUOTED.lastIndex = from
    const value = (UNQUOTED.exec(text)?.[0] ?? '').replace(/[ \t\r]+$/, '')
    // An empty value is at the equals sign, before blanks that a comment may follow.
    const at = value === '' ? start + before.lastIndexOf('=') + 1 : from
    const to = at + value.length
    return { key, line, start, end: lineEnd(text, from), quote, from: at, to, value, glued: text[to] === '#' }
  }
  const close = text.indexOf(quote, from + 1)
  const content = text.slice(from + 1, close)
  const followed = !TAIL.test(lineAt(text, close + 1))
  if (close < 0 || (followed && content.includes('\n'))) {
    faults.add(line, `the value of ${key} begins with ${quote}, which is never closed: close the quote`)
    return undefined
  }
  if (followed) {
    faults.add(
      line,
      `the value of ${key} continues after its closing quote: use quotes that the value does not contain`,
    )
    return undefined
  }
  const value = readQuoted(content, quote)
  const glued = text[close + 1] === '#'
  return { key, line, start, end: lineEnd(text, close), quote, from, to: close + 1, value, glued }
}

/** A line break, however written, is a line feed to both parsers; in "…" also the characters \n. */
function readQuoted(content: string, quote: Quote): string {
  const text = content.replaceAll('\r\n', '\n')
  return quote === '"' ? text.replaceAll('\\n', '\n') : text
}

function quoteAt(text: string, at: number): Quote {
  const char = text.charAt(at)
  return char === "'" || char === '"' || char === '`' ? char : ''
}

/** The rest of the line from `at`, without the line feed. */
function lineAt(text: string, at: number): string {
  const feed = text.indexOf('\n', at)
  return text.slice(at, feed < 0 ? text.length : feed)
}

/** The position after the line feed. */
function lineEnd(text: string, at: number): number {
  const feed = text.indexOf('\n', at)
  return feed < 0 ? text.length : feed + 1
}

const DIFFERENT = 'Node and dotenv read this line differently:'

/**
 * Adds faults if the file as a whole is read differently: at the lines that are read differently by
 * themselves, or else at odd line breaks.
 */
function findDifferences(text: string, entries: readonly EnvEntry[], faults: LineFaults): void {
  if (!faults.any && parsersRead(text, valuesOf(entries))) return
  const suspects = entries.filter(({ key, start, end, value }, i) => {
    // Together with the next entry: some readers take the next entry for the value of an empty entry.
    const next = entries[i + 1]
    return !parsersReadValue(text.slice(start, next && next.key !== key ? next.end : end), key, value)
  })
  const breaks = suspects.length === 0 && !faults.any ? linesOfBreaks(text) : []
  for (const line of breaks) faults.add(line, `${DIFFERENT} end all lines with line feeds, and nothing else`)
  for (const { key, line, quote, from, to } of suspects) {
    const advice =
      from === to && quote === '' ? `write ${key}=""` : 'use other quotes, and no blanks or text outside'
    faults.add(line, `${DIFFERENT} ${advice}`)
  }
}

/** Lines with a character that only some readers take for a line break; line 1 if there is no such line. */
function linesOfBreaks(text: string): number[] {
  const lines = text.split('\n').flatMap((line, i) => (/\r(?!$)|[\u2028\u2029]/.test(line) ? [i + 1] : []))
  return lines.length > 0 ? lines : [1]
}

function findRepeated(entries: readonly EnvEntry[], faults: LineFaults): void {
  for (const [key, same] of Map.groupBy(entries, (entry) => entry.key)) {
    const lines = same.map(({ line }) => line)
    if (lines.length === 1) continue
    for (const line of lines)
      faults.add(line, `${key} is set in the lines ${lines.join(', ')}: keep one of these lines`)
  }
}

/** Throws OperatorError with the lines that Node or dotenv would not read as intended in `text`. */
export function verify(
  { entries, faults }: EnvFile,
  text: string,
  intended: (entry: EnvEntry) => string,
): void {
  if (parsersRead(text, new Map(entries.map((entry) => [entry.key, intended(entry)])))) return
  const misread = entries.filter((entry) => !parsersReadValue(text, entry.key, intended(entry)))
  for (const entry of misread.length > 0 ? misread : entries) faults.add(entry.line, unquotable(entry))
  faults.throwIfAny()
}

export function unquotable({ key }: EnvEntry): string {
  return `no quotes let both Node and dotenv read the value of ${key} unchanged: run \`coffer env run\``
}
