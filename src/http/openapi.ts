// The OpenAPI document: what docs/api.md tells, for machines. The routes' own schemas are documentation only: bodies
// are checked by the scan, whose errors name the place.
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { PROBLEMS } from '../errors.ts'
import { LEDGER_KINDS } from '../ledger/drivers.ts'
import { NAME_PART, REFS_A_REQUEST, SECRETS_A_REQUEST } from '../wire.ts'

/** Paths that need no API key. */
export const OPEN_PATHS: readonly RegExp[] = [
  /^\/health$/,
  /^\/ready$/,
  /^\/metrics$/,
  /^\/openapi\.json$/,
  /^\/docs(\/.*)?$/,
  /^\/problems\/[^/]+$/,
]

/** Methods of every path: what `Allow` lists with a 405. */
export const ALLOWED: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^\/(tokenize|detokenize|retokenize|rotate-epoch)$/, ['POST']],
  [/^\/(epochs|health|ready|status|metrics|openapi\.json|docs)$/, ['GET', 'HEAD']],
  [/^\/problems\/[^/]+$/, ['GET', 'HEAD']],
  [/^\/secrets$/, ['GET', 'HEAD', 'POST']],
  [/^\/secrets\/resolve$/, ['GET', 'HEAD', 'POST', 'PUT']],
  [/^\/secrets\/[^/]+$/, ['GET', 'HEAD', 'PUT']],
  [/^\/secrets\/[^/]+\/history$/, ['GET', 'HEAD']],
]

export function describe(version: string): NonNullable<FastifyDynamicSwaggerOptions['openapi']> {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Coffer',
      version,
      description:
        'A vault for tokens that stand for sensitive values, and for secrets with a history. The API key alone decides the owner.',
    },
    components: {
      securitySchemes: { apiKey: { type: 'http', scheme: 'bearer', description: 'The API key of an owner' } },
      schemas: {
        Problem: {
          type: 'object',
          description: 'RFC 9457',
          required: ['type', 'title', 'status', 'detail', 'instance'],
          properties: {
            type: { type: 'string', enum: Object.keys(PROBLEMS).map((slug) => `/problems/${slug}`) },
            title: { type: 'string' },
            status: { type: 'integer' },
            detail: { type: 'string' },
            instance: { type: 'string', description: 'The request id' },
            path: { type: 'string', description: 'The place of the fault' },
          },
        },
      },
    },
    security: [{ apiKey: [] }],
  }
}

const TOKEN = { type: 'string', pattern: '^tok_[1-9][0-9]{0,9}_[0-9a-hjkmnp-tv-z]{32}$' }
const EPOCH = { type: 'integer', minimum: 1 }
const VALUE = { type: ['string', 'number', 'boolean', 'null'] }
const RECORDS = { type: 'array', items: { type: 'object', additionalProperties: true } }
const NULLABLE_TOKENS = { type: 'array', items: { ...TOKEN, type: ['string', 'null'] } }
const INDICES = { type: 'array', items: { type: 'integer', minimum: 0 } }

function object(
  properties: Record<string, unknown>,
  required = Object.keys(properties),
): Record<string, unknown> {
  return { type: 'object', properties, required, additionalProperties: false }
}

type RouteSchema = Record<string, unknown>

function route(
  summary: string,
  tag: string,
  parts: {
    body?: unknown
    answer: unknown
    query?: unknown
    params?: unknown
    headers?: unknown
    open?: boolean
    status?: number
  },
): RouteSchema {
  const problem = {
    description: 'A problem',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  }
  return {
    summary,
    tags: [tag],
    ...(parts.body ? { body: parts.body, consumes: ['application/json'] } : {}),
    ...(parts.query ? { querystring: parts.query } : {}),
    ...(parts.params ? { params: parts.params } : {}),
    ...(parts.headers ? { headers: parts.headers } : {}),
    ...(parts.open ? { security: [] } : {}),
    response: {
      [parts.status ?? 200]: {
        description: 'Done',
        content: { 'application/json': { schema: parts.answer } },
      },
      '4xx': problem,
      '5xx': problem,
    },
  }
}

const NOT_FOUND_PLACES = {
  type: 'array',
  items: object({ record: { type: 'integer' }, path: { type: 'string' } }),
}

const SECRET_NAME = { type: 'string', pattern: '^[A-Za-z0-9_.\\-/]{1,256}$' }
const SECRET_VALUE = { type: 'string', description: 'At most 64 KiB of UTF-8' }
const INSTANT = { type: 'string', format: 'date-time' }
const OPEN_END = { type: ['string', 'null'], format: 'date-time' }
const NEW_SECRET = object({ name: SECRET_NAME, value: SECRET_VALUE })
const WRITTEN = object({ name: SECRET_NAME, version: { type: 'integer', minimum: 1 }, valid_from: INSTANT })
const NAME_IN_PATH = object({ name: SECRET_NAME })
const PART = { type: 'string', pattern: NAME_PART.source }
const VERSION = { type: 'integer', minimum: 1 }
const ONCE = { 'Idempotency-Key': { type: 'string', minLength: 1, maxLength: 128 } }

