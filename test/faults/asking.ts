// Asks a real node over HTTP, and says what was answered in the words of the judge.
import { type Answer, type Ask, type Ref, Violation, type Write } from '../sim/judge.ts'
import { hasShape, isProblem } from './shapes.ts'

/** Longer than a node may take. */
const PATIENCE_MS = 15_000
/** Why there is no answer: a connection has ended. */
export const BROKEN = 'broken'
/** Nothing came in time. */
const LATE = 'late'
/** 503 of requests that did not get as far as the ledger. */
const NOT_BEGUN = ['not-ready', 'overloaded']

type Wire = {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}
type Json = Readonly<Record<string, unknown>>
type Asked = { readonly answer: Answer; readonly problem?: string; readonly isFault?: boolean }

/**
 * The answer, and why there is none: the slug of the problem, `late` where nothing came in time, `broken` for a connection that
 * has ended. `isFault`: another 5xx than 503. `id`: the request's id. Throws Violation for what is no answer of the contract.
 */
export async function askNode(
  url: string,
  key: string,
  { asked, id }: { readonly asked: Ask; readonly id: string },
): Promise<Asked> {
  const { method, path, body, headers } = wireOf(asked)
  let status: number
  let text: string
  let replayed: boolean
  try {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        'x-request-id': id,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    })
    status = response.status
    replayed = response.headers.get('idempotency-replayed') === 'true'
    text = await response.text()
  } catch (error) {
    const late = error instanceof Error && error.name === 'TimeoutError'
    return { answer: { kind: 'unknown' }, problem: late ? LATE : BROKEN }
  }
  return answerOf(asked, { status, text, replayed })
}

type Told = { readonly status: number; readonly text: string; readonly replayed: boolean }

/** As `askNode`, of a whole answer. */
export function answerOf(asked: Ask, { status, text, replayed }: Told): Asked {
  const json = jsonOf(text)
  const isRight = status < 300 ? hasShape(asked, json) : isProblem(json, status)
  if (!json || !isRight) throw new Violation(`no answer of the contract: ${status} ${text.slice(0, 500)}`)
  if (status < 300) return { answer: success(asked, json, replayed) }
  const slug = String(json.type).replace('/problems/', '')
  if (status < 500) return { answer: refusal(slug, json) }
  if (status !== 503) return { answer: { kind: 'unknown' }, problem: slug, isFault: true }
  const nothing = slug === 'no-quorum' ? json.outcome === 'not-applied' : NOT_BEGUN.includes(slug)
  return { answer: { kind: nothing ? 'not-applied' : 'unknown' }, problem: slug }
}

function jsonOf(text: string): Json | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function refusal(slug: string, json: Json): Answer {
  const number = json.version ?? json.epoch
  return {
    kind: 'refused',
    slug,
    number: number === undefined ? undefined : Number(number),
    names: (json.names ?? []) as string[], // the contract's answer
  }
}

function wireOf(asked: Ask): Wire {
  switch (asked.kind) {
    case 'tokenize':
      return { method: 'POST', path: '/tokenize', body: { values: asked.values } }
    case 'detokenize':
      return { method: 'POST', path: '/detokenize', body: { tokens: asked.tokens } }
    case 'retokenize':
      return { method: 'POST', path: '/retokenize', body: { tokens: asked.tokens } }
    case 'names':
      return { method: 'GET', path: '/secrets?limit=1000' }
    case 'rotate':
      return { method: 'POST', path: '/rotate-epoch', body: { to: asked.to } }
    case 'epochs':
      return { method: 'GET', path: '/epochs' }
    case 'write':
      return writeOf(asked)
    case 'read': {
      const at = asked.at === undefined ? '' : `?at=${instant(asked.at)}`
      const which = asked.version === undefined ? at : `?version=${asked.version}`
      return { method: 'GET', path: `/secrets/${asked.name}${which}` }
    }
    case 'resolve': {
      const at = asked.at === undefined ? {} : { at: instant(asked.at) }
      return { method: 'POST', path: '/secrets/resolve', body: { refs: asked.refs.map(textOf), ...at } }
    }
    case 'history':
      return { method: 'GET', path: `/secrets/${asked.name}/history` }
  }
}

const instant = (at: number): string => new Date(at).toISOString()

function textOf({ name, version }: Ref): string {
  return `coffer://${name}${version === undefined ? '' : `@${version}`}`
}

function writeOf({ names, value, create, after, key }: Write): Wire {
  const headers = {
    ...(key === undefined ? {} : { 'idempotency-key': key }),
    ...(after === undefined ? {} : { 'if-match': `"${after}"` }),
  }
  if (!create) return { method: 'PUT', path: `/secrets/${names[0]}`, body: { value }, headers }
  const body = { secrets: names.map((name) => ({ name, value })) }
  return { method: 'POST', path: '/secrets', body, headers }
}

/** The contract's answers. */
function success(asked: Ask, json: Json, replayed: boolean): Answer {
  switch (asked.kind) {
    case 'tokenize':
      return { kind: 'tokens', epoch: json.epoch as number, tokens: json.tokens as string[] }
    case 'detokenize': {
      const values = json.values as (string | null)[]
      return { kind: 'values', values: values.map((value) => value ?? undefined) }
    }
    case 'retokenize': {
      const tokens = json.tokens as (string | null)[]
      return {
        kind: 'retokens',
        epoch: json.epoch as number,
        tokens: tokens.map((each) => each ?? undefined),
      }
    }
    case 'names':
      return { kind: 'names', names: json.names as string[] }
    case 'rotate':
      return { kind: 'rotated', epoch: json.epoch as number, rotated: json.rotated as boolean }
    case 'epochs':
      return { kind: 'active', epoch: json.active as number }
    case 'write': {
      const [{ version, valid_from: validFrom }] = asked.create
        ? (json.secrets as { version: number; valid_from: string }[])
        : [json as { version: number; valid_from: string }]
      return { kind: 'written', version, validFrom: Date.parse(validFrom), replayed }
    }
    case 'read':
      return { kind: 'secret', version: json.version as number, value: json.value as string }
    case 'resolve':
      return { kind: 'resolved', values: json.values as string[] }
    case 'history':
      return { kind: 'lines', lines: linesOf(json) }
  }
}

function linesOf({ versions }: Json): Extract<Answer, { kind: 'lines' }>['lines'] {
  if (!Array.isArray(versions)) throw new Violation('a history has no versions')
  return versions.map(({ version, valid_from, valid_to, request_id }) => ({
    version,
    validFrom: Date.parse(valid_from),
    validTo: valid_to === null ? null : Date.parse(valid_to),
    request: request_id,
  }))
}
