// Handlers of the routes of tokens and epochs.
import type { FastifyRequest } from 'fastify'
import type { TokenRequest } from '../tokens/tokens.ts'
import type { Identity } from './auth.ts'
import { readQuery } from './query.ts'
import type { Context, Emit, Result } from './route.ts'
import type { TokenAnswer } from './token-calls.ts'

type Call = (request: TokenRequest, body: Uint8Array) => Promise<TokenAnswer>

export function tokenize(context: Context, request: FastifyRequest): Promise<Result> {
  return issued(context, request, (asked, body) => context.tokens.tokenize(asked, body))
}

export function retokenize(context: Context, request: FastifyRequest): Promise<Result> {
  return issued(context, request, (asked, body) => context.tokens.retokenize(asked, body))
}

async function issued({ body, metrics }: Context, request: FastifyRequest, call: Call): Promise<Result> {
  readQuery(request.url)
  const { answer, count, epoch, missing, fresh } = await body.with(
    request.raw,
    ({ bytes, deadline, caller: { owner } }) => call({ owner, deadline }, bytes),
  )
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
  const {
    answer,
    count,
    missing = 0,
  } = await body.with(request.raw, async ({ bytes, deadline, caller }) => {
    const answered = await tokens.detokenize({ owner: caller.owner, deadline }, bytes)
    const values = answered.count - (answered.missing ?? 0)
    budgets.spend(caller, values, () => emit('key.budget', { count: values }))
    return answered
  })
  metrics.tokens('resolved', count, missing, 0)
  return { body: answer, event: { count, missing } }
}

export async function rotateEpoch({ body, tokens }: Context, request: FastifyRequest): Promise<Result> {
  readQuery(request.url)
  const { answer, epoch, rotated, revision } = await body.with(
    request.raw,
    ({ bytes, deadline, caller: { owner } }) => tokens.rotate({ owner, deadline }, bytes),
  )
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
