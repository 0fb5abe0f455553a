// The operations of the OpenAPI document: docs/api.md for machines. Requests are not checked
// against these schemas: bodies are checked by the scan, whose errors name the place.
import { PROBLEMS, type Slug } from '../errors.ts'
import {
  LEDGER_KINDS,
  NAME_PART,
  REFERENCE_PATTERN,
  REFS_A_REQUEST,
  RIGHTS,
  SECRET_NAME_LENGTH,
  SECRET_NAME_PATTERN,
  SECRET_VALUE_BYTES,
  SECRETS_A_REQUEST,
} from '../wire.ts'

export type Schema = Readonly<Record<string, unknown>>

export type Operation = {
  readonly summary: string
  readonly tag: 'tokens' | 'epochs' | 'secrets' | 'node'
  readonly body?: Schema
  readonly path?: Readonly<Record<string, Schema>>
  readonly query?: Readonly<Record<string, Schema>>
  readonly headers?: Readonly<Record<string, Schema>>
  /** The status of success: 200 where absent. */
  readonly status?: number
  readonly answer: Schema
  /** The media type of the answer: application/json where absent. */
  readonly type?: string
  readonly answerHeaders?: Readonly<Record<string, Schema>>
  /** Beside the problems of every operation with a key, a right or a body. */
  readonly problems?: readonly Slug[]
}

const TOKEN = { type: 'string', pattern: '^tok_[1-9][0-9]{0,9}_[0-9a-hjkmnp-tv-z]{32}$' }
const NULLABLE_TOKENS = { type: 'array', items: { ...TOKEN, type: ['string', 'null'] } }
const LIMIT = 'More than the configured limit of values a request is 413 too-many-values.'
/** Any string may be asked for: a string other than a token of the caller is not found. */
const ASKED_TOKENS = { type: 'array', items: { type: ['string', 'null'] }, description: LIMIT }
const EPOCH = { type: 'integer', minimum: 1 }
const SCALAR = {
  type: ['string', 'number', 'boolean', 'null'],
  minimum: Number.MIN_SAFE_INTEGER,
  maximum: Number.MAX_SAFE_INTEGER,
}
const VALUES = { type: 'array', items: SCALAR }
const RECORDS = { type: 'array', items: { type: 'object' } }
const INDICES = { type: 'array', items: { type: 'integer', minimum: 0 } }
const COUNT = { type: 'integer', minimum: 0 }
const TEXT = { type: 'string' }
const TEXTS = { type: 'array', items: TEXT }
const FLAG = { type: 'boolean' }

function object(properties: Readonly<Record<string, unknown>>, required = Object.keys(properties)): Schema {
  return { type: 'object', properties, required, additionalProperties: false }
}

const TOKENIZED_VALUES = {
  ...VALUES,
  description:
    `${LIMIT} A string over the limit of a value, or that is not well-formed Unicode, and a number outside
the bounds are 422 invalid-value; a string that is a token of the caller is 422
already-a-token.`.replaceAll('\n', ' '),
}
const TOKENIZED_RECORDS = {
  ...RECORDS,
  description: 'An object or an array in a configured field is 422 not-a-scalar; else as in values.',
}
/** The document of a node lists its fields. */
export const CONFIGURED_FIELD = { type: 'string', description: 'A configured field' }
const REQUIRED_FIELDS = {
  type: 'array',
  items: CONFIGURED_FIELD,
  uniqueItems: true,
  description:
    'Each record must have a value other than null in each of these fields, and in every element of a list ' +
    'on the way; else 422 field-missing.',
}
const NOT_FOUND_PLACES = { type: 'array', items: object({ record: COUNT, path: TEXT }) }

