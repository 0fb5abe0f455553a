// coffer cluster stop: ends the nodes of a directory, and resolves when nothing of them is left.
import { errorCode, OperatorError } from '../../errors.ts'
import type { Config } from '../../node/config.ts'
import { until } from '../../waiting.ts'
import { isAlive, type RunningNode, runningMember, runningNode } from '../local/node-process.ts'
import { note } from '../terminal/terminal.ts'

const PATIENCE_MS = 30_000
/** A node writes its process id a moment after it has taken the lock. */
const PID_MS = 2_000
/** What was killed is gone at once, unless it waits for a disk. */
const KILLED_MS = 10_000
const POLL_MS = 50

/** All at once. Returns the names of those that ran. Throws OperatorError where one cannot be ended. */
export async function stopNodes(configs: readonly Config[], patienceMs = PATIENCE_MS): Promise<string[]> {
  const results = await Promise.allSettled(configs.map((config) => stopNode(config, patienceMs)))
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
  const strange = failures.find((error) => !(error instanceof OperatorError))
  if (strange) throw strange
  if (failures.length > 0) throw new OperatorError(failures.map(({ message }) => message).join('\n'))
  return configs
    .filter((_, i) => results[i].status === 'fulfilled' && results[i].value)
    .map(({ node }) => node)
}

/** Whether there was anything to stop. */
async function stopNode(config: Config, patienceMs: number): Promise<boolean> {
  const pid = await pidOf(config)
  const member = runningMember(config)
  // A member ends with its node: one that is left is of a system that could not do so.
  const first = pid ?? member
  if (first === undefined) return false
  send(config, first, 'SIGTERM')
  send(config, first, 'SIGCONT') // one that was stopped (SIGSTOP) gets its SIGTERM only when it goes on
  if (await until(() => isGone(config, pid), { every: POLL_MS, within: patienceMs })) return true
  note(`node ${config.node} has not ended after ${patienceMs / 1000} s: killing it`)
  for (const each of [pid, runningMember(config)]) {
    if (each !== undefined && isAlive(each)) send(config, each, 'SIGKILL')
  }
  if (await until(() => isGone(config, pid), { every: POLL_MS, within: KILLED_MS })) return true
  throw new OperatorError(`node ${config.node} is still there: ${left(config, pid)}; end it yourself`)
}

/**
 * undefined where the node does not run. Throws OperatorError where nothing says by which process it does.
 */
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
  throw new OperatorError(
    `${config.data} is in use, and nothing says by which process: end that yourself, and stop node ${config.node} again`,
  )
}

/** The lock is looked at last: to look is to take it for a moment. */
function isGone(config: Config, pid: number | undefined): boolean {
  if (pid !== undefined && isAlive(pid)) return false
  return runningMember(config) === undefined && runningNode(config) === undefined
}

function left(config: Config, pid: number | undefined): string {
  if (pid !== undefined && isAlive(pid)) return `process ${pid}`
  const member = runningMember(config)
  return member === undefined ? `something has ${config.data}` : `its member, process ${member}`
}

function send({ node }: Config, pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    const code = errorCode(error) ?? 'failed'
    if (code === 'ESRCH') return // it has just ended
    throw new OperatorError(`node ${node} (process ${pid}) cannot be stopped: ${code}; whose process is it?`)
  }
}
