// The error of a call that failed: a problem in a node's answer (RFC 9457), or no answer of any node.
import { PROBLEMS, type Slug } from '../errors.ts'
import { isRight, type Right } from '../wire.ts'

/**
 * `unreachable`: no node answered. `timeout`: the deadline of the call passed. `unexpected-answer`: the
 * answer is not from Coffer, or from another version. `closed`: the client was closed.
 */
export type ErrorSlug = Slug | 'unreachable' | 'timeout' | 'unexpected-answer' | 'closed'

/** Every error of the client. The text never repeats a value, a token or a key. */
export class CofferError extends Error {
  override readonly name = 'CofferError'
  readonly slug: ErrorSlug
  /** HTTP status; 0: no answer. */
  readonly status: number
  readonly detail: string
  /** The request id, as in the node's log; '': no answer. */
  readonly instance: string
  /** Whether the same call may succeed later. The client has retried already, until its deadline. */
  readonly retryable: boolean
  /**
   * The problem's own members, beside the standard ones: `path`, `expected`, `reason`, `epoch`, `reasons`, …
   */
  readonly members: Readonly<Record<string, unknown>>
  /** The seconds of the answer's `Retry-After`. */
  readonly retryAfter: number | undefined
  /** Of `forbidden`: the right that the API key lacks. */
  readonly needs: Right | undefined
  /** Of `forbidden`: the prefix of names that the API key has. */
  readonly prefix: string | undefined
  /** Of `quota-exceeded`: the quota of the owner, and the bytes used of the quota. */
  readonly quota: number | undefined
  readonly used: number | undefined

  constructor(slug: ErrorSlug, detail: string, about: Partial<Details> = {}, options?: ErrorOptions) {
    super(`${detail} (${slug})`, options)
    this.slug = slug
    this.detail = detail
    this.status = about.status ?? 0
    this.instance = about.instance ?? ''
    this.retryable = about.retryable ?? false
    this.members = about.members ?? {}
    this.retryAfter = about.retryAfter
    const { needs, prefix, quota, used } = this.members
    this.needs = slug === 'forbidden' && typeof needs === 'string' && isRight(needs) ? needs : undefined
    this.prefix = slug === 'forbidden' && typeof prefix === 'string' ? prefix : undefined
    this.quota = slug === 'quota-exceeded' && typeof quota === 'number' ? quota : undefined
    this.used = slug === 'quota-exceeded' && typeof used === 'number' ? used : undefined
  }
}

type Details = Pick<CofferError, 'status' | 'instance' | 'retryable' | 'members' | 'retryAfter'>

export const NOT_A_NODE =
  'it is not from a node of Coffer; name the address of a node, or let the proxy in between pass paths and ' +
  'answers on unchanged'

/** Statuses of gateways that do not reach a node. */
const GATEWAY: readonly number[] = [502, 503, 504]

/** The error of an answer. `retryAfter`: the text of the header. */
export function errorOf(status: number, retryAfter: string | undefined, body: Buffer): CofferError {
  const wait = retryAfter !== undefined && /^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) : undefined
  const problem = problemOf(body)
  if (!problem) {
    const about = { status, retryable: GATEWAY.includes(status), retryAfter: wait }
    return new CofferError(
      'unexpected-answer',
      `an answer with status ${status} is not a problem document: ${NOT_A_NODE}`,
      about,
    )
  }
  const { type: _type, title: _title, status: _status, detail, instance, ...members } = problem.json
  const known = PROBLEMS[problem.slug]
  return new CofferError(problem.slug, text(detail) || known.title, {
    status,
    instance: text(instance),
    retryable: known.retryAfter !== undefined || GATEWAY.includes(status),
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
  // Just checked.
  return isKnown(slug) ? { slug, json: json as Record<string, unknown> } : undefined
}

function isKnown(slug: string): slug is Slug {
  return Object.hasOwn(PROBLEMS, slug)
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