const NAME = {
  type: 'string',
  pattern: SECRET_NAME_PATTERN,
  minLength: 1,
  maxLength: SECRET_NAME_LENGTH,
}
const SECRET_VALUE = {
  type: 'string',
  description: `More than ${SECRET_VALUE_BYTES} bytes of UTF-8, or ill-formed Unicode, is 422 invalid-value.`,
}
const INSTANT = { type: 'string', format: 'date-time' }
const OPEN_END = { type: ['string', 'null'], format: 'date-time' }
const VERSION = { type: 'integer', minimum: 1 }
const NEW_SECRET = object({ name: NAME, value: SECRET_VALUE })
const WRITTEN = object({ name: NAME, version: VERSION, valid_from: INSTANT })
const PART = { type: 'string', pattern: NAME_PART.source }
const ETAG = { ETag: { type: 'string', pattern: '^"[1-9][0-9]*"$' } }
const IDEMPOTENCY_KEY = {
  type: 'string',
  pattern: '^[\\x20-\\x7e]{1,128}$',
  description: 'Quotes around the key are no part of it.',
}
const REPLAYED = { 'Idempotency-Replayed': { type: 'string', const: 'true' } }
const IF_MATCH = {
  type: 'string',
  pattern: '^(\\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$',
  description:
    'RFC 9110, 13.1.1. Read where the secret exists: an absent secret is 404 whatever If-Match says.',
}
const WRITES = [
  'idempotency-in-progress',
  'idempotency-key-reused',
  'invalid-value',
  'quota-exceeded',
] as const

