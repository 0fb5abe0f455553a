// The three families of errors: problems for callers (RFC 9457), errors for operators, fatal errors.
// docs/errors.md is the table of problems, compared by a test.

export type ProblemEntry = {
  readonly status: number
  readonly title: string
  /** The meaning, and the next step of the caller; shown by `GET /problems/<slug>`. */
  readonly about: string
  /** Members of the answer beside type, title, status, detail and instance. */
  readonly members: readonly string[]
  /** Seconds for `Retry-After`, where the same request may succeed later. */
  readonly retryAfter?: number
}

const table = {
  'invalid-json': {
    status: 400,
    title: 'The body is not acceptable JSON',
    about:
      'The body is empty, not UTF-8, not JSON or broken gzip, nests deeper than 64 levels, or has a member ' +
      'twice in an object.',
    members: ['path', 'expected'],
  },
  'invalid-request': {
    status: 400,
    title: 'The request does not have the documented form',
    about:
      'A member, parameter, header or name is missing, unknown, repeated or malformed. `path` names the ' +
      'place, `expected` says what belongs there.',
    members: ['path', 'expected'],
  },
  unauthorized: {
    status: 401,
    title: 'A valid API key is needed',
    about: 'The API key is missing, malformed, unknown or revoked. Send `Authorization: Bearer <API key>`.',
    members: [],
  },
  forbidden: {
    status: 403,
    title: 'The API key may not do this',
    about:
      'The API key lacks the right `needs`, or has only secrets whose names begin with `prefix`. Nothing ' +
      'was done. Use another key, or ask the operator.',
    members: ['needs', 'prefix'],
  },
  'quota-exceeded': {
    status: 403,
    title: 'The quota of the owner is used up',
    about:
      'With this request the entries of the owner would take more than `quota` bytes; `used` are taken. ' +
      'Nothing was stored. Reads, replays and known values go on. Ask the operator for a larger quota.',
    members: ['quota', 'used'],
  },
  'budget-exceeded': {
    status: 403,
    title: 'The budget of the API key is used up',
    about:
      'With this request the API key would detokenize more than `resolve_per_day` values in this UTC day ' +
      'on this node. Ask for fewer, or tomorrow.',
    members: ['resolve_per_day'],
  },
  'not-found': {
    status: 404,
    title: 'Not found',
    about: 'There is no such token, secret, version or route for this API key.',
    members: [],
  },
  'refs-not-found': {
    status: 404,
    title: 'References were not found',
    about: 'Some references name no secret or version of this owner: `missing` lists all.',
    members: ['missing'],
  },
  'method-not-allowed': {
    status: 405,
    title: 'The method is not allowed here',
    about: 'The path exists, but not with this method: `Allow` lists the methods of the path.',
    members: [],
  },
  'epoch-conflict': {
    status: 409,
    title: 'The epoch cannot be opened from here',
    about: '`to` must be the active epoch plus one (or the active epoch, as a safe retry).',
    members: ['epoch'],
  },
  'secret-exists': {
    status: 409,
    title: 'The secret exists',
    about:
      'A secret is created once: `names` exist or are named twice, and nothing was stored. PUT adds a ' +
      'version.',
    members: ['names'],
  },
  'idempotency-in-progress': {
    status: 409,
    title: 'The first request with this Idempotency-Key is still running',
    about: 'Wait as long as `Retry-After` says, then send the same request again.',
    members: [],
    retryAfter: 1,
  },
  'version-conflict': {
    status: 412,
    title: 'The secret has another version',
    about: '`If-Match` does not match the latest version, which is `version`.',
    members: ['version'],
  },
  'too-large': {
    status: 413,
    title: 'The body is too large',
    about:
      'The body, or the names and values in the body, exceed the configured limit. Send less in one request.',
    members: [],
  },
  'too-many-values': {
    status: 413,
    title: 'Too many values',
    about:
      'The request has more values, tokens, secrets or references than the limit. Send fewer in one request.',
    members: [],
  },
  'answer-too-large': {
    status: 413,
    title: 'The answer would be too large',
    about: 'The answer would exceed the configured limit. Ask for fewer.',
    members: [],
  },
  'unsupported-media-type': {
    status: 415,
    title: 'Unsupported media type',
    about: 'The body must be `application/json` in UTF-8, plain or with `Content-Encoding: gzip`.',
    members: ['path'],
  },
  'not-a-scalar': {
    status: 422,
    title: 'The value is an object or an array',
    about: 'Only strings, numbers, booleans and null can be in a configured field or in `values`.',
    members: ['path', 'reason'],
  },
  'invalid-value': {
    status: 422,
    title: 'The value cannot be stored',
    about:
      'The string is too long or not well-formed Unicode, or the number is not finite or an integer ' +
      'beyond 2^53 - 1: `reason` says why.',
    members: ['path', 'reason'],
  },
  'already-a-token': {
    status: 422,
    title: 'The value is a token already',
    about: 'A valid token of the caller is not tokenized again, unless the body says `"allow_tokens": true`.',
    members: ['path', 'reason'],
  },
  'field-missing': {
    status: 422,
    title: 'A record lacks a required field',
    about:
      'A field that `require` names is not in a record, or is null, at the place `path`; of a list without ' +
      'elements the path ends in `[]`. Nothing was stored. Complete the record, or leave it out.',
    members: ['path'],
  },
  'idempotency-key-reused': {
    status: 422,
    title: 'The Idempotency-Key belongs to another request',
    about: 'This key was used with another method, path, If-Match or body. Use a new key for a new request.',
    members: [],
  },
  internal: {
    status: 500,
    title: 'Internal error',
    about: "A fault of the node. The node's log has the cause under the request id in `instance`.",
    members: [],
  },
  'no-quorum': {
    status: 503,
    title: 'The ledger cannot be reached',
    about:
      "The answer needs the ledger, and no majority of the ledger's members can be reached. " +
      '`outcome` says whether the request has reached the ledger. Send the same request again; a write of ' +
      'secrets with its Idempotency-Key.',
    members: ['outcome'],
    retryAfter: 1,
  },
  'ledger-full': {
    status: 503,
    title: 'The ledger is nearly full',
    about: 'New tokens are refused so that epochs and secrets still fit. Known tokens are served.',
    members: [],
    retryAfter: 60,
  },
  'disk-full': {
    status: 503,
    title: 'The disk is full',
    about:
      'The node cannot store anything new. Known tokens are served. Writes work again when the disk has ' +
      'room.',
    members: [],
    retryAfter: 10,
  },
  overloaded: {
    status: 503,
    title: 'Too much is in work',
    about:
      'The bodies and answers in work, of all owners or of this owner, exceed the limit. Send fewer at ' +
      'once, read answers sooner, or send again later.',
    members: [],
    retryAfter: 1,
  },
  'not-ready': {
    status: 503,
    title: 'The node is not ready',
    about: 'The node is starting or catching up. `GET /ready` lists the reasons.',
    members: ['reasons'],
    retryAfter: 1,
  },
  stopping: {
    status: 503,
    title: 'The node is stopping',
    about: 'The node finishes the requests that have begun and takes no new requests. Use another node.',
    members: [],
    retryAfter: 1,
  },
  'ledger-changed': {
    status: 503,
    title: 'The ledger is not the one that this node follows',
    about:
      'The ledger has another identity or has lost entries. Nothing was deleted. An operator decides: ' +
      '`coffer replica reset`.',
    members: [],
    retryAfter: 60,
  },
  'unknown-root-key': {
    status: 503,
    title: 'A root key is missing on this node',
    about:
      "A key of the owner's data is wrapped by a root key that this node's keyring lacks. Add it, and send " +
      'the node SIGHUP.',
    members: [],
    retryAfter: 60,
  },
} as const satisfies Record<string, ProblemEntry>

