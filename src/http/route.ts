// A row of the table of routes: a route, the arguments of its handler, and the result.
import type { FastifyRequest } from 'fastify'
import { assert } from '../assert.ts'
import type { Deadline } from '../clock.ts'
import type { EventFields, EventName } from '../events/event.ts'
import type { Right } from '../wire.ts'
import type { Identity } from './auth.ts'
import type { BodyReader } from './body.ts'
import type { Budgets } from './budgets.ts'
import type { Share } from './bytes-in-work.ts'
import type { Metrics } from './metrics.ts'
import type { Operation } from './operations.ts'
import type { SecretCalls } from './secret-calls.ts'
import type { TokenCalls } from './token-calls.ts'

export type NodeStatus = {
  /** Why requests cannot be served fully; empty when they can. `forReads`: why known tokens cannot be. */
  notReady(forReads: boolean): readonly string[]
  /** The answer of `GET /status`. */
  status(): Record<string, unknown>
  /**
   * The quota of an owner, and the bytes that count against the quota (replica/quota.ts): null where there is
   * no quota, and before the replica is read.
   */
  stored(owner: string): { readonly quota: number | null; readonly used: number | null }
}

/** The instances behind the handlers. */
export type Context = {
  readonly tokens: TokenCalls
  readonly secrets: SecretCalls
  readonly node: NodeStatus
  readonly metrics: Metrics
  readonly body: BodyReader<Identity>
  readonly budgets: Budgets
  /** The deadline of a request whose body is not read: call when the head has been judged. */
  readonly deadline: () => Deadline
  /** For /ready, where the node is ready: what an operator should look at. */
  readonly warnings: () => readonly string[]
  /** The OpenAPI document as JSON. */
  readonly openApi: string
}

/** The result of a handler: the answer, and the fields of the route's event. */
export type Result = {
  /** JSON, unless `type` says otherwise. */
  readonly body: string | Buffer
  /** 200 where absent. */
  readonly status?: number
  readonly type?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Beside the caller, the request and its duration. No event is emitted where absent. */
  readonly event?: EventFields
  /** The names of secrets that were given or written, for the event; one for each value. */
  readonly names?: readonly string[]
  /** Whether an earlier request had the effect: the event is `request.replayed`. */
  readonly replayed?: boolean
}

/** Emits an event of the caller and the request, beside the event of the route. */
export type Emit = (event: EventName, fields: EventFields) => void

type Common = {
  readonly method: 'GET' | 'POST' | 'PUT'
  /** Fastify's pattern. GET includes HEAD. */
  readonly path: string
  readonly operation: Operation
  readonly event?: EventName
}

/** A route without a key. */
type OpenRoute = Common & {
  readonly open: true
  readonly handle: (context: Context, request: FastifyRequest) => Result | Promise<Result>
}

/** A route with a key; `right` undefined: any key. */
type KeyRoute = Common & {
  readonly open: false
  readonly right: Right | undefined
  /** `caller` as judged by the head: a body comes with the caller as judged when the body was whole. */
  readonly handle: (
    context: Context,
    request: FastifyRequest,
    caller: Identity,
    emit: Emit,
  ) => Result | Promise<Result>
}

export type Route = OpenRoute | KeyRoute

/** The bytes in work of a request with a key. */
export function shareOf({ share }: FastifyRequest): Share {
  assert(share, 'a request with a key has a share of the bytes in work')
  return share
}
