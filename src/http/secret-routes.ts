// Handlers of the routes of secrets: the parts of a request for the calls, and their results.
import type { FastifyRequest } from 'fastify'
import { NAME_PART, SECRET_NAME_LENGTH } from '../wire.ts'
import type { Identity } from './auth.ts'
import { idempotencyKey } from './conditional.ts'
import { type Parameter, readQuery } from './query.ts'
import { type Context, type Result, shareOf } from './route.ts'
import type { SecretWrite, WriteAnswer } from './secret-calls.ts'

const PART: Parameter = {
  is: NAME_PART,
  expected: `characters of a name, at most ${SECRET_NAME_LENGTH}`,
}
const LIST: Readonly<Record<string, Parameter>> = {
  prefix: PART,
  after: PART,
  limit: { is: /^([1-9]\d{0,2}|1000)$/, expected: '1 to 1000' },
}
const READ: Readonly<Record<string, Parameter>> = {
  version: { is: /^[1-9]\d{0,9}$/, expected: 'the number of a version: 1, 2, …' },
  at: { is: /^/, expected: '' }, // the call checks the instant
}

export async function createSecrets(
  { body, secrets, metrics }: Context,
  request: FastifyRequest,
): Promise<Result> {
  const write = writeOf(request, '')
  const answer = await secrets.create(write(await body.readWithFault(request.raw, shareOf(request))))
  if (!answer.written.replayed) metrics.secrets('created', answer.names.length)
  return written(answer, 201)
}

export async function updateSecret(
  { body, secrets, metrics }: Context,
  request: FastifyRequest,
): Promise<Result> {
  const write = writeOf(request, nameOf(request))
  const answer = await secrets.update(write(await body.readWithFault(request.raw, shareOf(request))))
  if (!answer.written.replayed) metrics.secrets('updated', answer.names.length)
  return written(answer, 200)
}

/** Throws Problem invalid-request where the Idempotency-Key has no valid form. */
function writeOf(
  request: FastifyRequest,
  name: string,
): (read: Awaited<ReturnType<Context['body']['readWithFault']>>) => SecretWrite {
  const { method, url, headers } = request
  const key = idempotencyKey(request.raw)
  return ({ bytes, deadline, caller: { owner, keyId, prefix }, fault }) => ({
    caller: { owner, keyId, request: String(request.id), deadline },
    share: shareOf(request),
    prefix,
    idempotencyKey: key,
    asked: { method, name, ifMatch: headers['if-match'], body: bytes },
    url,
    fault,
  })
}

function written(
  { body, etag, written: { replayed, revision, version }, names }: WriteAnswer,
  status: number,
): Result {
  const headers = {
    ...(etag === undefined ? {} : { etag }),
    ...(replayed ? { 'idempotency-replayed': 'true' } : {}),
  }
  const event = names.length === 0 ? {} : { version, ...(revision === 0 ? {} : { revision }) }
  return { body, status, headers, event, names, replayed }
}

export async function readSecret(
  { secrets, metrics, deadline }: Context,
  request: FastifyRequest,
  { owner, prefix }: Identity,
): Promise<Result> {
  const query = readQuery(request.url, READ)
  const reader = { owner, prefix, deadline: deadline(), share: shareOf(request) }
  const name = nameOf(request)
  const { body, etag, version } = await secrets.read(reader, name, query)
  metrics.secrets('read', 1)
  return { body, headers: { etag }, event: { version }, names: [name] }
}

export async function secretHistory(
  { secrets, deadline }: Context,
  request: FastifyRequest,
  { owner, prefix }: Identity,
): Promise<Result> {
  readQuery(request.url)
  const name = nameOf(request)
  const { body, count } = await secrets.history(
    { owner, prefix, deadline: deadline(), share: shareOf(request) },
    name,
  )
  return { body, event: { name, count } }
}

export async function listSecrets(
  { secrets, deadline }: Context,
  request: FastifyRequest,
  { owner, prefix }: Identity,
): Promise<Result> {
  const query = readQuery(request.url, LIST)
  const { body, count } = await secrets.list(
    { owner, prefix, deadline: deadline(), share: shareOf(request) },
    query,
  )
  return { body, event: { count } }
}

export async function resolveReferences(
  { body, secrets, metrics }: Context,
  request: FastifyRequest,
): Promise<Result> {
  readQuery(request.url)
  const share = shareOf(request)
  const { bytes, deadline, caller } = await body.read(request.raw, share)
  const { owner, prefix } = caller
  const answer = await secrets.resolve({ owner, prefix, deadline, share }, bytes)
  metrics.secrets('read', answer.names.length)
  const { version, ...given } = answer
  return { ...given, event: version === undefined ? {} : { version } }
}

/** Decoded once; valid or not. */
function nameOf(request: FastifyRequest): string {
  const { name } = request.params as { name: string } // routed by a path with :name
  return name
}
