// Texts that both sides of the API must read alike: ids, rights, names of secrets, references, instants,
// kinds of ledger; and the limits of secrets (docs/secrets.md).

/** Bytes of UTF-8 in the value of a secret. */
export const SECRET_VALUE_BYTES = 64 * 1024
/** Secrets in a request that creates secrets. */
export const SECRETS_A_REQUEST = 500
/** Bytes of UTF-8 of the names and values in a request that creates secrets. */
export const SECRETS_BYTES_A_REQUEST = 384 * 1024
/** References in a request that resolves references. */
export const REFS_A_REQUEST = 1000

/**
 * The pattern of ids of owners, nodes, API keys and root keys. Without anchors, for use in larger patterns.
 */
export const ID = '[a-z0-9][a-z0-9._-]{0,63}'
const WHOLE_ID = new RegExp(`^${ID}$`)

export function isId(text: string): boolean {
  return WHOLE_ID.test(text)
}

/** What an API key may do, in the order of the contract. */
export const RIGHTS = ['tokenize', 'detokenize', 'rotate', 'secrets:read', 'secrets:write'] as const
export type Right = (typeof RIGHTS)[number]

export function isRight(text: string): text is Right {
  return RIGHTS.some((right) => right === text)
}

/** The limits of a key within its owner; absent: none. */
export type KeyLimits = {
  /** In the order of RIGHTS; empty: nothing. */
  readonly may?: readonly Right[]
  /** Only secrets whose names begin so exist for the key. */
  readonly prefix?: string
  /** Milliseconds since 1970: from then on the key is unknown. */
  readonly until?: number
  /** Values detokenized by the key in a UTC day on one node. */
  readonly resolve_per_day?: number
}
/** Kinds of ledger, as the configuration and `GET /status` name them. */
export const LEDGER_KINDS = ['embedded', 'etcd'] as const
export type LedgerKind = (typeof LEDGER_KINDS)[number]

export const SECRET_NAME_LENGTH = 256
/** The rule for names in words, for errors. */
export const SECRET_NAME_RULE =
  '1 to 256 characters of A-Z a-z 0-9 _ . - and /, no empty segment, no . or .. segment, ' +
  'the last one not history'
/** The `prefix` and `after` of a list: any beginning of a name, or nothing. */
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

/** The rule for the prefix of an API key in words, for errors. */
export const KEY_PREFIX_RULE =
  'the beginning of names of secrets, as app/prod/: no empty segment, no . or .. segment'

/** Whether names of secrets longer than `text` can begin with `text`. */
export function isKeyPrefix(text: string): boolean {
  return text !== '' && isSecretName(`${text}x`) && !/(^|\/)\.\.?$/.test(text)
}

/** `version` undefined: the latest version. */
export type Reference = { readonly name: string; readonly version: number | undefined }

/** Reads `coffer://<name>` or `coffer://<name>@<version>`; undefined where the text is not a reference. */
export function parseReference(text: string): Reference | undefined {
  const match = REFERENCE.exec(text)
  if (!match || !isSecretName(match[1])) return undefined
  return { name: match[1], version: match[2] === undefined ? undefined : Number(match[2]) }
}

/** The last instant of a Date, milliseconds since 1970. */
export const LAST_TIME = 8.64e15

const INSTANT =
  /^(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/

const DAY_MINUTES = 24 * 60

/** RFC 3339 as milliseconds since 1970, rounded down; undefined where the text is not an instant. */
export function parseInstant(text: string): number | undefined {
  const match = INSTANT.exec(text)
  if (!match) return undefined
  const [, date, hour, minute, second, fraction = '', zone] = match
  const day = Date.parse(`${date}T00:00:00Z`)
  // Date.parse reads the 30th of February as the 2nd of March.
  if (Number.isNaN(day) || !new Date(day).toISOString().startsWith(date)) return undefined
  const offset = /[Zz]/.test(zone)
    ? 0
    : Number(`${zone[0]}1`) * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4)))
  const minutes = Number(hour) * 60 + Number(minute) - offset
  // A leap second is the last second of a day in UTC.
  if (second === '60' && (minutes + DAY_MINUTES) % DAY_MINUTES !== DAY_MINUTES - 1) return undefined
  return day + minutes * 60_000 + Number(second) * 1000 + Number(`${fraction.slice(1, 4)}`.padEnd(3, '0'))
}
