// coffer cluster status: the nodes of a directory, as they run on this machine.
import type { Config } from '../../node/config.ts'
import { NO_NUMBERS, type Numbers, Probe } from '../local/probe.ts'
import { running, runningMember } from '../local/running.ts'
import { note, print, table } from '../terminal/terminal.ts'

const ASK_MS = 5_000

/** As --json prints it. */
export type NodeState = {
  readonly node: string
  readonly url: string
  readonly pid: number | null
  readonly member_pid: number | null
  readonly ready: boolean
  readonly reasons: readonly string[]
} & Numbers

/** Throws OperatorError where a configuration does not say how its node is reached. */
export function stateOfNodes(configs: readonly Config[]): Promise<NodeState[]> {
  return Promise.all(configs.map(stateOf))
}

async function stateOf(config: Config): Promise<NodeState> {
  const probe = new Probe(config)
  try {
    const now = running(config)
    const member = runningMember(config) ?? null
    const state = { node: config.node, url: probe.url, pid: now?.pid ?? null, member_pid: member }
    // Who answers at the address of a node that does not run is somebody else.
    if (!now) return { ...state, ready: false, reasons: ['does not run'], ...NO_NUMBERS }
    const [{ ready, reasons }, numbers] = await Promise.all([probe.ready(ASK_MS), probe.numbers(ASK_MS)])
    return { ...state, ready, reasons, ...numbers }
  } finally {
    probe.close()
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
