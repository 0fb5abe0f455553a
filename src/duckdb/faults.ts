// Errors of DuckDB for a person, without values. Texts about statements stay; of errors about rows only the
// class and a known beginning stay, since the texts quote values.
import { AssertionError } from '../assert.ts'
import { FatalError, OperatorError } from '../errors.ts'

const MOST_MESSAGES = 100

/**
 * Messages of errors thrown by our functions. DuckDB passes a message on as an error of its own, and
 * has errors of the same class whose texts quote values.
 */
export class OwnErrors {
  readonly #messages = new Set<string>()

  /** Errors of other classes, such as of a parser, may quote values. */
  add(error: unknown): void {
    if (!(error instanceof OperatorError || error instanceof AssertionError)) return
    if (this.#messages.size === MOST_MESSAGES) this.#messages.clear()
    this.#messages.add(error.message)
  }

  has(message: string): boolean {
    return this.#messages.has(message)
  }
}

type Context = {
  readonly own?: OwnErrors
  /** The statements of a user, or the path of a file of a user: text to repeat. */
  readonly known?: string
}

/** An error of DuckDB for a person, without values; other errors as they are. */
export function toOperatorError(error: unknown, context: Context = {}): unknown {
  if (!(error instanceof Error) || error instanceof OperatorError || error instanceof FatalError) return error
  if (error.constructor !== Error) return error // a fault of ours, such as a TypeError
  return new OperatorError(withoutValues(error.message, context))
}

/** Our errors have the class of `throw` in functions. */
const CLASS_OF_OWN = 'Invalid Input Error'
/** Their texts are about statements, names and the system. */
const ABOUT_STATEMENTS: readonly string[] = [
  'Parser Error',
  'Syntax Error',
  'Binder Error',
  'Catalog Error',
  'Dependency Error',
  'Permission Error',
  'Settings Error',
  'Missing Extension Error',
  'Out of Memory Error',
  'INTERRUPT Error',
]
/** In quotes stand paths, names and options, or values made paths by a statement. */
const WITH_QUOTES: readonly string[] = ['IO Error', 'Not implemented Error', 'HTTP Error']

/** Beginnings of texts of the other classes, without values. */
const BEGINNINGS: readonly RegExp[] = [
  /^CSV Error on Line: \d+/,
  /^Could not convert string/,
  /^Duplicate key/,
  /^NOT NULL constraint failed: [^\s:]+/,
  /^File '[^'\n]*' too small to be a Parquet file/,
  /^No magic bytes found at end of file '[^'\n]*'/,
  /^Invalid string encoding found in Parquet file "[^"\n]*"/,
  /^Cannot execute statement of type "[A-Z_ ]+" on database "[^"\n]*" which is attached in read-only mode!/,
  /^More than one row returned by a subquery used as an expression/,
  /^Current transaction is aborted \(please ROLLBACK\)/,
  /^Failed to commit/,
  /^Overflow in [a-z ]+ of [A-Z0-9]+/,
]

function withoutValues(message: string, { own, known = '' }: Context): string {
  const parts = /^([A-Z][A-Za-z ]* Error): ([\s\S]*)$/.exec(message)
  if (parts === null) return message // of DuckDB's package, about the call
  const [, type, text] = parts
  const place = placeIn(text, known)
  const head = place === '' ? text : text.slice(0, -place.length)
  if (type === CLASS_OF_OWN && own?.has(head)) return text
  if (ABOUT_STATEMENTS.includes(type)) return `${type}: ${withoutMembers(text)}`
  if (WITH_QUOTES.includes(type)) return `${type}: ${withoutQuotes(head, known)}${place}`
  const beginning = BEGINNINGS.map((each) => each.exec(head)?.[0]).find((each) => each !== undefined)
  const rest = beginning === undefined ? 'the text' : `${beginning}; the rest of the text`
  return `${type}: ${rest} may quote values, and is left out${place}`
}

/** The end of a text with a place in a statement: the line of the statement, and an arrow below. */
function placeIn(text: string, known: string): string {
  const at = text.lastIndexOf('\n\nLINE ')
  const line = at < 0 ? undefined : /^\n\nLINE \d+: (.*)\n *\^$/.exec(text.slice(at))?.[1]
  if (line === undefined) return ''
  return known.includes(line.replace(/^\.\.\./, '').replace(/\.\.\.$/, '')) ? text.slice(at) : ''
}

/** The name of the type of a column is the list of its members. */
function withoutMembers(text: string): string {
  return text.replace(/ENUM\((?:'(?:[^']|'')*'(?:, )?)+\)/g, 'ENUM(…)')
}

function withoutQuotes(text: string, known: string): string {
  return withoutMembers(text).replace(/"[^"\n]*"|'[^'\n]*'/g, (quoted) =>
    known.includes(quoted.slice(1, -1)) ? quoted : '…',
  )
}
