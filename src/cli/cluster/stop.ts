// coffer cluster stop: ends the nodes of a directory with their members, and waits until all processes are
// gone.
import { errorCode, OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import { until } from '../../waiting.ts'
import { isAlive, type RunningNode, runningMember, runningNode } from '../local/node-process.ts'
import { explain } from '../terminal/failure.ts'
import { note } from '../terminal/terminal.ts'

/** How long a node may finish its work after its drain before SIGKILL. */
const FINISH_MS = 30_000
/** A node writes its process id a moment after it has taken the lock. */
const PID_MS = 2_000
/** A killed process is gone at once, unless the process waits for a disk. */
const KILLED_MS = 10_000
const POLL_MS = 50

/**
 * Stops all nodes at once. Returns the names of the nodes that ran. Throws OperatorError with all failures.
 */
export async function stopNodes(configs: readonly Config[], finishMs = FINISH_MS): Promise<string[]> {
  const results = await Promise.allSettled(configs.map((config) => stopNode(config, finishMs)))
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
  const unexpected = failures.find((error) => !(error instanceof OperatorError))
  if (unexpected) throw unexpected
  if (failures.length > 0) throw new OperatorError(failures.map((error) => explain(error).text).join('\n'))
  return configs
    .filter((_, i) => results[i].status === 'fulfilled' && results[i].value)
    .map(({ node }) => node)
}

/** Returns whether a process ran. Throws OperatorError. */
async function stopNode(config: Config, finishMs: number): Promise<boolean> {
  const pid = await pidOf(config)
  const member = runningMember(config)
  const within = config.limits.drain_seconds * 1000 + finishMs
  // A member ends with its node, except on a system without the means for that.
  const first = pid ?? member
  if (first === undefined) return false
  send(config, first, 'SIGTERM')
  send(config, first, 'SIGCONT') // a process stopped by SIGSTOP handles SIGTERM only after SIGCONT
  if (await until(() => isGone(config, pid), { every: POLL_MS, within })) return true
  note(`node ${config.node} has not ended after ${within / 1000} s: killing its process`)
  for (const each of [pid, runningMember(config)]) {
    if (each !== undefined && isAlive(each)) send(config, each, 'SIGKILL')
  }
  if (await until(() => isGone(config, pid), { every: POLL_MS, within: KILLED_MS })) return true
  throw new OperatorError(`node ${config.node} has not ended: ${remaining(config, pid)}`, {
    hint: 'end the process yourself',
  })
}

/** The node's process; undefined: the node does not run. Throws OperatorError if the process is not known. */
async function pidOf(config: Config): Promise<number | undefined> {
  let now: RunningNode | undefined
  await until(
    () => {
      now = runningNode(config)
      return now === undefined || now.pid !== undefined
    },
    { every: POLL_MS, within: PID_MS },
  )
  if (now === undefined || now.pid !== undefined) return now?.pid
  throw new OperatorError(`${config.data} is in use by an unknown process`, {
    hint: `end that process yourself, and stop node ${config.node} again`,
  })
}

/** The lock comes last: checking the lock means taking it for a moment. */
function isGone(config: Config, pid: number | undefined): boolean {
  if (pid !== undefined && isAlive(pid)) return false
  return runningMember(config) === undefined && runningNode(config) === undefined
}

function remaining(config: Config, pid: number | undefined): string {
  if (pid !== undefined && isAlive(pid)) return `process ${pid} runs`
  const member = runningMember(config)
  return member === undefined
    ? `an unknown process holds ${config.data}`
    : `its member, process ${member}, runs`
}

function send({ node }: Config, pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    const code = errorCode(error) ?? 'failed'
    if (code === 'ESRCH') return // the process has just ended
    throw new OperatorError(`node ${node} (process ${pid}) cannot be stopped: ${code}`, {
      hint: 'stop the node as the user that runs it',
    })
  }
}
