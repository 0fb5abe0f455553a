// coffer cluster status: which nodes of a directory run on the machine, and their state.
import type { Config } from '../../node/config.ts'
import { NO_NUMBERS, type NodeNumbers } from '../local/metrics-text.ts'
import { NodeHttp } from '../local/node-http.ts'
import { runningMember, runningNode } from '../local/node-process.ts'
import { note, print, table } from '../terminal/terminal.ts'

const ASK_MS = 5_000

/** A node as --json prints it. */
export type NodeState = {
  readonly node: string
  readonly url: string
  readonly pid: number | null
  readonly member_pid: number | null
  readonly ready: boolean
  readonly reasons: readonly string[]
} & NodeNumbers

/** Throws OperatorError if a configuration does not say how its node is reached. */
export function stateOfNodes(configs: readonly Config[]): Promise<NodeState[]> {
  return Promise.all(configs.map(stateOf))
}

async function stateOf(config: Config): Promise<NodeState> {
  const http = NodeHttp.of(config)
  try {
    const running = runningNode(config)
    const member = runningMember(config) ?? null
    const state = { node: config.node, url: http.url, pid: running?.pid ?? null, member_pid: member }
    // An answer at the address of a stopped node comes from another program.
    if (!running) return { ...state, ready: false, reasons: ['does not run'], ...NO_NUMBERS }
    const [{ ready, reasons }, numbers] = await Promise.all([http.ready(ASK_MS), http.numbers(ASK_MS)])
    return { ...state, ready, reasons, ...numbers }
  } finally {
    http.close()
  }
}

export function showStates(states: readonly NodeState[]): void {
  const cell = (value: string | number | boolean | null): string => {
    if (typeof value === 'boolean') return value ? 'yes' : 'no'
    return value === null ? '-' : String(value)
  }
  const rows = states.map((now) =>
    [now.node, now.pid, now.member_pid, now.ready, now.quorum, now.leader, now.revision, now.lag].map(cell),
  )
  print(table([['node', 'pid', 'member pid', 'ready', 'quorum', 'leader', 'revision', 'lag'], ...rows]))
  for (const { node, reasons } of states) for (const reason of reasons) note(`${node}: ${reason}`)
}