export const OPERATIONS = {
  tokenize: {
    summary: 'Replace values by tokens',
    tag: 'tokens',
    body: {
      oneOf: [
        object({ records: TOKENIZED_RECORDS, allow_tokens: FLAG, require: REQUIRED_FIELDS }, ['records']),
        object({ values: TOKENIZED_VALUES, allow_tokens: FLAG }, ['values']),
      ],
    },
    answer: {
      oneOf: [
        object({ epoch: EPOCH, records: RECORDS, replaced: COUNT }),
        object({ epoch: EPOCH, tokens: NULLABLE_TOKENS }),
      ],
    },
    problems: [
      'too-many-values',
      'answer-too-large',
      'not-a-scalar',
      'invalid-value',
      'already-a-token',
      'field-missing',
      'quota-exceeded',
    ],
  },
  detokenize: {
    summary: 'Turn tokens back into values',
    tag: 'tokens',
    body: {
      oneOf: [
        object({ token: { type: 'string' } }),
        object({ tokens: ASKED_TOKENS }),
        object({ records: RECORDS }),
      ],
    },
    answer: {
      oneOf: [
        object({ value: SCALAR }),
        object({ values: VALUES, not_found: INDICES }),
        object({ records: RECORDS, not_found: NOT_FOUND_PLACES }),
      ],
    },
    problems: ['not-found', 'too-many-values', 'answer-too-large', 'budget-exceeded'],
  },
  retokenize: {
    summary: 'The same values under the active epoch',
    tag: 'tokens',
    body: object({ tokens: ASKED_TOKENS }),
    answer: object({ epoch: EPOCH, tokens: NULLABLE_TOKENS, not_found: INDICES }),
    problems: ['too-many-values', 'answer-too-large', 'quota-exceeded'],
  },
  rotateEpoch: {
    summary: 'Open the next epoch',
    tag: 'epochs',
    body: object({ to: { ...EPOCH, description: 'The active epoch plus one; else 409 epoch-conflict.' } }),
    answer: object({ epoch: EPOCH, rotated: FLAG }),
    problems: ['epoch-conflict', 'quota-exceeded'],
  },
  epochs: {
    summary: 'Epochs of the owner',
    tag: 'epochs',
    answer: object({
      active: EPOCH,
      epochs: {
        type: 'array',
        items: object({ epoch: EPOCH, opened_at: INSTANT, closed_at: OPEN_END, tokens: COUNT }),
      },
    }),
    problems: ['answer-too-large'],
  },
  createSecrets: {
    summary: 'Create one secret, or several: all or none',
    tag: 'secrets',
    body: {
      oneOf: [
        NEW_SECRET,
        object({
          secrets: {
            type: 'array',
            items: NEW_SECRET,
            description: `Over ${SECRETS_A_REQUEST}: 413 too-many-values. A name twice: 409 secret-exists.`,
          },
        }),
      ],
    },
    headers: { 'Idempotency-Key': IDEMPOTENCY_KEY },
    status: 201,
    answer: { oneOf: [WRITTEN, object({ secrets: { type: 'array', items: WRITTEN } })] },
    answerHeaders: { ...ETAG, ...REPLAYED },
    problems: [...WRITES, 'secret-exists', 'too-many-values'],
  },
  updateSecret: {
    summary: 'The next version of a secret',
    tag: 'secrets',
    path: { name: NAME },
    body: object({ value: SECRET_VALUE }),
    headers: { 'Idempotency-Key': IDEMPOTENCY_KEY, 'If-Match': IF_MATCH },
    answer: WRITTEN,
    answerHeaders: { ...ETAG, ...REPLAYED },
    problems: [...WRITES, 'not-found', 'version-conflict'],
  },
  readSecret: {
    summary: 'A version of a secret: the latest, by number, or at an instant',
    tag: 'secrets',
    path: { name: NAME },
    query: {
      version: { ...VERSION, maximum: 9_999_999_999, description: 'Not with at.' },
      at: { ...INSTANT, description: 'Not with version; not in the future.' },
    },
    answer: object({
      name: NAME,
      value: SECRET_VALUE,
      version: VERSION,
      valid_from: INSTANT,
      valid_to: OPEN_END,
    }),
    answerHeaders: ETAG,
    problems: ['not-found', 'answer-too-large'],
  },
  secretHistory: {
    summary: 'The versions of a secret, without values',
    tag: 'secrets',
    path: { name: NAME },
    answer: object({
      name: NAME,
      versions: {
        type: 'array',
        items: object({
          version: VERSION,
          valid_from: INSTANT,
          valid_to: OPEN_END,
          key_id: TEXT,
          request_id: TEXT,
        }),
      },
    }),
    problems: ['not-found', 'answer-too-large'],
  },
  listSecrets: {
    summary: 'Names of secrets, in byte order',
    tag: 'secrets',
    query: { prefix: PART, after: PART, limit: { type: 'integer', minimum: 1, maximum: 1000 } },
    answer: object({ names: { type: 'array', items: NAME }, next: { ...NAME, type: ['string', 'null'] } }),
    problems: ['answer-too-large'],
  },
  resolveReferences: {
    summary: 'The values of references: all or none',
    tag: 'secrets',
    body: object(
      {
        refs: {
          type: 'array',
          items: { type: 'string', pattern: REFERENCE_PATTERN },
          description: `More than ${REFS_A_REQUEST} are 413 too-many-values.`,
        },
        at: { ...INSTANT, description: 'For references without a version; not in the future.' },
      },
      ['refs'],
    ),
    answer: object({ values: { type: 'array', items: SECRET_VALUE } }),
    problems: ['refs-not-found', 'too-many-values', 'answer-too-large'],
  },
  health: {
    summary: 'Whether the process lives',
    tag: 'node',
    answer: object({ status: { const: 'ok' } }),
  },
  ready: {
    summary: 'Whether requests can be served fully',
    tag: 'node',
    query: { for: { type: 'string', enum: ['reads'] } },
    answer: object({ status: { const: 'ready' }, warnings: { type: 'array', items: TEXT } }, ['status']),
    problems: ['not-ready'],
  },
  status: {
    summary: 'What runs here',
    tag: 'node',
    answer: object({
      node: TEXT,
      version: TEXT,
      ledger: object({ kind: { enum: LEDGER_KINDS }, identity: TEXT, revision: COUNT }),
      replica: object({ revision: COUNT, lag: COUNT, digest: TEXT }),
      quorum: FLAG,
      leader: { type: ['string', 'null'] },
      members: { type: 'array', items: object({ node: TEXT, ready: FLAG }) },
      fields: TEXT,
      owners: TEXT,
      root_keys: TEXTS,
    }),
  },
  whoami: {
    summary: 'The owner and the rights of the API key',
    tag: 'node',
    answer: object({
      owner: TEXT,
      key_id: TEXT,
      may: { type: 'array', items: { enum: RIGHTS } },
      prefix: { type: ['string', 'null'] },
      until: OPEN_END,
      resolve_per_day: { type: ['integer', 'null'], minimum: 1 },
      quota: { type: ['integer', 'null'], minimum: 1, description: 'In bytes.' },
      used: { type: ['integer', 'null'], minimum: 0, description: 'Bytes that count against the quota.' },
    }),
  },
  metrics: { summary: 'Prometheus metrics', tag: 'node', answer: TEXT, type: 'text/plain' },
  openApi: { summary: 'This document', tag: 'node', answer: { type: 'object' } },
  problem: {
    summary: 'What a problem means',
    tag: 'node',
    path: { slug: { type: 'string', enum: Object.keys(PROBLEMS) } },
    answer: object({ type: TEXT, title: TEXT, status: { type: 'integer' }, about: TEXT, members: TEXTS }),
    problems: ['not-found'],
  },
} as const satisfies Readonly<Record<string, Operation>>
