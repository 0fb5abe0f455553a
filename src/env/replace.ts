// Values of a .env file replaced by references, and references by values. The rest of the file stays as
// written, and Node and dotenv must read the new text as intended before anybody gets the text.
import { assert } from '../assert.ts'
import {
  isSecretName,
  REFERENCE_SCHEME,
  SECRET_VALUE_BYTES,
  SECRETS_A_REQUEST,
  SECRETS_BYTES_A_REQUEST,
} from '../wire.ts'
import {
  type EnvEntry,
  type EnvFile,
  type LineFaults,
  parsersRead,
  parsersReadValue,
  type Quote,
} from './file.ts'

/** The secret to be made of an entry. */
export type NewSecret = { readonly name: string; readonly value: string; readonly entry: EnvEntry }
/** `secrets` in the order of the file. */
type EncryptedFile = { readonly secrets: readonly NewSecret[]; readonly text: string }

export function isReference({ value }: EnvEntry): boolean {
  return value.startsWith(REFERENCE_SCHEME)
}

/** Replaces all values but references. Throws OperatorError with all faults of the file. */
export function replaceValues(env: EnvFile, prefix: string): EncryptedFile {
  const secrets = env.entries
    .filter((entry) => !isReference(entry))
    .map((entry) => ({ name: prefix + entry.key, value: entry.value, entry }))
  findUnfit(secrets, env.faults)
  env.faults.throwIfAny()
  let text = ''
  let copied = 0
  for (const { name, entry } of secrets) {
    text += env.text.slice(copied, entry.from) + entry.quote + REFERENCE_SCHEME + name + entry.quote
    copied = entry.to
  }
  text += env.text.slice(copied)
  verify(env, text, (entry) => (isReference(entry) ? entry.value : REFERENCE_SCHEME + prefix + entry.key))
  return { secrets, text }
}

function findUnfit(secrets: readonly NewSecret[], faults: LineFaults): void {
  let sum = 0
  for (const { name, value, entry } of secrets) {
    const { line, key } = entry
    const bytes = Buffer.byteLength(value)
    if (!isSecretName(name))
      faults.add(line, `${key} does not make a valid secret name: rename the key, or use another --prefix`)
    if (bytes > SECRET_VALUE_BYTES)
      faults.add(
        line,
        `the value of ${key} has ${bytes} bytes, of at most ${SECRET_VALUE_BYTES}: store the value elsewhere`,
      )
    if (sum <= SECRETS_BYTES_A_REQUEST && sum + name.length + bytes > SECRETS_BYTES_A_REQUEST)
      faults.add(
        line,
        `from this line on, names and values exceed the ${SECRETS_BYTES_A_REQUEST} bytes of one run: ` +
          'move the rest into another file',
      )
    sum += name.length + bytes
  }
  const { length } = secrets
  if (length <= SECRETS_A_REQUEST) return
  const [first, last] = [secrets[SECRETS_A_REQUEST], secrets[length - 1]].map(({ entry }) => entry.line)
  faults.add(
    first,
    `${length} values, and one run encrypts at most ${SECRETS_A_REQUEST}: ` +
      `move the lines ${first} to ${last} into another file`,
  )
}

/**
 * Replaces every reference by its value, in quotes with which Node and dotenv read exactly the value. Throws
 * OperatorError with the keys whose values no quotes can carry.
 */
export function replaceReferences(env: EnvFile, resolved: ReadonlyMap<string, string>): string {
  const intended = (entry: EnvEntry): string => {
    if (!isReference(entry)) return entry.value
    const value = resolved.get(entry.value)
    assert(value !== undefined, 'every reference is resolved')
    return value
  }
  // From the end: how a line is read depends on the lines after it, never on the lines before it.
  let rest = ''
  let start = env.text.length
  for (const entry of env.entries.toReversed()) {
    rest = env.text.slice(entry.end, start) + rest
    const line = isReference(entry)
      ? lineWith(env.text, entry, intended(entry), rest)
      : env.text.slice(entry.start, entry.end)
    if (line === undefined) env.faults.add(entry.line, unquotable(entry))
    rest = (line ?? '') + rest
    start = entry.start
  }
  env.faults.throwIfAny()
  const text = env.text.slice(0, start) + rest
  verify(env, text, intended)
  return text
}

function unquotable({ key }: EnvEntry): string {
  return `no quotes let both Node and dotenv read the value of ${key} unchanged: run \`coffer env run\``
}

/**
 * The line with the value; undefined: no way to write the value is read back. `rest`: the text after the
 * line.
 */
function lineWith(text: string, entry: EnvEntry, value: string, rest: string): string | undefined {
  const { key, start, end, from, to } = entry
  for (const written of quotedForms(value, entry.quote)) {
    const line = text.slice(start, from) + written + text.slice(to, end)
    // The text after the line matters for an empty value, and for a value with a backslash at the end: dotenv
    // does not end the quotes at a \" if there is another quote later.
    const restMatters = written === '' || /\\['"`]$/.test(written)
    if (parsersReadValue(restMatters ? line + rest : line, key, value)) return line
  }
  return undefined
}

function quotedForms(value: string, own: Quote): string[] {
  const quotes: readonly Quote[] = [own, "'", '"', '`']
  // An unquoted value with a quote at the start would be read on to the next quote in later lines.
  const possible = quotes.filter((quote) => quote !== '' || !/^['"`]/.test(value))
  return [...possible.map((quote) => quote + value + quote), `"${value.replaceAll('\n', '\\n')}"`]
}

/** Throws OperatorError with the lines that Node or dotenv would not read as intended. */
function verify({ entries, faults }: EnvFile, text: string, intended: (entry: EnvEntry) => string): void {
  if (parsersRead(text, new Map(entries.map((entry) => [entry.key, intended(entry)])))) return
  const misread = entries.filter((entry) => !parsersReadValue(text, entry.key, intended(entry)))
  for (const entry of misread.length > 0 ? misread : entries) faults.add(entry.line, unquotable(entry))
  faults.throwIfAny()
}
