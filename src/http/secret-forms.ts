// The forms of requests for secrets, read from the scan of their bodies: nothing else becomes an object or a
// text.
import { Problem } from '../errors.ts'
import { KIND, type ScanLimit } from '../json/matches.ts'
import { memberPath, OTHERS, Paths } from '../json/paths.ts'
import type { NewSecret } from '../secrets/secrets.ts'
import {
  isSecretName,
  parseInstant,
  parseReference,
  REFS_A_REQUEST,
  type Reference,
  SECRET_NAME_LENGTH,
  SECRET_NAME_RULE,
  SECRET_VALUE_BYTES,
  SECRETS_A_REQUEST,
  SECRETS_BYTES_A_REQUEST,
} from '../wire.ts'
import { FaultAt, type Form } from './form.ts'
import { badRequest } from './problems.ts'

/** The paths of a body, and the most matches of the last of them. */
export type SecretShape = { readonly paths: Paths; readonly limit: ScanLimit }

// Leaf numbers of CREATE: the order of its paths.
const NAME = 0
const VALUE = 1
const ELEMENT_NAME = 2
const ELEMENT_VALUE = 3
const ELEMENT_OTHER = 4
const ELEMENT = 5

export const CREATE: SecretShape = shapeOf(
  ['name', 'value', 'secrets[].name', 'secrets[].value', `secrets[].${OTHERS}`, 'secrets[]'],
  SECRETS_A_REQUEST,
  'secrets',
)
export const UPDATE: SecretShape = shapeOf(['value'], 1, 'values')
// Leaf numbers of RESOLVE.
const AT = 0
const REF = 1
export const RESOLVE: SecretShape = shapeOf(['at', 'refs[]'], REFS_A_REQUEST, 'references')

/** Bytes of the longest reference, and of the longest instant that anybody writes. */
const REFERENCE_BYTES = 400
const INSTANT_BYTES = 100

function shapeOf(paths: readonly string[], matches: number, what: string): SecretShape {
  // Beyond `before`, a secret has an unknown member, which is refused.
  const limit = { leaf: paths.length - 1, matches, what, before: 3 * matches }
  return { paths: new Paths(paths), limit }
}

export type NewSecrets = { readonly secrets: readonly NewSecret[]; readonly many: boolean }

/** `form` with CREATE. Throws Problem: invalid-request, invalid-value, too-large; FaultAt. */
export function newSecrets(form: (known: readonly string[]) => Form, many: boolean): NewSecrets {
  if (many) return { secrets: listed(form(['secrets'])), many }
  const single = form(['name', 'value'])
  const places = { path: '', name: placeOf(single, NAME), value: placeOf(single, VALUE) }
  return { secrets: [newSecret(single, places)], many }
}

function listed(form: Form): NewSecret[] {
  form.list('secrets')
  const { count, leaf, kinds } = form.scan
  const secrets: NewSecret[] = []
  let bytes = 0
  for (let i = 0; i < count; ) {
    const element = i++
    const path = `secrets[${secrets.length}]`
    if (kinds[element] !== KIND.object) throw badRequest(path, 'an object', 'the value is not an object')
    const places = { path, name: -1, value: -1 }
    for (; i < count && leaf[i] !== ELEMENT; i++) {
      if (leaf[i] === ELEMENT_NAME) places.name = i
      else if (leaf[i] === ELEMENT_VALUE) places.value = i
      else if (leaf[i] === ELEMENT_OTHER)
        throw new FaultAt(i, (at) => badRequest(at, 'one of name, value', 'unknown member'))
    }
    const secret = newSecret(form, places)
    secrets.push(secret)
    bytes += secret.name.length + secret.value.length
  }
  if (bytes <= SECRETS_BYTES_A_REQUEST) return secrets
  throw new Problem('too-large', `names and values together are larger than ${SECRETS_BYTES_A_REQUEST} bytes`)
}

/** The places of a name and a value in the object at `path`; -1 where absent. */
type Places = { readonly path: string; readonly name: number; readonly value: number }

function newSecret(form: Form, { path, name, value }: Places): NewSecret {
  const [nameAt, valueAt] = [memberPath(path, 'name'), memberPath(path, 'value')]
  if (name < 0) throw badRequest(nameAt, 'the member', 'name is missing')
  if (value < 0) throw badRequest(valueAt, 'the member', 'value is missing')
  if (!isText(form, name)) throw badRequest(nameAt, SECRET_NAME_RULE, 'a name is a string')
  const text = form.string(name, SECRET_NAME_LENGTH) ?? ''
  checkName(text, nameAt)
  return { name: text, value: secretValue(form, value, valueAt) }
}

/** The value of an update. Throws Problem: invalid-request, invalid-value. */
export function newValue(form: Form): Uint8Array {
  if (form.scan.count === 0) throw badRequest('value', 'the member', 'value is missing')
  return secretValue(form, 0, 'value')
}

function secretValue(form: Form, place: number, path: string): Uint8Array {
  if (!isText(form, place)) throw badRequest(path, 'a string', 'a value is a string')
  const wrong = (reason: string): Problem => new Problem('invalid-value', reason, { path, reason })
  const tooLong = `the string is longer than ${SECRET_VALUE_BYTES} bytes`
  const value = form.string(place, SECRET_VALUE_BYTES)
  if (value === undefined) throw wrong(tooLong)
  if (!value.isWellFormed()) throw wrong('the string is not well-formed Unicode')
  const bytes = Buffer.from(value, 'utf8')
  if (bytes.length > SECRET_VALUE_BYTES) throw wrong(tooLong)
  return bytes
}

export function checkName(name: string, path: string): void {
  if (!isSecretName(name)) throw badRequest(path, SECRET_NAME_RULE, 'the text is not a name of a secret')
}

type Asked = {
  /** As the caller wrote them. */
  readonly texts: readonly string[]
  readonly refs: readonly Reference[]
  readonly at: number | undefined
}

/** `form` with RESOLVE. Throws Problem invalid-request. */
export function referencesOf(form: Form): Asked {
  if (form.member('refs') === undefined) throw badRequest('refs', 'the member', 'refs is missing')
  form.list('refs')
  const { count, leaf } = form.scan
  const texts: string[] = []
  const refs: Reference[] = []
  for (let i = 0; i < count; i++) {
    if (leaf[i] !== REF) continue
    const text = isText(form, i) ? form.string(i, REFERENCE_BYTES) : undefined
    const ref = text === undefined ? undefined : parseReference(text)
    if (text === undefined || ref === undefined) {
      const expected = 'coffer://<name> or coffer://<name>@<version>'
      throw badRequest(`refs[${refs.length}]`, expected, 'the text is not a reference')
    }
    texts.push(text)
    refs.push(ref)
  }
  const place = placeOf(form, AT)
  if (place < 0) return { texts, refs, at: undefined }
  return { texts, refs, at: instantOf(isText(form, place) ? form.string(place, INSTANT_BYTES) : undefined) }
}

export function instantOf(text: string | undefined): number {
  const instant = text === undefined ? undefined : parseInstant(text)
  if (instant === undefined)
    throw badRequest('at', 'an instant, like 2026-01-31T12:00:00Z', '`at` is not an instant')
  return instant
}

/** The first match of a path; -1 where there is none. */
function placeOf({ scan: { count, leaf } }: Form, path: number): number {
  for (let i = 0; i < count; i++) if (leaf[i] === path) return i
  return -1
}

function isText({ scan: { kinds } }: Form, place: number): boolean {
  return kinds[place] === KIND.string || kinds[place] === KIND.escaped
}
