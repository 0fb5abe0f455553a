// A call over several nodes: after a failure to the next node, after a failure of all nodes again with a
// pause, until the deadline.
//
// Only for calls that may be repeated (docs/api.md): equal values have equal tokens, reads change nothing, a
// rotation names the epoch to open, and writes of secrets have an Idempotency-Key.
import { sleep } from '../waiting.ts'
import { CofferError, errorOf } from './error.ts'
import { type Answer, NoAnswer, type Request, type Target, type Transport, targetOf } from './transport.ts'

const FIRST_PAUSE_MS = 50
const LAST_PAUSE_MS = 2_000
const CONNECT_MS = 2_000
/** The longest delay of a timer of Node; a longer delay would be 1 ms. */
const LONGEST_TRY_MS = 2 ** 31 - 1
/** Stale sockets are found one by one; after so many, the failure counts as the node's. */
const STALE_TRIES = 3

export type Call = {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
  /** Every node is asked at most once, without a pause: for calls about the nodes themselves. */
  readonly once?: boolean
}

export class Nodes {
  readonly #nodes: readonly Target[]
  readonly #transport: Transport
  readonly #timeoutMs: number
  /** The node that answered last: the next call begins there. */
  #current = 0

  constructor(urls: readonly URL[], transport: Transport, timeoutMs: number) {
    this.#nodes = urls.map(targetOf)
    this.#transport = transport
    this.#timeoutMs = timeoutMs
  }

  /** The body of the answer. Throws CofferError. */
  async call(call: Call): Promise<Buffer> {
    const deadline = performance.now() + this.#timeoutMs
    /** When each node may be asked again, by `performance.now()`; 0: not asked yet. */
    const retryAt = this.#nodes.map(() => 0)
    const tries = this.#nodes.map(() => 0)
    let failure: CofferError | undefined
    for (let first = this.#current; ; ) {
      const at = earliest(retryAt, first)
      if (failure && (retryAt[at] >= deadline || (call.once && tries[at] > 0))) throw failure
      await sleepUntil(retryAt[at])
      const result = await this.#ask(at, call, deadline)
      if (!(result instanceof CofferError)) {
        this.#current = at
        return result
      }
      if (!result.retryable && result.status > 0) throw result
      // The problem of a node says more than another node's silence.
      if (!failure || result.status > 0 || failure.status === 0) failure = result
      if (performance.now() >= deadline) throw failure
      const pause = pauseMs(tries[at]++, result.retryAfter ?? 0)
      retryAt[at] = result.retryable ? performance.now() + pause : Number.POSITIVE_INFINITY
      first = (at + 1) % retryAt.length
    }
  }

  /** The answer's body, or the error of the node. */
  async #ask(at: number, call: Call, deadline: number): Promise<Buffer | CofferError> {
    const node = this.#nodes[at]
    for (let tries = 1; ; tries++) {
      const left = Math.min(LONGEST_TRY_MS, Math.max(1, deadline - performance.now()))
      // A node that hangs must leave time for the other nodes.
      const timeoutMs = this.#nodes.length === 1 ? left : Math.max(left / 2, Math.min(left, 1_000))
      const request: Request = { ...call, timeoutMs, connectMs: Math.min(timeoutMs, CONNECT_MS) }
      try {
        return bodyOrError(await this.#transport.send(node, request))
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error
        if (error.stale && !error.timeout && tries <= STALE_TRIES) continue
        const about = { retryable: !error.distrusted }
        const slug = error.timeout ? 'timeout' : 'unreachable'
        return new CofferError(slug, `no answer from ${node.origin}: ${error.message}`, about)
      }
    }
  }
}

function bodyOrError({ status, retryAfter, body }: Answer): Buffer | CofferError {
  return status >= 200 && status < 300 ? body : errorOf(status, retryAfter, body)
}

/** The node that may be asked first; of equals the nearest from `first` on. */
function earliest(retryAt: readonly number[], first: number): number {
  let best = first
  for (let i = 1; i < retryAt.length; i++) {
    const at = (first + i) % retryAt.length
    if (retryAt[at] < retryAt[best]) best = at
  }
  return best
}

async function sleepUntil(time: number): Promise<void> {
  const ms = time - performance.now()
  if (ms > 0) await sleep(ms)
}

/**
 * Doubles with every try, and is never less than the node's `Retry-After`. Jitter keeps clients from retrying
 * together.
 */
function pauseMs(tries: number, askedSeconds: number): number {
  const backOff = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(tries, 10))
  return Math.max(backOff * (0.5 + Math.random() / 2), askedSeconds * 1_000 * (1 + Math.random() / 10))
}
