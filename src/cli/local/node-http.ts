// A node of the machine over HTTP, without an API key: /ready and /metrics.
import { NoAnswer, type Target, Transport, targetOf } from '../../client/transport.ts'
import { OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import { readCertificate } from '../../node/tls-files.ts'
import {
  held,
  NO_NUMBERS,
  type NodeNumbers,
  nodeNumbers,
  ownersInForce,
  type RootKeys,
  rootKeys,
} from './metrics-text.ts'

const CONNECT_MS = 2_000

export type Readiness = {
  readonly ready: boolean
  /** False where no answer came; `reasons` then says why. */
  readonly answers: boolean
  readonly reasons: readonly string[]
}

type HttpAnswer =
  | { readonly kind: 'answer'; readonly status: number; readonly text: string }
  | { readonly kind: 'none'; readonly reason: string }

export class NodeHttp {
  readonly #target: Target
  readonly #transport: Transport

  constructor(url: URL, transport = new Transport()) {
    this.#target = targetOf(url)
    this.#transport = transport
  }

  /** Throws OperatorError where the configuration does not say the node's port. */
  static of(config: Config): NodeHttp {
    const transport = config.tls ? new Transport({ tls: trustOnly(config.tls.cert) }) : new Transport()
    return new NodeHttp(addressOf(config), transport)
  }

  /** `http://host:port` */
  get url(): string {
    return this.#target.origin
  }

  async ready(timeoutMs: number): Promise<Readiness> {
    const answer = await this.#get('/ready', timeoutMs)
    if (answer.kind === 'none')
      return { ready: false, answers: false, reasons: [`does not answer (${answer.reason})`] }
    const ready = answer.status === 200
    return { ready, answers: true, reasons: ready ? [] : notReadyReasons(answer.text, answer.status) }
  }

  async numbers(timeoutMs: number): Promise<NodeNumbers> {
    const text = await this.#metrics(timeoutMs)
    return text === undefined ? NO_NUMBERS : nodeNumbers(text)
  }

  /** The hash of the owners in force; undefined: the node does not answer. */
  async owners(timeoutMs: number): Promise<string | undefined> {
    const text = await this.#metrics(timeoutMs)
    return text === undefined ? undefined : ownersInForce(text)
  }

  /** As `held`; undefined: the node does not answer. */
  async held(timeoutMs: number): Promise<string | undefined> {
    const text = await this.#metrics(timeoutMs)
    return text === undefined ? undefined : held(text)
  }

  /** undefined: the node does not answer. */
  async rootKeys(timeoutMs: number): Promise<RootKeys | undefined> {
    const text = await this.#metrics(timeoutMs)
    return text === undefined ? undefined : rootKeys(text)
  }

  close(): void {
    this.#transport.close()
  }

  async #metrics(timeoutMs: number): Promise<string | undefined> {
    const answer = await this.#get('/metrics', timeoutMs)
    return answer.kind === 'answer' && answer.status === 200 ? answer.text : undefined
  }

  async #get(path: string, timeoutMs: number): Promise<HttpAnswer> {
    try {
      const request = { method: 'GET', path, timeoutMs, connectMs: CONNECT_MS } as const
      const { status, body } = await this.#transport.send(this.#target, request)
      return { kind: 'answer', status, text: body.toString('utf8') }
    } catch (error) {
      if (error instanceof NoAnswer) return { kind: 'none', reason: error.message }
      throw error
    }
  }
}

/** Where commands on this machine reach the node. Throws OperatorError. */
function addressOf({ listen, tls, file, node }: Config): URL {
  if (listen.port === 0)
    throw new OperatorError(`node ${node} listens on a port that only its log names`, {
      hint: `set a port in ${file}`,
    })
  const host = listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host === '::' ? '::1' : listen.host
  return new URL(`${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${listen.port}`)
}

type TrustOptions = {
  readonly ca: Buffer
  readonly allowPartialTrustChain: boolean
  readonly checkServerIdentity: () => undefined
}

/** Trusts the node's own certificate and no other, whatever name the certificate has. */
function trustOnly(cert: string): TrustOptions {
  return { ca: readCertificate(cert), allowPartialTrustChain: true, checkServerIdentity: () => undefined }
}

/** The reasons of a problem `not-ready`; another program may have the port, and answers without reasons. */
function notReadyReasons(body: string, status: number): readonly string[] {
  let problem: { reasons?: unknown } | null = null
  try {
    problem = JSON.parse(body)
  } catch {
    // The status is reported below.
  }
  const reasons = Array.isArray(problem?.reasons) ? problem.reasons.map(String) : []
  return reasons.length > 0 ? reasons : [`answers with status ${status}`]
}
