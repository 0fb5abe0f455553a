// Remarks on a .env file for its owner, before others get the file with references: text in clear that stays,
// and values with another meaning to other readers. Lines are told, and never values.
import type { EnvFile } from './file.ts'
import { isOwn, isReference, type NewSecret } from './replace.ts'

export type Remark = {
  /** Ascending, from 1. */
  readonly lines: readonly number[]
  /** The fact, and the next step. */
  readonly text: string
  /** Whether the remark is a fault under --strict. */
  readonly strict: boolean
}

/** An entry in a comment: at its beginning any, among other words a name in capitals. */
const ENTRY =
  /^[#\s]*(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_.-]*[ \t]*=[ \t]*\S|[\s"'`(:;,][A-Z_][A-Z0-9_]*=[^\s=]/
const BARE_NAME = /^[ \t]*(?:export[ \t]+)?[A-Z_][A-Z0-9_]*[ \t\r]*$/
const VARIABLE = /\$\{?[A-Za-z_]/
const API_KEY = /cof_[0-9a-z]{16}/
/** A shorter value, such as `production`, is in many comments by chance. */
const TELLING_CHARACTERS = 12

/** The remarks on a file whose values become `secrets`. */
export function remarksOn(env: EnvFile, secrets: readonly NewSecret[]): Remark[] {
  const { entries } = env
  const comments = commentsOf(env)
  const linesOf = (found: readonly { readonly line: number }[]): number[] =>
    [...new Set(found.map(({ line }) => line))].sort((a, b) => a - b)
  const own = entries.filter(isOwn)
  const clear = own.filter((entry) => entry.value !== '' && !isReference(entry))
  const values = secrets.map(({ value }) => value).filter((value) => value.length >= TELLING_CHARACTERS)
  const telling = ({ text }: Comment): boolean =>
    ENTRY.test(text) || values.some((value) => text.includes(value))
  const remarks = [
    {
      lines: linesOf([
        ...clear.filter(({ key }) => key === 'COFFER_KEY'),
        ...comments.filter(({ text }) => API_KEY.test(text)),
      ]),
      text:
        'an API key stays in clear: do not commit the file; remove the key, and set COFFER_KEY where ' +
        'coffer runs',
      strict: true,
    },
    {
      lines: linesOf(own),
      text:
        'variables of coffer stay as they are, and coffer does not read them here: set them where coffer ' +
        'runs',
      strict: false,
    },
    {
      lines: linesOf(comments.filter(telling)),
      text: 'entries in comments stay in clear: remove those that were ever true',
      strict: true,
    },
    {
      lines: linesOf(entries.filter((entry) => VARIABLE.test(entry.value) && !isReference(entry))),
      text:
        'values with $NAME are stored as written; compose, Next.js and shells put a variable there, Node ' +
        'and dotenv do not: `coffer env expand --for compose` writes for compose',
      strict: true,
    },
    {
      lines: linesOf(comments.filter(({ text }) => BARE_NAME.test(text))),
      text: 'bare names stay in clear: remove them if they are the rest of a value',
      strict: true,
    },
  ]
  return remarks.filter(({ lines }) => lines.length > 0)
}

type Comment = { readonly line: number; readonly text: string }

/** All text outside entries, by line, and the comments behind values. */
function commentsOf({ text, entries }: EnvFile): Comment[] {
  const comments: Comment[] = []
  let at = 0
  let line = 1
  const take = (from: number, to: number): void => {
    line += text.slice(at, from).split('\n').length - 1
    for (const [i, each] of text.slice(from, to).split('\n').entries())
      if (each.trim() !== '') comments.push({ line: line + i, text: each })
    line += text.slice(from, to).split('\n').length - 1
    at = to
  }
  for (const entry of entries) {
    take(at, entry.start)
    take(entry.to, entry.end)
  }
  take(at, text.length)
  return comments
}

const LINES_TOLD = 20

/** As `FILE: warning: TEXT (lines 3, 7)`. */
export function remarkText(file: string, { lines, text }: Pick<Remark, 'lines' | 'text'>): string {
  const more = lines.length > LINES_TOLD ? ` and ${lines.length - LINES_TOLD} more` : ''
  const places = lines.slice(0, LINES_TOLD).join(', ')
  const head = lines.length === 1 ? 'line' : `${lines.length} lines:`
  return `${file}: warning: ${text} (${head} ${places}${more})`
}
