// Handlers of the routes of tokens and epochs.
import type { FastifyRequest } from 'fastify'
import type { Identity } from './auth.ts'
import { readQuery } from './query.ts'
import { type Context, type Emit, type Result, shareOf } from './route.ts'
import type { AskedTokens, TokenAnswer } from './token-calls.ts'

type Call = (asked: AskedTokens, body: Uint8Array) => Promise<TokenAnswer>

export function tokenize(context: Context, request: FastifyRequest): Promise<Result> {
  return issued(context, request, (asked, body) => context.tokens.tokenize(asked, body))
}

export function retokenize(context: Context, request: FastifyRequest): Promise<Result> {
  return issued(context, request, (asked, body) => context.tokens.retokenize(asked, body))
}

async function issued({ body, metrics }: Context, request: FastifyRequest, call: Call): Promise<Result> {
  readQuery(request.url)
  const share = shareOf(request)
  const { bytes, deadline, caller } = await body.read(request.raw, share)
  const { answer, count, epoch, missing, fresh } = await call({ owner: caller.owner, deadline, share }, bytes)
  metrics.tokens('issued', count, missing ?? 0, fresh ?? 0)
  const event = {
    ...(epoch === undefined ? {} : { epoch }),
    count,
    ...(missing === undefined ? {} : { missing }),
  }
  return { body: answer, event }
}

export async function detokenize(
  { body, budgets, tokens, metrics }: Context,
  request: FastifyRequest,
  _head: Identity,
  emit: Emit,
): Promise<Result> {
  readQuery(request.url)
  const share = shareOf(request)
  const { bytes, deadline, caller } = await body.read(request.raw, share)
  const asked = { owner: caller.owner, deadline, share }
  const { answer, count, missing = 0 } = await tokens.detokenize(asked, bytes)
  const values = count - missing
  budgets.spend(caller, values, () => emit('key.budget', { count: values }))
  metrics.tokens('resolved', count, missing, 0)
  return { body: answer, event: { count, missing } }
}

export async function rotateEpoch({ body, tokens }: Context, request: FastifyRequest): Promise<Result> {
  readQuery(request.url)
  const share = shareOf(request)
  const { bytes, deadline, caller } = await body.read(request.raw, share)
  const asked = { owner: caller.owner, deadline, share }
  const { answer, epoch, rotated, revision } = await tokens.rotate(asked, bytes)
  if (!rotated) return { body: answer, event: { epoch }, replayed: true }
  return { body: answer, event: { epoch, revision, from: epoch - 1, to: epoch } }
}

export async function epochs(
  { tokens, deadline }: Context,
  request: FastifyRequest,
  { owner }: Identity,
): Promise<Result> {
  readQuery(request.url)
  const { answer, epoch, count } = await tokens.epochs({ owner, deadline: deadline() })
  return { body: answer, event: { epoch, count } }
}
