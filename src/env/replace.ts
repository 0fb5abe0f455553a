// Values of a .env file replaced by references, and references by values. All else stays as it is written,
// and both parsers must read the new text as it is meant, before anybody gets it.
import { assert } from '../assert.ts'
import {
  isSecretName,
  REFERENCE_SCHEME,
  SECRET_VALUE_BYTES,
  SECRETS_A_REQUEST,
  SECRETS_BYTES_A_REQUEST,
} from '../wire.ts'
import { type Entry, type EnvFile, type Faults, type Quote, readsAs, readsValue } from './file.ts'

/** A value that becomes the secret `name`. */
export type Planned = { readonly name: string; readonly value: string; readonly entry: Entry }
/** In the order of the file. */
type Encrypted = { readonly secrets: readonly Planned[]; readonly text: string }

export function isReference({ value }: Entry): boolean {
  return value.startsWith(REFERENCE_SCHEME)
}

/** Every value that is no reference becomes one. Throws OperatorError with all that is wrong in the file. */
export function toReferences(env: EnvFile, prefix: string): Encrypted {
  const secrets = env.entries
    .filter((entry) => !isReference(entry))
    .map((entry) => ({ name: prefix + entry.key, value: entry.value, entry }))
  findUnfit(secrets, env.faults)
  env.faults.check()
  let text = ''
  let done = 0
  for (const { name, entry } of secrets) {
    text += env.text.slice(done, entry.from) + entry.quote + REFERENCE_SCHEME + name + entry.quote
    done = entry.to
  }
  text += env.text.slice(done)
  verify(env, text, (entry) => (isReference(entry) ? entry.value : REFERENCE_SCHEME + prefix + entry.key))
  return { secrets, text }
}

function findUnfit(secrets: readonly Planned[], faults: Faults): void {
  let sum = 0
  for (const { name, value, entry } of secrets) {
    const { line, key } = entry
    const bytes = Buffer.byteLength(value)
    if (!isSecretName(name))
      faults.add(line, `${key} gives no name of a secret: rename it, or take another --prefix`)
    if (bytes > SECRET_VALUE_BYTES)
      faults.add(
        line,
        `the value of ${key} has ${bytes} bytes, of ${SECRET_VALUE_BYTES} that a secret can have`,
      )
    if (sum <= SECRETS_BYTES_A_REQUEST && sum + name.length + bytes > SECRETS_BYTES_A_REQUEST)
      faults.add(
        line,
        `from here on there are more than the ${SECRETS_BYTES_A_REQUEST} bytes of names and values that can be encrypted at once: move the rest into another file`,
      )
    sum += name.length + bytes
  }
  const { length } = secrets
  if (length <= SECRETS_A_REQUEST) return
  const [first, last] = [secrets[SECRETS_A_REQUEST], secrets[length - 1]].map(({ entry }) => entry.line)
  faults.add(
    first,
    `${length} values, of ${SECRETS_A_REQUEST} that can be encrypted at once: move the lines ${first} to ${last} into another file`,
  )
}

/**
 * Every reference becomes its value, in quotes that let both parsers read exactly that. Throws OperatorError
 * with the values that no quotes carry.
 */
export function toValues(env: EnvFile, resolved: ReadonlyMap<string, string>): string {
  const meant = (entry: Entry): string => {
    if (!isReference(entry)) return entry.value
    const value = resolved.get(entry.value)
    assert(value !== undefined, 'every reference is resolved')
    return value
  }
  // From the end: how a line is read depends on those that follow, and never on those before it.
  let rest = ''
  let done = env.text.length
  for (const entry of env.entries.toReversed()) {
    rest = env.text.slice(entry.end, done) + rest
    const line = isReference(entry)
      ? lineWith(env.text, entry, meant(entry), rest)
      : env.text.slice(entry.start, entry.end)
    if (line === undefined) env.faults.add(entry.line, cannotCarry(entry))
    rest = (line ?? '') + rest
    done = entry.start
  }
  env.faults.check()
  const text = env.text.slice(0, done) + rest
  verify(env, text, meant)
  return text
}

function cannotCarry({ key }: Entry): string {
  return `no quotes let both Node and dotenv read the value of ${key} as it is: \`coffer env run\` needs none`
}

/** undefined where no way to write the value is read as it is. `rest` is what follows the line. */
function lineWith(text: string, entry: Entry, value: string, rest: string): string | undefined {
  const { key, start, end, from, to } = entry
  for (const written of waysToWrite(value, entry.quote)) {
    const line = text.slice(start, from) + written + text.slice(to, end)
    // What follows matters to an empty value, and to one that ends with a backslash: dotenv takes \" for no
    // end of the quotes, where it finds another one.
    const matters = written === '' || /\\['"`]$/.test(written)
    if (readsValue(matters ? line + rest : line, key, value)) return line
  }
  return undefined
}

function waysToWrite(value: string, own: Quote): string[] {
  const quotes: readonly Quote[] = [own, "'", '"', '`']
  // Without quotes, one at the beginning would be looked for in the lines that follow.
  const fit = quotes.filter((quote) => quote !== '' || !/^['"`]/.test(value))
  return [...fit.map((quote) => quote + value + quote), `"${value.replaceAll('\n', '\\n')}"`]
}

/** Throws OperatorError with the lines that would not be read as they are meant. */
function verify({ entries, faults }: EnvFile, text: string, meant: (entry: Entry) => string): void {
  if (readsAs(text, new Map(entries.map((entry) => [entry.key, meant(entry)])))) return
  const wrong = entries.filter((entry) => !readsValue(text, entry.key, meant(entry)))
  for (const entry of wrong.length > 0 ? wrong : entries) faults.add(entry.line, cannotCarry(entry))
  faults.check()
}
