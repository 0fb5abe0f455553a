// The nodes of a keyring command: the root keys that a node has read, and the root keys that its ledger
// needs. A running node is asked over HTTP and re-reads its keyring at SIGHUP. A stopped node is, where its
// ledger matters, started in the process of the command on a free port of 127.0.0.1, and stopped again.
import { assert } from '../../assert.ts'
import { OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import type { Node } from '../../server/start.ts'
import { sleep, until } from '../../waiting.ts'
import { note } from '../terminal/terminal.ts'
import { giveBackAtExit } from './give-back.ts'
import type { RootKeys } from './metrics-text.ts'
import { NodeHttp } from './node-http.ts'
import { type RunningNode, runningNode, sendHangUp } from './node-process.ts'

export type KeyringNode = {
  readonly node: string
  /** undefined: the node does not answer. */
  rootKeys(): Promise<RootKeys | undefined>
  /** Has the node re-read its keyring; a node in another process may do so a moment later. */
  reload(): Promise<void>
  close(): Promise<void>
}

const POLL_MS = 50
const ASK_MS = 5_000
const RELOAD_MS = 10_000
/** How long a node started here may apply nothing, and not be ready. */
const STALLED_MS = 30_000

/** undefined: the node does not run here. Throws OperatorError. */
export function runningKeyringNode(config: Config): KeyringNode | undefined {
  const running = runningNode(config)
  return running && overHttp(config, running)
}

/**
 * A running node, or a stopped node started in this process, once that node is ready. Throws OperatorError,
 * errors of startNode, the error that has ended the node.
 */
export async function openKeyringNode(config: Config, stalledMs = STALLED_MS): Promise<KeyringNode> {
  return runningKeyringNode(config) ?? (await startHere(config, stalledMs))
}

function overHttp(config: Config, running: RunningNode): KeyringNode {
  const http = NodeHttp.of(config)
  return {
    node: config.node,
    rootKeys: () => http.rootKeys(ASK_MS),
    reload: async () => sendHangUp(config, running),
    close: async () => http.close(),
  }
}

async function startHere(config: Config, stalledMs: number): Promise<KeyringNode> {
  const { ignoreStrayRejections, startNode } = await import('../../server/start.ts')
  ignoreStrayRejections()
  giveBackAtExit(config)
  const { tls: _tls, ...rest } = config
  const report = (fields: object, message: string): void =>
    note(`node ${config.node}: ${message} ${JSON.stringify(fields)}`)
  const log = { info: () => undefined, warn: report, error: report }
  note(`node ${config.node} does not run here: the command starts the node and stops it again`)
  const node = await startNode({ ...rest, listen: { host: '127.0.0.1', port: 0 } }, { log })
  const http = new NodeHttp(new URL(node.url))
  const close = async (): Promise<void> => {
    http.close()
    await node.stop()
  }
  try {
    await untilReady(node, http, stalledMs)
  } catch (error) {
    await close()
    throw error
  }
  return {
    node: config.node,
    rootKeys: () => http.rootKeys(ASK_MS),
    reload: async () => node.reload(),
    close,
  }
}

/** Throws the error that has ended the node, and OperatorError where nothing moves for `stalledMs`. */
async function untilReady(node: Node, http: NodeHttp, stalledMs: number): Promise<void> {
  const ended = new AbortController()
  // A start that rejects has failed: `failed` has the same error.
  const end = Promise.race([node.ready.catch(() => node.failed), node.failed])
  void end.then(() => ended.abort())
  let last: string | undefined
  let movedAt = performance.now()
  while (!ended.signal.aborted) {
    const now = await http.held(ASK_MS)
    if (now !== last) movedAt = performance.now()
    last = now
    if (performance.now() - movedAt > stalledMs) {
      const { reasons } = await http.ready(ASK_MS)
      const state = `is not ready after ${stalledMs / 1000} s: ${reasons.join('; ')}`
      throw new OperatorError(`node ${node.config.node} ${state}`, {
        hint: 'start all nodes of the vault, wait until they are ready, and repeat the command',
      })
    }
    await sleep(POLL_MS, ended.signal)
  }
  const failed = await end
  if (failed) throw failed
}

/** A condition on a node's root keys; `about` completes "node n1 has not …". */
export type RootKeyCondition = {
  readonly holds: (now: RootKeys) => boolean
  readonly about: string
}

/** Has the node re-read its keyring and waits until the condition holds. Throws OperatorError. */
export async function reloadUntil(node: KeyringNode, { holds, about }: RootKeyCondition): Promise<RootKeys> {
  await node.reload()
  let now: RootKeys | undefined
  const isReached = async (): Promise<boolean> => {
    now = await node.rootKeys()
    return now !== undefined && holds(now)
  }
  const reached = await until(isReached, { every: POLL_MS, within: RELOAD_MS })
  if (now && reached) return now
  const state = now ? `has not ${about}` : 'does not answer'
  throw new OperatorError(`node ${node.node} ${state} after ${RELOAD_MS / 1000} s`, {
    hint: 'see its log; where another command has changed the keyring meanwhile, repeat this one',
  })
}

/** As `reloadUntil`, and waits until the node is ready. `wrapped`: the keys of its ledger by root key. */
export async function wrappedKeys(
  node: KeyringNode,
  { holds, about }: RootKeyCondition,
): Promise<Pick<RootKeys, 'genesis'> & { readonly wrapped: ReadonlyMap<string, number> }> {
  const { wrapped, genesis } = await reloadUntil(node, {
    holds: (now) => now.wrapped !== undefined && holds(now),
    about: `${about}, or is not ready`,
  })
  assert(wrapped, 'a node that is ready has counted its wrapped keys')
  return { wrapped, genesis }
}
