// The OpenAPI document, derived from the table of routes.
import { PROBLEMS, type Slug } from '../errors.ts'
import { CONFIGURED_FIELD, type Operation, type Schema } from './operations.ts'
import type { Route } from './route.ts'

const ABOUT =
  'A vault for tokens that stand for sensitive values, and for secrets with a history. ' +
  'The API key alone decides the owner.'
const REQUEST_ID = { type: 'string', pattern: '^[A-Za-z0-9._:-]{1,128}$' }
/** Problems of every call for tokens and secrets. */
const UNAVAILABLE: readonly Slug[] = [
  'stopping',
  'not-ready',
  'no-quorum',
  'ledger-full',
  'disk-full',
  'ledger-changed',
  'unknown-root-key',
]

type Described = {
  readonly version: string
  readonly routes: readonly Route[]
  /** The configured fields. */
  readonly fields: readonly string[]
}

/** Plain data, as of JSON. */
export function openApiDocument({ version, routes, fields }: Described): Schema {
  const field = { ...CONFIGURED_FIELD, ...(fields.length > 0 ? { enum: fields } : { not: {} }) }
  const document = documentOf(version, routes)
  return JSON.parse(JSON.stringify(document, (_, value) => (value === CONFIGURED_FIELD ? field : value)))
}

function documentOf(version: string, routes: readonly Route[]): Schema {
  const paths: Record<string, Record<string, Schema>> = {}
  for (const route of routes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}')
    paths[path] ??= {}
    paths[path][route.method.toLowerCase()] = describe(route)
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Coffer',
      version,
      description: ABOUT,
    },
    components: {
      securitySchemes: { apiKey: { type: 'http', scheme: 'bearer', description: 'The API key of an owner' } },
      schemas: { Problem: PROBLEM },
    },
    security: [{ apiKey: [] }],
    paths,
  }
}

const PROBLEM: Schema = {
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
}

function describe(route: Route): Schema {
  const operation: Operation = route.operation
  const right = route.open ? undefined : route.right
  const parameters = [
    ...parametersOf('path', operation.path),
    ...parametersOf('query', operation.query),
    ...parametersOf('header', operation.headers),
  ]
  return {
    summary: operation.summary,
    ...(right === undefined ? {} : { description: `Needs the right ${right}.` }),
    tags: [operation.tag],
    ...(route.open ? { security: [] } : {}),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(operation.body ? { requestBody: { required: true, content: json(operation.body) } } : {}),
    responses: { [operation.status ?? 200]: success(operation), ...problems(route) },
  }
}

function parametersOf(
  place: 'path' | 'query' | 'header',
  schemas: Readonly<Record<string, Schema>> = {},
): Schema[] {
  return Object.entries(schemas).map(([name, { description, ...schema }]) => ({
    name,
    in: place,
    ...(place === 'path' ? { required: true } : {}),
    ...(description === undefined ? {} : { description }),
    schema,
  }))
}

function json(schema: Schema): Schema {
  return { 'application/json': { schema } }
}

function success({ answer, type = 'application/json', answerHeaders = {} }: Operation): Schema {
  return { description: 'Done', headers: headers(answerHeaders), content: { [type]: { schema: answer } } }
}

function headers(schemas: Readonly<Record<string, Schema>>): Schema {
  const all = { 'X-Request-Id': REQUEST_ID, ...schemas }
  return Object.fromEntries(Object.entries(all).map(([name, schema]) => [name, { schema }]))
}

/** The problems of a route by status. */
function problems(route: Route): Record<string, Schema> {
  const byStatus = Map.groupBy(slugsOf(route), (slug) => PROBLEMS[slug].status)
  const statuses = [...byStatus].sort(([a], [b]) => a - b)
  return Object.fromEntries(
    statuses.map(([status, slugs]) => [
      status,
      {
        description: slugs.join(', '),
        headers: headers({
          ...(status === 401 ? { 'WWW-Authenticate': { type: 'string', const: 'Bearer' } } : {}),
          ...(status === 503 ? { 'Retry-After': { type: 'string', pattern: '^[0-9]+$' } } : {}),
        }),
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    ]),
  )
}

function slugsOf(route: Route): Slug[] {
  const { body, problems: own = [] }: Operation = route.operation
  const ofBody: Slug[] = ['invalid-json', 'too-large', 'unsupported-media-type', 'overloaded']
  const slugs = new Set<Slug>(['invalid-request', 'internal', ...own])
  if (!route.open) slugs.add('unauthorized')
  if (body) for (const slug of ofBody) slugs.add(slug)
  if (!route.open && route.right !== undefined)
    for (const slug of ['forbidden', ...UNAVAILABLE] as const) slugs.add(slug)
  return [...slugs]
}
