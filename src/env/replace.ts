// Values of a .env file replaced by references. The rest of the file stays as written, and Node and dotenv
// must read the new text as intended before anybody gets the text.
import {
  isSecretName,
  REFERENCE_SCHEME,
  SECRET_VALUE_BYTES,
  SECRETS_A_REQUEST,
  SECRETS_BYTES_A_REQUEST,
} from '../wire.ts'
import { type EnvEntry, type EnvFile, type LineFaults, verify } from './file.ts'

/** The secret to be made of an entry. */
export type NewSecret = { readonly name: string; readonly value: string; readonly entry: EnvEntry }
/** `secrets` in the order of the file. */
type EncryptedFile = { readonly secrets: readonly NewSecret[]; readonly text: string }

export function isReference({ value }: EnvEntry): boolean {
  return value.startsWith(REFERENCE_SCHEME)
}

const OWN: readonly string[] = ['COFFER_URL', 'COFFER_CA', 'COFFER_KEY']

/** Whether the entry is a variable of Coffer's clients: without its value no reference can be resolved. */
export function isOwn({ key }: EnvEntry): boolean {
  return OWN.includes(key)
}

/** Replaces all values but references and Coffer's own variables. Throws OperatorError with all faults. */
export function replaceValues(env: EnvFile, prefix: string): EncryptedFile {
  const secrets = env.entries
    .filter((entry) => !isReference(entry) && !isOwn(entry))
    .map((entry) => ({ name: prefix + entry.key, value: entry.value, entry }))
  for (const { key, line } of env.entries.filter(({ glued }) => glued))
    env.faults.add(
      line,
      `a # follows the value of ${key} without a blank before it, so a part may stay in clear: ` +
        'quote the whole value, or put a blank before the comment',
    )
  findUnfit(secrets, env.faults)
  env.faults.throwIfAny()
  let text = ''
  let copied = 0
  for (const { name, entry } of secrets) {
    text += env.text.slice(copied, entry.from) + entry.quote + REFERENCE_SCHEME + name + entry.quote
    copied = entry.to
  }
  text += env.text.slice(copied)
  const encrypted = new Set(secrets.map(({ entry }) => entry))
  verify(env, text, (entry) => (encrypted.has(entry) ? REFERENCE_SCHEME + prefix + entry.key : entry.value))
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