/** Schemas of the routes by method and path. */
export const SCHEMAS: Readonly<Record<string, RouteSchema>> = {
  'POST /tokenize': route('Replace values by tokens', 'tokens', {
    body: {
      oneOf: [
        object({ records: RECORDS, allow_tokens: { type: 'boolean' } }, ['records']),
        object({ values: { type: 'array', items: VALUE }, allow_tokens: { type: 'boolean' } }, ['values']),
      ],
    },
    answer: {
      oneOf: [
        object({ epoch: EPOCH, records: RECORDS, replaced: { type: 'integer' } }),
        object({ epoch: EPOCH, tokens: NULLABLE_TOKENS }),
      ],
    },
  }),
  'POST /detokenize': route('Turn tokens back into values', 'tokens', {
    body: {
      oneOf: [object({ token: TOKEN }), object({ tokens: NULLABLE_TOKENS }), object({ records: RECORDS })],
    },
    answer: {
      oneOf: [
        object({ value: VALUE }),
        object({ values: { type: 'array', items: VALUE }, not_found: INDICES }),
        object({ records: RECORDS, not_found: NOT_FOUND_PLACES }),
      ],
    },
  }),
  'POST /retokenize': route('The same values under the active epoch', 'tokens', {
    body: object({ tokens: NULLABLE_TOKENS }),
    answer: object({ epoch: EPOCH, tokens: NULLABLE_TOKENS, not_found: INDICES }),
  }),
  'POST /rotate-epoch': route('Open the next epoch', 'epochs', {
    body: object({ to: EPOCH }),
    answer: object({ epoch: EPOCH, rotated: { type: 'boolean' } }),
  }),
  'GET /epochs': route('Epochs of the owner', 'epochs', {
    answer: object({
      active: EPOCH,
      epochs: {
        type: 'array',
        items: object({
          epoch: EPOCH,
          opened_at: { type: 'string', format: 'date-time' },
          closed_at: { type: ['string', 'null'], format: 'date-time' },
          tokens: { type: 'integer' },
        }),
      },
    }),
  }),
  'POST /secrets': route('Create one secret, or several: all or none', 'secrets', {
    body: {
      oneOf: [
        NEW_SECRET,
        object({ secrets: { type: 'array', items: NEW_SECRET, maxItems: SECRETS_A_REQUEST } }),
      ],
    },
    headers: object(ONCE, []),
    answer: { oneOf: [WRITTEN, object({ secrets: { type: 'array', items: WRITTEN } })] },
    status: 201,
  }),
  'PUT /secrets/:name': route('The next version of a secret', 'secrets', {
    params: NAME_IN_PATH,
    body: object({ value: SECRET_VALUE }),
    headers: object({ ...ONCE, 'If-Match': { type: 'string' } }, []),
    answer: WRITTEN,
  }),
  'GET /secrets/:name': route('A version of a secret: the latest, by number, or at an instant', 'secrets', {
    params: NAME_IN_PATH,
    query: object({ version: VERSION, at: INSTANT }, []),
    answer: object({
      name: SECRET_NAME,
      value: SECRET_VALUE,
      version: VERSION,
      valid_from: INSTANT,
      valid_to: OPEN_END,
    }),
  }),
  'GET /secrets/:name/history': route('The versions of a secret, without values', 'secrets', {
    params: NAME_IN_PATH,
    answer: object({
      name: SECRET_NAME,
      versions: {
        type: 'array',
        items: object({
          version: VERSION,
          valid_from: INSTANT,
          valid_to: OPEN_END,
          key_id: { type: 'string' },
          request_id: { type: 'string' },
        }),
      },
    }),
  }),
  'GET /secrets': route('Names of secrets, in byte order', 'secrets', {
    query: object({ prefix: PART, after: PART, limit: { type: 'integer', minimum: 1, maximum: 1000 } }, []),
    answer: object({ names: { type: 'array', items: SECRET_NAME }, next: { type: ['string', 'null'] } }),
  }),
  'POST /secrets/resolve': route('The values of references: all or none', 'secrets', {
    body: object(
      { refs: { type: 'array', items: { type: 'string' }, maxItems: REFS_A_REQUEST }, at: INSTANT },
      ['refs'],
    ),
    answer: object({ values: { type: 'array', items: SECRET_VALUE } }),
  }),
  'GET /health': route('Whether the process lives', 'node', {
    answer: object({ status: { const: 'ok' } }),
    open: true,
  }),
  'GET /ready': route('Whether requests can be served fully', 'node', {
    answer: object({ status: { const: 'ready' } }),
    query: object({ for: { type: 'string', enum: ['reads'] } }, []),
    open: true,
  }),
  'GET /status': route('What runs here', 'node', {
    answer: object({
      node: { type: 'string' },
      version: { type: 'string' },
      ledger: object({
        kind: { enum: LEDGER_KINDS },
        identity: { type: 'string' },
        revision: { type: 'integer' },
      }),
      replica: object({
        revision: { type: 'integer' },
        lag: { type: 'integer' },
        digest: { type: 'string' },
      }),
      quorum: { type: 'boolean' },
      leader: { type: ['string', 'null'] },
      members: { type: 'array', items: object({ node: { type: 'string' }, ready: { type: 'boolean' } }) },
      fields: { type: 'string' },
      root_keys: { type: 'array', items: { type: 'string' } },
    }),
  }),
  'GET /metrics': { summary: 'Prometheus metrics', tags: ['node'], security: [], produces: ['text/plain'] },
  'GET /openapi.json': { summary: 'This document', tags: ['node'], security: [] },
  'GET /problems/:slug': { summary: 'What a problem means', tags: ['node'], security: [] },
}
