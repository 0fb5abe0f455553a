// What a node of this machine tells whoever asks, without an API key: /ready and /metrics.
import { NoAnswer, type Target, type Transport } from '../../client/transport.ts'
import type { Config } from '../../node/config.ts'
import { connectTo } from './reach.ts'

const CONNECT_MS = 2_000

export type Readiness = {
  readonly ready: boolean
  /** False where nothing came back; `reasons` says why then, too. */
  readonly answers: boolean
  readonly reasons: readonly string[]
}

/** null where the node does not tell: a node of its own has no leader, and one that is starting no quorum yet. */
export type Numbers = {
  readonly quorum: boolean | null
  readonly leader: string | null
  readonly revision: number | null
  /** How many revisions the ledger is ahead of the replica. */
  readonly lag: number | null
}

export const NO_NUMBERS: Numbers = { quorum: null, leader: null, revision: null, lag: null }

export class Probe {
  /** `http://host:port` */
  readonly url: string
  readonly #target: Target
  readonly #transport: Transport

  /** Throws OperatorError where the configuration does not say how the node is reached. */
  constructor(config: Config) {
    const { target, transport } = connectTo(config)
    this.url = target.origin
    this.#target = target
    this.#transport = transport
  }

  async ready(timeoutMs: number): Promise<Readiness> {
    const answer = await this.#get('/ready', timeoutMs)
    if (typeof answer === 'string')
      return { ready: false, answers: false, reasons: [`does not answer (${answer})`] }
    const ready = answer.status === 200
    return { ready, answers: true, reasons: ready ? [] : reasonsIn(answer.body, answer.status) }
  }

  async numbers(timeoutMs: number): Promise<Numbers> {
    const answer = await this.#get('/metrics', timeoutMs)
    return typeof answer === 'string' || answer.status !== 200 ? NO_NUMBERS : parseMetrics(answer.body)
  }

  close(): void {
    this.#transport.close()
  }

  /** The answer, or why there is none. */
  async #get(path: string, timeoutMs: number): Promise<{ status: number; body: string } | string> {
    try {
      const request = { method: 'GET', path, timeoutMs, connectMs: CONNECT_MS } as const
      const { status, body } = await this.#transport.send(this.#target, request)
      return { status, body: body.toString('utf8') }
    } catch (error) {
      if (error instanceof NoAnswer) return error.message
      throw error
    }
  }
}

/** Of a problem `not-ready`. Something else may have the port: then there are none. */
function reasonsIn(body: string, status: number): readonly string[] {
  let problem: { reasons?: unknown } | null = null
  try {
    problem = JSON.parse(body)
  } catch {
    // Told below.
  }
  const reasons = Array.isArray(problem?.reasons) ? problem.reasons.map(String) : []
  return reasons.length > 0 ? reasons : [`answers with status ${status}`]
}

function parseMetrics(text: string): Numbers {
  const number = (name: string): number | null => {
    const found = new RegExp(`^${name} (\\d+)$`, 'm').exec(text)
    return found ? Number(found[1]) : null
  }
  const [quorum, revision, head] = ['coffer_quorum', 'coffer_replica_revision', 'coffer_ledger_revision'].map(
    number,
  )
  return {
    quorum: quorum === null ? null : quorum === 1,
    leader: /^coffer_ledger_leader\{node="([^"]*)"\} 1$/m.exec(text)?.[1] ?? null,
    revision,
    lag: revision === null || head === null ? null : Math.max(0, head - revision),
  }
}
