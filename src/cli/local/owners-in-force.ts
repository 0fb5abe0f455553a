// After a change of owners: the nodes that run on this machine re-read their configuration, and a command
// waits until each of them has in force what its file says.
import { OperatorError } from '../../errors.ts'
import { type Config, readConfig } from '../../node/config.ts'
import { ownersHash } from '../../server/agreement.ts'
import { sleep } from '../../waiting.ts'
import { explain } from '../terminal/failure.ts'
import { note } from '../terminal/terminal.ts'
import { NodeHttp } from './node-http.ts'
import { runningNode, sendHangUp } from './node-process.ts'

const POLL_MS = 25
const ASK_MS = 2_000
const WITHIN_MS = 10_000

/**
 * Resolves when every node that runs here has in force what its configuration says then: another command
 * may change the file meanwhile. Throws OperatorError after 10 s, naming the nodes that have not, with the
 * reason.
 */
export async function untilInForce(configs: readonly Config[]): Promise<void> {
  const deadline = performance.now() + WITHIN_MS
  const late = await Promise.all(configs.map((config) => whyNotInForce(config, deadline).catch(textOf)))
  const reasons = late.filter((reason) => reason !== undefined)
  if (reasons.length === 0) return
  throw new OperatorError(reasons.join('; '), {
    hint: 'the files are changed: see the log of the node, mend what it says, and repeat the command',
  })
}

/** The other nodes are waited for, whatever is wrong with one. */
function textOf(error: unknown): string {
  if (error instanceof OperatorError) return explain(error).text
  throw error
}

/** undefined: the node has the owners in force, or does not run here. Throws OperatorError. */
async function whyNotInForce(config: Config, deadline: number): Promise<string | undefined> {
  let http: NodeHttp | undefined
  try {
    for (let told = ''; ; ) {
      const running = runningNode(config)
      if (!running) {
        note(`node ${config.node} is not running here: it reads the file when it starts`)
        return undefined
      }
      const { owners } = readConfig(config.file)
      const wanted = ownersHash(owners)
      // A node without a process id has just begun to start.
      if (running.pid !== undefined && told !== `${running.pid} ${wanted}`) {
        sendHangUp(config, running)
        told = `${running.pid} ${wanted}`
      }
      http ??= NodeHttp.of(config)
      const now = await http.owners(Math.max(1, Math.min(ASK_MS, deadline - performance.now())))
      if (now === wanted) {
        note(`node ${config.node} (process ${running.pid}) has the owners of its file in force`)
        return undefined
      }
      if (performance.now() > deadline) return reasonOf(config, running.pid, now)
      await sleep(POLL_MS)
    }
  } finally {
    http?.close()
  }
}

function reasonOf({ node, data }: Config, pid: number | undefined, owners: string | undefined): string {
  const not = 'does not have the owners of its file in force'
  if (pid === undefined) return `node ${node} ${not}: ${data} is in use by a process that is not known`
  const which = `node ${node} (process ${pid}) ${not}`
  return owners === undefined ? `${which}: it does not answer` : `${which} after ${WITHIN_MS / 1000} s`
}
