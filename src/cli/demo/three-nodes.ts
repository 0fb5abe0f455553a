// Three nodes of a demo: their states side by side, and requests to a single node.
import type { NodeStatus } from '../../client/index.ts'
import { NoAnswer, Transport, targetOf } from '../../client/transport.ts'
import { OperatorError } from '../../errors.ts'
import { sleep } from '../../waiting.ts'
import { print, table } from '../terminal/terminal.ts'
import type { Stage } from './stage.ts'
import type { StageNode } from './stage-node.ts'
import { claim } from './story.ts'

/** An election takes a second or two, the start of a node some seconds. */
const PATIENCE_MS = 30_000
const POLL_MS = 50
const BUSY = 'see whether the machine is busy, and try again'
/** Shown hexadecimal digits of a digest. */
const DIGEST_DIGITS = 12

type NodeState = { readonly node: StageNode; readonly status: NodeStatus }

/** Starts and shows all nodes, and checks the equality of their ledgers and digests. */
export async function startThree(stage: Stage, owner: string): Promise<void> {
  const began = performance.now()
  await stage.start()
  const states = await equalNodes(stage, owner)
  show(states)
  print(`\nReady after ${seconds(performance.now() - began)}; each node runs its etcd member.`)
  const identities = new Set(states.map(({ status }) => status.ledger.identity))
  claim(identities.size === 1, 'all three follow the same ledger')
  claimEqual(states)
}

/** Waits until all running nodes are at the same revision, shows the nodes, and checks their digests. */
export async function showEqual(stage: Stage, owner: string): Promise<void> {
  const states = await equalNodes(stage, owner)
  show(states)
  claimEqual(states)
}

function claimEqual(states: readonly NodeState[]): void {
  const [{ revision }] = states.map(({ status }) => status.replica)
  claim(
    new Set(states.map(({ status }) => status.replica.digest)).size === 1,
    `${states.length} nodes have the same digest of all that is stored, at revision ${revision}`,
  )
}

function show(states: readonly NodeState[]): void {
  const rows = states.map(({ node, status: { leader, replica, quorum } }) => [
    node.name,
    node.url,
    `${node.pids.node} ${node.pids.member ?? '-'}`,
    quorum ? 'yes' : 'no',
    leader === node.name ? 'leads' : '',
    String(replica.revision),
    `${replica.digest.slice(0, DIGEST_DIGITS)}…`,
  ])
  print(table([['node', 'url', 'process, member', 'quorum', 'etcd', 'revision', 'digest'], ...rows], '  '))
}

/** The running nodes, once all are at the same revision and have all of the ledger. */
async function equalNodes(stage: Stage, owner: string): Promise<NodeState[]> {
  const nodes = stage.nodes.filter(({ runs }) => runs)
  return eventually('the nodes to be at one revision', async () => {
    const states = await Promise.all(
      nodes.map(async (node) => ({ node, status: await statusOf(stage, owner, node) })),
    )
    const revisions = states.flatMap(({ status: { ledger, replica } }) => [ledger.revision, replica.revision])
    const leaders = new Set(states.map(({ status }) => status.leader))
    return new Set(revisions).size === 1 && leaders.size === 1 && !leaders.has(null) ? states : undefined
  })
}

/** The node whose member leads, by the word of all running nodes. */
export function leaderOf(stage: Stage, owner: string): Promise<StageNode> {
  return eventually('a leader among the nodes that run', async () => {
    const nodes = stage.nodes.filter(({ runs }) => runs)
    const states = await Promise.all(nodes.map((node) => statusOf(stage, owner, node)))
    const leaders = new Set(states.map(({ leader }) => leader))
    return leaders.size === 1 ? nodes.find(({ name }) => leaders.has(name)) : undefined
  })
}

async function statusOf(stage: Stage, owner: string, node: StageNode): Promise<NodeStatus> {
  const client = stage.client(owner, [node])
  try {
    return await client.status()
  } finally {
    client.close()
  }
}

/** Throws OperatorError after half a minute. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > deadline)
      throw new OperatorError(`waited ${PATIENCE_MS / 1000} s in vain for ${what}`, {
        hint: BUSY,
      })
    await sleep(POLL_MS)
  }
}

/** `1.2 s` */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

export type Asked = {
  readonly node: StageNode
  readonly key: string
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly path: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export type Answered = {
  readonly status: number
  readonly json: Record<string, unknown>
  readonly ms: number
}

/** Sends a request to a node once, and returns the answer, whatever its status. Throws OperatorError. */
export async function ask({ node, key, method, path, body, headers = {} }: Asked): Promise<Answered> {
  const transport = new Transport({ headers: { authorization: `Bearer ${key}`, ...headers } })
  const began = performance.now()
  try {
    const { status, body: bytes } = await transport.send(targetOf(new URL(node.url)), {
      method,
      path,
      timeoutMs: 10_000,
      connectMs: 2_000,
      ...(body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) }),
    })
    const json: Record<string, unknown> = JSON.parse(bytes.toString('utf8')) // by the contract an object
    return { status, json, ms: performance.now() - began }
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error
    throw new OperatorError(`${node.name} has not answered ${method} ${path}: ${error.message}`, {
      hint: BUSY,
    })
  } finally {
    transport.close()
  }
}
