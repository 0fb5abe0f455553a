// The reference page under /docs. Its files are kept in memory: a file opened for each request would take a
// descriptor until the answer is read, and callers without a key could take all descriptors of the node.
import { readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, RouteHandlerMethod } from 'fastify'
import { assert } from '../assert.ts'
import { withReserve } from '../descriptors.ts'
import { Problem } from '../errors.ts'

const PREFIX = '/docs'
/** The route of the plugin that reads files. */
const FILES_ROUTE = `${PREFIX}/static/*`
const POLICY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
const DIRECTORY = new URL('static/', import.meta.resolve('@fastify/swagger-ui'))
const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
}

/** Registers the page for an OpenAPI document. */
export async function registerReferencePage(app: FastifyInstance, document: object): Promise<void> {
  let isReplaced = false
  app.addHook('onRoute', (route) => {
    if (route.url !== FILES_ROUTE) return
    route.handler = fromMemory()
    isReplaced = true
  })
  await app.register(fastifySwagger, {
    mode: 'static',
    specification: { document: document as never }, // OpenAPI 3.1, which the plugin passes on as it is
  })
  await app.register(fastifySwaggerUi, {
    routePrefix: PREFIX,
    staticCSP: POLICY,
    uiConfig: { url: '/openapi.json' },
  })
  assert(isReplaced, 'the plugin has a route for files')
}

/** Reads each file once, at the first request. */
function fromMemory(): RouteHandlerMethod {
  const names = new Set(readdirSync(DIRECTORY))
  const files = new Map<string, Buffer>()
  return (request, reply) => {
    const { '*': name } = request.params as { readonly '*': string } // the route has a wildcard
    if (!names.has(name)) throw new Problem('not-found', 'there is no such route')
    const bytes = files.get(name) ?? withReserve(() => readFileSync(fileURLToPath(new URL(name, DIRECTORY))))
    files.set(name, bytes)
    const type = TYPES[extname(name)] ?? 'application/octet-stream'
    return reply.type(type).header('cache-control', 'public, max-age=600').send(bytes)
  }
}