export type Slug = keyof typeof table
export const PROBLEMS: Readonly<Record<Slug, ProblemEntry>> = table

/** An error of the table, for a caller. The text never repeats a value, a secret or a key. */
export class Problem extends Error {
  override readonly name = 'Problem'
  readonly slug: Slug
  readonly members: Readonly<Record<string, unknown>>

  constructor(slug: Slug, detail: string, members: Readonly<Record<string, unknown>> = {}) {
    super(detail)
    this.slug = slug
    this.members = members
  }

  get status(): number {
    return PROBLEMS[this.slug].status
  }

  /** True where the same request may succeed later. */
  get retryable(): boolean {
    return PROBLEMS[this.slug].retryAfter !== undefined
  }
}

/** Exit code of a command that failed. */
export const FAILED = 1
/** Exit code of a command with a wrong argument, option or variable of the environment. */
export const USED_WRONGLY = 2

type OperatorErrorOptions = ErrorOptions & {
  /** The next step of the person who reads the message. */
  readonly hint?: string
  readonly exitCode?: number
}

/**
 * An error for the person at a terminal: printed without a stack. The message names the fault and its place.
 */
export class OperatorError extends Error {
  override readonly name: string = 'OperatorError'
  readonly hint: string | undefined
  readonly exitCode: number

  constructor(message: string, { hint, exitCode = FAILED, ...options }: OperatorErrorOptions = {}) {
    super(message, options)
    this.hint = hint
    this.exitCode = exitCode
  }
}

/** A command was used wrongly: an argument, an option or a variable of the environment is not valid. */
export class UsageError extends OperatorError {
  override readonly name = 'UsageError'

  constructor(message: string, options: Omit<OperatorErrorOptions, 'exitCode'> = {}) {
    super(message, { ...options, exitCode: USED_WRONGLY })
  }
}

/** An error after which the node must end: its data cannot be trusted, or an invariant is broken. */
export class FatalError extends Error {
  override readonly name: string = 'FatalError'
}

/** The code of an error of Node or of the system, such as `ENOENT`; undefined where the error has none. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
