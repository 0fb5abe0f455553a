// The nodes whose keyrings are changed: what each one has read, and what its ledger still needs. A node that
// runs on this machine is asked over HTTP (/metrics) and told by SIGHUP; one that does not run is, where its
// ledger matters, started in this process on a free port of 127.0.0.1, and stopped again.
import { readFileSync } from 'node:fs'
import { NoAnswer, type Target, Transport, targetOf } from '../../client/transport.ts'
import { OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import { until } from '../../waiting.ts'
import { note } from '../terminal/terminal.ts'
import { hangUp, type Running, running } from './running.ts'

/** What a node tells of root keys. `wrapped` counts the keys of its ledger that each of them wraps. */
export type RootKeys = {
  readonly active: string
  readonly ids: readonly string[]
  readonly wrapped: ReadonlyMap<string, number>
}

export type Reached = {
  readonly node: string
  /** undefined where it does not answer, or is not ready and so cannot know its ledger yet. */
  rootKeys(): Promise<RootKeys | undefined>
  /** Has it re-read its keyring. It may do so a moment later. */
  reload(): Promise<void>
  close(): Promise<void>
}

const POLL_MS = 50
const WAIT_MS = 10_000

/** A node that runs here; undefined where it does not. */
export function reachRunning(config: Config): Reached | undefined {
  const now = running(config)
  return now && overHttp(config, now)
}

/** The node, started in this process where it does not run. Throws what startNode throws. */
export async function reach(config: Config): Promise<Reached> {
  return reachRunning(config) ?? (await startHere(config))
}

/** How a node of this machine is asked. Throws OperatorError. */
export function connectTo(config: Config): { readonly target: Target; readonly transport: Transport } {
  const target = targetOf(addressOf(config))
  return { target, transport: new Transport(config.tls ? { tls: pinned(config.tls.cert) } : {}) }
}

function overHttp(config: Config, now: Running): Reached {
  const { target, transport } = connectTo(config)
  return {
    node: config.node,
    rootKeys: () => readRootKeys(transport, target),
    reload: async () => hangUp(config, now),
    close: async () => transport.close(),
  }
}

async function startHere(config: Config): Promise<Reached> {
  const { expectEchoes, startNode } = await import('../../server/start.ts')
  expectEchoes()
  const { tls: _tls, ...rest } = config
  const log = {
    info: () => undefined,
    warn: (fields: object, message: string) =>
      note(`node ${config.node}: ${message} ${JSON.stringify(fields)}`),
    error: (fields: object, message: string) =>
      note(`node ${config.node}: ${message} ${JSON.stringify(fields)}`),
  }
  note(`node ${config.node} does not run here: starting it for a moment`)
  const node = await startNode({ ...rest, listen: { host: '127.0.0.1', port: 0 } }, { log })
  await node.ready
  const transport = new Transport()
  return {
    node: config.node,
    rootKeys: () => readRootKeys(transport, targetOf(new URL(node.url))),
    reload: () => node.reload(),
    close: async () => {
      transport.close()
      await node.stop()
    },
  }
}

/** Where a node of this machine is asked. Throws OperatorError. */
function addressOf({ listen, tls, file, node }: Config): URL {
  if (listen.port === 0)
    throw new OperatorError(`node ${node} listens on a port that only its log tells: name one in ${file}`)
  const host = listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host === '::' ? '::1' : listen.host
  return new URL(`${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${listen.port}`)
}

/** Trusts the node's own certificate and no other, whatever name it has. */
function pinned(cert: string): {
  ca: Buffer
  allowPartialTrustChain: boolean
  checkServerIdentity: () => undefined
} {
  return { ca: readFileSync(cert), allowPartialTrustChain: true, checkServerIdentity: () => undefined }
}

async function readRootKeys(transport: Transport, target: Target): Promise<RootKeys | undefined> {
  try {
    const request = { method: 'GET', path: '/metrics', timeoutMs: 5_000, connectMs: 2_000 } as const
    const { status, body } = await transport.send(target, request)
    return status === 200 ? parseMetrics(body.toString('utf8')) : undefined
  } catch (error) {
    // It may be starting. Who waits for it tells when it never answers.
    if (error instanceof NoAnswer) return undefined
    throw error
  }
}

/** Out of the Prometheus text; undefined where the node is not ready. */
function parseMetrics(text: string): RootKeys | undefined {
  if (!/^coffer_ready 1$/m.test(text)) return undefined
  const keys = [...text.matchAll(/^coffer_root_keys\{root_key="([^"]*)",active="([^"]*)"\} 1$/gm)]
  const wrapped = [...text.matchAll(/^coffer_wrapped_keys\{root_key="([^"]*)"\} (\d+)$/gm)]
  return {
    active: keys.find(([, , active]) => active === 'true')?.[1] ?? '',
    ids: keys.map(([, id]) => id),
    wrapped: new Map(wrapped.map(([, id, count]) => [id, Number(count)])),
  }
}

/** Has the node re-read its keyring and waits until it is as `wanted`. Throws OperatorError. */
export async function settle(
  reached: Reached,
  wanted: (now: RootKeys) => boolean,
  what: string,
): Promise<RootKeys> {
  await reached.reload()
  let now: RootKeys | undefined
  const isSettled = async (): Promise<boolean> => {
    now = await reached.rootKeys()
    return now !== undefined && wanted(now)
  }
  const settled = await until(isSettled, { every: POLL_MS, within: WAIT_MS })
  if (now && settled) return now
  const state = now ? `has not ${what}` : 'does not answer or is not ready'
  throw new OperatorError(`node ${reached.node} ${state} after ${WAIT_MS / 1000} s: its log says why`)
}
