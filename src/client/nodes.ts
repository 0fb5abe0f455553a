// One call over several nodes: the next one where one fails, again after a pause where all fail, until the
// deadline.
//
// Every call that is sent here may be sent again (docs/api.md): tokens are the same for the same values,
// reads read, a rotation names the epoch that it opens, and what writes secrets has an Idempotency-Key. A call that is
// not so must not come here.
import { sleep } from '../waiting.ts'
import { CofferError, errorOf } from './error.ts'
import { type Answer, NoAnswer, type Request, type Target, type Transport, targetOf } from './transport.ts'

const FIRST_PAUSE_MS = 50
const LAST_PAUSE_MS = 2_000
const CONNECT_MS = 2_000
/** Sockets that went stale together are found one by one; after so many it is the node that fails. */
const STALE_TRIES = 3

export type Call = {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
  /** Every node is asked at most once, without a pause: for questions about the nodes themselves. */
  readonly once?: boolean
}

export class Nodes {
  readonly #nodes: readonly Target[]
  readonly #transport: Transport
  readonly #timeoutMs: number
  /** The node that answered last: calls begin with it. */
  #current = 0

  constructor(urls: readonly URL[], transport: Transport, timeoutMs: number) {
    this.#nodes = urls.map(targetOf)
    this.#transport = transport
    this.#timeoutMs = timeoutMs
  }

  /** The body of the answer. Throws CofferError. */
  async call(call: Call): Promise<Buffer> {
    const deadline = performance.now() + this.#timeoutMs
    /** When each node may be asked again; 0 where it has not been asked yet. */
    const again = this.#nodes.map(() => 0)
    const tries = this.#nodes.map(() => 0)
    let told: CofferError | undefined
    for (let first = this.#current; ; ) {
      const at = earliest(again, first)
      if (told && (again[at] >= deadline || (call.once && tries[at] > 0))) throw told
      await until(again[at])
      const result = await this.#ask(at, call, deadline)
      if (!(result instanceof CofferError)) {
        this.#current = at
        return result
      }
      if (!result.retryable && result.status > 0) throw result
      // What a node said tells more than that another one said nothing.
      if (!told || result.status > 0 || told.status === 0) told = result
      if (performance.now() >= deadline) throw told
      const pause = pauseMs(tries[at]++, result.retryAfter ?? 0)
      again[at] = result.retryable ? performance.now() + pause : Number.POSITIVE_INFINITY
      first = (at + 1) % again.length
    }
  }

  /** The answer's body, or why not; throws nothing. */
  async #ask(at: number, call: Call, deadline: number): Promise<Buffer | CofferError> {
    const node = this.#nodes[at]
    for (let tries = 1; ; tries++) {
      const left = Math.max(1, deadline - performance.now())
      // A node that hangs must leave time for the others.
      const timeoutMs = this.#nodes.length === 1 ? left : Math.max(left / 2, Math.min(left, 1_000))
      const request: Request = { ...call, timeoutMs, connectMs: Math.min(timeoutMs, CONNECT_MS) }
      try {
        return read(await this.#transport.send(node, request))
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error
        if (error.stale && !error.timeout && tries <= STALE_TRIES) continue
        const told = { retryable: !error.distrusted }
        const slug = error.timeout ? 'timeout' : 'unreachable'
        return new CofferError(slug, `no answer from ${node.origin}: ${error.message}`, told)
      }
    }
  }
}

function read({ status, retryAfter, body }: Answer): Buffer | CofferError {
  return status >= 200 && status < 300 ? body : errorOf(status, retryAfter, body)
}

/** The node that may be asked first; of several the first one from `first` on. */
function earliest(again: readonly number[], first: number): number {
  let best = first
  for (let i = 1; i < again.length; i++) {
    const at = (first + i) % again.length
    if (again[at] < again[best]) best = at
  }
  return best
}

async function until(time: number): Promise<void> {
  const ms = time - performance.now()
  if (ms > 0) await sleep(ms)
}

/**
 * Doubles with every try; never less than the node asks for. Jitter keeps many clients from coming together.
 */
function pauseMs(tries: number, askedSeconds: number): number {
  const backOff = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(tries, 10))
  return Math.max(backOff * (0.5 + Math.random() / 2), askedSeconds * 1_000 * (1 + Math.random() / 10))
}
