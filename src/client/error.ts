// What a call ends with when it does not succeed: a problem that a node told (RFC 9457), or that no node
// answered.
import { PROBLEMS, type Slug } from '../errors.ts'

/**
 * `unreachable`: no node answered. `timeout`: the deadline of the call passed. `unexpected-answer`: something
 * answered that is not Coffer, or not this version of it. `closed`: the client was closed.
 */
export type ErrorSlug = Slug | 'unreachable' | 'timeout' | 'unexpected-answer' | 'closed'

/** Every error of the client. Its text never repeats a value, a token or a key. */
export class CofferError extends Error {
  override readonly name = 'CofferError'
  readonly slug: ErrorSlug
  /** HTTP status; 0 where there was no answer. */
  readonly status: number
  readonly detail: string
  /** The request id, as it stands in the node's log; '' where there was no answer. */
  readonly instance: string
  /** True where the same call may succeed later. The client has tried again already, until its deadline. */
  readonly retryable: boolean
  /** What the problem has beside its standard members: `path`, `expected`, `reason`, `epoch`, `reasons`, … */
  readonly members: Readonly<Record<string, unknown>>
  /** Seconds after which the node asks to be called again, where it said so. */
  readonly retryAfter: number | undefined

  constructor(slug: ErrorSlug, detail: string, told: Partial<Told> = {}, options?: ErrorOptions) {
    super(`${detail} (${slug})`, options)
    this.slug = slug
    this.detail = detail
    this.status = told.status ?? 0
    this.instance = told.instance ?? ''
    this.retryable = told.retryable ?? false
    this.members = told.members ?? {}
    this.retryAfter = told.retryAfter
  }
}

type Told = Pick<CofferError, 'status' | 'instance' | 'retryable' | 'members' | 'retryAfter'>

/** Gateways in front of a node say these when they do not reach it. */
const GATEWAY: readonly number[] = [502, 503, 504]

/** The error that an answer tells. `retryAfter` is the header's text. */
export function errorOf(status: number, retryAfter: string | undefined, body: Buffer): CofferError {
  const wait = retryAfter !== undefined && /^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) : undefined
  const problem = problemOf(body)
  if (!problem) {
    const told = { status, retryable: GATEWAY.includes(status), retryAfter: wait }
    return new CofferError('unexpected-answer', `an answer with status ${status} that is no problem`, told)
  }
  const { type: _type, title: _title, status: _status, detail, instance, ...members } = problem.json
  return new CofferError(problem.slug, text(detail) || PROBLEMS[problem.slug].title, {
    status,
    instance: text(instance),
    retryable: PROBLEMS[problem.slug].retryAfter !== undefined || GATEWAY.includes(status),
    members,
    retryAfter: wait,
  })
}

function problemOf(body: Buffer): { slug: Slug; json: Record<string, unknown> } | undefined {
  let json: unknown
  try {
    json = JSON.parse(body.toString('utf8'))
  } catch {
    return undefined
  }
  if (typeof json !== 'object' || json === null || !('type' in json)) return undefined
  const slug = typeof json.type === 'string' ? json.type.replace(/^\/problems\//, '') : ''
  if (!Object.hasOwn(PROBLEMS, slug)) return undefined
  // Just checked: an object, and a slug of the table.
  return { slug: slug as Slug, json: json as Record<string, unknown> }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
