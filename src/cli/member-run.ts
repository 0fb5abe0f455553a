// coffer member run: the etcd member of one node in the foreground, without its vault, until a signal.
import { UsageError } from '../errors.ts'
import type { MemberSettings } from '../ledger/drivers.ts'
import type { Health } from '../ledger/ledger.ts'
import { type Config, readConfig } from '../node/config.ts'
import { sleep, unlessAborted } from '../waiting.ts'
import { lockStopped } from './local/node-process.ts'
import { TemporaryMembers } from './local/temporary-members.ts'
import { note } from './terminal/terminal.ts'

const LOOK_MS = 1000

/** Resolves after SIGINT or SIGTERM, once the member is gone. Throws OperatorError, ConfigError. */
export async function runMember({ config: file }: { readonly config: string }): Promise<void> {
  const config = readConfig(file)
  const member = memberOf(config)
  const hold = lockStopped(config)
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  try {
    const { openLedger } = await import('../server/open.ts')
    const ledger = await openLedger(config)
    try {
      const started = TemporaryMembers.start([config], { report: note, exits: false })
      await reportQuorum(() => ledger.health(), member, stop.signal).finally(() => started.stop())
    } finally {
      await ledger.close()
    }
  } finally {
    hold.release()
  }
  note(`member ${config.node} is stopped`)
}

/** Throws UsageError where the node has no member of its own. */
export function memberOf({ node, file, ledger }: Config): MemberSettings {
  if (ledger.member) return ledger.member
  throw new UsageError(`node ${node} runs no member`, { hint: `see ledger.member in ${file}` })
}

/** Reports quorum and ready members whenever they change, until the signal aborts. */
async function reportQuorum(
  health: () => Promise<Health>,
  { cluster }: MemberSettings,
  stop: AbortSignal,
): Promise<void> {
  const names = Object.keys(cluster).join(', ')
  note(`waiting for a majority of the members ${names}: run \`coffer member run\` for each of them`)
  let told = ''
  try {
    while (!stop.aborted) {
      const now = await unlessAborted(health(), stop)
      const ready = now.members.flatMap(({ node, ready }) => (ready ? [node] : []))
      const line = now.quorum ? `the members have quorum (ready: ${ready.join(', ')})` : ''
      if (line !== told) note(line || `the members have no quorum: ${now.problems.join('; ')}`)
      told = line
      await sleep(LOOK_MS, stop)
    }
  } catch (error) {
    if (!stop.aborted) throw error
  }
}
