// What both sides of the API must read alike: names of secrets, references to them, and their limits
// (docs/secrets.md).

/** Bytes of UTF-8 in one secret's value. */
export const SECRET_VALUE_BYTES = 64 * 1024
/** Secrets that one request creates; and bytes of UTF-8 of their names and values together. */
export const SECRETS_A_REQUEST = 500
export const SECRETS_BYTES_A_REQUEST = 384 * 1024
/** References that one request resolves. */
export const REFS_A_REQUEST = 1000

/**
 * The pattern of ids of owners, nodes, API keys and root keys. Without anchors, as part of larger patterns.
 */
export const ID = '[a-z0-9][a-z0-9._-]{0,63}'
const WHOLE_ID = new RegExp(`^${ID}$`)

export function isId(text: string): boolean {
  return WHOLE_ID.test(text)
}

export const SECRET_NAME_LENGTH = 256
/** What a name is, in words, for errors. */
export const SECRET_NAME_RULE =
  '1 to 256 characters of A-Z a-z 0-9 _ . - and /, no empty segment, no . or .. segment, the last one not history'
/** Where names begin that a list is asked for, or after which: any part of one. */
export const NAME_PART = new RegExp(`^[A-Za-z0-9_.\\-/]{0,${SECRET_NAME_LENGTH}}$`)
export const REFERENCE_SCHEME = 'coffer://'

/** A part of a name between slashes; `end` matches the end of the name. */
const segment = (end: string): string => `(?!\\.\\.?(?:/|${end}))[A-Za-z0-9_.-]+`
const name = (end: string): string => `(?!(?:.*/)?history(?:${end}))${segment(end)}(?:/${segment(end)})*`

/** For the OpenAPI document; the length of names is not in the pattern. */
export const SECRET_NAME_PATTERN = `^${name('$')}$`
/** For the OpenAPI document; the length of names is not in the pattern. */
export const REFERENCE_PATTERN = `^coffer://${name('@|$')}(?:@[1-9][0-9]{0,9})?$`

const NAME = new RegExp(SECRET_NAME_PATTERN)
const REFERENCE = /^coffer:\/\/([^@]*)(?:@([1-9][0-9]{0,9}))?$/

export function isSecretName(text: string): boolean {
  return text.length <= SECRET_NAME_LENGTH && NAME.test(text)
}

/** `version` undefined: the latest one. */
export type Reference = { readonly name: string; readonly version: number | undefined }

/**
 * What `coffer://<name>` or `coffer://<name>@<version>` refers to; undefined where the text is no reference.
 */
export function parseReference(text: string): Reference | undefined {
  const match = REFERENCE.exec(text)
  if (!match || !isSecretName(match[1])) return undefined
  return { name: match[1], version: match[2] === undefined ? undefined : Number(match[2]) }
}

const INSTANT =
  /^(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/

/** RFC 3339 as milliseconds since 1970, rounded down; undefined where it is none. */
export function parseInstant(text: string): number | undefined {
  const match = INSTANT.exec(text)
  if (!match) return undefined
  const [, date, hour, minute, second, fraction = '', zone] = match
  const day = Date.parse(`${date}T00:00:00Z`)
  // Date.parse takes the 30th of February for the 2nd of March.
  if (Number.isNaN(day) || !new Date(day).toISOString().startsWith(date)) return undefined
  const offset = /[Zz]/.test(zone)
    ? 0
    : Number(`${zone[0]}1`) * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4)))
  const minutes = Number(hour) * 60 + Number(minute) - offset
  return day + minutes * 60_000 + Number(second) * 1000 + Number(`${fraction.slice(1, 4)}`.padEnd(3, '0'))
}
